//! Real processes of the release build in a directory of their own: schedulers, workers, calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub use crate::process::{binary, dtask};
use crate::process::{dtask_in, free_port, spawn};

/// A cluster of `dtask serve` processes and its workers, killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    folder: tempfile::TempDir,
    nodes: Vec<Node>,
    workers: Vec<Worker>,
    history: String,
}

#[derive(Debug)]
struct Node {
    grpc: u16,
    http: u16,
    place: Place,
    child: Option<Child>,
    lives: u32,
}

#[derive(Debug)]
struct Worker {
    name: String,
    slots: usize,
    place: Place,
    child: Option<Child>,
    lives: u32,
}

/// Where a process runs and what it is told beside the usual.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address of the machine, or of the namespace.
    pub host: String,
    /// The network namespace, if it is not the test's own.
    pub namespace: Option<String>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
    /// The data directory of a node, if it is not `node<ID>` in the cluster's folder.
    pub data: Option<PathBuf>,
    /// By which addresses a node reaches others, where these are not their own.
    pub peers: BTreeMap<usize, String>,
    /// The gRPC address that a node tells clients and workers, if it is not its own.
    pub advertise: Option<String>,
    /// Further options.
    pub words: Vec<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            namespace: None,
            environment: Vec::new(),
            data: None,
            peers: BTreeMap::new(),
            advertise: None,
            words: Vec::new(),
        }
    }
}

impl Cluster {
    /// Ports for `count` nodes; nothing runs yet.
    pub fn new(count: usize) -> Result<Self> {
        let node = || -> Result<Node> {
            let (grpc, http) = (free_port()?, free_port()?);
            Ok(Node { grpc, http, place: Place::default(), child: None, lives: 0 })
        };
        let nodes = (0..count).map(|_| node()).collect::<Result<_>>()?;
        let folder = tempfile::tempdir()?;
        let history = format!("sqlite:{}", folder.path().join("history.db").display());
        Ok(Self { folder, nodes, workers: Vec::new(), history })
    }

    /// Where everything lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The history database, shared by the nodes of one machine.
    pub fn history(&self) -> PathBuf {
        self.folder().join("history.db")
    }

    /// Another history database than SQLite in the folder.
    pub fn keep_history_in(&mut self, url: String) {
        self.history = url;
    }

    /// How many nodes the cluster has.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes' numbers.
    pub fn ids(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.len()
    }

    /// Where node `id` runs: for changes before it starts.
    pub fn place(&mut self, id: usize) -> &mut Place {
        &mut self.nodes[id - 1].place
    }

    /// `host:port` of node `id` (from 1).
    pub fn address(&self, id: usize) -> String {
        let node = &self.nodes[id - 1];
        format!("{}:{}", node.place.host, node.grpc)
    }

    /// `host:port` by which clients reach node `id`.
    pub fn front(&self, id: usize) -> String {
        self.nodes[id - 1].place.advertise.clone().unwrap_or_else(|| self.address(id))
    }

    /// The gRPC URL of node `id` (from 1).
    pub fn grpc(&self, id: usize) -> String {
        format!("http://{}", self.front(id))
    }

    /// The HTTP port of node `id` (from 1).
    pub fn http_port(&self, id: usize) -> u16 {
        self.nodes[id - 1].http
    }

    /// What `--server` wants: every node.
    pub fn servers(&self) -> String {
        self.ids().map(|id| self.front(id)).collect::<Vec<_>>().join(",")
    }

    /// The data directory of node `id`.
    pub fn data(&self, id: usize) -> PathBuf {
        let place = &self.nodes[id - 1].place;
        place.data.clone().unwrap_or_else(|| self.folder().join(format!("node{id}")))
    }

    /// Starts node `id`, or starts it again on its directory.
    pub fn start(&mut self, id: usize) -> Result<()> {
        let peers: Vec<usize> = self.ids().collect();
        let command = self.serve(id, id, &peers);
        self.run(id, command)
    }

    /// Starts node `id` as a cluster of its own.
    pub fn start_alone(&mut self, id: usize) -> Result<()> {
        let command = self.serve(id, id, &[id]);
        self.run(id, command)
    }

    /// `dtask serve` for node `id` alone on the directory of node `of`, not started.
    pub fn serve_alone(&self, id: usize, of: usize) -> Command {
        self.serve(id, of, &[id])
    }

