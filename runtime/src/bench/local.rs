//! Schedulers and workers as processes of their own, in a temporary directory.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use dtask_proto::v1::task_service_client::TaskServiceClient;
use dtask_proto::v1::worker_admin_service_client::WorkerAdminServiceClient;
use dtask_proto::v1::{ListExecutionsRequest, ListWorkersRequest, SubmitTaskRequest, TaskSpec};

use super::{KIND, connect, postgres, process};

/// Callers before and after the kill submit this often.
const FAILOVER_EVERY: Duration = Duration::from_millis(5);

/// Tries of one submit across a failover, ten milliseconds apart.
const TRIES_MAX: usize = 400;

/// The processes of a local run; killed, and their directory removed, when dropped.
#[derive(Debug)]
pub(crate) struct Local {
    folder: PathBuf,
    nodes: Vec<Process>,
    workers: Vec<Process>,
    /// PostgreSQL's first process, when history goes to a server on this machine.
    database: Option<u32>,
}

#[derive(Debug)]
struct Process {
    name: String,
    grpc: Option<String>,
    child: Child,
}

impl Local {
    /// Starts `nodes` schedulers, and `workers` workers of `slots` slots. History goes to the URL,
    /// or to an SQLite file that is removed with the rest.
    pub(crate) async fn start(
        nodes: usize,
        (workers, slots): (usize, u32),
        history: Option<&str>,
    ) -> Result<Self> {
        ensure!((1..=7).contains(&nodes), "--local takes 1 to 7 schedulers, not {nodes}");
        let folder = std::env::temp_dir().join(format!("dtask-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let database = match history {
            Some(url) => postgres::first_process(url).await?,
            None => None,
        };
        let mut local = Self { folder, nodes: Vec::new(), workers: Vec::new(), database };
        let file = format!("sqlite:{}", local.folder.join("history.db").display());
        let history = history.unwrap_or(&file).to_owned();
        let ports = free_ports(2 * nodes)?;
        let grpc: Vec<_> = (0..nodes).map(|i| format!("127.0.0.1:{}", ports[2 * i])).collect();
        for (index, address) in grpc.iter().enumerate() {
            let id = (index + 1).to_string();
            let mut words = vec!["serve".to_owned(), "--id".into(), id.clone()];
            words.extend(["--grpc".into(), address.clone()]);
            words.extend(["--http".into(), format!("127.0.0.1:{}", ports[2 * index + 1])]);
            for (peer, address) in grpc.iter().enumerate() {
                words.extend(["--peer".into(), format!("{}={address}", peer + 1)]);
            }
            let path = |name: &str| local.folder.join(name).display().to_string();
            words.extend(["--data".into(), path(&format!("node{id}"))]);
            let child = local.spawn(&words, &format!("node{id}"), Some(&history))?;
            let name = format!("scheduler {id}");
            local.nodes.push(Process { name, grpc: Some(address.clone()), child });
        }
        for index in 1..=workers {
            let name = format!("worker {index}");
            let mut words = vec!["work".to_owned(), "--server".into(), grpc.join(",")];
            words.extend(["--name".into(), format!("bench{index}")]);
            words.extend(["--slots".into(), slots.to_string(), "--noop".into(), KIND.into()]);
            let child = local.spawn(&words, &format!("worker{index}"), None)?;
            local.workers.push(Process { name, grpc: None, child });
        }
        Ok(local)
    }

    fn spawn(&self, words: &[String], log: &str, history: Option<&str>) -> Result<Child> {
        let log = std::fs::File::create(self.folder.join(format!("{log}.log")))?;
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(url) = history {
            // Not as a flag: it may hold a password.
            command.env("DTASK_HISTORY", url);
        }
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start a process of the benchmark")
    }

    /// Where the schedulers listen.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.nodes.iter().filter_map(|node| node.grpc.clone()).collect()
    }

    /// Returns when every worker has its session.
    pub(crate) async fn wait_for_workers(&self, leader: &str) -> Result<()> {
        let mut admin = WorkerAdminServiceClient::new(connect(leader).await?);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let listed = admin.list_workers(ListWorkersRequest {}).await;
            let known = listed.map_or(0, |answer| {
                answer.into_inner().workers.iter().filter(|worker| worker.connected).count()
            });
            if known >= self.workers.len() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "only {known} workers have connected in 30 s");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// CPU time of each process so far.
    pub(crate) fn cpu_times(&self) -> BTreeMap<String, Duration> {
        let own = self.nodes.iter().chain(&self.workers);
        let own = own.filter_map(|p| Some((p.name.clone(), process::cpu_time(p.child.id()).ok()?)));
        let database = self.database.and_then(|pid| process::family_cpu_time(pid).ok());
        own.chain(database.map(|time| ("PostgreSQL".to_owned(), time))).collect()
    }

