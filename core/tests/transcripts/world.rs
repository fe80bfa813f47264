//! A trivial host for real nodes: one thread, one clock, an instant network and instant disks.
//! Everything happens only when it is told to; nothing is random.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use dtask_core::consensus::{Body, Envelope, LogEntry, SnapshotMeta, SnapshotPiece};
use dtask_core::id::{GroupId, Incarnation, NodeId, SessionId, Ticket};
use dtask_core::log::{LogFact, Persist, Recovered};
use dtask_core::machine::Driver;
use dtask_core::node::{Addresses, Effect, Input, Node, NodeConfig, Note, Reply, Request};
use dtask_core::state::history::HistoryBatch;
use dtask_core::time::{Instant, Now, Timestamp};
use dtask_core::worker::{LeaderFrame, WorkerFrame};

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600;

/// What the outside sees, in the order in which it is seen.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A caller's answer.
    Answer(Ticket, Reply),
    /// A frame for a worker.
    Frame(NodeId, SessionId, LeaderFrame),
    /// A worker's connection was closed by the node.
    Closed(SessionId),
    /// A note for operators.
    Note(NodeId, Note),
}

/// A node, its disk, and what it would find there after a crash.
struct Member {
    /// `None` while it is down.
    driver: Option<Driver<Node>>,
    disk: Recovered,
    /// Snapshot files by index; those under a temporary name first.
    writing: BTreeMap<u64, Vec<Bytes>>,
    files: BTreeMap<u64, Vec<Bytes>>,
    lives: u64,
    /// How far its wall clock is ahead of the others', in microseconds.
    ahead: i64,
}

/// The nodes and everything between them.
pub(crate) struct World {
    now: Now,
    members: BTreeMap<NodeId, Member>,
    /// Nodes that hear nobody and are heard by nobody.
    cut: BTreeSet<NodeId>,
    /// Stopped processes: nothing is fed to them.
    paused: BTreeSet<NodeId>,
    /// Nodes that are reached elsewhere since their latest start.
    moved: BTreeSet<NodeId>,
    mail: VecDeque<Envelope>,
    seen: VecDeque<Seen>,
    /// Sessions by the node they are connected to.
    sessions: BTreeMap<SessionId, NodeId>,
    history: u64,
    history_up: bool,
    /// Something was fed since the last turn.
    fed: bool,
    next_ticket: u64,
    snapshot_log_bytes_min: u64,
    outbox_bytes_max: u64,
    /// What the database was told beside rows.
    pub(crate) gaps: Vec<String>,
    /// The database's epoch; zero: there is none.
    epoch: u64,
    /// Durable records so far, and turns begun by time alone.
    pub(crate) persists: u64,
    pub(crate) wakes: u64,
}

impl World {
    /// A cluster of `nodes` members that have not spoken yet.
    pub(crate) fn new(nodes: u64, snapshot_log_bytes_min: u64) -> Self {
        let now =
            Now { mono: Instant::from_micros(1_000_000), wall: Timestamp::from_seconds(START) };
        let mut world = Self {
            now,
            members: BTreeMap::new(),
            cut: BTreeSet::new(),
            paused: BTreeSet::new(),
            moved: BTreeSet::new(),
            mail: VecDeque::new(),
            seen: VecDeque::new(),
            sessions: BTreeMap::new(),
            history: 0,
            history_up: true,
            fed: false,
            next_ticket: 1,
            snapshot_log_bytes_min,
            outbox_bytes_max: 1 << 30,
            gaps: Vec::new(),
            epoch: 1,
            persists: 0,
            wakes: 0,
        };
        for id in 1..=nodes {
            let disk = Recovered { incarnation: Incarnation(1_000 + id), ..Recovered::default() };
            let member = Member {
                driver: None,
                disk,
                writing: BTreeMap::new(),
                files: BTreeMap::new(),
                lives: 0,
                ahead: 0,
            };
            world.members.insert(NodeId(id), member);
        }
        for id in 1..=nodes {
            world.start(NodeId(id));
        }
        world
    }

