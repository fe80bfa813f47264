//! One scheduler node: the only match on [`Input`].
//!
//! A node holds what is agreed (`state`), how it comes to be agreed (`consensus`), and while it
//! leads, the volatile half that plans ([`Leader`]). Everything it does in a turn happens when the
//! turn ends: plan, propose, drain raft's Ready, apply, answer, emit (P1.2).

mod answers;
mod clocks;
pub mod config;
mod disk;
mod fitness;
pub mod io;
mod marks;
mod reads;
pub mod request;
mod snapshots;
mod start;
mod turn;
mod vitals;
mod waits;

use alloc::boxed::Box;
use alloc::string::String;

pub use config::{Addresses, NodeConfig};
use disk::Syncs;
pub use io::{DIVERGED, Effect, Input, Note, Unfit};
use marks::Marks;
use reads::{Question, Reads};
pub use request::*;
use snapshots::Snapshots;
pub use start::index_key;
use vitals::PeerVitals;
use waits::Waits;

use crate::consensus::{Consensus, Envelope, RoleChange, Turn};
use crate::id::{NodeId, SessionId, Ticket};
use crate::leader::admission::{Asked, Change};
use crate::leader::{Confirm, Leader};
use crate::machine::{Deadline, Machine, Outbox, When};
use crate::state::{Changes, State};
use crate::time::{Instant, Now};
use crate::worker::{LeaderFrame, WorkerFrame};

/// One scheduler node.
pub struct Node {
    config: NodeConfig,
    consensus: Consensus,
    state: State,
    /// Exists while this node leads.
    leader: Option<Box<Leader>>,
    /// The role that the node has acted on.
    role: RoleChange,
    reads: Reads,
    waits: Waits,
    snapshots: Snapshots,
    /// Not before this moment does this node say again where it is reached (P3.6).
    announce_at: Instant,
    /// What the others say of themselves.
    vitals: PeerVitals,
    /// Digests, this node's and the others' (P5.3).
    marks: Marks,
    /// Something was heard that the marks were not judged by.
    marks_heard: bool,
    /// Where this node's state was seen to be wrong: it serves nothing from there on.
    diverged: Option<u64>,
    /// Where voters were seen to differ without a majority: nothing is dispatched until one is seen
    /// to agree there or later.
    split: Option<u64>,
    /// Not before this moment does a leader let all members mark another index.
    ask_marks_at: Instant,
    /// How long the own disk takes (P3.9).
    syncs: Syncs,
    /// What is to be added to this node's wall clock before it stamps with it, in microseconds:
    /// zero while nothing proves the clock wrong (P6.2).
    clock_error: i64,
    /// Not before this moment does this node try again to hand leadership on.
    hand_on_at: Instant,
    /// Asked to stop leading and taking work.
    stopping: bool,
    /// Said `Halt`: nothing is stepped from there on.
    halted: bool,
    /// Why the node cannot start; said by the first step.
    failure: Option<String>,
    /// When the latest step was.
    now: Now,
    /// Scratch, kept for its allocations.
    changes: Changes,
    /// Scratch, kept for its allocations.
    turn: Turn,
}

