//! One node's consensus, from first start on.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::bootstrap::{self, Bootstrap, Met};
use super::config::ConsensusConfig;
use super::group::Group;
use super::guard::Stop;
use super::message::{Body, Envelope, RaftMessage, SnapshotMeta, SnapshotPiece};
use super::turn::{ProposeError, ReadId, RoleChange, Turn};
use crate::consensus::Role;
use crate::consensus::{LogFact, Persist, Recovered};
use crate::id::{ClusterId, Incarnation, NodeId};
use crate::limits;
use crate::time::{Instant, Now};

/// Ticks made up at once after a pause: a node that was stopped reads its mail before it calls an
/// election.
const CATCH_UP_TICKS: u32 = 3;
/// Bytes of entries in one envelope: far below `limits::MESSAGE_BYTES_MAX`, above one append.
const ENVELOPE_BYTES_MAX: usize = 4 << 20;
/// Lines of warning in one turn.
const WARNINGS_MAX: usize = 4;

/// Agreement with the other nodes. Told by `step_peer`, `persisted`, `wake` and the rest; what
/// follows is said by `drain`, once a turn.
pub struct Consensus {
    config: ConsensusConfig,
    recovered: Recovered,
    /// The cluster and the incarnations that formed it.
    formed: Option<(ClusterId, Vec<(NodeId, Incarnation)>)>,
    stage: Stage,
    next_tick: Option<Instant>,
    /// Waiting for the next drain.
    replies: Vec<Envelope>,
    mail: Vec<(NodeId, RaftMessage)>,
    pieces: Vec<SnapshotPiece>,
    announced: Vec<(NodeId, Box<str>, Box<str>)>,
    warnings: Vec<String>,
    halt: Option<String>,
    newly_formed: Option<ClusterId>,
}

enum Stage {
    Introducing { bootstrap: Bootstrap, tick: u64 },
    Running(Box<Group>),
}

impl Consensus {
    /// Resumes what the disk holds: a formed cluster at once, else the first start (P4.1).
    pub fn new(config: ConsensusConfig, recovered: &Recovered) -> Self {
        let formed = recovered.formed.clone();
        let stage = match &formed {
            Some((_, voters)) => {
                Stage::Running(Box::new(Group::new(&config, recovered, voters, 1)))
            }
            None => Stage::Introducing { bootstrap: Bootstrap::new(&config), tick: 0 },
        };
        // The group has copied what it keeps; a first start needs the life number again.
        let recovered = Recovered { life: recovered.life, ..Recovered::default() };
        Self {
            config,
            recovered,
            formed,
            stage,
            next_tick: None,
            replies: Vec::new(),
            mail: Vec::new(),
            pieces: Vec::new(),
            announced: Vec::new(),
            warnings: Vec::new(),
            halt: None,
            newly_formed: None,
        }
    }

    /// A peer said something. Whatever is not from a member of this cluster, or not for this
    /// node, is refused before raft sees it.
    pub fn step_peer(&mut self, now: Now, envelope: Envelope) {
        self.wake(now);
        if self.halt.is_some()
            || envelope.group != self.config.group
            || envelope.to != self.config.id
            || envelope.from.0 == self.config.id
        {
            return;
        }
        let (from, cluster) = (envelope.from, envelope.cluster);
        match envelope.body {
            Body::Introduce { voters, ask } => self.meet(from, &voters, ask),
            Body::Reject { reason } => self.rejected(from.0, &reason),
            Body::Raft(messages) if self.is_member(from, cluster) => {
                for message in messages {
                    self.step_raft(from.0, message);
                }
            }
            Body::Snapshot(piece) if self.is_member(from, cluster) => {
                if let Stage::Running(group) = &mut self.stage {
                    let commit = group.raw.raft.raft_log.committed;
                    if group.inbound.accepts(from.0, &piece, commit) {
                        self.pieces.push(piece);
                    }
                }
            }
            Body::Announce { grpc, http } if self.is_member(from, cluster) => {
                if self.announced.len() < limits::NODES_MAX {
                    self.announced.push((from.0, grpc, http));
                }
            }
            Body::Raft(_) | Body::Snapshot(_) | Body::Announce { .. } => {}
        }
    }