    /// The clocks.
    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// Moves every wall clock.
    pub(crate) fn step_wall(&mut self, micros: i64) {
        self.now.wall = self.now.wall.plus_micros(micros);
    }

    /// Moves one node's wall clock.
    pub(crate) fn step_wall_of(&mut self, id: NodeId, micros: i64) {
        if let Some(member) = self.members.get_mut(&id) {
            member.ahead += micros;
        }
    }

    /// Starts a node from its disk.
    pub(crate) fn start(&mut self, id: NodeId) {
        let voters: Vec<NodeId> = self.members.keys().copied().collect();
        let Some(member) = self.members.get_mut(&id) else { return };
        member.lives += 1;
        member.disk.life = member.lives;
        let mut config = NodeConfig::new(id, voters, member.disk.incarnation, 7);
        let host = if self.moved.contains(&id) { "moved" } else { "node" };
        config.addresses = Addresses {
            grpc: format!("{host}{id}:7100").into(),
            http: format!("{host}{id}:7180").into(),
        };
        config.snapshot_log_bytes_min = self.snapshot_log_bytes_min;
        config.outbox_bytes_max = self.outbox_bytes_max;
        config.ended_kept = 5;
        let node = Node::new(config, member.disk.clone());
        member.driver = Some(Driver::new(node));
        self.settle();
    }

    /// The node's next life is reached elsewhere.
    pub(crate) fn move_away(&mut self, id: NodeId) {
        self.moved.insert(id);
    }