impl Machine for Node {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Now, input: Input, out: &mut Outbox<Effect>) {
        if self.halted {
            return;
        }
        if let Some(reason) = self.failure.take() {
            return self.halt(reason, out);
        }
        self.now = now;
        if let Some(leader) = &mut self.leader {
            leader.notice(now);
        }
        match input {
            Input::Wake => self.consensus.wake(now),
            Input::Flush => self.flush(now, out),
            Input::Persisted { n } => {
                self.syncs.done(now.mono, n);
                self.consensus.persisted(now, n);
            }
            Input::Peer(envelope) => self.hear_peer(now, *envelope),
            Input::PeerUnreachable { to } => self.consensus.unreachable(to),
            Input::SnapshotSent { to, delivered } => self.consensus.snapshot_sent(to, delivered),
            Input::SnapshotSaved { index } => self.snapshot_saved(index, out),
            Input::Ask { ticket, request, forwarded: _ } => self.ask(now, ticket, request, out),
            Input::Abandon { ticket } => self.abandon(ticket),
            Input::Worker { session, frame } => self.hear(now, session, frame, out),
            Input::WorkerGone { session } => {
                if let Some(leader) = &mut self.leader {
                    leader.hang_up(now, session);
                }
            }
            Input::HistoryReady { epoch, through } => {
                let leader = self.leader.as_mut();
                let confirm =
                    leader.and_then(|it| it.history_ready(epoch, through, &self.state, out));
                self.confirm(now, confirm);
            }
            Input::HistoryStored { epoch, through } => {
                let leader = self.leader.as_mut();
                let confirm =
                    leader.and_then(|it| it.history_stored(epoch, through, &self.state, out));
                self.confirm(now, confirm);
            }
            Input::HistoryFailed => {
                if let Some(leader) = &mut self.leader {
                    leader.history_failed(now.mono);
                }
            }
            Input::Shutdown => self.shutdown(),
        }
    }

    fn next_deadline(&self) -> Option<Deadline> {
        if self.halted {
            return None;
        }
        let mono = |at, why| Deadline { at: When::Mono(at), why };
        let wishes = [
            Some(mono(self.consensus.next_deadline().unwrap_or(self.now.mono), "a raft tick")),
            self.leader_deadline(),
            self.reads.next().map(|at| mono(at, "a reader's patience")),
            self.snapshots.is_walking().then(|| mono(self.now.mono, "a snapshot's walk")),
        ];
        wishes.into_iter().flatten().reduce(|a, b| a.nearer(Some(b), self.now))
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn flush() -> Input {
        Input::Flush
    }
}

impl Node {
    /// The leader counts calendar time by the stamped clock, the host sleeps by its own.
    fn leader_deadline(&self) -> Option<Deadline> {
        let leader = self.leader.as_ref()?;
        let mut deadline = leader.next_deadline(self.stamped(self.now), &self.state)?;
        if let When::Wall(at) = &mut deadline.at {
            *at = at.plus_micros(-self.clock_error);
        }
        Some(deadline)
    }

    fn hear_peer(&mut self, now: Now, mut envelope: Envelope) {
        if let Some(vitals) = envelope.vitals.take()
            && self.consensus.hears(&envelope)
        {
            self.vitals.hear(now, envelope.from.0, &vitals);
            self.marks.hear(envelope.from.0, &vitals.marks);
            self.marks_heard = true;
        }
        self.consensus.step_peer(now, envelope);
    }

    /// What is agreed, as far as this node has applied it.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// How it comes to be agreed.
    pub const fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// Whether this node leads and has woken (P2.4).
    pub fn is_leading(&self) -> bool {
        self.leader.as_ref().is_some_and(|leader| leader.is_awake())
    }

    fn ask(&mut self, now: Now, ticket: Ticket, request: Request, out: &mut Outbox<Effect>) {
        if self.diverged.is_some() && request != Request::Cluster {
            let reply = Reply::Rejected(self.not_leader());
            return out.push(Effect::Answer { ticket, reply });
        }
        match request {
            Request::Cluster => {
                let reply = Reply::Cluster(Box::new(self.cluster_view()));
                out.push(Effect::Answer { ticket, reply });
            }
            Request::Task { stale: true, .. }
            | Request::Tasks { stale: true, .. }
            | Request::Attempts { stale: true, .. } => self.answer(now, ticket, request, out),
            Request::Task { .. }
            | Request::Tasks { .. }
            | Request::Attempts { .. }
            | Request::Wait { .. }
            | Request::Barrier => self.reads.ask(now.mono, Question::Ask(ticket, request)),
            Request::Submit(_)
            | Request::Resubmit(_)
            | Request::Cancel { .. }
            | Request::Claim { .. }
            | Request::Trigger { .. }
            | Request::Delete { .. }
            | Request::Follow { .. }
            | Request::Workers => self.ask_leader(now, ticket, request, out),
        }
    }

