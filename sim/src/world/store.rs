//! The disk side of a node's host: its log thread (one group of writes, then the answer), its
//! snapshot files, its start from what the disk holds. It performs the same operations in the same
//! order as the runtime's log thread; a crash performs any prefix of what was under way.

use std::collections::BTreeMap;
use std::mem;

use bytes::Bytes;
use dtask_core::id::{GroupId, Incarnation, NodeId};
use dtask_core::log::{DiskOp, File, Found, Identity, LogFact, Owner, Persist, Writer, recover};
use dtask_core::machine::Driver;
use dtask_core::node::{Addresses, Input, Node, NodeConfig};
use dtask_core::rng::Rng;

use super::config::{around, log_uniform};
use super::disk::Disk;
use super::event::{Event, Fault, Life};
use super::trace::Probe;
use super::{Sabotage, World};
use crate::check::{Verdict, Violation, hold};

/// The group that every node serves.
const GROUP: GroupId = GroupId(1);

/// The log thread.
#[derive(Debug, Default)]
pub struct LogThread {
    writer: Option<Writer>,
    waiting: Vec<Persist>,
    /// The newest number of the group under way (none: it is a marker), and what remains to be
    /// done for it.
    group: Option<(Option<u64>, Vec<DiskOp>)>,
    /// The log ends with a synced marker: its segment, and where the marker begins there.
    marked: Option<(u64, u64)>,
    /// Snapshot files whose sync and rename are under way.
    finishing: Vec<u64>,
    /// What each sync takes beyond the usual, in microseconds.
    pub slow_micros: u64,
}

impl LogThread {
    /// Tells whether a sync is under way.
    pub const fn is_syncing(&self) -> bool {
        self.group.is_some()
    }

    /// Bytes of the newest segment that a marker vouches for, if the log ends with one.
    pub fn vouched(&self) -> Option<(String, u64)> {
        let (number, end) = self.marked.filter(|_| !self.is_syncing())?;
        Some((File::Segment(number).name(), end))
    }

    /// How many writes wait.
    pub const fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// Without a group for this long the log thread writes a marker, in microseconds (P4.2).
const IDLE_MICROS: u64 = 20_000;

/// The name of a finished snapshot file.
pub fn snapshot_name(index: u64) -> String {
    File::Snapshot(index).name()
}

/// What makes a snapshot file count (P4.3): sync, rename, directory.
pub(crate) fn finish_ops(index: u64) -> [DiskOp; 3] {
    let (from, to) = (File::SnapshotTemp(index), File::Snapshot(index));
    [DiskOp::Sync { file: from }, DiskOp::Rename { from, to }, DiskOp::SyncDir]
}

/// Performs one operation.
pub(crate) fn perform(disk: &mut Disk, op: &DiskOp) {
    match op {
        DiskOp::Create { file, len } => {
            disk.create(&file.name());
            disk.write(&file.name(), 0, &vec![0; *len as usize]);
        }
        DiskOp::Write { file, offset, bytes } => disk.write(&file.name(), *offset, bytes),
        DiskOp::Sync { file } => disk.sync(&file.name()),
        DiskOp::Rename { from, to } => disk.rename(&from.name(), &to.name()),
        DiskOp::Remove { file } => disk.remove(&file.name()),
        DiskOp::SyncDir => disk.sync_dir(),
    }
}

/// The segment and the place of the last write to one.
fn last_write(ops: &[DiskOp]) -> Option<(u64, u64)> {
    ops.iter().rev().find_map(|op| match op {
        DiskOp::Write { file: File::Segment(number), offset, .. } => Some((*number, *offset)),
        _ => None,
    })
}

/// Performs a prefix, drawn with favour for all and nothing.
pub(crate) fn perform_some(disk: &mut Disk, ops: &[DiskOp], rng: &mut Rng) {
    let count = rng.below(ops.len() as u64 + 1) as usize;
    for op in &ops[..count] {
        perform(disk, op);
    }
}

impl World {
    /// Starts a node from what its disk holds. Now and then, while crashes are drawn, it dies
    /// again before it has said anything.
    pub(super) fn node_start(&mut self, who: usize) {
        let host = &self.nodes[who];
        if host.is_up() || host.halted || (self.healed && !self.core.contains(&who)) {
            return;
        }
        self.nodes[who].life += 1;
        self.nodes[who].clock.reboot(&mut self.rng.node);
        if self.nodes[who].rotten {
            return self.rot_is_met(who);
        }
        let started = self.node_open(who);
        match started {
            Ok(true) => {}
            Ok(false) => {
                let at = self.at + 1_000 + self.rng.operator.below(1_000_000);
                self.agenda.push(at, Event::Fault(Fault::Restart(who)));
            }
            Err(violation) => self.violate(violation),
        }
    }

