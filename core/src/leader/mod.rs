//! What only the leader does: admission, firing, dispatch, leases, sessions, history.
//!
//! All of it is volatile. It exists while its node leads, wakes when the first entry of its own
//! term is applied (P2.4), and is dropped whole at step-down; losing it costs time, never truth.
//! It proposes and never changes agreed state: that happens in `State::apply` alone.

pub mod admission;
pub mod calls;
mod change;
pub mod dispatch;
pub mod draft;
pub mod firing;
pub mod follow;
pub mod leases;
mod plan;
pub mod projection;
pub mod sessions;
mod settle;
pub mod stamp;
#[cfg(test)]
mod tests;
mod workers;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use admission::Admission;
use draft::{Draft, Drafts, Origin};
use firing::Firing;
use follow::Follow;
use leases::Leases;
use projection::{Heard, Projection};
use sessions::Sessions;
use stamp::Stamp;
use workers::Registry;

use crate::id::{ClusterId, InstanceId, NodeId, RecordRef, SessionId, Ticket, Token};
use crate::limits;
use crate::machine::{Deadline, Outbox, When};
use crate::node::io::{Effect, Note};
use crate::node::request::{Rejection, Reply};
use crate::state::State;
use crate::time::{Instant, Now, Timestamp};
use crate::worker::Report;

pub use workers::Confirm;

/// A gap between turns above this means that the process was stopped (P7.8).
const GAP: Duration = Duration::from_millis(5 * limits::TICK.as_millis() as u64);
/// After `apply` refused a plan for a reason that planning again would not cure.
const HOLD: Duration = Duration::from_millis(100);

/// What a leader is told about its node.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// Where it is reached: gRPC and HTTP.
    pub addresses: (Box<str>, Box<str>),
    /// How long a lease lasts.
    pub lease_ttl: Duration,
    /// How often workers renew.
    pub heartbeat: Duration,
    /// The feature level of its entries (P5.1).
    pub level: u32,
    /// Proposed and not yet applied bytes (P8.4).
    pub inflight_bytes_max: usize,
    /// How much may wait for history (P9.5).
    pub outbox_bytes_max: u64,
    /// Ended tasks and runs that stay in memory when there is no history (P9.5).
    pub ended_kept: u64,
}

/// One leadership.
#[derive(Debug)]
pub struct Leader {
    terms: Terms,
    term: u64,
    /// Nothing is planned until then (P2.4).
    awake: bool,
    stamp: Stamp,
    drafts: Drafts,
    /// Complete drafts, in the order to be proposed.
    ready: VecDeque<Draft>,
    ready_bytes: usize,
    /// Proposed entries that are not applied yet, in the log's order.
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// Commands in flight of the one planning entry (P2.3).
    planning: u32,
    /// Commands in flight that may make a run ready with no slot promised to it (P2.2).
    loose: u32,
    /// Voters differ, and nobody knows who is right: no planning entry (P5.3).
    still: bool,
    /// No planning before this moment.
    hold_until: Option<Instant>,
    admission: Admission,
    sessions: Sessions,
    registry: Registry,
    leases: Leases,
    reports: Vec<(SessionId, Report)>,
    firing: Firing,
    projection: Option<Projection>,
    /// What history has stored, to be told to the log.
    stored: Vec<(u64, u64)>,
    /// Up to where that was proposed.
    stored_through: u64,
    /// Where nodes say that they are reached, to be agreed (P3.6).
    announced: BTreeMap<NodeId, (Box<str>, Box<str>)>,
    follow: Follow,
    last_turn: Instant,
}

/// A proposed entry.
#[derive(Debug)]
struct InFlight {
    term: u64,
    index: u64,
    bytes: usize,
    at: Timestamp,
    origins: Vec<Origin>,
}

impl Leader {
    /// A leadership that has not woken.
    pub fn new(terms: Terms, term: u64, now: Now) -> Self {
        let leases = Leases::new(terms.lease_ttl);
        Self {
            drafts: Drafts::new(terms.level),
            terms,
            term,
            awake: false,
            stamp: Stamp::new(now.wall, now),
            ready: VecDeque::new(),
            ready_bytes: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            planning: 0,
            loose: 0,
            still: false,
            hold_until: None,
            admission: Admission::default(),
            sessions: Sessions::default(),
            registry: Registry::default(),
            leases,
            reports: Vec::new(),
            firing: Firing::default(),
            projection: None,
            stored: Vec::new(),
            stored_through: 0,
            announced: BTreeMap::new(),
            follow: Follow::default(),
            last_turn: now.mono,
        }
    }

