//! Three real nodes whose history is a real PostgreSQL, which is stopped, killed in COMMIT, frozen,
//! locked, restored from an older dump: nothing is lost, nothing doubled, no run waits for it, and
//! what cannot be read is away (503), never missing (404).
#![cfg(not(madsim))]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dtask_proto::v1::TaskSpec;
use dtask_tests::cluster::{Cluster, dtask};
use dtask_tests::effects::{self, never_two_at_once};
use dtask_tests::http::{self, Answer};
use dtask_tests::load::{self, Submitted};
use dtask_tests::postgres::{Postgres, Stop};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// No start may be later than the one before it by this, while callers submit without a pause and
/// the database is away: far below any timeout of the database, far above a busy machine's own.
const START_GAP_MAX: Duration = Duration::from_secs(3);

/// The matrix tells the stories at length.
fn long() -> bool {
    std::env::var_os("DTASK_LONG").is_some()
}

/// A server, a cluster that keeps its history there, and callers that submit without a pause.
struct Field {
    server: Postgres,
    cluster: Cluster,
    runtime: Runtime,
    stop: Arc<AtomicBool>,
    load: Option<JoinHandle<Result<Vec<Submitted>>>>,
}

impl Field {
    fn new(settings: &[&str]) -> Result<Self> {
        let server = Postgres::start_with(settings)?;
        let mut cluster = Cluster::new(3)?;
        cluster.keep_history_in(server.url());
        cluster.start_all()?;
        cluster.start_worker("w1", 8)?;
        cluster.start_worker("w2", 8)?;
        cluster.leader()?;
        let (runtime, stop) = (Runtime::new()?, Arc::default());
        Ok(Self { server, cluster, runtime, stop, load: None })
    }

    fn load(&mut self) {
        let servers = (1..=self.cluster.len()).map(|id| self.cluster.grpc(id)).collect();
        let load = load::submit_until(servers, 2, effect_task, self.stop.clone());
        self.load = Some(self.runtime.spawn(load));
    }

    /// Ends the load and waits until everything has run and history holds it; what callers were
    /// told, and what handlers did.
    fn settle(&mut self) -> Result<(Vec<Submitted>, effects::Effects)> {
        self.stop.store(true, Ordering::Relaxed);
        let load = self.load.take().context("it was started")?;
        let told = self.runtime.block_on(load)??;
        self.cluster.until("all tasks have run", Duration::from_secs(60), |cluster| {
            let effects = effects::read(&cluster.effects())?;
            let ran = |id: &str| effects.get(id).is_some_and(|e| e.iter().any(|e| e.end.is_some()));
            Ok(told.iter().all(|task| ran(&task.id)).then_some(()))
        })?;
        self.cluster.converged()?;
        let effects = effects::read(&self.cluster.effects())?;
        never_two_at_once(&effects)?;
        Ok((told, effects))
    }

    /// S18: one closed row for each attempt that handlers saw and none beside, and every task
    /// that callers were told of succeeded.
    fn nothing_lost_nothing_doubled(&mut self) -> Result<()> {
        let (told, effects) = self.settle()?;
        let closed = self.executions()?;
        let seen: BTreeMap<u64, &str> = effects
            .iter()
            .flat_map(|(task, all)| all.iter().map(|effect| (effect.token, task.as_str())))
            .collect();
        for (token, task) in &seen {
            let row = closed.get(token);
            ensure!(
                row.is_some_and(|(of, status)| of == task && status == "succeeded"),
                "S18: attempt {token} of {task} is {row:?}"
            );
        }
        let unseen: Vec<_> = closed.keys().filter(|token| !seen.contains_key(token)).collect();
        ensure!(unseen.is_empty(), "S18: rows of attempts that no handler saw: {unseen:?}");
        let succeeded =
            self.ids("SELECT id FROM tasks WHERE status = 'succeeded' AND NOT deleted")?;
        let lost: Vec<_> = told.iter().filter(|task| !succeeded.contains(&task.id)).collect();
        ensure!(lost.is_empty(), "S18: no row says that these succeeded: {lost:?}");
        let gaps = self.server.psql("dtask", "SELECT count(*) FROM dtask_gaps")?;
        ensure!(gaps == "0", "{gaps} gaps, and nothing was dropped");
        println!(
            "history: {} tasks, {} executions, none lost or doubled",
            told.len(),
            closed.len()
        );
        Ok(())
    }