    /// Whether an envelope is for this node and from a member of its cluster.
    pub fn hears(&self, envelope: &Envelope) -> bool {
        envelope.group == self.config.group
            && envelope.to == self.config.id
            && envelope.from.0 != self.config.id
            && self.is_member(envelope.from, envelope.cluster)
    }

    /// An envelope to a member that says nothing yet.
    pub fn empty_envelope(&self, to: NodeId) -> Envelope {
        self.envelope(to, Body::Raft(Vec::new()))
    }

    /// While a node is reluctant it lets others campaign first: only when nobody has led for some
    /// election timeouts does it call an election of its own.
    pub fn set_reluctant(&mut self, reluctant: bool) {
        if let Stage::Running(group) = &mut self.stage {
            group.reluctant = reluctant;
        }
    }

    /// This node never campaigns again, nor lets leadership be handed to it: its state is wrong
    /// (P5.3). Its log goes on and votes.
    pub fn bar(&mut self) {
        if let Stage::Running(group) = &mut self.stage {
            group.barred = true;
        }
    }

    /// Every `Persist` up to `n` is durable.
    pub fn persisted(&mut self, now: Now, n: u64) {
        match &mut self.stage {
            Stage::Running(group) => group.persisted(n),
            Stage::Introducing { bootstrap, .. } => {
                if let Some(voters) = bootstrap.forming.take() {
                    self.start(voters);
                }
            }
        }
        self.wake(now);
    }

    /// Time has passed: makes up the ticks that are due, a bounded number of them.
    pub fn wake(&mut self, now: Now) {
        let tick = self.config.tick;
        let mut next = self.next_tick.unwrap_or(now.mono + tick);
        for _ in 0..CATCH_UP_TICKS {
            if now.mono < next {
                break;
            }
            next = next + tick;
            match &mut self.stage {
                Stage::Running(group) if self.halt.is_none() => group.tick(),
                Stage::Introducing { tick, .. } => *tick += 1,
                Stage::Running(_) => {}
            }
        }
        // A longer pause is not made up.
        self.next_tick = Some(if now.mono < next { next } else { now.mono + tick });
    }

    /// The connection to a peer broke, or could not be opened.
    pub fn unreachable(&mut self, id: NodeId) {
        if let Stage::Running(group) = &mut self.stage {
            group.unreachable(id);
        }
    }

    /// A snapshot file was sent, or could not be.
    pub fn snapshot_sent(&mut self, to: NodeId, delivered: bool) {
        if let Stage::Running(group) = &mut self.stage
            && let Some(message) = group.snapshot_sent(to, delivered)
        {
            self.mail.push((to, message));
        }
    }

    /// The received snapshot of this index was decoded and its file is in place and synced: raft
    /// may take it. `Turn::installed` or `Turn::refused_snapshot` follows once raft has spoken.
    pub fn snapshot_received(&mut self, index: u64) {
        if let Stage::Running(group) = &mut self.stage
            && group.inbound.decoded(index)
        {
            group.take_snapshot();
        }
    }

    /// The received snapshot of this index could not be decoded or saved; the leader will send
    /// it again.
    pub fn snapshot_failed(&mut self, index: u64) {
        if let Stage::Running(group) = &mut self.stage {
            group.inbound.failed(index);
        }
    }

    /// The node's own snapshot file is in place and synced: the log before it may go. Not while
    /// [`Self::transferring`], or the follower would need another one (P10.3).
    pub fn compact(&mut self, meta: SnapshotMeta) {
        if let Stage::Running(group) = &mut self.stage {
            group.compact(meta);
        }
    }

    /// Proposes an entry. The place it takes; another term applied at that index means that it
    /// is known to be lost (P3.6).
    ///
    /// # Errors
    ///
    /// Nothing was done, see [`ProposeError`].
    pub fn propose(&mut self, data: Bytes) -> Result<(u64, u64), ProposeError> {
        match &mut self.stage {
            Stage::Running(group) => group.propose(data),
            Stage::Introducing { .. } => Err(ProposeError::NotLeading),
        }
    }