    fn serve(&self, id: usize, of: usize, peers: &[usize]) -> Command {
        let node = &self.nodes[id - 1];
        let place = &node.place;
        let mut command = dtask_in(place.namespace.as_deref());
        command
            .args(["serve", "--id", &id.to_string()])
            .args(["--grpc", &self.address(id)])
            .args(["--http", &format!("{}:{}", place.host, node.http)])
            .arg("--data")
            .arg(self.data(of))
            .args(["--history", &self.history])
            .args(&place.words)
            .envs(place.environment.iter().cloned());
        if place.namespace.is_some() {
            command.arg("--insecure");
        }
        if let Some(advertise) = &place.advertise {
            command.args(["--advertise-grpc", advertise]);
        }
        for peer in peers {
            let address = place.peers.get(peer).cloned().unwrap_or_else(|| self.address(*peer));
            command.args(["--peer", &format!("{peer}={address}")]);
        }
        command
    }

    fn run(&mut self, id: usize, command: Command) -> Result<()> {
        let log = self.folder().join(format!("node{id}.{}.log", self.nodes[id - 1].lives));
        let child = spawn(command, &log)?;
        let node = &mut self.nodes[id - 1];
        node.child = Some(child);
        node.lives += 1;
        Ok(())
    }

    /// Starts every node.
    pub fn start_all(&mut self) -> Result<()> {
        self.ids().try_for_each(|id| self.start(id))
    }

    /// Starts a worker whose type `effect` marks its effects in `effects.txt`.
    pub fn start_worker(&mut self, name: &str, slots: usize) -> Result<()> {
        self.start_worker_at(name, slots, Place::default())
    }

    /// As [`Self::start_worker`], in another namespace or with further environment.
    pub fn start_worker_at(&mut self, name: &str, slots: usize, place: Place) -> Result<()> {
        let name = name.to_owned();
        self.workers.push(Worker { name, slots, place, child: None, lives: 0 });
        self.restart_worker(self.workers.len())
    }

    /// Starts worker `number` (from 1, in the order of their first start) again.
    pub fn restart_worker(&mut self, number: usize) -> Result<()> {
        let (servers, effects) = (self.servers(), self.effects());
        let folder = self.folder().to_owned();
        let worker = &mut self.workers[number - 1];
        let mut command = dtask_in(worker.place.namespace.as_deref());
        command
            .args(["work", "--server", &servers, "--name", &worker.name])
            .args(["--slots", &worker.slots.to_string(), "--allow-exec", "--pass-env", "EFFECTS"])
            .arg("--handler")
            .arg(format!("effect={}", binary("dtask-effect").display()))
            .args(&worker.place.words)
            .env("EFFECTS", effects)
            .envs(worker.place.environment.iter().cloned());
        let log = folder.join(format!("{}.{}.log", worker.name, worker.lives));
        worker.child = Some(spawn(command, &log)?);
        worker.lives += 1;
        Ok(())
    }

    /// Where effects are marked.
    pub fn effects(&self) -> PathBuf {
        self.folder().join("effects.txt")
    }

    /// kill -9, and reaps.
    pub fn kill(&mut self, id: usize) -> Result<()> {
        end(&mut self.nodes[id - 1].child)
    }

    /// kill -9 to a worker, and reaps.
    pub fn kill_worker(&mut self, number: usize) -> Result<()> {
        end(&mut self.workers[number - 1].child)
    }

    /// kill -9 to everything.
    pub fn kill_all(&mut self) {
        let nodes = self.nodes.iter_mut().map(|node| &mut node.child);
        for child in nodes.chain(self.workers.iter_mut().map(|worker| &mut worker.child)) {
            // A process that cannot be killed has ended.
            let _ = end(child);
        }
    }

