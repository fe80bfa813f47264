//! One raft group in operation: the only place that calls `RawNode`.
//!
//! Messages that promise something are held until the promise is durable, elections wait for the
//! disk, and the election timeout is ours after every call.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, RawNode, SnapshotStatus, StateRole};

use super::bootstrap;
use super::config::ConsensusConfig;
use super::convert;
use super::guard::{self, Facts, Stop};
use super::inbound::InboundSnapshot;
use super::message::{ConfState, HardState, RaftMessage, SnapshotMeta};
use super::outbound::OutboundSnapshots;
use super::reads::Reads;
use super::storage::MemoryLog;
use super::timeout::election_timeout;
use super::turn::{PeerProgress, ProposeError, RoleChange};
use crate::consensus::Recovered;
use crate::consensus::Role;
use crate::id::{Incarnation, NodeId};

/// Bytes of entries in one append: what a follower writes with one fsync.
const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Appends that may be under way to a follower before the first is answered.
const APPENDS_MAX: usize = 256;
/// Bytes of committed entries that one Ready hands out; a drain takes several.
const COMMITTED_BYTES_MAX: u64 = 4 << 20;

/// A reluctant node waits this many of the shortest election timeouts longer for somebody else.
const RELUCTANT_TIMEOUTS: usize = 8;

/// A `Persist` that the host has not confirmed.
pub(super) struct Outstanding {
    pub(super) n: u64,
    /// raft's number of the Ready; zero for a record that raft does not know of.
    pub(super) ready: u64,
    /// It holds entries or a snapshot, so elections wait for it (P3.4).
    pub(super) grows: bool,
    /// It holds a new term or vote, so a leader's messages wait for it (P3.3).
    pub(super) votes: bool,
    /// It installs the snapshot of this index.
    pub(super) snapshot: u64,
}

pub(super) struct Group {
    pub(super) raw: RawNode<MemoryLog>,
    seed: u64,
    id: NodeId,
    incarnation: Incarnation,
    election_ticks: usize,
    campaigns: u64,
    /// Others should campaign first.
    pub(super) reluctant: bool,
    /// It never campaigns (P5.3).
    pub(super) barred: bool,
    /// Ticks withheld out of reluctance since a leader was heard.
    withheld: usize,
    pub(super) tick: u64,
    pub(super) next_persist: u64,
    pub(super) durable: u64,
    pub(super) outstanding: VecDeque<Outstanding>,
    /// Messages and the `Persist` that each waits for.
    pub(super) held: Vec<(u64, NodeId, RaftMessage)>,
    pub(super) last_ready: u64,
    /// The newest hard state that a Ready has shown.
    pub(super) hard_state: HardState,
    /// The last index handed out (or installed).
    pub(super) handed: u64,
    timeout_now: Option<Message>,
    pub(super) reads: Reads,
    pub(super) outbound: OutboundSnapshots,
    pub(super) inbound: InboundSnapshot,
    pub(super) compacted: Option<SnapshotMeta>,
    pub(super) role: RoleChange,
    /// The leader has committed an entry of its own term: ReadIndex answers from here on.
    pub(super) settled_term: u64,
    /// The leader that reads were last told of.
    pub(super) read_leader: u64,
}