    /// The term that it leads.
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// Whether the first entry of its own term is applied.
    pub const fn is_awake(&self) -> bool {
        self.awake
    }

    /// The first entry of its own term is applied: state holds all that was ever committed.
    pub fn wake(&mut self, now: Now, state: &State, out: &mut Outbox<Effect>) {
        self.awake = true;
        self.stamp = Stamp::new(state.at(), now);
        for attempt in state.open_attempts() {
            // P6.4: a run timeout goes on where replicated time left it.
            let spent = state.at().since(attempt.opened_at);
            let left = Duration::from_millis(attempt.run_timeout_ms).saturating_sub(spent);
            // P7.3: a full TTL from waking outlasts every fence that an earlier leader set.
            let (token, target) = (attempt.token, attempt.target);
            self.leases.start(now.mono, token, target, attempt.instance, left);
            if attempt.stop.is_some() {
                self.leases.stop(now.mono, token);
            }
            self.sessions.opened(attempt.instance);
        }
        self.registry.wake(now.mono, state, &self.sessions);
        let (grpc, http) = self.terms.addresses.clone();
        self.announced(self.terms.node, grpc, http);
        self.projection = Some(Projection::open(self.terms.cluster, out));
        out.push(Effect::Note(Note::Leading { term: self.term }));
    }

    /// A node said where it is reached; it repeats that until it is agreed (P3.6).
    pub fn announced(&mut self, node: NodeId, grpc: Box<str>, http: Box<str>) {
        let fits = grpc.len().max(http.len()) <= limits::ADDRESS_BYTES_MAX;
        if fits && !grpc.is_empty() {
            self.announced.insert(node, (grpc, http));
        }
    }

    /// Notices time: a long gap since the last turn means that this process was stopped, and
    /// that workers could not be heard (P7.8).
    pub fn notice(&mut self, now: Now) {
        let gap = now.mono.since(self.last_turn);
        self.last_turn = now.mono;
        if gap > GAP {
            self.leases.add_gap(gap);
        }
    }

    /// While voters differ and nobody knows who is right, this leader decides nothing of its own
    /// (P5.3): it starts and fires nothing, and ends no lease and no run by its timeout, since whom
    /// it would end them for is what is in doubt. Workers go on by what they were told and the
    /// clock of their own; what they and callers say is taken. What was left is due at once when a
    /// majority agrees.
    pub const fn stand_still(&mut self, still: bool) {
        self.still = still;
    }

    /// Ends a turn: says to workers what there is to say.
    pub fn end_turn(&mut self, now: Now, state: &State, out: &mut Outbox<Effect>) {
        if let Some(projection) = &mut self.projection {
            projection.offer(now.mono, state, out);
        }
        self.sessions.flush(out);
    }

    /// The bytes that are to be proposed next, if any.
    pub fn next_proposal(&self) -> Option<Bytes> {
        self.ready.front().map(|draft| draft.data.clone())
    }

    /// Those bytes became an entry.
    pub fn proposed(&mut self, term: u64, index: u64) {
        let Some(Draft { data, origins, at }) = self.ready.pop_front() else { return };
        let bytes = data.len();
        self.ready_bytes -= bytes;
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(InFlight { term, index, bytes, at, origins });
    }

    /// The history database is ready. Returns what must be confirmed before it is used.
    pub fn history_ready(
        &mut self,
        epoch: u64,
        through: u64,
        state: &State,
        out: &mut Outbox<Effect>,
    ) -> Option<Confirm> {
        let heard = self.projection.as_mut()?.ready(epoch, through, state, out);
        self.heard(heard)
    }

    /// A history transaction committed. Returns what must be confirmed before the next one.
    pub fn history_stored(
        &mut self,
        epoch: u64,
        through: u64,
        state: &State,
        out: &mut Outbox<Effect>,
    ) -> Option<Confirm> {
        let heard = self.projection.as_mut()?.stored(epoch, through, state, out);
        self.heard(heard)
    }

