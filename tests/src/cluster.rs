//! Real processes of the release build in a directory of their own: schedulers, workers, calls.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::root;

/// A cluster of `dtask serve` processes, killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    folder: tempfile::TempDir,
    nodes: Vec<Node>,
    workers: Vec<Option<Child>>,
}

#[derive(Debug)]
struct Node {
    grpc: u16,
    http: u16,
    child: Option<Child>,
    lives: u32,
}

/// The program under test, as `cargo xtask test build` left it.
pub fn dtask() -> Command {
    Command::new(binary("dtask"))
}

/// A binary of the release build.
pub fn binary(name: &str) -> PathBuf {
    let path = root().join("target/release").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --release --workspace` first",
        path.display()
    );
    path
}

impl Cluster {
    /// Ports for `count` nodes; nothing runs yet.
    pub fn new(count: usize) -> Result<Self> {
        let nodes = (0..count)
            .map(|_| Ok(Node { grpc: free_port()?, http: free_port()?, child: None, lives: 0 }))
            .collect::<Result<_>>()?;
        Ok(Self { folder: tempfile::tempdir()?, nodes, workers: Vec::new() })
    }

    /// Where everything lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The history database, shared by the nodes of one machine.
    pub fn history(&self) -> PathBuf {
        self.folder().join("history.db")
    }

    /// How many nodes the cluster has.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The gRPC URL of node `id` (from 1).
    pub fn grpc(&self, id: usize) -> String {
        format!("http://127.0.0.1:{}", self.nodes[id - 1].grpc)
    }

    /// The HTTP port of node `id` (from 1).
    pub fn http_port(&self, id: usize) -> u16 {
        self.nodes[id - 1].http
    }

    /// What `--server` wants: every node.
    pub fn servers(&self) -> String {
        let all: Vec<_> = self.nodes.iter().map(|n| format!("127.0.0.1:{}", n.grpc)).collect();
        all.join(",")
    }

    /// Starts node `id`, or starts it again on its directory.
    pub fn start(&mut self, id: usize) -> Result<()> {
        let peers: Vec<usize> = (1..=self.len()).collect();
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
        let mut command = dtask();
        let node = &self.nodes[id - 1];
        command
            .args(["serve", "--id", &id.to_string()])
            .args(["--grpc", &format!("127.0.0.1:{}", node.grpc)])
            .args(["--http", &format!("127.0.0.1:{}", node.http)])
            .arg("--data")
            .arg(self.folder().join(format!("node{of}")))
            .arg("--history")
            .arg(format!("sqlite:{}", self.history().display()));
        for peer in peers {
            let port = self.nodes[peer - 1].grpc;
            command.args(["--peer", &format!("{peer}=127.0.0.1:{port}")]);
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
        (1..=self.len()).try_for_each(|id| self.start(id))
    }

    /// Starts a worker whose type `effect` marks its effects in `effects.txt`.
    pub fn start_worker(&mut self, name: &str, slots: usize) -> Result<()> {
        let mut command = dtask();
        command
            .args(["work", "--server", &self.servers(), "--name", name])
            .args(["--slots", &slots.to_string(), "--allow-exec", "--pass-env", "EFFECTS"])
            .arg("--handler")
            .arg(format!("effect={}", binary("dtask-effect").display()))
            .env("EFFECTS", self.effects());
        let child = spawn(command, &self.folder().join(format!("{name}.log")))?;
        self.workers.push(Some(child));
        Ok(())
    }

    /// Where effects are marked.
    pub fn effects(&self) -> PathBuf {
        self.folder().join("effects.txt")
    }

    /// kill -9, and reaps.
    pub fn kill(&mut self, id: usize) -> Result<()> {
        if let Some(mut child) = self.nodes[id - 1].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM to every process, then waits: how long the whole took.
    pub fn stop(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        let mut children: Vec<Child> = self
            .workers
            .drain(..)
            .flatten()
            .chain(self.nodes.iter_mut().filter_map(|n| n.child.take()))
            .collect();
        for child in &children {
            let pid = rustix::process::Pid::from_child(child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        for child in &mut children {
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                if let Some(status) = child.try_wait()? {
                    anyhow::ensure!(status.success(), "SIGTERM ended a process with {status}");
                    break;
                }
                anyhow::ensure!(Instant::now() < deadline, "a process ignores SIGTERM");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(begin.elapsed())
    }

    /// `GET path` at node `id`.
    pub fn http(&self, id: usize, path: &str) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.nodes[id - 1].http);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        Ok(agent.get(&url).call()?.body_mut().read_json()?)
    }

    /// The id of the leader, as any living node knows it.
    pub fn leader(&self) -> Result<usize> {
        self.until("a leader is known", Duration::from_secs(30), |cluster| {
            for id in (1..=cluster.len()).filter(|id| cluster.nodes[id - 1].child.is_some()) {
                let view = cluster.http(id, "/v1/cluster").ok();
                let leader = view.and_then(|v| v["leader"].as_u64()).map(|l| l as usize);
                if leader.is_some_and(|l| cluster.nodes[l - 1].child.is_some()) {
                    return Ok(leader);
                }
            }
            Ok(None)
        })
    }

    /// L5: every node has applied the same index with the same digest.
    pub fn converged(&self) -> Result<Value> {
        self.until("all nodes converge", Duration::from_secs(60), |cluster| {
            let views: Result<Vec<_>> =
                (1..=cluster.len()).map(|id| cluster.http(id, "/v1/cluster")).collect();
            let Ok(views) = views else { return Ok(None) };
            let first = &views[0];
            let equal = views.iter().all(|view| {
                view["digest"] == first["digest"] && view["applied_index"] == first["applied_index"]
            });
            Ok((equal && first["history_lag"] == 0).then(|| first.clone()))
        })
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

impl Drop for Cluster {
    fn drop(&mut self) {
        let nodes = self.nodes.iter_mut().filter_map(|node| node.child.as_mut());
        for child in nodes.chain(self.workers.iter_mut().flatten()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let file = File::create(log)?;
    command
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