    /// Microseconds a task, by process; the leader is marked.
    pub(crate) fn cpu_per_task(
        &self,
        before: &BTreeMap<String, Duration>,
        own: Duration,
        tasks: u64,
        leader: &str,
    ) -> BTreeMap<String, f64> {
        let per_task = |time: Duration| time.as_secs_f64() * 1e6 / tasks.max(1) as f64;
        let leads = self.nodes.iter().find(|node| node.grpc.as_deref() == Some(leader));
        let mut all: BTreeMap<String, f64> = self
            .cpu_times()
            .into_iter()
            .map(|(name, time)| {
                let used = time.saturating_sub(before.get(&name).copied().unwrap_or_default());
                let shown = match leads {
                    Some(node) if node.name == name => format!("{name} (leader)"),
                    _ => name,
                };
                (shown, per_task(used))
            })
            .collect();
        all.insert("load generator".into(), per_task(own));
        all
    }

    /// Resident memory of each scheduler.
    pub(crate) fn memory(&self) -> BTreeMap<String, u64> {
        self.nodes
            .iter()
            .filter_map(|node| Some((node.name.clone(), process::memory(node.child.id()).ok()?)))
            .collect()
    }

    /// Bytes of resident memory that each task added, by scheduler.
    pub(crate) fn memory_per_task(
        &self,
        before: &BTreeMap<String, u64>,
        tasks: u64,
    ) -> BTreeMap<String, f64> {
        let grown = |name: &String, now: u64| {
            now.saturating_sub(before.get(name).copied().unwrap_or_default()) as f64
        };
        self.memory()
            .into_iter()
            .map(|(name, now)| {
                let bytes = grown(&name, now) / tasks.max(1) as f64;
                (name, bytes)
            })
            .collect()
    }

    /// Kills the leader with -9 under a light load: milliseconds from the last start of a handler
    /// before it to the first one after it that was not already on its way.
    pub(crate) async fn failover_gap(&mut self, leader: &str) -> Result<f64> {
        ensure!(self.nodes.len() >= 3, "a failover needs three schedulers");
        let all = self.servers();
        let survivors: Vec<String> = all.into_iter().filter(|server| server != leader).collect();
        let load = tokio::spawn(trickle(survivors, Duration::from_secs(6)));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let killed = SystemTime::now();
        let victim = self.nodes.iter_mut().find(|node| node.grpc.as_deref() == Some(leader));
        let child = &mut victim.context("the leader is one of ours")?.child;
        child.kill()?;
        child.wait()?;
        let mut starts = load.await??;
        starts.sort_unstable();
        let killed = killed.duration_since(SystemTime::UNIX_EPOCH)?.as_micros() as i64;
        let near = starts.partition_point(|start| *start < killed);
        let gap = starts[near.saturating_sub(1)..]
            .windows(2)
            .take_while(|pair| pair[0] < killed + 1_000_000)
            .map(|pair| pair[1] - pair[0])
            .max()
            .context("no handler started after the kill")?;
        Ok(gap as f64 / 1_000.0)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        for process in self.nodes.iter_mut().chain(&mut self.workers) {
            // They may have ended already; then there is nothing to do.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// Submits a task every few milliseconds for `time`, each to whichever server answers, and returns
/// when each started (wall clock, microseconds).
async fn trickle(servers: Vec<String>, time: Duration) -> Result<Vec<i64>> {
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(TaskServiceClient::new(connect(server).await?));
    }
    let begin = Instant::now();
    let mut calls = Vec::new();
    let mut ticks = tokio::time::interval(FAILOVER_EVERY);
    while begin.elapsed() < time {
        ticks.tick().await;
        let clients = clients.clone();
        calls.push(tokio::spawn(async move {
            let id = uuid::Uuid::now_v7().to_string();
            let task = TaskSpec { id: id.clone(), r#type: KIND.into(), ..TaskSpec::default() };
            for mut client in clients.into_iter().cycle().take(TRIES_MAX) {
                let request = SubmitTaskRequest {
                    task: Some(task.clone()),
                    retry: true,
                    ..Default::default()
                };
                if client.submit_task(request).await.is_ok() {
                    return Some(id);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            None
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut starts = Vec::new();
    for call in calls {
        let id = call.await?.context("a submit was not accepted after the failover")?;
        let request = ListExecutionsRequest { task_id: id, ..Default::default() };
        let answer = clients[0].list_executions(request).await?.into_inner();
        starts.extend(answer.executions.iter().filter_map(|execution| execution.started_at));
    }
    Ok(starts)
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