    /// The rows of `execution_logs` by token: task and status.
    fn executions(&self) -> Result<BTreeMap<u64, (String, String)>> {
        let rows = self.server.psql("dtask", "SELECT id, task_id, status FROM execution_logs")?;
        let mut found = BTreeMap::new();
        for row in rows.lines() {
            let words: Vec<_> = row.split('|').collect();
            let [token, task, status] = words[..] else { anyhow::bail!("not a row: {row}") };
            let row = (task.to_owned(), status.to_owned());
            ensure!(found.insert(token.parse()?, row).is_none(), "token {token} has two rows");
        }
        Ok(found)
    }

    fn ids(&self, sql: &str) -> Result<BTreeSet<String>> {
        Ok(self.server.psql("dtask", sql)?.lines().map(str::to_owned).collect())
    }

    /// Submits one task that is known to have left memory, because history has it.
    fn finished(&self, id: &str) -> Result<()> {
        let servers = self.cluster.servers();
        let words = ["submit", "--server", &servers, "--id", id, "--wait", "--payload", "1"];
        let status = dtask().args(words).arg("effect").output()?.status;
        ensure!(status.success(), "submit --wait ended with {status}");
        self.cluster.until("the task is stored", Duration::from_secs(30), |_| {
            let sql =
                format!("SELECT count(*) FROM tasks WHERE id = '{id}' AND status = 'succeeded'");
            Ok((self.server.psql("dtask", &sql)? == "1").then_some(()))
        })?;
        // Stored is told to the log, and then it leaves memory.
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }

    /// The longest time without a start between two moments.
    fn longest_gap(&self, (from, to): (u64, u64)) -> Result<Duration> {
        let starts = effects::starts(&effects::read(&self.cluster.effects())?);
        let inside = starts.into_iter().filter(|start| (from..to).contains(start));
        let moments: Vec<u64> = [from].into_iter().chain(inside).chain([to]).collect();
        let gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        Ok(Duration::from_nanos(gap))
    }

    /// No run waits for the database: handlers start as before, from `down` until now.
    fn runs_go_on(&self, what: &str, down: u64) -> Result<()> {
        let gap = self.longest_gap((down, monotonic_ns()))?;
        println!("{what}: longest time without a start {gap:?}");
        ensure!(gap < START_GAP_MAX, "{what}: no start for {gap:?}");
        Ok(())
    }

    fn get(&self, node: usize, path: &str) -> Result<Answer> {
        http::get(&self.cluster, node, path)
    }

    /// P8.6: with the database away, what is not in memory is unavailable on every node, whether
    /// it ever was a task or not.
    fn reads_are_unavailable(&self, finished: &str) -> Result<()> {
        let paths = [
            format!("/v1/tasks/{finished}"),
            format!("/v1/tasks/{finished}/status"),
            "/v1/tasks/nobody".to_owned(),
            "/v1/tasks/nobody/status".to_owned(),
        ];
        // At once, since each waits for as long as the database may take.
        std::thread::scope(|scope| {
            let mut asking = Vec::new();
            for node in self.cluster.ids() {
                for path in &paths {
                    asking.push(scope.spawn(move || self.unavailable(node, path)));
                }
                asking.push(scope.spawn(move || self.list_is_partial(node)));
            }
            asking.into_iter().try_for_each(|asked| asked.join().expect("it asks without a panic"))
        })
    }

    fn list_is_partial(&self, node: usize) -> Result<()> {
        let Answer { status, body, .. } = self.get(node, "/v1/tasks?status=succeeded")?;
        let partial = status == 200 && body["partial"] == true;
        ensure!(partial, "a list without the database is {status}, {body}");
        Ok(())
    }

    fn unavailable(&self, node: usize, path: &str) -> Result<()> {
        let Answer { status, body, again } = self.get(node, path)?;
        ensure!(
            status == 503 && body["reason"] == "HISTORY_UNAVAILABLE" && again,
            "{path} at node {node} is {status}, {body}, to be repeated: {again}"
        );
        Ok(())
    }

    fn reads_are_back(&self, finished: &str) -> Result<()> {
        let within = Duration::from_secs(20);
        for node in self.cluster.ids() {
            for (id, goal) in [(finished, 200), ("nobody", 404)] {
                let mut last = String::new();
                let read = self.cluster.until("tasks are read again", within, |_| {
                    let answer = self.get(node, &format!("/v1/tasks/{id}"));
                    last = format!("{answer:?}");
                    Ok(answer.is_ok_and(|answer| answer.status == goal).then_some(()))
                });
                read.with_context(|| format!("{id} at node {node} is {last}"))?;
            }
        }
        Ok(())
    }
}

