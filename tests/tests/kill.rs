//! kill -9 on real processes: what was acknowledged is run, once at a time, and history agrees.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dtask_proto::v1::TaskSpec;
use dtask_tests::cluster::{Cluster, dtask};
use dtask_tests::effects::{self, never_two_at_once};
use dtask_tests::load::{self, Submitted};
use sqlx::Row as _;

fn cluster_of_three_and_two_workers() -> Result<Cluster> {
    let mut cluster = Cluster::new(3)?;
    cluster.start_all()?;
    cluster.start_worker("w1", 8)?;
    cluster.start_worker("w2", 8)?;
    cluster.leader()?;
    Ok(cluster)
}

fn effect_task(id: String) -> TaskSpec {
    TaskSpec { id, r#type: "effect".into(), payload: "3".into(), ..TaskSpec::default() }
}

#[test]
fn an_acknowledged_task_survives_leaders_killed_in_a_loop() -> Result<()> {
    let mut cluster = cluster_of_three_and_two_workers()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let stop = Arc::new(AtomicBool::new(false));
    let servers: Vec<_> = (1..=3).map(|id| cluster.grpc(id)).collect();
    let load = runtime.spawn(load::submit_until(servers, 4, effect_task, stop.clone()));

    let mut kills = Vec::new();
    for _ in 0..5 {
        std::thread::sleep(Duration::from_secs(2));
        let leader = cluster.leader()?;
        kills.push(monotonic_ns());
        cluster.kill(leader)?;
        std::thread::sleep(Duration::from_millis(2500));
        cluster.start(leader)?;
    }
    std::thread::sleep(Duration::from_secs(2));
    stop.store(true, Ordering::Relaxed);
    let told = runtime.block_on(load)??;
    let view = cluster.converged()?;
    println!("{} tasks acknowledged; the cluster stands at {}", told.len(), view["applied_index"]);

    wait_until_all_ran(&cluster, &told)?;
    let effects = effects::read(&cluster.effects())?;
    never_two_at_once(&effects)?;
    print_gaps(&kills, &effects::starts(&effects), &told);
    runtime.block_on(history_agrees(&cluster, &told, &effects))?;
    let took = cluster.stop()?;
    println!("SIGTERM to everything: {} ms", took.as_millis());
    ensure!(took < Duration::from_secs(15), "a clean stop took {took:?}");
    Ok(())
}

/// S7: every acknowledged task ends, and well.
fn wait_until_all_ran(cluster: &Cluster, told: &[Submitted]) -> Result<()> {
    let done = cluster.until("every acknowledged task has run", Duration::from_secs(60), |c| {
        let effects = effects::read(&c.effects())?;
        let ran = |id: &str| effects.get(id).is_some_and(|e| e.iter().any(|e| e.end.is_some()));
        Ok(told.iter().all(|task| ran(&task.id)).then_some(()))
    });
    if done.is_err() {
        let effects = effects::read(&cluster.effects())?;
        let lost: Vec<_> = told.iter().filter(|t| !effects.contains_key(&t.id)).take(5).collect();
        for task in &lost {
            println!("lost? {} {:?}", task.id, cluster.http(1, &format!("/v1/tasks/{}", task.id)));
        }
    }
    done
}

/// S18 at lag zero: one closed row for each attempt that the outside saw, and every task's row
/// says that it succeeded.
async fn history_agrees(
    cluster: &Cluster,
    told: &[Submitted],
    effects: &effects::Effects,
) -> Result<()> {
    let url = format!("sqlite:{}?mode=ro", cluster.history().display());
    let pool = sqlx::SqlitePool::connect(&url).await?;
    let rows =
        sqlx::query("SELECT id, task_id, status FROM execution_logs").fetch_all(&pool).await?;
    let mut closed = std::collections::BTreeMap::new();
    for row in &rows {
        let token = u64::try_from(row.get::<i64, _>("id"))?;
        let entry = (row.get::<String, _>("task_id"), row.get::<String, _>("status"));
        ensure!(closed.insert(token, entry).is_none(), "S18: token {token} has two rows");
    }
    for (task, attempt) in effects.iter().flat_map(|(t, all)| all.iter().map(move |e| (t, e))) {
        let (of, status) = closed
            .get(&attempt.token)
            .with_context(|| format!("S18: attempt {attempt:?} of {task} has no row"))?;
        ensure!(of == task && status != "running", "S18: {attempt:?} of {task} is {of}/{status}");
    }
    let succeeded = sqlx::query("SELECT id FROM tasks WHERE status = 'succeeded'")
        .fetch_all(&pool)
        .await?
        .iter()
        .map(|row| row.get::<String, _>("id"))
        .collect::<std::collections::BTreeSet<_>>();
    for task in told {
        ensure!(succeeded.contains(&task.id), "S18: {} has no row that says succeeded", task.id);
    }
    println!("history: {} executions, {} succeeded tasks", rows.len(), succeeded.len());
    Ok(())
}

fn print_gaps(kills: &[u64], starts: &[u64], told: &[Submitted]) {
    let gaps: Vec<u64> = kills
        .iter()
        .filter_map(|kill| {
            let after = starts.partition_point(|start| start < kill);
            // Attempts that were already on their way start just after the kill: the gap is the
            // longest pause that begins within a second of it.
            let near = &starts[after.saturating_sub(1)..];
            near.windows(2)
                .take_while(|pair| pair[0] < kill + 1_000_000_000)
                .map(|pair| pair[1] - pair[0])
                .max()
        })
        .map(|gap| gap / 1_000_000)
        .collect();
    let slowest = told.iter().map(|task| task.took).max().unwrap_or_default();
    let repeated = told.iter().filter(|task| task.tries > 1).count();
    println!("failover gaps, last start before to first start after: {gaps:?} ms");
    println!("slowest submit {} ms, {repeated} submits were repeated", slowest.as_millis());
}

#[test]
fn output_and_exit_code_survive_a_killed_leader() -> Result<()> {
    let mut cluster = cluster_of_three_and_two_workers()?;
    let child = dtask()
        .args(["run", "--server", &cluster.servers(), "--", "sh", "-c"])
        .arg("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo line $i; sleep 0.3; done; exit 7")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    std::thread::sleep(Duration::from_millis(1500));
    let leader = cluster.leader()?;
    cluster.kill(leader)?;
    let output = child.wait_with_output()?;
    let lines = String::from_utf8(output.stdout)?;
    let expected: String = (1..=15).map(|i| format!("line {i}\n")).collect();
    ensure!(
        lines == expected && output.status.code() == Some(7),
        "{:?} after:\n{lines}\nstderr:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn a_node_whose_log_is_behind_the_snapshot_catches_up() -> Result<()> {
    let mut cluster = cluster_of_three_and_two_workers()?;
    let leader = cluster.leader()?;
    let behind = (1..=3).find(|id| *id != leader).context("a follower")?;
    cluster.kill(behind)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let stop = Arc::new(AtomicBool::new(false));
    let servers: Vec<_> = (1..=3).filter(|id| *id != behind).map(|id| cluster.grpc(id)).collect();
    let large = |id: String| TaskSpec {
        id,
        r#type: "nobody-runs-this".into(),
        payload: vec![b'x'; 256 << 10].into(),
        ..TaskSpec::default()
    };
    let load = runtime.spawn(load::submit_until(servers, 4, large, stop.clone()));
    cluster.until("a snapshot is taken", Duration::from_secs(60), |c| {
        let files = std::fs::read_dir(c.folder().join(format!("node{leader}")))?;
        let found = files.flatten().any(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.contains("snapshot") && !name.contains("tmp")
        });
        Ok(found.then_some(()))
    })?;
    stop.store(true, Ordering::Relaxed);
    let told = runtime.block_on(load)??;
    let begin = Instant::now();
    cluster.start(behind)?;
    let view = cluster.converged()?;
    println!(
        "{} tasks of 256 KiB; node {behind} caught up to {} in {} ms",
        told.len(),
        view["applied_index"],
        begin.elapsed().as_millis()
    );
    let id = &told[0].id;
    let task = cluster.http(behind, &format!("/v1/tasks/{id}?consistency=stale"))?;
    ensure!(task["id"] == id.as_str(), "the node that caught up does not know {id}: {task}");
    Ok(())
}

#[test]
fn everything_is_still_there_after_all_nodes_were_killed() -> Result<()> {
    let mut cluster = Cluster::new(3)?;
    cluster.start_all()?;
    cluster.leader()?;
    for (id, words) in [("later", ["--in", "2s"]), ("often", ["--every", "1s"])] {
        let status = dtask()
            .args([
                "submit",
                "--server",
                &cluster.servers(),
                "--id",
                id,
                words[0],
                words[1],
                "effect",
            ])
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "submit ended with {status}");
    }
    (1..=3).try_for_each(|id| cluster.kill(id))?;
    cluster.start_all()?;
    cluster.start_worker("w1", 4)?;
    cluster.until("both run after the restart", Duration::from_secs(40), |c| {
        let effects = effects::read(&c.effects())?;
        let often = effects.get("often").map_or(0, Vec::len);
        Ok((effects.contains_key("later") && often >= 2).then_some(()))
    })?;
    never_two_at_once(&effects::read(&cluster.effects())?)
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}