    /// Reads the disk, opens the log and makes the machine; `false` when it died on the way.
    fn node_open(&mut self, who: usize) -> Result<bool, Violation> {
        let mut found = self.find_log(who)?;
        if found.is_none() {
            let incarnation = Incarnation(self.rng.node.next_u64() | 1);
            let identity = Identity { group: GROUP, node: NodeId(who as u64 + 1), incarnation };
            let ops = Writer::create(identity, self.config.segment_bytes);
            if !self.perform_start(who, &ops) {
                return Ok(false);
            }
            found = self.find_log(who)?;
        }
        let Some(found) = found else {
            return Err(Violation::new("S25", "a log that was just made is not found"));
        };
        let (mut writer, ops) = Writer::open(&found, self.config.segment_bytes);
        if !self.perform_start(who, &ops) {
            return Ok(false);
        }
        writer.synced();
        self.s4_what_was_read_is_durable(who)?;
        let host = &mut self.nodes[who];
        host.log.writer = Some(writer);
        self.node_resumes(who, found)
    }

    pub(super) fn find_log(&self, who: usize) -> Result<Option<Found>, Violation> {
        let disk = &self.nodes[who].disk;
        let mut segments: BTreeMap<u64, &[u8]> = BTreeMap::new();
        let mut others = Vec::new();
        for name in disk.names() {
            match File::parse(name) {
                Some(File::Segment(number)) => {
                    segments.insert(number, disk.read(name).unwrap_or_default());
                }
                Some(file) => others.push(file),
                None => {}
            }
        }
        let voters = Some((1..=self.config.nodes as u64).map(NodeId).collect());
        let owner = Owner { group: GROUP, node: NodeId(who as u64 + 1), voters };
        recover(&owner, &segments, &others).map_err(|error| {
            Violation::new("S25", format!("node {} cannot read its log: {error}", who + 1))
        })
    }

    /// Performs the operations of a start, or a prefix of them and a crash.
    fn perform_start(&mut self, who: usize, ops: &[DiskOp]) -> bool {
        let crashes = self.config.process.crash_every > 0 && !self.healed;
        let host = &mut self.nodes[who];
        if crashes && self.rng.disk.chance(1, 12) {
            perform_some(&mut host.disk, ops, &mut self.rng.disk);
            if self.config.disk.lossy {
                host.disk.lose_power(&mut self.rng.disk);
            }
            return false;
        }
        for op in ops {
            perform(&mut host.disk, op);
        }
        true
    }

    /// S4: a log that was opened is durable as it was read: what a killed process had written and
    /// not synced may be believed only after a sync.
    fn s4_what_was_read_is_durable(&self, who: usize) -> Verdict {
        let disk = &self.nodes[who].disk;
        for name in disk.names().filter(|name| matches!(File::parse(name), Some(File::Segment(_))))
        {
            hold!(
                "S4",
                disk.is_durable(name),
                "node {} has opened {name}, which a power loss would change",
                who + 1
            );
        }
        Ok(())
    }