    /// Asks for an index that makes a read from here on linearizable, on any member. `None`
    /// before the cluster is formed. Retried inside until `Turn::reads` answers.
    pub fn read(&mut self) -> Option<ReadId> {
        match &mut self.stage {
            Stage::Running(group) => Some(group.reads.ask()),
            Stage::Introducing { .. } => None,
        }
    }

    /// Hands leadership to `to`, or to the most caught-up live follower. False when there is
    /// nobody, or this node does not lead.
    pub fn transfer_leader(&mut self, to: Option<NodeId>) -> bool {
        match &mut self.stage {
            Stage::Running(group) => group.transfer_leader(to),
            Stage::Introducing { .. } => false,
        }
    }

    /// Tells `to` where this node is reached (P3.6). Nothing before the cluster is formed.
    pub fn announce(&mut self, to: NodeId, grpc: Box<str>, http: Box<str>) {
        if self.formed.is_some() {
            let body = Body::Announce { grpc, http };
            self.replies.push(self.envelope(to, body));
        }
    }

    /// Ends a turn: appends to `turn` everything that follows.
    pub fn drain(&mut self, now: Now, turn: &mut Turn) {
        self.wake(now);
        turn.halt = self.halt.clone();
        turn.warnings.append(&mut self.warnings);
        if turn.halt.is_some() {
            return;
        }
        turn.formed = self.newly_formed.take();
        turn.pieces.append(&mut self.pieces);
        turn.announced.append(&mut self.announced);
        match &mut self.stage {
            Stage::Introducing { bootstrap, tick } => {
                turn.sends.append(&mut self.replies);
                turn.sends.append(&mut bootstrap.introductions(&self.config, *tick));
                if let Some(voters) = bootstrap.complete(&self.config) {
                    bootstrap.forming = Some(voters.clone());
                    turn.persists.push(Persist {
                        n: 1,
                        hard_state: super::HardState::default(),
                        entries: Vec::new(),
                        fact: Some(LogFact::Formed {
                            cluster: bootstrap::cluster_id(&voters),
                            voters,
                        }),
                    });
                }
            }
            Stage::Running(group) => {
                group.drain(turn, &mut self.mail);
                turn.sends.append(&mut self.replies);
                let mail = core::mem::take(&mut self.mail);
                self.pack(mail, &mut turn.sends);
            }
        }
        turn.sends.sort_by_key(|envelope| envelope.to);
    }

    /// This node's role.
    pub fn role(&self) -> Role {
        self.standing().role
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.standing().leader
    }

    /// raft's term.
    pub fn term(&self) -> u64 {
        self.standing().term
    }

    /// Role, term and leader at this instant; `Turn::role` follows with the next drain.
    pub fn standing(&self) -> RoleChange {
        match &self.stage {
            Stage::Running(group) => group.current_role(),
            Stage::Introducing { .. } => RoleChange { role: Role::Follower, term: 0, leader: None },
        }
    }