    fn ask_leader(&mut self, now: Now, ticket: Ticket, request: Request, out: &mut Outbox<Effect>) {
        if self.leader.is_none() {
            let reply = Reply::Rejected(self.not_leader());
            return out.push(Effect::Answer { ticket, reply });
        }
        if self.stopping {
            let reason = "this node is shutting down".into();
            let reply = Reply::Rejected(Rejection::Unavailable { reason });
            return out.push(Effect::Answer { ticket, reply });
        }
        if matches!(request, Request::Submit(_) | Request::Resubmit(_) | Request::Trigger { .. })
            && let Some(full) = self.pressure()
        {
            return out.push(Effect::Answer { ticket, reply: Reply::Rejected(full) });
        }
        let Some(leader) = &mut self.leader else { return };
        let asked = |id, change, past| Asked { ticket, id, change, past, confirmed: false };
        match request {
            Request::Submit(tasks) => leader.submit(ticket, (tasks, false), &self.state, out),
            Request::Resubmit(tasks) => leader.submit(ticket, (tasks, true), &self.state, out),
            Request::Cancel { id, run, request, retry } => {
                let change = Change::Cancel { run, request, retry };
                leader.change(asked(id, change, None), &self.state, out);
            }
            Request::Claim { request, content } => {
                leader.change(asked(request, Change::Claim { content }, None), &self.state, out);
            }
            Request::Trigger { id, wish, request, retry, past } => {
                let change = Change::Rerun { wish, request, retry };
                leader.change(asked(id, change, past), &self.state, out);
            }
            Request::Delete { id, cancel, past } => {
                leader.change(asked(id, Change::Delete { cancel }, past), &self.state, out);
            }
            Request::Workers => {
                let reply = leader.workers(now);
                out.push(Effect::Answer { ticket, reply });
            }
            Request::Follow { .. }
            | Request::Task { .. }
            | Request::Tasks { .. }
            | Request::Attempts { .. }
            | Request::Wait { .. }
            | Request::Cluster
            | Request::Barrier => self.reads.ask(now.mono, Question::Ask(ticket, request)),
        }
    }

    fn abandon(&mut self, ticket: Ticket) {
        self.reads.abandon(ticket);
        self.waits.abandon(ticket);
        if let Some(leader) = &mut self.leader {
            leader.abandon(ticket);
        }
    }

    fn hear(&mut self, now: Now, session: SessionId, frame: WorkerFrame, out: &mut Outbox<Effect>) {
        match &mut self.leader {
            Some(leader) if !self.stopping => {
                let confirm = leader.hear(now, session, frame, &self.state, out);
                self.confirm(now, confirm);
            }
            // P3.6: a follower says where the leader is, and that is all.
            Some(_) | None => {
                out.push(Effect::ToWorker { session, frame: self.not_leader_frame() });
                out.push(Effect::CloseSession { session });
            }
        }
    }

    /// Lets a ReadIndex round begun from here on confirm this leader.
    fn confirm(&mut self, now: Now, confirm: Option<Confirm>) {
        if let Some(confirm) = confirm {
            self.reads.ask(now.mono, Question::Confirm(confirm));
        }
    }

    fn shutdown(&mut self) {
        self.stopping = true;
        if self.leader.is_some() {
            self.consensus.transfer_leader(self.successor(self.now, Unfit::Clock));
        }
    }

    fn halt(&mut self, reason: String, out: &mut Outbox<Effect>) {
        self.halted = true;
        out.push(Effect::Halt { reason });
    }

    /// What a caller is told who needs the leader.
    fn not_leader(&self) -> Rejection {
        match self.leader_elsewhere() {
            Some(leader) => {
                let leader = self.address(leader).map(|address| (leader, address));
                Rejection::NotLeader { leader }
            }
            None => Rejection::NoLeader,
        }
    }

    fn not_leader_frame(&self) -> LeaderFrame {
        let leader = self.leader_elsewhere();
        LeaderFrame::NotLeader {
            leader: leader.and_then(|leader| Some((leader, self.address(leader)?))),
        }
    }

    fn leader_elsewhere(&self) -> Option<NodeId> {
        self.role.leader.filter(|leader| *leader != self.config.id)
    }

    /// A node's gRPC address: its own word when that is agreed, else what `--peer` says.
    fn address(&self, node: NodeId) -> Option<Box<str>> {
        if let Some((grpc, _)) = self.state.addresses(node) {
            return Some(grpc.into());
        }
        let peer = self.config.peers.iter().find(|(id, _)| *id == node);
        peer.map(|(_, address)| address.clone())
    }
}
