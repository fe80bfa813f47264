//! Dialogues by chance: nodes crash, pause and lose each other while tasks are submitted; once all
//! is well again, every accepted task comes to an end.

use dtask_core::rng::Rng;

use super::script::Script;

/// Commands of one dialogue, before all is well again.
const STEPS: u64 = 150;

/// Plays one seed and checks that what was accepted has ended.
pub(crate) fn play(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut script = Script::default();
    let snapshot = if rng.chance(1, 2) { 1_000 } else { 16 << 20 };
    script.command(&format!("cluster 3 snapshot={snapshot}"));
    // From each node's next start on, history's absence soon costs what has ended (P9.5).
    if rng.chance(1, 2) {
        script.command("outbox bytes=3000");
    }
    script.command("join w1 slots=2 alive");
    script.command("join w2 slots=1 alive");
    let mut down = None;
    for step in 0..STEPS {
        for line in draw(&mut rng, step, &mut down) {
            script.command(&line);
        }
        if rng.chance(1, 2) {
            script.serve_workers(&mut rng);
        }
    }
    script.command("alive w1");
    script.command("alive w2");
    script.command("heal");
    script.command("history up");
    for node in 1..=3 {
        script.command(&format!("resume {node}"));
        script.command(&format!("crash {node}"));
        script.command(&format!("start {node}"));
    }
    for _ in 0..200 {
        script.command("advance 500ms");
        script.serve_workers(&mut rng);
    }
    script.check_states();
    let lines = script.take_lines();
    script.command("cluster?");
    let line = script.take_lines().pop().unwrap_or_default();
    assert!(line.ends_with("history lags by 0"), "seed {seed}: {line}");
    let accepted: Vec<&str> = lines
        .iter()
        .filter(|line| line.contains(": accepted") || line.contains(": known"))
        .filter_map(|line| line.split(':').next())
        .collect();
    for id in accepted {
        script.command(&format!("task {id}"));
        let line = script.take_lines().pop().unwrap_or_default();
        let over = ["succeeded", "cancelled", "failed", "not in memory", "not found"];
        assert!(over.iter().any(|word| line.contains(word)), "seed {seed}: {line}");
    }
}

fn draw(rng: &mut Rng, step: u64, down: &mut Option<u64>) -> Vec<String> {
    let node = 1 + rng.below(3);
    let id = rng.below(step + 1);
    let to = if rng.chance(1, 4) { format!(" node={node}") } else { String::new() };
    let line = match rng.below(20) {
        0..5 => format!("submit t{step} priority={} retries=60000{to}", rng.below(10)),
        5 => format!("submit t{step} due={}s retries=60000{to}", rng.below(30)),
        6 => format!("submit t{id} retries=60000{to}"),
        7 => format!("cancel t{id}{to}"),
        8 => format!("delete t{id} running{to}"),
        9 => format!("wall {}{}s", if rng.chance(1, 2) { "-" } else { "+" }, rng.below(40)),
        10 => {
            format!("{} w{}", if rng.chance(1, 2) { "silent" } else { "alive" }, 1 + rng.below(2))
        }
        11 => format!("trigger t{id}{to}"),
        12..14 => return fault(rng, down),
        14 => match rng.below(4) {
            0 => "history down".to_owned(),
            1 => "restore through=0".to_owned(),
            _ => "history up".to_owned(),
        },
        _ => format!("advance {}ms", 50 * rng.range(1, 100)),
    };
    vec![line]
}

/// One node at a time is out: the one that was comes back first.
fn fault(rng: &mut Rng, down: &mut Option<u64>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(node) = down.take() {
        lines.extend([format!("resume {node}"), format!("start {node}"), "heal".to_owned()]);
    }
    if rng.chance(2, 3) {
        let node = 1 + rng.below(3);
        *down = Some(node);
        lines.push(match rng.below(4) {
            0 => format!("pause {node}"),
            1 => format!("cut {node}"),
            _ => format!("crash {node}"),
        });
    }
    lines
}
