//! Where a case takes place: a cluster on its ground, the load, and the end with its verdict.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use dtask_sim::check::gaps::Undone;
use tokio::runtime::{Handle, Runtime};

use crate::callers::{Entries, Load, monotonic_ns};
use crate::cluster::{Cluster, Place, agreed};
use crate::cut::Cutter;
use crate::disk::SmallDisk;
use crate::effects;
use crate::judge::{self, Evidence};
use crate::postgres::Postgres;
use crate::process::free_port;
use crate::proxy::Proxy;
use crate::rows;
use crate::shim::{Faults, Shim};
use crate::spaces::Spaces;

/// The load runs this long before the first strike and after the healing.
const CALM: Duration = Duration::from_millis(1_500);
/// After the load everything ends within this: a lease (15 s), its retry, and a slow machine.
const SETTLE_MAX: Duration = Duration::from_secs(90);
/// The logs stay whole, so that they can be replayed from their first entry.
const WHOLE_LOG: [&str; 2] = ["--snapshot-log-bytes-min", "4000000000"];
/// Nodes of a case.
const NODES: usize = 3;

/// How processes reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Loopback.
    Plain,
    /// Each node and the first worker in a network namespace of its own.
    Namespaces,
    /// Loopback, with a proxy between every two nodes and before every node.
    Wires,
}

/// What a case needs.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How processes reach each other.
    pub ground: Ground,
    /// The library of faults lies over libc in every node.
    pub shim: bool,
    /// Each node keeps its log on a small disk.
    pub small_disks: bool,
    /// History is kept in a PostgreSQL server, behind a proxy that can cut its COMMITs.
    pub postgres: bool,
    /// Bytes that may wait in memory for history, if not the default.
    pub history_memory: Option<u64>,
}

impl Plan {
    /// A cluster on loopback.
    pub const PLAIN: Self = Self {
        ground: Ground::Plain,
        shim: false,
        small_disks: false,
        postgres: false,
        history_memory: None,
    };
    /// A cluster of namespaces.
    pub const NAMESPACES: Self = Self { ground: Ground::Namespaces, ..Self::PLAIN };
    /// A cluster behind proxies.
    pub const WIRES: Self = Self { ground: Ground::Wires, ..Self::PLAIN };
    /// A cluster with its history in PostgreSQL.
    pub const POSTGRES: Self = Self { postgres: true, ..Self::PLAIN };
    /// A cluster whose disks can be full.
    pub const SMALL_DISKS: Self = Self { small_disks: true, ..Self::PLAIN };
    /// A cluster whose syncs and clocks can fail.
    pub const SHIM: Self = Self { shim: true, ..Self::PLAIN };
}

/// A field, or why the machine refuses it.
#[expect(clippy::large_enum_variant, reason = "one of them exists at a time")]
pub enum Prepared {
    /// Ready to begin.
    Ready(Field),
    /// The machine does not allow it.
    Refused(String),
}

/// A case's surroundings. Processes end before the ground that they stand on goes.
pub struct Field {
    /// Nodes 1 to 3 and the workers 1 and 2.
    pub cluster: Cluster,
    /// With [`Ground::Namespaces`]: nodes at 1 to 3, the first worker at 4.
    pub spaces: Option<Spaces>,
    /// With [`Ground::Wires`]: (from, to) between nodes, (0, to) before each node.
    pub wires: BTreeMap<(usize, usize), Proxy>,
    /// With `shim`: the faults of nodes 1 to 3.
    pub faults: Vec<Faults>,
    /// With `small_disks`: those of nodes 1 to 3.
    pub disks: Vec<SmallDisk>,
    /// With `postgres`: the server, and what leads to it.
    pub database: Option<(Postgres, Cutter)>,
    /// What a restore of the database has undone.
    pub undone: Undone,
    load: Option<Load>,
    workers: u32,
    runtime: Runtime,
    struck: Option<u64>,
    history: String,
}

/// What a case counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Calls of the load, repeats too.
    pub calls: u64,
    /// Acknowledged submits.
    pub acknowledged: usize,
    /// Handlers that started.
    pub effects: usize,
    /// The longest pause between two starts since the first strike.
    pub gap: Duration,
    /// From the end of the load until everything had ended and was stored.
    pub settled: Duration,
}