    fn node_resumes(&mut self, who: usize, found: Found) -> Result<bool, Violation> {
        let mut recovered = found.recovered;
        let host = &mut self.nodes[who];
        host.image.s25_recovery_yields_a_written_prefix(&recovered)?;
        if let Some(meta) = &recovered.meta {
            let file = host.disk.read(&snapshot_name(meta.index)).unwrap_or_default();
            recovered.snapshot =
                file.chunks(self.config.piece_bytes as usize).map(Bytes::copy_from_slice).collect();
        }
        host.said.restart(&recovered.entries);
        host.applied = recovered.meta.as_ref().map_or(0, |meta| meta.index);
        if let Some((_, voters)) = &recovered.formed {
            self.chain.formed(voters);
        }
        let config = self.node_config(NodeId(who as u64 + 1), recovered.incarnation);
        let host = &mut self.nodes[who];
        host.driver = Some(Driver::new(Node::new(config, recovered)));
        host.wake_at = Some(self.at);
        host.rouse = true;
        host.spins = 0;
        let life = Life { who, life: host.life };
        if let Some(writer) = &host.log.writer {
            self.agenda.push(self.at + IDLE_MICROS, Event::LogIdle(life, writer.offset()));
        }
        self.note(who as u32 + 1, "node starts", [u64::from(life.life), 0, 0]);
        self.agenda.push(self.at, Event::NodeWake(life));
        Ok(true)
    }

    fn node_config(&mut self, id: NodeId, incarnation: Incarnation) -> NodeConfig {
        let voters: Vec<NodeId> = (1..=self.config.nodes as u64).map(NodeId).collect();
        let address = |id: &NodeId| format!("n{id}:7171").into();
        let peers = voters.iter().map(|id| (*id, address(id))).collect();
        let addresses = Addresses { grpc: address(&id), http: "".into() };
        NodeConfig {
            addresses,
            peers,
            snapshot_log_bytes_min: self.config.snapshot_log_bytes,
            inflight_bytes_max: self.config.inflight_bytes,
            digest_every: self.config.digest_every,
            ended_ids_max: self.config.ended_ids_max,
            outbox_bytes_max: self.config.history.outbox_bound(),
            ..NodeConfig::new(id, voters, incarnation, self.rng.node.next_u64())
        }
    }

    /// A `Persist`: handed to the log thread.
    pub(super) fn log_write(&mut self, who: usize, persist: Persist) {
        if let Some(LogFact::Formed { voters, .. }) = &persist.fact {
            self.chain.formed(voters);
        }
        let n = persist.n;
        let numbers = [n, persist.entries.len() as u64, persist.hard_state.term];
        self.note(who as u32 + 1, "persists", numbers);
        self.nodes[who].image.written(&persist);
        self.nodes[who].log.waiting.push(persist);
        if self.sabotage == Sabotage::PersistedBeforeSync {
            self.node_feed(who, Input::Persisted { n });
        }
        self.log_group(who);
    }

    /// Writes what waits as one group (P4.5).
    fn log_group(&mut self, who: usize) {
        let host = &mut self.nodes[who];
        if host.log.is_syncing() || host.log.waiting.is_empty() {
            return;
        }
        let Some(writer) = &mut host.log.writer else { return };
        let group = mem::take(&mut host.log.waiting);
        let n = group.last().map_or(0, |persist| persist.n);
        let mut ops = Vec::new();
        writer.append(&group, &mut ops);
        host.log.group = Some((Some(n), ops));
        self.log_sync(who);
    }

    /// No group came for a while: a marker says how far the log is durable (P4.2).
    pub(super) fn log_idle(&mut self, who: usize, offset: u64) {
        let host = &mut self.nodes[who];
        if host.log.is_syncing() || !host.log.waiting.is_empty() {
            return;
        }
        let Some(writer) = host.log.writer.as_mut().filter(|it| it.offset() == offset) else {
            return;
        };
        let mut ops = Vec::new();
        writer.mark(&mut ops);
        host.log.group = Some((None, ops));
        self.log_sync(who);
    }