    fn heard(&mut self, heard: Heard) -> Option<Confirm> {
        match heard {
            Heard::Nothing => None,
            Heard::Stored { epoch, through } => {
                self.stored.push((epoch, through));
                None
            }
            Heard::Confirm { epoch, through } => Some(Confirm::Cursor { epoch, through }),
        }
    }

    /// The history database failed.
    pub fn history_failed(&mut self, now: Instant) {
        if let Some(projection) = &mut self.projection {
            projection.failed(now);
        }
    }

    /// When the leader must be woken although nothing arrives.
    pub fn next_deadline(&self, now: Now, state: &State) -> Option<Deadline> {
        if !self.awake {
            return None;
        }
        let mono = |at: Option<Instant>, why| at.map(|at| Deadline { at: When::Mono(at), why });
        let wishes = [
            mono(self.projection.as_ref().and_then(Projection::next), "a history batch"),
            mono(self.registry.next(), "an instance to retire"),
            self.planning_deadline(now, state),
        ];
        wishes.into_iter().flatten().reduce(|a, b| a.nearer(Some(b), now))
    }

    /// Leadership has ended: everybody who waits is told, and nothing is kept. `not_done` is the
    /// answer where certainly nothing was done.
    pub fn step_down(
        self,
        not_done: &Rejection,
        not_leader: &crate::worker::LeaderFrame,
        out: &mut Outbox<Effect>,
    ) {
        let mut answer = |ticket: Ticket, why: Rejection| {
            out.push(Effect::Answer { ticket, reply: Reply::Rejected(why) });
        };
        // P3.6: what was proposed and is not known to be lost has an unknown outcome.
        for origin in self.in_flight.into_iter().flat_map(|entry| entry.origins) {
            if let Some(ticket) = origin.ticket() {
                answer(ticket, Rejection::OutcomeUnknown);
            }
        }
        for origin in self.ready.into_iter().flat_map(|draft| draft.origins) {
            if let Some(ticket) = origin.ticket() {
                answer(ticket, not_done.clone());
            }
        }
        for (ticket, why) in self.admission.drop_all(not_done) {
            answer(ticket, why);
        }
        for ticket in self.follow.into_readers() {
            answer(ticket, not_done.clone());
        }
        for (session, _) in self.sessions.iter() {
            out.push(Effect::ToWorker { session, frame: not_leader.clone() });
            out.push(Effect::CloseSession { session });
        }
        if self.awake {
            out.push(Effect::CloseHistory);
        }
    }

    /// When the next planning entry is due. None while one is on its way, or waits to be taken:
    /// its apply, or raft's next tick, is a turn of its own (B4).
    fn planning_deadline(&self, now: Now, state: &State) -> Option<Deadline> {
        if self.planning > 0 || !self.ready.is_empty() || self.still {
            return None;
        }
        if let Some(until) = self.hold_until {
            return Some(Deadline { at: When::Mono(until), why: "planning after a refusal" });
        }
        let lease = self
            .leases
            .next()
            .map(|at| Deadline { at: When::Mono(at), why: "a lease or a run timeout" });
        // An entry on its way wakes what is due by itself.
        let due =
            state.next_due().filter(|due| *due > self.stamp.read(now) || self.in_flight.is_empty());
        let due = due.map(|due| Deadline {
            at: self.stamp.reaches(due, now),
            why: "a timer or a fire time",
        });
        match (lease, due) {
            (Some(lease), due) => Some(lease.nearer(due, now)),
            (None, due) => due,
        }
    }

    fn promise(&mut self, instance: Option<InstanceId>) {
        if let Some(instance) = instance {
            self.sessions.promise(instance);
        }
    }

    /// Sends an open attempt to its worker, if it has a session.
    fn send_attempt(&mut self, now: Instant, state: &State, token: Token, target: RecordRef) {
        let Some(lease) = self.leases.lease_mut(token) else { return };
        lease.sent = now;
        let Some(session) = self.sessions.of(lease.instance) else { return };
        let active = self.sessions.session(session).is_some_and(|session| session.active);
        if active && let Some(assignment) = state.assignment(target, token) {
            self.sessions.send_open(session, assignment);
        }
    }
}