    /// Leaves the folder for people to look at, and says where it is.
    pub fn keep(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    /// A signal to node `id`.
    pub fn signal(&self, id: usize, signal: Signal) -> Result<()> {
        let child = self.nodes[id - 1].child.as_ref().context("the node does not run")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// A signal to worker `number`.
    pub fn signal_worker(&self, number: usize, signal: Signal) -> Result<()> {
        let child = self.workers[number - 1].child.as_ref().context("the worker does not run")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// Waits until node `id` has ended by itself.
    pub fn ended(&mut self, id: usize, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            let child = self.nodes[id - 1].child.as_mut().context("the node does not run")?;
            if let Some(status) = child.try_wait()? {
                self.nodes[id - 1].child = None;
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "node {id} runs on after {within:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether node `id` runs.
    pub fn is_up(&mut self, id: usize) -> bool {
        let child = self.nodes[id - 1].child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// SIGTERM to every process, then waits: how long the whole took.
    pub fn stop(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        let workers = self.workers.iter_mut().filter_map(|worker| worker.child.take());
        let nodes = self.nodes.iter_mut().filter_map(|node| node.child.take());
        let mut children: Vec<Child> = workers.chain(nodes).collect();
        for child in &children {
            kill_process(Pid::from_child(child), Signal::TERM)?;
        }
        for child in &mut children {
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                if let Some(status) = child.try_wait()? {
                    ensure!(status.success(), "SIGTERM ended a process with {status}");
                    break;
                }
                ensure!(Instant::now() < deadline, "a process ignores SIGTERM");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(begin.elapsed())
    }

    /// `GET path` at node `id`.
    pub fn http(&self, id: usize, path: &str) -> Result<Value> {
        let node = &self.nodes[id - 1];
        let url = format!("http://{}:{}{path}", node.place.host, node.http);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            .build()
            .into();
        Ok(agent.get(&url).call()?.body_mut().read_json()?)
    }

    /// The id of the leader, as the living node with the highest term knows it.
    pub fn leader(&self) -> Result<usize> {
        self.until("a leader is known", Duration::from_secs(30), |cluster| {
            let up = cluster.ids().filter(|id| cluster.nodes[id - 1].child.is_some());
            let views: Vec<_> = up.filter_map(|id| cluster.http(id, "/v1/cluster").ok()).collect();
            let newest = views.iter().max_by_key(|view| view["term"].as_u64());
            let leader = newest.and_then(|view| view["leader"].as_u64()).map(|id| id as usize);
            Ok(leader.filter(|id| cluster.nodes[id - 1].child.is_some()))
        })
    }

    /// A node that does not lead.
    pub fn follower(&self) -> Result<usize> {
        let leader = self.leader()?;
        self.ids().find(|id| *id != leader).context("the cluster has one node")
    }

    /// L5: every node has applied the same index with the same digest.
    pub fn converged(&self) -> Result<Value> {
        self.until("all nodes converge", Duration::from_secs(60), |cluster| {
            let Ok(views) = cluster.views() else { return Ok(None) };
            Ok(agreed(&views).then(|| views[0].clone()))
        })
    }

    /// What each node says of the cluster.
    pub fn views(&self) -> Result<Vec<Value>> {
        self.ids().map(|id| self.http(id, "/v1/cluster")).collect()
    }

    /// Polls until `ready` yields, or fails naming `what`, with the end of every log.
    pub fn until<T>(
        &self,
        what: &str,
        within: Duration,
        mut ready: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(value) = ready(self)? {
                return Ok(value);
            }
            if Instant::now() > deadline {
                bail!("not within {within:?}: {what}\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The whole log of node `id`, all lives.
    pub fn log_of(&self, id: usize) -> String {
        (0..self.nodes[id - 1].lives)
            .map(|life| self.folder().join(format!("node{id}.{life}.log")))
            .map(|path| std::fs::read_to_string(path).unwrap_or_default())
            .collect()
    }

    /// The log of the newest life of node `id`.
    pub fn log_of_life(&self, id: usize) -> String {
        let life = self.nodes[id - 1].lives.saturating_sub(1);
        let path = self.folder().join(format!("node{id}.{life}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// The last lines of every process's log.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let mut paths: Vec<_> = std::fs::read_dir(self.folder())
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "log")) {
            let log = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(12)..];
            text += &format!("--- {}\n{}\n", path.display(), tail.join("\n"));
        }
        text
    }
}

/// Whether all nodes say the same and history lags by nothing.
pub fn agreed(views: &[Value]) -> bool {
    let Some(first) = views.first() else { return false };
    let equal = |view: &Value| {
        view["digest"] == first["digest"] && view["applied_index"] == first["applied_index"]
    };
    views.iter().all(equal) && first["history_lag"] == 0
}

fn end(child: &mut Option<Child>) -> Result<()> {
    if let Some(mut child) = child.take() {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
    }
}