impl Field {
    /// Makes the ground; nothing runs yet.
    pub fn prepare(plan: &Plan) -> Result<Prepared> {
        let runtime = Runtime::new()?;
        let mut cluster = Cluster::new(NODES)?;
        let mut history = format!("sqlite:{}", cluster.history().display());
        let mut database = None;
        if plan.postgres {
            // A COMMIT takes a while, so that one is under way when something happens.
            match Postgres::start_with(&["commit_delay=50000", "commit_siblings=0"]) {
                Ok(server) => {
                    let cutter = Cutter::before(server.port())?;
                    history = server.url();
                    cluster.keep_history_in(server.url_of("dtask", cutter.port()));
                    database = Some((server, cutter));
                }
                Err(error) => return Ok(Prepared::Refused(format!("no PostgreSQL: {error:#}"))),
            }
        }
        let mut spaces = None;
        if plan.ground == Ground::Namespaces {
            match Spaces::new(NODES + 1) {
                Ok(made) => spaces = Some(made),
                Err(error) => return Ok(Prepared::Refused(format!("no namespaces: {error:#}"))),
            }
        }
        if let Some(spaces) = &spaces {
            for id in cluster.ids() {
                let (host, name) = (spaces.address(id), spaces.name(id).to_owned());
                *cluster.place(id) = Place { host, namespace: Some(name), ..Place::default() };
            }
        }
        let mut wires = BTreeMap::new();
        if plan.ground == Ground::Wires {
            wires = lay_wires(&mut cluster, &runtime)?;
        }
        let mut faults = Vec::new();
        if plan.shim {
            let shim = match Shim::build(cluster.folder()) {
                Ok(shim) => shim,
                Err(error) => return Ok(Prepared::Refused(format!("{error:#}"))),
            };
            for id in cluster.ids() {
                let control = cluster.folder().join(format!("faults{id}"));
                let these = shim.faults(control, cluster.data(id))?;
                cluster.place(id).environment = these.environment();
                faults.push(these);
            }
        }
        let mut disks = Vec::new();
        for id in cluster.ids().filter(|_| plan.small_disks) {
            match SmallDisk::mount() {
                Ok(mounted) => {
                    cluster.place(id).data = Some(mounted.path().join("data"));
                    disks.push(mounted);
                }
                Err(error) => return Ok(Prepared::Refused(format!("no tmpfs: {error:#}"))),
            }
        }
        for id in cluster.ids() {
            let words = &mut cluster.place(id).words;
            words.extend(WHOLE_LOG.map(str::to_owned));
            let memory = plan.history_memory.map(|bytes| bytes.to_string());
            words.extend(memory.into_iter().flat_map(|bytes| ["--history-memory".into(), bytes]));
        }
        let field = Self {
            cluster,
            spaces,
            wires,
            faults,
            disks,
            database,
            undone: Undone::default(),
            load: None,
            workers: 0,
            runtime,
            struck: None,
            history,
        };
        Ok(Prepared::Ready(field))
    }

    /// Starts everything, and the load.
    pub fn begin(&mut self) -> Result<()> {
        self.cluster.start_all()?;
        let namespace = self.spaces.as_ref().map(|spaces| spaces.name(NODES + 1).to_owned());
        self.worker("default", namespace)?;
        self.worker("default", None)?;
        self.cluster.leader()?;
        let servers: Vec<_> = self.cluster.ids().map(|id| self.cluster.grpc(id)).collect();
        self.load = Some(Load::start(self.runtime.handle(), &servers)?);
        std::thread::sleep(CALM);
        Ok(())
    }

    /// Starts a worker of one queue.
    pub fn worker(&mut self, queue: &str, namespace: Option<String>) -> Result<()> {
        self.workers += 1;
        let words = ["--queue", queue].map(str::to_owned).to_vec();
        let place = Place { namespace, words, ..Place::default() };
        self.cluster.start_worker_at(&format!("w{}", self.workers), 16, place)
    }

    /// A fault strikes now: gaps are looked for from here on.
    pub fn strike(&mut self) {
        self.struck.get_or_insert_with(monotonic_ns);
    }

    /// Submits `name-0`, `name-1`, … beside the rest of the load: each works for `work_ms` and has
    /// a payload of this many bytes.
    pub fn more(&mut self, name: &str, count: u32, work_ms: u32, bytes: usize) -> Result<()> {
        // The handler reads past spaces.
        let payload = format!("{work_ms}{}", " ".repeat(bytes));
        let (load, runtime) = self.load()?;
        load.more(runtime, name, count, &payload)
    }

    /// The load; what runs its calls.
    pub fn load(&mut self) -> Result<(&mut Load, &Handle)> {
        Ok((self.load.as_mut().context("the load runs")?, self.runtime.handle()))
    }

    /// For this long nothing is acknowledged, and callers are told so.
    pub fn refuses_writes(&self, seconds: f64) -> Result<()> {
        let load = self.load.as_ref().context("the load runs")?;
        let before = load.so_far();
        self.rest(seconds);
        let after = load.so_far();
        ensure!(after.acknowledged == before.acknowledged, "S4: a write is acknowledged");
        ensure!(after.refused > before.refused, "nobody is told anything for {seconds} s");
        Ok(())
    }

