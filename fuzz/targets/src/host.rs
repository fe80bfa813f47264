//! A node and its host for targets that step whole nodes: a disk that may lose what was not
//! synced, a log thread that works when it is told to, and books of what left the node. The
//! input's bytes decide when anything happens.

use std::collections::BTreeMap;

use bytes::Bytes;
use dtask_core::consensus::Envelope;
use dtask_core::id::{ClusterId, GroupId, Incarnation, NodeId, SessionId, Ticket};
use dtask_core::log::{DiskOp, File, Found, Identity, Owner, Persist, Writer, recover};
use dtask_core::machine::Driver;
use dtask_core::node::{Addresses, Effect, Input, Node, NodeConfig, Note, Reply};
use dtask_core::rng::Rng;
use dtask_core::time::{Instant, Now, Timestamp};
use dtask_core::worker::LeaderFrame;
use dtask_sim::world::disk::Disk;

/// Small segments, so that they change often.
const SEGMENT_BYTES: u64 = 8_192;
/// A snapshot is worth it soon.
const SNAPSHOT_LOG_BYTES: u64 = 3_000;

/// What left a node in a turn, beside what its own host does.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) answers: Vec<(Ticket, Reply)>,
    pub(crate) frames: Vec<(SessionId, LeaderFrame)>,
    pub(crate) closed: Vec<SessionId>,
    /// A follower is to be sent this snapshot.
    pub(crate) transfers: Vec<(NodeId, u64, u64)>,
    /// It began to lead these terms.
    pub(crate) leading: Vec<u64>,
    pub(crate) halted: Option<String>,
}

/// A node, up or down, and its machine.
pub(crate) struct Host {
    pub(crate) id: NodeId,
    voters: u64,
    pub(crate) disk: Disk,
    pub(crate) driver: Option<Driver<Node>>,
    writer: Option<Writer>,
    waiting: Vec<Persist>,
    finishing: Vec<u64>,
    lives: u64,
    /// Whose database it wants open, and what of it is to be answered.
    pub(crate) wants_history: Option<ClusterId>,
    pub(crate) stores: Vec<(u64, u64)>,
}

impl Host {
    /// A node of a cluster of `voters`, down, with an empty disk.
    pub(crate) fn new(id: u64, voters: u64) -> Self {
        Self {
            id: NodeId(id),
            voters,
            disk: Disk::default(),
            driver: None,
            writer: None,
            waiting: Vec::new(),
            finishing: Vec::new(),
            lives: 0,
            wants_history: None,
            stores: Vec::new(),
        }
    }

