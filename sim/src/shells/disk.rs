//! A node's disk behind the runtime's trait: the World's disk, written by a log task with group
//! commit, whose syncs take time, may take seconds, and may fail. A kill performs any prefix of
//! what was under way; a power loss drops any subset of what was not synced.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dtask_core::id::{GroupId, Incarnation, NodeId};
use dtask_core::limits;
use dtask_core::log::{DiskOp, File, Found, Identity, Owner, Persist, Recovered, Writer, recover};
use dtask_core::node::Input;
use dtask_core::rng::Rng;
use dtask_runtime::serve::inbox::NodeHandle;
use dtask_runtime::serve::ports::{Disk, SnapshotRead};
use tokio::sync::{mpsc, watch};

use super::books::Witness;
use super::draw::Draw;
use super::run::Sabotage;
use super::seen;
use crate::check::Violation;
use crate::world::config::{around, log_uniform};
use crate::world::disk::Disk as Sectors;
use crate::world::store::{finish_ops, perform, perform_some, snapshot_name};

/// The group that every node serves.
const GROUP: GroupId = GroupId(1);

/// One machine's disk, across the lives of its node. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Platters(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    sectors: Sectors,
    /// What the log task is about to perform.
    under_way: Vec<DiskOp>,
    /// Snapshot files whose sync and rename are under way.
    finishing: Vec<u64>,
}

impl Platters {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process has died; with `power` the machine has too. Returns how many sectors are lost.
    pub fn crash(&self, power: bool, rng: &mut Rng) -> usize {
        let Content { sectors, under_way, finishing } = &mut *self.lock();
        perform_some(sectors, &mem::take(under_way), rng);
        for index in mem::take(finishing) {
            perform_some(sectors, &finish_ops(index), rng);
        }
        if power { sectors.lose_power(rng) } else { 0 }
    }

    fn find(&self, owner: &Owner) -> Result<Option<Found>, Violation> {
        let content = self.lock();
        let mut segments: BTreeMap<u64, &[u8]> = BTreeMap::new();
        let mut others = Vec::new();
        for name in content.sectors.names() {
            match File::parse(name) {
                Some(File::Segment(number)) => {
                    segments.insert(number, content.sectors.read(name).unwrap_or_default());
                }
                Some(file) => others.push(file),
                None => {}
            }
        }
        recover(owner, &segments, &others).map_err(|error| {
            Violation::new("S25", format!("node {} cannot read its log: {error}", owner.node))
        })
    }

    fn perform(&self, ops: &[DiskOp]) {
        let sectors = &mut self.lock().sectors;
        for op in ops {
            perform(sectors, op);
        }
    }
}

/// What opening gives.
pub struct Opened {
    /// Where the node's effects go.
    pub disk: SimDisk,
    /// The newest durable `Persist`; closes when the disk fails.
    pub durable: watch::Receiver<u64>,
    /// What log and snapshot hold.
    pub recovered: Recovered,
}

/// Opens the log of the node at `place`, or makes it.
///
/// # Errors
/// S25: what the disk holds is not a log.
pub fn open(
    platters: &Platters,
    place: usize,
    draw: &Draw,
    life: &mut Rng,
    sabotage: Sabotage,
    (witness, handle): (Witness, NodeHandle),
) -> Result<Opened, Violation> {
    let node = NodeId(place as u64 + 1);
    let voters = Some((1..=draw.nodes as u64).map(NodeId).collect());
    let owner = Owner { group: GROUP, node, voters };
    let mut found = platters.find(&owner)?;
    if found.is_none() {
        let incarnation = Incarnation(life.next_u64() | 1);
        let identity = Identity { group: GROUP, node, incarnation };
        platters.perform(&Writer::create(identity, draw.segment_bytes));
        found = platters.find(&owner)?;
    }
    let Some(found) = found else {
        return Err(Violation::new("S25", "a log that was just made is not found"));
    };
    let (mut writer, ops) = Writer::open(&found, draw.segment_bytes);
    platters.perform(&ops);
    writer.synced();
    let mut recovered = found.recovered;
    if let Some(meta) = &recovered.meta {
        let content = platters.lock();
        let file = content.sectors.read(&snapshot_name(meta.index)).unwrap_or_default();
        recovered.snapshot =
            file.chunks(limits::SNAPSHOT_PIECE_BYTES).map(Bytes::copy_from_slice).collect();
    }
    let (sender, durable) = watch::channel(0);
    let (log, jobs) = mpsc::unbounded_channel();
    let thread = LogTask {
        platters: platters.clone(),
        writer,
        jobs,
        durable: sender,
        place,
        witness,
        faults: draw.disk.clone(),
        rng: life.fork("disk"),
        sabotage,
    };
    tokio::spawn(thread.run());
    let disk = SimDisk {
        platters: platters.clone(),
        log,
        handle,
        sync: draw.disk.sync,
        rng: life.fork("snapshots"),
    };
    Ok(Opened { disk, durable, recovered })
}

