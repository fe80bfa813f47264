//! A cluster of [`Consensus`] machines on one event heap, with a disk that keeps what was synced.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use raft::eraftpb::MessageType as Kind;

use super::member::{Member, absorb, decode, encode};
use crate::consensus::Persist;
use crate::consensus::Role;
use crate::consensus::guard;
use crate::consensus::{
    Body, Consensus, ConsensusConfig, Envelope, LogEntry, SnapshotMeta, SnapshotPiece, Turn,
};
use crate::id::{ClusterId, GroupId, Incarnation, NodeId};
use crate::rng::Rng;
use crate::time::{Instant, Now, Timestamp};

/// What happens at a moment.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Deliver(Envelope),
    Persisted { node: NodeId, life: u64, n: u64 },
    Wake { node: NodeId, life: u64 },
    Sent { node: NodeId, life: u64, to: NodeId },
    Saved { node: NodeId, life: u64, index: u64 },
}

pub(super) struct Cluster {
    pub(super) now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(super) rng: Rng,
    pub(super) cut: BTreeSet<(NodeId, NodeId)>,
    pub(super) loss_percent: u64,
    pub(super) delay_micros: u64,
    /// Index to bytes, fixed by the first apply (S5).
    pub(super) history: BTreeMap<u64, (u64, Bytes)>,
    pub(super) leaders: BTreeMap<u64, NodeId>,
    pub(super) trace: Vec<String>,
    pub(super) sent: Vec<Envelope>,
    pub(super) keep_sent: bool,
    /// A node's own snapshot is finished in the turn in which it is given a received one.
    pub(super) compacts_at_install: bool,
    seed: u64,
}

impl Cluster {
    pub(super) fn new(seed: u64, ids: &[u64]) -> Self {
        let mut cluster = Self {
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            members: BTreeMap::new(),
            rng: Rng::new(seed).fork("cluster"),
            cut: BTreeSet::new(),
            loss_percent: 0,
            delay_micros: 500,
            history: BTreeMap::new(),
            leaders: BTreeMap::new(),
            trace: Vec::new(),
            sent: Vec::new(),
            keep_sent: false,
            compacts_at_install: false,
            seed,
        };
        for id in ids {
            let incarnation = Incarnation(1_000 + *id);
            cluster.members.insert(NodeId(*id), Member::new(incarnation));
        }
        let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
        for id in ids {
            cluster.start(id);
        }
        cluster
    }

    /// A cluster that is formed and has a leader.
    pub(super) fn led(seed: u64, ids: &[u64]) -> (Self, NodeId) {
        let mut cluster = Self::new(seed, ids);
        let leader = cluster.run_until_led(10_000);
        (cluster, leader)
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    pub(super) fn config(&self, id: NodeId) -> ConsensusConfig {
        let incarnation = self.members[&id].incarnation;
        ConsensusConfig::new(GroupId(1), id, self.ids(), incarnation, self.seed)
    }

    pub(super) fn start(&mut self, id: NodeId) {
        let config = self.config(id);
        let member = self.member(id);
        member.life += 1;
        member.pending.clear();
        let mut recovered = member.durable.clone();
        recovered.life = member.life;
        recovered.incarnation = member.incarnation;
        member.applied = recovered
            .meta
            .as_ref()
            .map_or_else(Vec::new, |meta| member.files[&meta.index].1.clone());
        member.machine = Some(Consensus::new(config, &recovered));
        let life = member.life;
        self.at(0, Event::Wake { node: id, life });
    }

    pub(super) fn crash(&mut self, id: NodeId) {
        let member = self.member(id);
        member.machine = None;
        // A torn group: a prefix of what was being written survives.
        let kept = member.pending.len();
        let keep = self.rng.below(kept as u64 + 1) as usize;
        let member = self.member(id);
        let pending: Vec<Persist> = member.pending.drain(..).take(keep).collect();
        for persist in pending {
            absorb(&mut member.durable, &persist);
        }
        member.incoming.clear();
        member.shadow = None;
        member.reads.clear();
    }

    pub(super) fn member(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).expect("a test names members")
    }

    pub(super) fn machine(&mut self, id: NodeId) -> &mut Consensus {
        self.member(id).machine.as_mut().expect("the node runs")
    }

