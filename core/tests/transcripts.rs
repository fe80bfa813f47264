//! Transcripts (style.md §7): dialogues with real nodes, as text that reads like a lab notebook.
//!
//! A line is a command; the lines `-> …` below it say what was seen until everything was quiet
//! again. `UPDATE_TRANSCRIPTS=1 cargo test -p dtask-core --test transcripts` writes what is seen.

#[path = "transcripts/chance.rs"]
mod chance;
#[path = "transcripts/lines.rs"]
mod lines;
#[path = "transcripts/script.rs"]
mod script;
#[path = "transcripts/words.rs"]
mod words;
#[path = "transcripts/world.rs"]
mod world;

use std::path::PathBuf;

/// Plays a dialogue and compares.
fn play(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/transcripts")
        .join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).expect("the dialogue is committed");
    let seen = script::play(&text);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, seen).expect("the working tree is writable");
    } else {
        assert_eq!(seen, text, "{name}: what is seen differs from what is written");
    }
}

/// B4: an idle cluster neither writes nor wakes more often than its ticks.
#[test]
fn an_idle_cluster_writes_nothing_and_sleeps_between_ticks() {
    let mut world = world::World::new(3, 16 << 20);
    let pass = |world: &mut world::World, mut span: std::time::Duration| {
        while !span.is_zero() {
            span -= world.pass(span);
        }
    };
    pass(&mut world, std::time::Duration::from_secs(10));
    assert!(world.leader().is_some());
    let (persists, wakes) = (world.persists, world.wakes);
    pass(&mut world, std::time::Duration::from_secs(60));
    assert_eq!(world.persists, persists);
    // Three nodes, a tick every 50 ms each.
    assert!(world.wakes - wakes <= 3 * 60 * 20, "{} wakes", world.wakes - wakes);
}

#[test]
fn whatever_happens_every_accepted_task_ends_once_all_is_well() {
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        chance::play(seed);
    }
}

macro_rules! dialogues {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            play(stringify!($name));
        })*

        #[test]
        fn every_dialogue_is_played() {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
            let mut files: Vec<String> = std::fs::read_dir(folder)
                .expect("the folder is committed")
                .map(|file| file.expect("readable").path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
                .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
                .collect();
            files.sort();
            let mut played = vec![$(stringify!($name).to_owned()),*];
            played.sort();
            assert_eq!(files, played);
        }
    };
}

dialogues!(
    a_task_runs_from_submit_to_result,
    attempt_sent_again_has_a_full_lease,
    cancel_while_running,
    cron_fire_by_a_new_leader,
    drain_hands_back,
    due_task_waits,
    duplicate_submit_after_failover,
    ended_task_runs_again,
    every_node_is_known_by_its_address,
    fenced_old_leader,
    fifo_across_priorities_and_types,
    first_in_first_out,
    follower_catches_up_by_snapshot,
    follower_sends_on,
    full_outbox_refuses_new_work,
    gap_is_noted_and_tasks_come_again,
    heartbeat_waits_for_read_index,
    history_ahead_of_a_deposed_leader,
    history_none_keeps_the_newest,
    history_of_another_log_is_refused,
    history_outage_stops_nothing,
    live_output_is_relayed,
    long_outage_drops_the_oldest,
    lost_worker_returns_to_queue,
    misfire_fire_once,
    overlap_skip,
    paused_leader_adds_the_gap,
    reconnected_worker_gets_what_is_missing,
    restarted_worker_is_another_instance,
    retry_with_backoff,
    run_timeout_backstop,
    shutdown_hands_leadership_on,
    trigger_and_delete,
    wrong_clock_hands_leadership_on,
);