impl Group {
    pub(super) fn new(
        config: &ConsensusConfig,
        recovered: &Recovered,
        formed: &[(NodeId, Incarnation)],
        next_persist: u64,
    ) -> Self {
        let snapshot = recovered.meta.clone().unwrap_or_else(|| SnapshotMeta {
            conf: recovered.conf.clone().unwrap_or_else(|| bootstrap::first_membership(formed)),
            ..SnapshotMeta::default()
        });
        let applied = snapshot.index;
        let storage = MemoryLog::new(recovered.hard_state, snapshot, &recovered.entries);
        assert!(
            recovered.hard_state.commit <= storage.last(),
            "recovery yields commit {} beyond the log's end {}",
            recovered.hard_state.commit,
            storage.last()
        );
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config(config, applied), storage, &logger)
            .expect("the configuration is a constant and recovery yields a sound log");
        let term = raw.raft.term;
        let mut group = Self {
            raw,
            seed: config.seed,
            id: config.id,
            incarnation: config.incarnation,
            election_ticks: config.election_ticks,
            campaigns: 0,
            reluctant: false,
            barred: false,
            withheld: 0,
            tick: 0,
            next_persist,
            durable: next_persist - 1,
            outstanding: VecDeque::new(),
            held: Vec::new(),
            last_ready: 0,
            hard_state: recovered.hard_state,
            handed: applied,
            timeout_now: None,
            reads: Reads::new(config.id, recovered.life),
            outbound: OutboundSnapshots::default(),
            inbound: InboundSnapshot::default(),
            compacted: None,
            role: RoleChange { role: Role::Follower, term, leader: None },
            settled_term: 0,
            read_leader: 0,
        };
        group.impose();
        group
    }

    /// Calls into raft; the election timeout that it may have drawn is replaced (P3.5).
    pub(super) fn call<R>(&mut self, act: impl FnOnce(&mut RawNode<MemoryLog>) -> R) -> R {
        let result = act(&mut self.raw);
        self.impose();
        result
    }

    fn impose(&mut self) {
        let ticks = self.imposed_timeout();
        self.raw.raft.set_randomized_election_timeout(ticks);
    }

    pub(super) fn imposed_timeout(&self) -> usize {
        election_timeout(
            self.seed,
            self.id,
            self.incarnation,
            self.raw.raft.term,
            self.campaigns,
            self.election_ticks,
        )
    }

    /// One tick.
    pub(super) fn tick(&mut self) {
        self.tick += 1;
        let raft = &self.raw.raft;
        let waits = raft.state != StateRole::Leader && raft.promotable();
        let elects = waits && raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        if self.reluctant && waits && (elects || raft.leader_id == 0) {
            // From its first moment without a leader on, or all who wait for the same cause would
            // campaign together when that ends.
            if self.withheld < RELUCTANT_TIMEOUTS * self.election_ticks {
                self.withheld += 1;
                return;
            }
        } else if raft.leader_id != 0 {
            self.withheld = 0;
        }
        if elects && self.barred {
            return;
        }
        if elects {
            // P3.4: raft-rs panics when a campaign meets entries or a snapshot in mid-fsync. The
            // tick is withheld, so the campaign begins once the disk has answered.
            if !self.disk_is_still() {
                return;
            }
            self.campaigns += 1;
        }
        self.call(RawNode::tick);
        if let Some(to) = self.outbound.expired(self.tick) {
            self.call(|raw| raw.report_snapshot(to.0, SnapshotStatus::Failure));
        }
    }

    /// No entry or snapshot is on its way to the disk.
    pub(super) fn disk_is_still(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        log.persisted == log.last_index() && !self.outstanding.iter().any(|o| o.grows)
    }

    /// A message of a member, or why it was not stepped.
    pub(super) fn step(&mut self, from: NodeId, message: RaftMessage) -> Result<(), Stop> {
        let Some(kind) = guard::kind_of(message.kind) else {
            return Err(Stop::Hostile(alloc::format!("a message of kind {}", message.kind)));
        };
        let raft = &self.raw.raft;
        let facts = Facts {
            me: self.id,
            term: raft.term,
            last_index: raft.raft_log.last_index(),
            leading: raft.state == StateRole::Leader,
            matched: raft.prs().get(from.0).map_or(0, |progress| progress.matched),
        };
        guard::judge(kind, &message, &facts)?;
        if kind == MessageType::MsgAppendResponse
            && facts.leading
            && message.term == facts.term
            && message.request_snapshot != 0
        {
            self.resend(from, message.request_snapshot);
            return Ok(());
        }
        let Some(message) = convert::message_in(from, self.id, message) else { return Ok(()) };
        match kind {
            // P3.4, P5.3, P10.2
            MessageType::MsgTimeoutNow if self.barred => {}
            MessageType::MsgTimeoutNow if !self.disk_is_still() => self.timeout_now = Some(message),
            MessageType::MsgSnapshot if self.holds(&message) => self.step_now(message),
            MessageType::MsgSnapshot => {
                self.ask_again(from, &message);
                self.inbound.hold(message);
                self.take_snapshot();
            }
            _ => self.step_now(message),
        }
        Ok(())
    }

    /// The log reaches what the snapshot stands for: raft only answers, and needs no state. The
    /// leader, whose log begins after what it knows of this node, waits for that answer.
    fn holds(&self, message: &Message) -> bool {
        let meta = message.get_snapshot().get_metadata();
        let log = &self.raw.raft.raft_log;
        meta.index <= log.committed || log.match_term(meta.index, meta.term)
    }

    /// Tells the leader when pieces of its snapshot were lost here, in the message by which raft
    /// lets a follower ask for one. It acknowledges nothing, and claims a term only once that is
    /// durable (P3.2).
    fn ask_again(&mut self, leader: NodeId, message: &Message) {
        let meta = message.get_snapshot().get_metadata();
        if message.term != self.raw.raft.term
            || message.term != self.hard_state.term
            || !self.inbound.lacks(meta.index, meta.term)
        {
            return;
        }
        let mut answer = Message::default();
        answer.set_msg_type(MessageType::MsgAppendResponse);
        answer.to = leader.0;
        answer.term = message.term;
        answer.reject = true;
        answer.reject_hint = self.raw.raft.raft_log.last_index();
        answer.request_snapshot = meta.index;
        self.held.push((self.next_persist - 1, leader, convert::message_out(answer)));
    }

    /// A follower has lost pieces of the snapshot at `index`, all of which had reached it: raft
    /// probes it again and finds that it needs a snapshot. Raft does not hear of the request
    /// itself, which would bind it to an index that the newest snapshot may not be at.
    fn resend(&mut self, to: NodeId, index: u64) {
        if self.outbound.lost(to, index) {
            self.call(|raw| raw.report_snapshot(to.0, SnapshotStatus::Failure));
        }
    }

    /// Steps the held `MsgSnapshot` if its state is ready.
    pub(super) fn take_snapshot(&mut self) {
        if let Some(message) = self.inbound.release() {
            self.step_now(message);
        }
    }

    fn step_now(&mut self, message: Message) {
        // Errors say that the message has no use (an unknown peer); raft has refused it.
        let _ = self.call(|raw| raw.step(message));
    }

    /// Every `Persist` up to `n` is durable.
    pub(super) fn persisted(&mut self, n: u64) {
        self.durable = self.durable.max(n);
        let mut installed = 0;
        while self.outstanding.front().is_some_and(|o| o.n <= n) {
            if let Some(done) = self.outstanding.pop_front() {
                installed = installed.max(done.snapshot);
            }
        }
        // Readies without a record of their own are as durable as the records before them.
        let number = match self.outstanding.iter().find(|o| o.ready != 0) {
            Some(next) => next.ready - 1,
            None => self.last_ready,
        };
        self.call(|raw| raw.on_persist_ready(number));
        if installed > 0 {
            self.advance_applied();
        }
        if self.disk_is_still()
            && let Some(message) = self.timeout_now.take()
        {
            self.step_now(message);
        }
    }

    /// Tells raft what was applied: the node applies what a drain hands out before the next step.
    /// Not while a snapshot is in mid-fsync (P3.4).
    pub(super) fn advance_applied(&mut self) {
        if self.outstanding.iter().all(|o| o.snapshot == 0) {
            let handed = self.handed;
            self.call(|raw| raw.advance_apply_to(handed));
        }
    }

    pub(super) fn propose(&mut self, data: Bytes) -> Result<(u64, u64), ProposeError> {
        if self.raw.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeading);
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.id.0;
        // Built by hand: `RawNode::propose` takes a Vec, this shares the buffer.
        let entry = Entry { data, ..Entry::default() };
        message.set_entries(alloc::vec![entry].into());
        match self.call(|raw| raw.step(message)) {
            Ok(()) => Ok((self.raw.raft.term, self.raw.raft.raft_log.last_index())),
            Err(_) => Err(ProposeError::Busy),
        }
    }

    pub(super) fn unreachable(&mut self, id: NodeId) {
        self.call(|raw| raw.report_unreachable(id.0));
        // The follower may have died while it decoded: its answer may never come.
        if self.outbound.awaits_answer(id) && self.outbound.end(id) {
            self.call(|raw| raw.report_snapshot(id.0, SnapshotStatus::Failure));
        }
    }

    pub(super) fn snapshot_sent(&mut self, to: NodeId, delivered: bool) -> Option<RaftMessage> {
        if delivered {
            return self.outbound.delivered(to, self.tick);
        }
        if self.outbound.end(to) {
            self.call(|raw| raw.report_snapshot(to.0, SnapshotStatus::Failure));
        }
        None
    }

    pub(super) fn compact(&mut self, meta: SnapshotMeta) {
        assert!(
            meta.index <= self.handed,
            "a snapshot at {} of a state at {}",
            meta.index,
            self.handed
        );
        if meta.index <= self.raw.store().snapshot_index() {
            // A newer one was installed while this one was being written.
            return;
        }
        self.raw.mut_store().compact(meta.clone());
        self.compacted = Some(meta);
    }

    /// Hands leadership to `to`, or to the best follower; false when there is none or this node
    /// does not lead.
    pub(super) fn transfer_leader(&mut self, to: Option<NodeId>) -> bool {
        if self.raw.raft.state != StateRole::Leader {
            return false;
        }
        let voters = self.conf().voters;
        let best = self
            .progress()
            .into_iter()
            .filter(|peer| voters.contains(&peer.id) && to.is_none_or(|to| to == peer.id))
            .filter(|peer| to.is_some() || peer.alive)
            .max_by_key(|peer| (peer.match_index, core::cmp::Reverse(peer.id)));
        match best {
            Some(peer) => {
                self.call(|raw| raw.transfer_leader(peer.id.0));
                true
            }
            None => false,
        }
    }

    /// Followers as the leader sees them, ascending; empty elsewhere.
    pub(super) fn progress(&self) -> Vec<PeerProgress> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let mut peers: Vec<PeerProgress> = raft
            .prs()
            .iter()
            .filter(|(id, _)| **id != self.id.0)
            .map(|(id, progress)| PeerProgress {
                id: NodeId(*id),
                match_index: progress.matched,
                alive: progress.recent_active,
                snapshot: progress.state == raft::ProgressState::Snapshot,
            })
            .collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        peers
    }

    pub(super) fn conf(&self) -> ConfState {
        convert::conf_out(&self.raw.raft.prs().conf().to_conf_state())
    }

    pub(super) fn is_member(&self, id: NodeId) -> bool {
        self.raw.raft.prs().get(id.0).is_some()
    }

    pub(super) fn current_role(&self) -> RoleChange {
        let raft = &self.raw.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if raft.promotable() => Role::Follower,
            StateRole::Follower => Role::Learner,
        };
        let leader = (raft.leader_id != 0).then_some(NodeId(raft.leader_id));
        RoleChange { role, term: raft.term, leader }
    }

    /// What `Stop::LostTail` means for the operator.
    pub(super) fn lost_tail(why: &str) -> String {
        alloc::format!(
            "this node's disk has lost acknowledged entries: {why}; it must not vote again: \
             replace it by a node with a new id"
        )
    }
}

/// raft-rs's defaults are unsafe: no quorum check, no pre-vote, no limits (simulation.md §6).
fn raft_config(config: &ConsensusConfig, applied: u64) -> Config {
    Config {
        id: config.id.0,
        election_tick: config.election_ticks,
        heartbeat_tick: config.heartbeat_ticks,
        applied,
        max_size_per_msg: APPEND_BYTES_MAX.min(config.uncommitted_bytes_max as u64),
        max_inflight_msgs: APPENDS_MAX,
        check_quorum: true,
        pre_vote: true,
        max_uncommitted_size: config.uncommitted_bytes_max as u64,
        max_committed_size_per_ready: COMMITTED_BYTES_MAX,
        ..Config::default()
    }
}