    /// The cluster's id, once formed.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.formed.as_ref().map(|(cluster, _)| *cluster)
    }

    /// The voters that formed the cluster and the lives of their disks, once formed.
    pub fn formed_by(&self) -> Option<&[(NodeId, Incarnation)]> {
        self.formed.as_ref().map(|(_, voters)| &**voters)
    }

    /// When the next tick falls due; `None` before the first call that told the time.
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.next_tick
    }

    /// How long a leader that hears of nobody goes on, and a follower waits at least.
    pub fn election_timeout(&self) -> Duration {
        self.config.tick * u32::try_from(self.config.election_ticks).unwrap_or(u32::MAX)
    }

    pub(super) fn group(&self) -> Option<&Group> {
        match &self.stage {
            Stage::Running(group) => Some(group),
            Stage::Introducing { .. } => None,
        }
    }

    fn start(&mut self, voters: Vec<(NodeId, Incarnation)>) {
        let cluster = bootstrap::cluster_id(&voters);
        let group = Group::new(&self.config, &self.recovered, &voters, 2);
        self.stage = Stage::Running(Box::new(group));
        self.formed = Some((cluster, voters));
        self.newly_formed = Some(cluster);
    }

    /// P4.1: the cluster, the sender and the life of its disk must be those that formed it.
    fn is_member(&self, from: (NodeId, Incarnation), cluster: Option<ClusterId>) -> bool {
        let Some((own, voters)) = &self.formed else { return false };
        let known = match voters.iter().find(|(id, _)| *id == from.0) {
            Some((_, incarnation)) => *incarnation == from.1,
            None => self.group().is_some_and(|group| group.is_member(from.0)),
        };
        known && cluster == Some(*own)
    }

    fn step_raft(&mut self, from: NodeId, message: RaftMessage) {
        let Stage::Running(group) = &mut self.stage else { return };
        match group.step(from, message) {
            Ok(()) | Err(Stop::Stale) => {}
            Err(Stop::Hostile(why)) => self.warn(format!("node {from} sent {why}: refused")),
            Err(Stop::LostTail(why)) => self.halt = Some(Group::lost_tail(&why)),
        }
    }

    fn meet(&mut self, from: (NodeId, Incarnation), voters: &[NodeId], ask: bool) {
        let met = match (&mut self.stage, &self.formed) {
            (Stage::Introducing { bootstrap, .. }, _) => {
                bootstrap.meet(&self.config, from, voters, ask)
            }
            (Stage::Running(_), Some((_, formed))) => bootstrap::meet_formed(formed, from, ask),
            (Stage::Running(_), None) => Met::Noted,
        };
        let cluster = self.cluster_id();
        match met {
            Met::Noted => {}
            Met::Answer => {
                self.replies.push(bootstrap::introduction(&self.config, cluster, from.0, false));
            }
            Met::Reject(reason) => {
                let body = Body::Reject { reason: reason.into() };
                self.replies.push(self.envelope(from.0, body));
            }
            Met::Odd(line) => self.warn(line),
        }
    }

    /// Only a node without a cluster obeys: a member cannot be talked out of its own.
    fn rejected(&mut self, from: NodeId, reason: &str) {
        match self.stage {
            Stage::Introducing { .. } if self.config.voters.contains(&from) => {
                self.halt = Some(format!("node {from} refuses this node: {reason}"));
            }
            Stage::Introducing { .. } | Stage::Running(_) => {
                self.warn(format!("node {from} does not know this node: {reason}"));
            }
        }
    }

    fn warn(&mut self, line: String) {
        if self.warnings.len() < WARNINGS_MAX && !self.warnings.contains(&line) {
            self.warnings.push(line);
        }
    }

    /// Envelopes of bounded size, messages to each recipient in order.
    fn pack(&self, mut mail: Vec<(NodeId, RaftMessage)>, sends: &mut Vec<Envelope>) {
        mail.sort_by_key(|(to, _)| *to);
        let mut batch: Vec<RaftMessage> = Vec::new();
        let mut bytes = 0;
        let mut recipient = None;
        for (to, message) in mail {
            let size: usize = message.entries.iter().map(|entry| entry.data.len() + 32).sum();
            if recipient.is_some_and(|id| id != to)
                || (bytes + size > ENVELOPE_BYTES_MAX && !batch.is_empty())
            {
                self.seal(recipient, &mut batch, sends);
                bytes = 0;
            }
            recipient = Some(to);
            bytes += size;
            batch.push(message);
        }
        self.seal(recipient, &mut batch, sends);
    }

    fn seal(&self, to: Option<NodeId>, batch: &mut Vec<RaftMessage>, sends: &mut Vec<Envelope>) {
        let Some(to) = to else { return };
        if batch.is_empty() {
            return;
        }
        sends.push(self.envelope(to, Body::Raft(core::mem::take(batch))));
    }

    fn envelope(&self, to: NodeId, body: Body) -> Envelope {
        Envelope {
            group: self.config.group,
            cluster: self.cluster_id(),
            from: (self.config.id, self.config.incarnation),
            to,
            body,
            vitals: None,
        }
    }
}