    /// Ends a node's process at once.
    pub(crate) fn crash(&mut self, id: NodeId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.driver = None;
        }
        self.sessions.retain(|_, node| *node != id);
    }

    /// Cuts a node off from its peers.
    pub(crate) fn cut(&mut self, id: NodeId) {
        self.cut.insert(id);
    }

    /// Reconnects everybody.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Stops a node's process without ending it.
    pub(crate) fn pause(&mut self, id: NodeId) {
        self.paused.insert(id);
    }

    /// Lets a stopped process go on.
    pub(crate) fn resume(&mut self, id: NodeId) {
        self.paused.remove(&id);
        self.settle();
    }

    /// Lets little wait for history, from each node's next start on.
    pub(crate) fn bound_outbox(&mut self, bytes: u64) {
        self.outbox_bytes_max = bytes;
    }

    /// The database is replaced by another copy of itself.
    pub(crate) fn restore_history(&mut self, through: u64) {
        self.history = through;
        self.feed_leader(Input::HistoryFailed);
        self.settle();
    }

    /// A node opens the database by itself, whoever leads.
    pub(crate) fn open_history(&mut self, id: NodeId) {
        let through = self.history;
        self.feed(id, Input::HistoryReady { epoch: self.epoch, through });
        self.settle();
    }

    /// `--history none`.
    pub(crate) fn no_history(&mut self) {
        self.epoch = 0;
        self.set_history(true);
    }

    /// Takes the history database away, or gives it back.
    pub(crate) fn set_history(&mut self, up: bool) {
        self.history_up = up;
        if up {
            let through = self.history;
            self.feed_leader(Input::HistoryReady { epoch: self.epoch, through });
        }
        self.settle();
    }

    /// The node that leads and has woken, of the newest term.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let nodes = self.members.iter().filter_map(|(id, member)| {
            let node = member.driver.as_ref()?.machine();
            node.is_leading().then(|| (node.consensus().term(), *id))
        });
        nodes.max().map(|(_, id)| id)
    }

    /// Asks a node.
    pub(crate) fn ask(&mut self, to: NodeId, request: Request) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.feed(to, Input::Ask { ticket, request, forwarded: false });
        self.settle();
        ticket
    }

    /// A worker's frame reaches the node of its session.
    pub(crate) fn say(&mut self, session: SessionId, to: NodeId, frame: WorkerFrame) {
        self.sessions.insert(session, to);
        self.feed(to, Input::Worker { session, frame });
        self.settle();
    }

    /// Where the nodes are reached, as far as one of them knows.
    pub(crate) fn addresses(&self, asked: NodeId) -> String {
        let member = self.members.get(&asked).and_then(|member| member.driver.as_ref());
        let state = member.expect("a node that is up").machine().state();
        let each = self.members.keys().map(|id| match state.addresses(*id) {
            Some((grpc, http)) => format!("node {id} at {grpc} and {http}"),
            None => format!("node {id} nowhere"),
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// The nodes that are up.
    pub(crate) fn nodes(&self) -> Vec<&Node> {
        let members = self.members.values();
        members.filter_map(|member| Some(member.driver.as_ref()?.machine())).collect()
    }

    /// Whether a worker's connection stands.
    pub(crate) fn is_connected(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// A worker's connection breaks.
    pub(crate) fn hang_up(&mut self, session: SessionId) {
        if let Some(node) = self.sessions.remove(&session) {
            self.feed(node, Input::WorkerGone { session });
            self.settle();
        }
    }

    /// Asks a node to shut down.
    pub(crate) fn shut_down(&mut self, id: NodeId) {
        self.feed(id, Input::Shutdown);
        self.settle();
    }

    /// What was seen since the last call.
    pub(crate) fn seen(&mut self) -> Vec<Seen> {
        self.seen.drain(..).collect()
    }

    /// Lets time pass up to the next deadline, at most `span`; returns how much passed.
    pub(crate) fn pass(&mut self, span: Duration) -> Duration {
        let sleeps = self.members.iter().filter(|(id, _)| !self.paused.contains(id));
        let sleeps = sleeps
            .filter_map(|(_, member)| member.driver.as_ref()?.sleep(shown(self.now, member.ahead)));
        let step = sleeps.min().unwrap_or(span).max(Duration::from_micros(100)).min(span);
        self.wakes += 1;
        self.now.mono = self.now.mono + step;
        self.now.wall = self.now.wall + step;
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.feed(id, Input::Wake);
        }
        self.settle();
        step
    }

    fn feed(&mut self, to: NodeId, input: Input) {
        if self.paused.contains(&to) {
            return;
        }
        let Some(member) = self.members.get_mut(&to) else { return };
        if let Some(driver) = &mut member.driver {
            driver.feed(shown(self.now, member.ahead), input);
        }
    }

    fn feed_leader(&mut self, input: Input) {
        if let Some(leader) = self.leader() {
            self.feed(leader, input);
        }
    }

    /// Ends turns and delivers until nothing is on its way.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut effects = Vec::new();
            for (id, member) in &mut self.members {
                if self.paused.contains(id) {
                    continue;
                }
                if let Some(driver) = &mut member.driver {
                    driver.flush(shown(self.now, member.ahead));
                    effects.extend(driver.effects().map(|effect| (*id, effect)));
                }
            }
            for (id, effect) in effects.drain(..) {
                self.perform(id, effect);
            }
            if self.mail.is_empty() && !self.restless() {
                return;
            }
            while let Some(envelope) = self.mail.pop_front() {
                let (from, to) = (envelope.from.0, envelope.to);
                if !self.cut.contains(&from) && !self.cut.contains(&to) {
                    self.feed(to, Input::Peer(Box::new(envelope)));
                }
            }
            self.fed = false;
        }
        panic!("the nodes never come to rest");
    }

    fn restless(&mut self) -> bool {
        std::mem::take(&mut self.fed)
    }

    fn perform(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::Persist(persist) => {
                let n = persist.n;
                self.persists += 1;
                if let Some(member) = self.members.get_mut(&id) {
                    member.write(persist);
                }
                self.back(id, Input::Persisted { n });
            }
            Effect::Send(envelope) => self.mail.push_back(*envelope),
            Effect::Answer { ticket, reply } => self.seen.push_back(Seen::Answer(ticket, reply)),
            Effect::ToWorker { session, frame } => {
                self.seen.push_back(Seen::Frame(id, session, frame));
            }
            Effect::CloseSession { session } => {
                self.sessions.remove(&session);
                self.seen.push_back(Seen::Closed(session));
            }
            Effect::OpenHistory { .. } => {
                let through = self.history;
                let input = if self.history_up {
                    Input::HistoryReady { epoch: self.epoch, through }
                } else {
                    Input::HistoryFailed
                };
                self.back(id, input);
            }
            Effect::StoreHistory(batch) => {
                if self.history_up && batch.after == self.history {
                    self.note_gap(&batch);
                    self.history = batch.through;
                    let (epoch, through) = (batch.epoch, batch.through);
                    self.back(id, Input::HistoryStored { epoch, through });
                } else {
                    self.back(id, Input::HistoryFailed);
                }
            }
            Effect::Note(note) => self.seen.push_back(Seen::Note(id, note)),
            Effect::Halt { reason } => panic!("node {id} halts: {reason}"),
            Effect::SnapshotWrite { index, data } => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.writing.entry(index).or_default().push(data);
                }
            }
            Effect::SnapshotFinish { index } => {
                if let Some(member) = self.members.get_mut(&id)
                    && let Some(file) = member.writing.remove(&index)
                {
                    member.files.insert(index, file);
                }
                self.back(id, Input::SnapshotSaved { index });
            }
            Effect::SnapshotAbort { index } => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.writing.remove(&index);
                }
            }
            Effect::SendSnapshot { to, index, term } => self.send_file(id, to, index, term),
            Effect::CloseHistory => {}
        }
    }

    fn note_gap(&mut self, batch: &HistoryBatch) {
        if let Some(gap) = &batch.gap {
            let lost = gap.dropped;
            self.gaps.push(format!(
                "changes {} to {} are missing: {} tasks, {} runs, {} attempts",
                gap.from, gap.to, lost.tasks, lost.runs, lost.attempts
            ));
        }
        if batch.gap.is_some() || batch.after == batch.through {
            let ids = batch.tasks.iter().map(|row| &*row.view.id);
            self.gaps.push(format!("again {}", ids.collect::<Vec<_>>().join(" ")));
        }
    }

    /// Sends a snapshot file in pieces.
    fn send_file(&mut self, from: NodeId, to: NodeId, index: u64, term: u64) {
        let Some(member) = self.members.get(&from) else { return };
        let cluster = member.disk.formed.as_ref().map(|(cluster, _)| *cluster);
        let sender = (from, member.disk.incarnation);
        let file = member.files.get(&index).expect("the file that raft names is in place").concat();
        let (mut offset, mut pieces) = (0, file.chunks(1_000).peekable());
        while let Some(data) = pieces.next() {
            let last = pieces.peek().is_none();
            let data = Bytes::copy_from_slice(data);
            let len = data.len() as u64;
            let body = Body::Snapshot(SnapshotPiece { index, term, offset, data, last });
            self.mail.push_back(Envelope {
                group: GroupId(1),
                cluster,
                from: sender,
                to,
                body,
                vitals: None,
            });
            offset += len;
        }
        self.back(from, Input::SnapshotSent { to, delivered: true });
    }

    fn back(&mut self, id: NodeId, input: Input) {
        self.fed = true;
        self.feed(id, input);
    }
}

/// What a node's clocks show.
fn shown(now: Now, ahead: i64) -> Now {
    Now { mono: now.mono, wall: now.wall.plus_micros(ahead) }
}

impl Member {
    /// What the disk holds after a durable record.
    fn write(&mut self, persist: Persist) {
        let disk = &mut self.disk;
        disk.hard_state = persist.hard_state;
        if let Some(first) = persist.entries.first().map(|entry: &LogEntry| entry.index) {
            disk.entries.retain(|entry| entry.index < first);
            disk.entries.extend(persist.entries);
        }
        match persist.fact {
            Some(LogFact::Formed { cluster, voters }) => disk.formed = Some((cluster, voters)),
            Some(LogFact::Compacted(meta)) => {
                disk.entries.retain(|entry| entry.index > meta.index);
                self.adopt(meta);
            }
            Some(LogFact::Reset(meta)) => {
                disk.entries.clear();
                self.adopt(meta);
            }
            None => {}
        }
    }

    fn adopt(&mut self, meta: SnapshotMeta) {
        self.disk.snapshot =
            self.files.get(&meta.index).cloned().expect("saved before it is named");
        self.files.retain(|index, _| *index >= meta.index);
        self.disk.meta = Some(meta);
    }
}