fn effect_task(id: String) -> TaskSpec {
    TaskSpec { id, r#type: "effect".into(), payload: "3".into(), ..TaskSpec::default() }
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}

#[test]
fn while_postgresql_is_stopped_runs_go_on_and_its_history_outlives_the_leader() -> Result<()> {
    let mut field = Field::new(&[])?;
    field.finished("before")?;
    field.load();
    std::thread::sleep(Duration::from_secs(1));
    field.server.stop(Stop::Fast)?;
    let (begin, down) = (Instant::now(), monotonic_ns());
    field.reads_are_unavailable("before")?;
    println!("reads of a stopped database are refused within {:?}", begin.elapsed());
    // What waits for history is in the log, not in the leader: it dies in the middle.
    let half = if long() { Duration::from_secs(90) } else { Duration::ZERO };
    std::thread::sleep(half);
    let leader = field.cluster.leader()?;
    field.cluster.kill(leader)?;
    std::thread::sleep(Duration::from_secs(3));
    field.cluster.start(leader)?;
    field.cluster.until("the node that was killed answers", Duration::from_secs(30), |_| {
        Ok(field.get(leader, "/v1/cluster").ok().filter(|answer| answer.status == 200))
    })?;
    std::thread::sleep(half);
    field.reads_are_unavailable("before")?;
    field.runs_go_on("PostgreSQL stopped, and its leader killed", down)?;
    println!("PostgreSQL was stopped for {:?}", begin.elapsed());
    field.server.start_again()?;
    field.reads_are_back("before")?;
    field.nothing_lost_nothing_doubled()
}

#[test]
fn a_backend_killed_in_commit_loses_and_doubles_nothing() -> Result<()> {
    // COMMIT takes a tenth of a second before it is on disk.
    let mut field = Field::new(&["commit_delay=100000", "commit_siblings=0"])?;
    field.load();
    let down = monotonic_ns();
    let kills = if long() { 4 } else { 1 };
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_secs(1));
        let committing = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dtask' \
                          AND state = 'active' AND query = 'COMMIT'";
        kill_one(&field, committing).with_context(|| format!("kill {kill}"))?;
    }
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_secs(1));
        commit_waits_for_a_standby(&field, true)?;
        let waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dtask' \
                       AND wait_event = 'SyncRep'";
        kill_one(&field, waiting).with_context(|| format!("kill {kill} after COMMIT"))?;
        commit_waits_for_a_standby(&field, false)?;
    }
    field.runs_go_on("backends killed in COMMIT", down)?;
    field.nothing_lost_nothing_doubled()
}

/// COMMIT is on disk and waits for a standby that does not exist; or waits for none.
fn commit_waits_for_a_standby(field: &Field, waits: bool) -> Result<()> {
    let sql = if waits {
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"
    } else {
        "ALTER SYSTEM RESET synchronous_standby_names"
    };
    field.cluster.until("the server has recovered", Duration::from_secs(30), |_| {
        let set = field.server.psql("postgres", sql);
        Ok(set.ok().and_then(|_| field.server.psql("postgres", "SELECT pg_reload_conf()").ok()))
    })?;
    Ok(())
}

/// kill -9 of the first process that `sql` finds. The server ends all others and recovers.
fn kill_one(field: &Field, sql: &str) -> Result<()> {
    field.cluster.until("a COMMIT is under way", Duration::from_secs(30), |_| {
        let Ok(found) = field.server.psql("postgres", sql) else { return Ok(None) };
        let Some(pid) = found.lines().next().and_then(|line| line.parse().ok()) else {
            return Ok(None);
        };
        let pid = Pid::from_raw(pid).context("a process id")?;
        Ok(kill_process(pid, Signal::KILL).is_ok().then_some(()))
    })
}