    pub(super) fn isolate(&mut self, id: NodeId) {
        for other in self.ids() {
            self.cut.insert((id, other));
            self.cut.insert((other, id));
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    pub(super) fn clock(&self) -> Now {
        Now { mono: Instant::from_micros(self.now), wall: Timestamp::from_micros(self.now as i64) }
    }

    /// Runs for so many simulated milliseconds.
    pub(super) fn run(&mut self, millis: u64) {
        let end = self.now + millis * 1_000;
        while let Some((&(at, sequence), _)) = self.events.first_key_value() {
            if at > end {
                break;
            }
            let Some(event) = self.events.remove(&(at, sequence)) else { break };
            self.now = at;
            self.perform(event);
        }
        self.now = end;
    }

    /// Runs until one node leads and has applied an entry of its own term.
    pub(super) fn run_until_led(&mut self, millis: u64) -> NodeId {
        let end = self.now + millis * 1_000;
        while self.now < end {
            if let Some(id) = self.leader() {
                return id;
            }
            self.run(10);
        }
        panic!("seed {}: no leader within {millis} ms", self.seed)
    }

    /// The settled leader of the newest term.
    pub(super) fn leader(&self) -> Option<NodeId> {
        self.members
            .iter()
            .filter_map(|(id, member)| Some((id, member.machine.as_ref()?)))
            .filter(|(_, machine)| {
                machine.role() == Role::Leader
                    && machine.group().is_some_and(|group| group.settled_term == machine.term())
            })
            .max_by_key(|(_, machine)| machine.term())
            .map(|(id, _)| *id)
    }

    fn perform(&mut self, event: Event) {
        let now = self.clock();
        let node = match event {
            Event::Deliver(envelope) => {
                let to = envelope.to;
                if self.cut.contains(&(envelope.from.0, to)) {
                    return;
                }
                let Some(machine) = self.member(to).machine.as_mut() else { return };
                machine.step_peer(now, envelope);
                to
            }
            Event::Persisted { node, life, n } => {
                let member = self.member(node);
                if member.life != life || member.machine.is_none() {
                    return;
                }
                let done: Vec<Persist> = member.pending.extract_if(.., |p| p.n <= n).collect();
                for persist in &done {
                    absorb(&mut member.durable, persist);
                }
                self.machine(node).persisted(now, n);
                node
            }
            Event::Wake { node, life } => {
                let member = self.member(node);
                if member.life != life || member.machine.is_none() {
                    return;
                }
                self.machine(node).wake(now);
                node
            }
            Event::Sent { node, life, to } => {
                let member = self.member(node);
                if member.life != life || member.machine.is_none() {
                    return;
                }
                let delivered = !self.cut.contains(&(node, to));
                self.machine(node).snapshot_sent(to, delivered);
                node
            }
            Event::Saved { node, life, index } => {
                let member = self.member(node);
                if member.life != life || member.machine.is_none() {
                    return;
                }
                if self.compacts_at_install {
                    self.compact(node);
                }
                self.machine(node).snapshot_received(index);
                node
            }
        };
        self.flush(node);
    }

    /// Ends a turn of `id` and performs what follows.
    pub(super) fn flush(&mut self, id: NodeId) {
        let now = self.clock();
        let mut turn = Turn::default();
        let machine = self.machine(id);
        machine.drain(now, &mut turn);
        let (term, cluster, deadline) =
            (machine.term(), machine.cluster_id(), machine.next_deadline());
        if turn != Turn::default() {
            self.trace.push(format!("{} {id} {turn:?}", self.now));
        }
        let member = self.member(id);
        let life = member.life;
        if turn.halt.is_some() {
            member.halted = turn.halt;
            member.machine = None;
            return;
        }
        let due = deadline.map_or(now.mono, |at| at).as_micros().max(now.mono.as_micros() + 1);
        if member.woken_at < due {
            member.woken_at = due;
            self.at(due - now.mono.as_micros(), Event::Wake { node: id, life });
        }
        if turn.role.is_some_and(|role| role.role == Role::Leader) {
            let other = self.leaders.insert(term, id);
            assert!(other.is_none_or(|other| other == id), "S1: two leaders of term {term}");
        }
        self.disk(id, life, turn.persists);
        if let Some(meta) = turn.installed {
            assert!(turn.committed.is_empty(), "a turn installs or applies, never both");
            let member = self.member(id);
            let (index, state) = member.shadow.take().expect("a decoded state is at hand");
            assert_eq!(index, meta.index);
            member.applied = state;
            member.installed += 1;
        }
        self.apply(id, turn.committed);
        let member = self.member(id);
        for (read, index) in turn.reads {
            member.reads.insert(read, index);
        }
        for piece in turn.pieces {
            self.receive(id, life, piece);
        }
        for send in turn.send_snapshots {
            self.send_snapshot(id, life, cluster, send.to, send.index, send.term);
        }
        for envelope in turn.sends {
            self.send(envelope);
        }
    }

    fn disk(&mut self, id: NodeId, life: u64, persists: Vec<Persist>) {
        let fsync = self.member(id).fsync_micros;
        let Some(n) = persists.last().map(|persist| persist.n) else { return };
        self.member(id).pending.extend(persists);
        let delay = fsync + self.rng.below(fsync + 1);
        self.at(delay, Event::Persisted { node: id, life, n });
    }

    fn apply(&mut self, id: NodeId, committed: Vec<LogEntry>) {
        for entry in committed {
            let fixed = self
                .history
                .entry(entry.index)
                .or_insert_with(|| (entry.term, entry.data.clone()))
                .clone();
            assert_eq!(fixed, (entry.term, entry.data.clone()), "S5: index {}", entry.index);
            let applied = &mut self.member(id).applied;
            let next = applied.last().map_or(1, |(index, _)| index + 1);
            assert_eq!(entry.index, next, "no gap, no repeat");
            applied.push((entry.index, entry.data));
        }
    }

    /// S4: what a message claims is in what a crash at this instant would leave.
    fn check_promises(&self, envelope: &Envelope) {
        let Body::Raft(messages) = &envelope.body else { return };
        let durable = &self.members[&envelope.from.0].durable;
        let state = durable.hard_state;
        let last = durable.entries.last().map_or_else(
            || durable.meta.as_ref().map_or(0, |meta| meta.index),
            |entry| entry.index,
        );
        for message in messages {
            let kind = guard::kind_of(message.kind).expect("a kind that travels");
            let claims_term = !matches!(
                kind,
                Kind::MsgRequestPreVote | Kind::MsgRequestPreVoteResponse | Kind::MsgReadIndex
            );
            assert!(!claims_term || message.term <= state.term, "term: {message:?}, {state:?}");
            if kind == Kind::MsgRequestVote && message.term == state.term {
                assert_eq!(state.vote, envelope.from.0.0, "a candidate's own vote");
            }
            if kind == Kind::MsgRequestVoteResponse && !message.reject && message.term == state.term
            {
                assert_eq!(state.vote, envelope.to.0, "a granted vote");
            }
            if kind == Kind::MsgAppendResponse && !message.reject {
                assert!(message.index <= last, "acknowledges {} of {last}", message.index);
            }
        }
    }

    fn send(&mut self, envelope: Envelope) {
        self.check_promises(&envelope);
        if self.keep_sent {
            self.sent.push(envelope.clone());
        }
        if self.rng.below(100) < self.loss_percent {
            return;
        }
        let delay = self.delay_micros + self.rng.below(self.delay_micros + 1);
        self.at(delay, Event::Deliver(envelope));
    }

    fn send_snapshot(
        &mut self,
        id: NodeId,
        life: u64,
        cluster: Option<ClusterId>,
        to: NodeId,
        index: u64,
        term: u64,
    ) {
        let member = self.member(id);
        let from = (id, member.incarnation);
        let bytes = encode(&member.files[&index].1);
        let pieces: Vec<&[u8]> = bytes.chunks(16).collect();
        let count = pieces.len();
        for (i, data) in pieces.into_iter().enumerate() {
            let piece = SnapshotPiece {
                index,
                term,
                offset: i as u64 * 16,
                data: Bytes::copy_from_slice(data),
                last: i + 1 == count,
            };
            let body = Body::Snapshot(piece);
            self.at(
                2 * self.delay_micros + i as u64,
                Event::Deliver(Envelope {
                    group: GroupId(1),
                    cluster,
                    from,
                    to,
                    body,
                    vitals: None,
                }),
            );
        }
        self.at(3 * self.delay_micros + count as u64, Event::Sent { node: id, life, to });
    }

    fn receive(&mut self, id: NodeId, life: u64, piece: SnapshotPiece) {
        let member = self.member(id);
        if piece.offset == 0 {
            member.incoming.clear();
        }
        assert_eq!(member.incoming.len() as u64, piece.offset);
        member.incoming.extend_from_slice(&piece.data);
        if piece.last {
            let state = decode(&member.incoming);
            member.files.insert(piece.index, (piece.term, state.clone()));
            member.shadow = Some((piece.index, state));
            self.at(5_000, Event::Saved { node: id, life, index: piece.index });
        }
    }

    /// Takes a snapshot of the node's applied state.
    pub(super) fn snapshot(&mut self, id: NodeId) {
        self.compact(id);
        self.flush(id);
    }

    fn compact(&mut self, id: NodeId) {
        let (index, _) = self.member(id).applied.last().cloned().expect("something was applied");
        let term = self.history[&index].0;
        let conf = self.machine(id).conf();
        let member = self.member(id);
        member.files.insert(index, (term, member.applied.clone()));
        self.machine(id).compact(SnapshotMeta { index, term, conf });
    }

    /// Proposes at `id`; panics when it does not lead.
    pub(super) fn propose(&mut self, id: NodeId, text: &str) -> (u64, u64) {
        let data = Bytes::copy_from_slice(text.as_bytes());
        let place = self.machine(id).propose(data).expect("the node leads");
        self.flush(id);
        place
    }

    pub(super) fn texts(&self, id: NodeId) -> Vec<String> {
        self.members[&id]
            .applied
            .iter()
            .filter(|(_, data)| !data.is_empty())
            .map(|(_, data)| String::from_utf8_lossy(data).into_owned())
            .collect()
    }
}