    /// Waits until the handlers of `name-0` to `name-(count - 1)` have ended.
    pub fn have_ended(&self, name: &str, count: u32) -> Result<()> {
        let what = format!("{name} has ended");
        self.cluster.until(&what, SETTLE_MAX, |cluster| {
            let effects = effects::read(&cluster.effects())?;
            let ended = |n| {
                let of_task = effects.get(&format!("{name}-{n}"));
                of_task.is_some_and(|all| all.iter().any(|effect| effect.end.is_some()))
            };
            Ok((0..count).all(ended).then_some(()))
        })
    }

    /// Lets things take their course.
    pub fn rest(&self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }

    /// Everything ends, and is judged.
    pub fn finish(&mut self, gap_max: Duration) -> Result<Figures> {
        std::thread::sleep(CALM);
        let load = self.load.take().context("the load runs")?;
        let load_ends = monotonic_ns();
        let entries = load.finish(self.runtime.handle())?;
        let begin = Instant::now();
        let views = self.settled(entries.lasting.len())?;
        let settled = begin.elapsed();
        self.cluster.stop()?;
        let effects = effects::read(&self.cluster.effects())?;
        let rows = self.runtime.block_on(rows::read(&self.history))?;
        let ids = self.cluster.ids();
        let disks = ids.map(|id| judge::disk(&self.cluster.data(id), id)).collect::<Result<_>>()?;
        let evidence = Evidence {
            entries: &entries,
            effects: &effects,
            rows: &rows,
            undone: &self.undone,
            views: &views,
            disks,
        };
        evidence.judge()?;
        evidence.is_noticed_when_forged()?;
        self.nobody_panicked()?;
        let starts = effects::starts(&effects);
        let gap = longest_pause(&starts, self.struck.unwrap_or(load_ends), load_ends);
        ensure!(gap <= gap_max, "no handler started for {gap:?}, the bound is {gap_max:?}");
        Ok(figures(&entries, starts.len(), gap, settled))
    }

    /// Waits until every task but these has ended, all is stored, and all nodes agree.
    fn settled(&self, lasting: usize) -> Result<Vec<serde_json::Value>> {
        let mut last = String::new();
        let result = self.cluster.until("everything has ended", SETTLE_MAX, |cluster| {
            let views = match cluster.views() {
                Ok(views) => views,
                Err(error) => {
                    last = format!("{error:#}");
                    return Ok(None);
                }
            };
            let over = agreed(&views)
                && views.iter().all(|view| view["live_tasks"] == lasting)
                && views[0]["executions_running"] == 0;
            if !over {
                last = format!("{views:?}");
            }
            Ok(over.then_some(views))
        });
        result.with_context(|| format!("L3, L4, L5: the nodes say {last}"))
    }

    fn nobody_panicked(&self) -> Result<()> {
        for id in self.cluster.ids() {
            let log = self.cluster.log_of(id);
            if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
                bail!("PANIC: node {id}: {line}");
            }
        }
        Ok(())
    }

    /// Keeps the folder of a case that failed, and says where.
    pub fn keep(self) -> String {
        let Self { mut cluster, .. } = self;
        cluster.kill_all();
        let logs = cluster.logs();
        format!("\nkept in {}\n{logs}", cluster.keep().display())
    }
}

fn figures(entries: &Entries, effects: usize, gap: Duration, settled: Duration) -> Figures {
    let acknowledged = entries.told.len();
    Figures { calls: entries.calls, acknowledged, effects, gap, settled }
}

/// The longest time without a start between two moments.
fn longest_pause(starts: &[u64], from: u64, to: u64) -> Duration {
    let inside = starts.iter().copied().filter(|at| (from..=to).contains(at));
    let mut edges = vec![from];
    edges.extend(inside);
    edges.push(to.max(from));
    let longest = edges.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    Duration::from_nanos(longest)
}

/// A proxy between every two nodes, by direction of the connection, and one before each node.
fn lay_wires(cluster: &mut Cluster, runtime: &Runtime) -> Result<BTreeMap<(usize, usize), Proxy>> {
    let mut wires = BTreeMap::new();
    for to in cluster.ids() {
        let target = cluster.address(to);
        let front = Proxy::new(runtime.handle(), free_port()?, target.clone())?;
        for from in cluster.ids().filter(|from| *from != to) {
            let wire = Proxy::new(runtime.handle(), free_port()?, target.clone())?;
            cluster.place(from).peers.insert(to, wire.address().to_owned());
            wires.insert((from, to), wire);
        }
        cluster.place(to).advertise = Some(front.address().to_owned());
        wires.insert((0, to), front);
    }
    Ok(wires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_counts_both_edges() {
        let pause = |starts: &[u64]| longest_pause(starts, 10, 100).as_nanos();
        assert_eq!([pause(&[]), pause(&[5, 20, 30]), pause(&[60, 90, 200])], [90, 70, 50]);
    }
}