    /// A sync begins.
    fn log_sync(&mut self, who: usize) {
        self.nodes[who].log.marked = None;
        let disk = &self.config.disk;
        if self.rng.disk.chance(disk.full_per_10k, 10_000) {
            // The disk takes a part of the group, then no more: a node without memory is a crash.
            self.probes.hit(Probe::DiskFull);
            self.strike(who);
            return;
        }
        let slow = self.rng.disk.chance(disk.slow_per_10k, 10_000);
        let long = if slow {
            log_uniform(&mut self.rng.disk, 50_000, 5_000_000)
        } else {
            disk.sync_micros / 2 + around(&mut self.rng.disk, disk.sync_micros / 2)
        };
        let long = long + self.nodes[who].log.slow_micros;
        let life = Life { who, life: self.nodes[who].life };
        self.agenda.push(self.at + 1 + long, Event::LogSynced(life));
    }

    /// The group is done, or its sync has failed.
    pub(super) fn log_synced(&mut self, who: usize) {
        let host = &mut self.nodes[who];
        let Some((n, ops)) = host.log.group.take() else { return };
        if self.rng.disk.chance(self.config.disk.fail_per_10k, 10_000) {
            return self.s26_failed_sync_is_death(who, &ops);
        }
        for op in &ops {
            perform(&mut host.disk, op);
        }
        let life = Life { who, life: host.life };
        if let Some(writer) = &mut host.log.writer {
            writer.synced();
            let offset = writer.offset();
            if n.is_some() {
                self.agenda.push(self.at + IDLE_MICROS, Event::LogIdle(life, offset));
            }
        }
        let Some(n) = n else {
            host.log.marked = last_write(&ops);
            self.probes.hit(Probe::LogMarked);
            return self.log_group(who);
        };
        host.image.synced(n);
        self.note(who as u32 + 1, "persisted", [n, 0, 0]);
        if self.sabotage == Sabotage::Honest {
            self.node_feed(who, Input::Persisted { n });
        }
        self.log_group(who);
    }

    /// S26: after a failed fsync nothing is acknowledged in that life: the process dies. The
    /// kernel has forgotten that the sectors were dirty.
    fn s26_failed_sync_is_death(&mut self, who: usize, ops: &[DiskOp]) {
        self.probes.hit(Probe::SyncFailed);
        self.note(who as u32 + 1, "fsync fails", [0, 0, 0]);
        let disk = &mut self.nodes[who].disk;
        for op in ops {
            if let DiskOp::Sync { file } = op
                && self.rng.disk.chance(1, 2)
            {
                disk.fail_sync(&file.name(), &mut self.rng.disk);
                break;
            }
            perform(disk, op);
        }
        self.strike(who);
    }

    /// A crash: a prefix of what was under way has been performed.
    pub(super) fn log_crash(&mut self, who: usize) {
        let host = &mut self.nodes[who];
        let log = mem::take(&mut host.log);
        if let Some((_, ops)) = &log.group {
            perform_some(&mut host.disk, ops, &mut self.rng.disk);
        }
        for index in log.finishing {
            perform_some(&mut host.disk, &finish_ops(index), &mut self.rng.disk);
        }
    }

    pub(super) fn snapshot_write(&mut self, who: usize, index: u64, data: &[u8]) {
        self.nodes[who].disk.append(&File::SnapshotTemp(index).name(), data);
    }

    pub(super) fn snapshot_finish(&mut self, who: usize, index: u64) {
        let long = 1 + around(&mut self.rng.disk, self.config.disk.sync_micros);
        let life = Life { who, life: self.nodes[who].life };
        self.nodes[who].log.finishing.push(index);
        self.agenda.push(self.at + long, Event::SnapshotSaved(life, index));
    }

    pub(super) fn snapshot_abort(&mut self, who: usize, index: u64) {
        let host = &mut self.nodes[who];
        host.log.finishing.retain(|&other| other != index);
        host.disk.remove(&File::SnapshotTemp(index).name());
    }

    /// The file is in place.
    pub(super) fn snapshot_saved(&mut self, who: usize, index: u64) {
        let host = &mut self.nodes[who];
        let Some(place) = host.log.finishing.iter().position(|&other| other == index) else {
            return;
        };
        host.log.finishing.remove(place);
        for op in finish_ops(index) {
            perform(&mut host.disk, &op);
        }
        self.note(who as u32 + 1, "snapshot saved", [index, 0, 0]);
        self.node_feed(who, Input::SnapshotSaved { index });
    }
}