    /// Starts from what the disk holds.
    ///
    /// # Errors
    /// Recovery's own words.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.lives += 1;
        let mut found = self.look()?;
        if found.is_none() {
            let incarnation = Incarnation(self.id.0 * 100 + 1);
            let identity = Identity { group: GroupId(1), node: self.id, incarnation };
            self.perform(&Writer::create(identity, SEGMENT_BYTES));
            found = self.look()?;
        }
        let found = found.expect("it was just made");
        let (mut writer, ops) = Writer::open(&found, SEGMENT_BYTES);
        self.perform(&ops);
        writer.synced();
        self.writer = Some(writer);
        let mut recovered = found.recovered;
        if let Some(meta) = &recovered.meta {
            let file = self.disk.read(&File::Snapshot(meta.index).name()).unwrap_or_default();
            recovered.snapshot = file.chunks(700).map(Bytes::copy_from_slice).collect();
        }
        let config = self.config(recovered.incarnation);
        self.driver = Some(Driver::new(Node::new(config, recovered)));
        Ok(())
    }

    fn look(&self) -> Result<Option<Found>, String> {
        let voters: Vec<NodeId> = (1..=self.voters).map(NodeId).collect();
        let owner = Owner { group: GroupId(1), node: self.id, voters: Some(voters) };
        let mut segments: BTreeMap<u64, &[u8]> = BTreeMap::new();
        let mut others = Vec::new();
        for name in self.disk.names() {
            match File::parse(name) {
                Some(File::Segment(number)) => {
                    segments.insert(number, self.disk.read(name).unwrap_or_default());
                }
                Some(file) => others.push(file),
                None => {}
            }
        }
        recover(&owner, &segments, &others).map_err(|error| error.to_string())
    }

    fn config(&self, incarnation: Incarnation) -> NodeConfig {
        let voters: Vec<NodeId> = (1..=self.voters).map(NodeId).collect();
        let address = |id: NodeId| -> Box<str> { format!("n{id}:1").into() };
        NodeConfig {
            addresses: Addresses { grpc: address(self.id), http: "".into() },
            peers: voters.iter().map(|id| (*id, address(*id))).collect(),
            snapshot_log_bytes_min: SNAPSHOT_LOG_BYTES,
            ..NodeConfig::new(self.id, voters, incarnation, self.id.0 * 1_000 + self.lives)
        }
    }

    /// The machine, while it is up.
    pub(crate) fn node(&self) -> Option<&Node> {
        self.driver.as_ref().map(Driver::machine)
    }

    /// Feeds inputs and ends the turn.
    pub(crate) fn turn(&mut self, now: Now, inputs: impl IntoIterator<Item = Input>) -> Said {
        let mut said = Said::default();
        let Some(driver) = &mut self.driver else { return said };
        for input in inputs {
            driver.feed(now, input);
        }
        driver.flush(now);
        let effects: Vec<Effect> = driver.effects().collect();
        for effect in effects {
            self.effect(effect, &mut said);
        }
        if said.halted.is_some() {
            self.crash(None);
        }
        said
    }

    fn effect(&mut self, effect: Effect, said: &mut Said) {
        match effect {
            Effect::Persist(persist) => self.waiting.push(persist),
            Effect::Send(envelope) => said.envelopes.push(*envelope),
            Effect::SendSnapshot { to, index, term } => said.transfers.push((to, index, term)),
            Effect::SnapshotWrite { index, data } => {
                self.disk.append(&File::SnapshotTemp(index).name(), &data);
            }
            Effect::SnapshotFinish { index } => self.finishing.push(index),
            Effect::SnapshotAbort { index } => {
                self.finishing.retain(|other| *other != index);
                self.disk.remove(&File::SnapshotTemp(index).name());
            }
            Effect::Answer { ticket, reply } => said.answers.push((ticket, reply)),
            Effect::ToWorker { session, frame } => said.frames.push((session, frame)),
            Effect::CloseSession { session } => said.closed.push(session),
            Effect::OpenHistory { cluster } => self.wants_history = Some(cluster),
            Effect::StoreHistory(batch) => self.stores.push((batch.epoch, batch.through)),
            Effect::CloseHistory => {
                self.wants_history = None;
                self.stores.clear();
            }
            Effect::Note(Note::Violation { what }) => panic!("the node says: {what} is violated"),
            Effect::Note(Note::Leading { term }) => said.leading.push(term),
            Effect::Note(_) => {}
            Effect::Halt { reason } => {
                assert!(!reason.is_empty(), "a halt says why");
                said.halted = Some(reason);
            }
        }
    }

    /// The log thread writes and syncs what waits; snapshot files get their names.
    pub(crate) fn sync(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        let group = std::mem::take(&mut self.waiting);
        if let (Some(last), Some(writer)) = (group.last(), &mut self.writer) {
            let mut ops = Vec::new();
            writer.append(&group, &mut ops);
            writer.synced();
            inputs.push(Input::Persisted { n: last.n });
            self.perform(&ops);
        }
        for index in std::mem::take(&mut self.finishing) {
            let (from, to) = (File::SnapshotTemp(index), File::Snapshot(index));
            self.perform(&[
                DiskOp::Sync { file: from },
                DiskOp::Rename { from, to },
                DiskOp::SyncDir,
            ]);
            inputs.push(Input::SnapshotSaved { index });
        }
        inputs
    }

    /// The process dies; with a generator the power goes too, in the middle of a write.
    pub(crate) fn crash(&mut self, power: Option<&mut Rng>) {
        self.driver = None;
        self.wants_history = None;
        self.stores.clear();
        self.finishing.clear();
        let group = std::mem::take(&mut self.waiting);
        let Some(rng) = power else { return };
        if let Some(writer) = &mut self.writer {
            let mut ops = Vec::new();
            writer.append(&group, &mut ops);
            let done = rng.below(ops.len() as u64 + 1) as usize;
            self.perform(&ops[..done]);
        }
        self.disk.lose_power(rng);
    }

    pub(crate) fn perform(&mut self, ops: &[DiskOp]) {
        for op in ops {
            match op {
                DiskOp::Create { file, len } => {
                    self.disk.create(&file.name());
                    self.disk.write(&file.name(), 0, &vec![0; *len as usize]);
                }
                DiskOp::Write { file, offset, bytes } => {
                    self.disk.write(&file.name(), *offset, bytes);
                }
                DiskOp::Sync { file } => self.disk.sync(&file.name()),
                DiskOp::Rename { from, to } => self.disk.rename(&from.name(), &to.name()),
                DiskOp::Remove { file } => self.disk.remove(&file.name()),
                DiskOp::SyncDir => self.disk.sync_dir(),
            }
        }
    }

    /// What its database answers, if it is asked anything: everything is stored.
    pub(crate) fn history(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        if self.wants_history.take().is_some() {
            let stored = self.node().map_or(0, |node| node.state().stored());
            inputs.push(Input::HistoryReady { epoch: 1, through: stored });
        }
        inputs.extend(
            self.stores.drain(..).map(|(epoch, through)| Input::HistoryStored { epoch, through }),
        );
        inputs
    }
}

/// Both clocks, `micros` after a beginning in 2026.
pub(crate) fn clock(micros: u64) -> Now {
    Now {
        mono: Instant::from_micros(1_000_000_000 + micros),
        wall: Timestamp::from_micros(1_767_225_600_000_000 + micros as i64),
    }
}