#[test]
fn while_postgresql_is_frozen_or_locked_runs_go_on() -> Result<()> {
    let mut field = Field::new(&[])?;
    field.finished("before")?;
    field.load();
    std::thread::sleep(Duration::from_secs(1));
    // It answers nothing and closes nothing.
    field.server.freeze()?;
    let (begin, down) = (Instant::now(), monotonic_ns());
    field.reads_are_unavailable("before")?;
    let took = begin.elapsed();
    println!("reads of a frozen database are refused within {took:?}");
    ensure!(took < Duration::from_secs(15), "reads of a frozen database took {took:?}");
    field.runs_go_on("PostgreSQL frozen", down)?;
    field.server.thaw()?;
    field.reads_are_back("before")?;
    // Somebody else's statement holds the table for seconds.
    let down = monotonic_ns();
    let lock = "BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT";
    field.server.psql("dtask", lock)?;
    field.runs_go_on("tasks locked", down)?;
    field.reads_are_back("before")?;
    field.nothing_lost_nothing_doubled()
}

#[test]
fn after_an_older_dump_is_restored_the_gap_is_named_and_current_tasks_are_written_again()
-> Result<()> {
    let field = Field::new(&[])?;
    field.finished("kept")?;
    let dump = field.cluster.folder().join("dump");
    field.cluster.converged()?;
    let through = "SELECT through FROM dtask_cursor";
    let old: u64 = field.server.psql("dtask", through)?.parse()?;
    field.server.dump("dtask", &dump)?;
    // After the dump: one that ends, and one that waits.
    let servers = field.cluster.servers();
    let words = ["submit", "--server", &servers, "--id", "waits", "--in", "1h", "effect"];
    ensure!(dtask().args(words).output()?.status.success(), "submit failed");
    field.finished("undone")?;
    field.cluster.converged()?;
    let new: u64 = field.server.psql("dtask", through)?.parse()?;
    field.server.restore("dtask", &dump)?;
    // The next change meets the older cursor.
    let words = ["submit", "--server", &servers, "--id", "after", "--wait", "effect"];
    ensure!(dtask().args(words).output()?.status.success(), "submit failed");
    field.cluster.converged()?;
    let gaps = field.server.psql("dtask", "SELECT first, last FROM dtask_gaps")?;
    ensure!(gaps == format!("{}|{new}", old + 1), "the gap is {gaps}, not {}..={new}", old + 1);
    let ids = field.ids("SELECT id FROM tasks")?;
    for (id, there) in [("kept", true), ("waits", true), ("after", true), ("undone", false)] {
        ensure!(ids.contains(id) == there, "{id} in tasks is not {there}: {ids:?}");
    }
    // What is in neither memory nor history is gone, and said to be.
    let status = field.get(1, "/v1/tasks/undone")?.status;
    ensure!(status == 404, "what the restore has undone is {status}");
    let leader = field.cluster.leader()?;
    println!("restored at change {old} of {new}: {gaps}; node {leader} said so");
    Ok(())
}

#[test]
fn the_database_of_another_cluster_is_refused_and_left_alone() -> Result<()> {
    let field = Field::new(&[])?;
    field.finished("ours")?;
    field.cluster.converged()?;
    let (rows, cursor) = ("SELECT count(*) FROM tasks", "SELECT * FROM dtask_cursor");
    let before = (field.server.psql("dtask", rows)?, field.server.psql("dtask", cursor)?);
    let mut stranger = Cluster::new(1)?;
    stranger.keep_history_in(field.server.url());
    stranger.start_all()?;
    stranger.start_worker("w9", 2)?;
    stranger.leader()?;
    // It runs what it accepts, and says what is wrong.
    let servers = stranger.servers();
    let words = ["submit", "--server", &servers, "--id", "theirs", "--wait", "effect"];
    ensure!(dtask().args(words).output()?.status.success(), "the other cluster does not run");
    stranger.until("it says whose database that is", Duration::from_secs(10), |cluster| {
        Ok(cluster.logs().contains("the history database belongs to cluster").then_some(()))
    })?;
    // And does not take the other's tasks for its own.
    let Answer { status, body, .. } = http::get(&stranger, 1, "/v1/tasks/ours")?;
    let said = body["detail"].as_str().unwrap_or_default();
    let refused = status == 503 && said.contains("the history database belongs to cluster");
    ensure!(refused, "a task of the other cluster is {status}, {body}");
    let body = http::get(&stranger, 1, "/v1/tasks")?.body;
    let hidden = body["partial"] == true && !body.to_string().contains("ours");
    ensure!(hidden, "it lists {body}");
    let after = (field.server.psql("dtask", rows)?, field.server.psql("dtask", cursor)?);
    ensure!(before == after, "another cluster changed the database: {before:?}, {after:?}");
    Ok(())
}