struct LogTask {
    platters: Platters,
    writer: Writer,
    jobs: mpsc::UnboundedReceiver<Persist>,
    durable: watch::Sender<u64>,
    place: usize,
    witness: Witness,
    faults: super::draw::DiskDraw,
    rng: Rng,
    sabotage: Sabotage,
}

impl LogTask {
    /// One write and one sync for everything that waits (P4.5).
    async fn run(mut self) {
        while let Some(first) = self.jobs.recv().await {
            let mut group = vec![first];
            while let Ok(next) = self.jobs.try_recv() {
                group.push(next);
            }
            let n = group.last().map_or(0, |persist| persist.n);
            let mut ops = Vec::new();
            self.writer.append(&group, &mut ops);
            self.platters.lock().under_way = ops;
            if self.sabotage == Sabotage::PersistedBeforeSync {
                self.durable.send_replace(n);
            }
            tokio::time::sleep(self.long()).await;
            let ops = mem::take(&mut self.platters.lock().under_way);
            if self.fails() {
                return self.s26_failed_sync_is_death(&ops);
            }
            self.platters.perform(&ops);
            self.writer.synced();
            let mut books = self.witness.books();
            books.nodes[self.place].image.synced(n);
            books.note(self.place as u32 + 1, "synced", [n, 0, 0]);
            drop(books);
            self.durable.send_replace(n);
        }
    }

    fn long(&mut self) -> Duration {
        let usual = self.faults.sync;
        let slow =
            !self.witness.books().healed && self.rng.chance(self.faults.slow_per_10k, 10_000);
        Duration::from_micros(if slow {
            log_uniform(&mut self.rng, 50_000, 4_000_000)
        } else {
            usual / 2 + around(&mut self.rng, usual / 2)
        })
    }

    fn fails(&mut self) -> bool {
        let fails = self.rng.chance(self.faults.fail_per_10k, 10_000);
        fails && !self.witness.books().healed
    }

    /// S26: after a failed fsync nothing is acknowledged in that life; the closed durable number
    /// tells the host. The kernel has forgotten that the sectors were dirty.
    fn s26_failed_sync_is_death(mut self, ops: &[DiskOp]) {
        let sectors = &mut self.platters.lock().sectors;
        for op in ops {
            if let DiskOp::Sync { file } = op {
                sectors.fail_sync(&file.name(), &mut self.rng);
                break;
            }
            perform(sectors, op);
        }
        let mut books = self.witness.books();
        books.seen.hit(seen::DISK_FAILED);
        books.note(self.place as u32 + 1, "fsync fails", [0, 0, 0]);
    }
}

/// Where one life's disk effects go.
pub struct SimDisk {
    platters: Platters,
    log: mpsc::UnboundedSender<Persist>,
    handle: NodeHandle,
    sync: u64,
    rng: Rng,
}

impl Disk for SimDisk {
    fn persist(&mut self, persist: Persist) {
        // A log task that is gone has said why; the host stops.
        drop(self.log.send(persist));
    }

    fn snapshot_write(&mut self, index: u64, data: Bytes) {
        self.platters.lock().sectors.append(&File::SnapshotTemp(index).name(), &data);
    }

    fn snapshot_finish(&mut self, index: u64) {
        self.platters.lock().finishing.push(index);
        let (platters, handle) = (self.platters.clone(), self.handle.clone());
        let long = Duration::from_micros(around(&mut self.rng, self.sync));
        tokio::spawn(async move {
            tokio::time::sleep(long).await;
            {
                let Content { sectors, finishing, .. } = &mut *platters.lock();
                let Some(place) = finishing.iter().position(|&other| other == index) else {
                    return;
                };
                finishing.remove(place);
                for op in finish_ops(index) {
                    perform(sectors, &op);
                }
            }
            // A node that is gone needs no answer.
            let _gone = handle.tell(Input::SnapshotSaved { index }).await;
        });
    }

    fn snapshot_abort(&mut self, index: u64) {
        let content = &mut *self.platters.lock();
        content.finishing.retain(|&other| other != index);
        content.sectors.remove(&File::SnapshotTemp(index).name());
    }

    fn snapshot_read(&self, index: u64) -> Option<Box<dyn SnapshotRead>> {
        let content = self.platters.lock();
        let file = content.sectors.read(&snapshot_name(index))?;
        Some(Box::new(Reading(Bytes::copy_from_slice(file))))
    }
}

struct Reading(Bytes);

impl SnapshotRead for Reading {
    fn next(&mut self, max: usize) -> std::io::Result<Bytes> {
        let len = self.0.len().min(max);
        Ok(self.0.split_to(len))
    }
}
