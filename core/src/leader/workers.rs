//! What workers say (P7.2, P7.3, P7.5): Hellos and heartbeats wait for a ReadIndex round begun
//! after their receipt, reports become commands, live output goes to its readers.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::Leader;
use super::sessions::Sessions;
use crate::id::{InstanceId, SessionId, Token};
use crate::machine::Outbox;
use crate::node::io::{Effect, Note};
use crate::state::State;
use crate::time::{Instant, Now};
use crate::worker::{LeaderFrame, Report, WorkerFrame};

/// An instance without a session and without attempts is forgotten after this: long enough for
/// any reconnection, short enough that restarts of workers do not fill the registry.
const RETIRE_AFTER: Duration = Duration::from_secs(300);

/// What only a confirmed leader may answer a worker (P7.3), or judge about history (P9.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// A new session.
    Hello(SessionId),
    /// A renewal.
    Heartbeat {
        /// Whose.
        session: SessionId,
        /// Its number.
        seq: u64,
        /// What the worker holds.
        tokens: Vec<Token>,
    },
    /// History's cursor stands above the node's changes.
    Cursor {
        /// The database's epoch.
        epoch: u64,
        /// The last change that it holds.
        through: u64,
    },
}

/// Instances on their way into and out of replicated state.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// To be registered by the next plan.
    pub(super) arriving: Vec<InstanceId>,
    /// Since when an instance has no session.
    idle: BTreeMap<InstanceId, Instant>,
    /// When to look at `idle` next; perhaps early.
    look: Option<Instant>,
}

impl Registry {
    /// Instances that state holds and that have no session here.
    pub(super) fn wake(&mut self, now: Instant, state: &State, sessions: &Sessions) {
        for (instance, ..) in state.instances() {
            if sessions.of(instance).is_none() {
                self.left(now, instance);
            }
        }
    }

    /// When to look for instances to retire.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.look
    }

    /// Takes the instances that nothing refers to any more.
    pub(super) fn retiring(&mut self, now: Instant, sessions: &Sessions) -> Vec<InstanceId> {
        if self.look.is_none_or(|look| look > now) {
            return Vec::new();
        }
        let mut retiring = Vec::new();
        self.idle.retain(|instance, since| {
            if sessions.of(*instance).is_some() {
                return false;
            }
            let load = sessions.load(*instance);
            let due = *since + RETIRE_AFTER <= now && load.running == 0 && load.promised == 0;
            if due {
                retiring.push(*instance);
            }
            !due
        });
        self.look = (!self.idle.is_empty()).then_some(now + RETIRE_AFTER);
        retiring
    }

    fn left(&mut self, now: Instant, instance: InstanceId) {
        self.idle.insert(instance, now);
        self.look.get_or_insert(now + RETIRE_AFTER);
    }
}

impl Leader {
    /// Takes a frame in. Returns what must be confirmed before it is answered.
    pub fn hear(
        &mut self,
        now: Now,
        id: SessionId,
        frame: WorkerFrame,
        state: &State,
        out: &mut Outbox<Effect>,
    ) -> Option<Confirm> {
        if let WorkerFrame::Hello(hello) = frame {
            if self.sessions.session(id).is_some() {
                // P7.2, P7.3: a session is of one instance, and what confirms its Hello began
                // after that one. Who introduces itself twice is not a worker of ours.
                self.hang_up(now, id);
                out.push(Effect::CloseSession { session: id });
                return None;
            }
            let instance = hello.instance;
            if !self.sessions.hello(now.mono, id, hello, out) {
                return None;
            }
            if state.instance(instance).is_none() {
                self.registry.arriving.push(instance);
            }
            return Some(Confirm::Hello(id));
        }
        let session = self.sessions.session_mut(id)?;
        session.heard = now.mono;
        match frame {
            WorkerFrame::Hello(_) | WorkerFrame::Started(_) => None,
            WorkerFrame::Heartbeat { seq, tokens } => {
                Some(Confirm::Heartbeat { session: id, seq, tokens })
            }
            WorkerFrame::Reports(reports) => {
                self.reported(id, reports, out);
                None
            }
            WorkerFrame::Output { token, offset, data, end: _ } => {
                let instance = session.hello.instance;
                let owns = |lease: &super::leases::Lease| lease.instance == instance;
                if self.leases.lease(token).is_some_and(owns) {
                    self.follow.output(token, offset, &data, out);
                }
                None
            }
            WorkerFrame::Draining => {
                session.hello.draining = true;
                None
            }
        }
    }

    /// A worker's connection ended.
    pub fn hang_up(&mut self, now: Now, id: SessionId) {
        if let Some(session) = self.sessions.session(id) {
            let instance = session.hello.instance;
            self.sessions.gone(id);
            self.registry.left(now.mono, instance);
        }
    }

    /// A ReadIndex round begun after the question has ended, and its index is applied: this node
    /// led when the worker asked, and knows everything that was committed then (P7.3).
    pub fn confirmed(
        &mut self,
        now: Now,
        confirm: Confirm,
        state: &State,
        out: &mut Outbox<Effect>,
    ) {
        match confirm {
            Confirm::Hello(id) => {
                if let Some(session) = self.sessions.session_mut(id) {
                    session.confirmed = true;
                    self.welcome(now.mono, id, state);
                }
            }
            Confirm::Heartbeat { session, seq, tokens } => {
                self.renew(now.mono, session, seq, &tokens, state);
            }
            Confirm::Cursor { epoch, through } => {
                if let Some(projection) = &mut self.projection {
                    projection.confirmed(epoch, through, out);
                }
            }
        }
    }

    /// Accepts a session once it is confirmed and its instance is registered.
    pub(super) fn welcome(&mut self, now: Instant, id: SessionId, state: &State) {
        let Some(session) = self.sessions.session_mut(id) else { return };
        let instance = session.hello.instance;
        if session.active || !session.confirmed || state.instance(instance).is_none() {
            return;
        }
        session.active = true;
        let held = core::mem::take(&mut session.hello.tokens);
        let extends = self.extend(now, instance, &held);
        let frame = LeaderFrame::Welcome {
            session: id,
            lease_ttl_ms: millis(self.leases.ttl()),
            heartbeat_ms: millis(self.terms.heartbeat),
            extends,
        };
        self.sessions.send(id, frame);
        self.resend(now, instance, &held, Duration::ZERO, state);
    }

    fn renew(&mut self, now: Instant, id: SessionId, seq: u64, tokens: &[Token], state: &State) {
        let Some(session) = self.sessions.session(id) else { return };
        if !session.active {
            return;
        }
        let instance = session.hello.instance;
        let extends = self.extend(now, instance, tokens);
        let missing = self.sessions.load(instance).running as usize > extends.len();
        self.sessions.send(id, LeaderFrame::Renewed { seq, extends });
        if missing {
            self.resend(now, instance, tokens, self.terms.heartbeat, state);
        }
    }

    fn extend(&mut self, now: Instant, instance: InstanceId, tokens: &[Token]) -> Vec<Token> {
        let leases = &mut self.leases;
        tokens.iter().copied().filter(|token| leases.extend(now, *token, instance)).collect()
    }

    /// Sends the instance's open attempts that it does not name, unless they were sent within
    /// `grace`. Nothing runs twice by it: a worker starts a token at most once (P7.5).
    fn resend(
        &mut self,
        now: Instant,
        instance: InstanceId,
        held: &[Token],
        grace: Duration,
        state: &State,
    ) {
        let held: BTreeSet<Token> = held.iter().copied().collect();
        let own: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.instance == instance && !lease.is_over(now))
            .map(|(token, lease)| (token, lease.target, lease.sent))
            .collect();
        for (token, target, sent) in own {
            if !held.contains(&token) && sent + grace <= now {
                // Upholds S11: the worker counts its fence from the question that this answers,
                // so the lease lasts as long from here (P7.3).
                self.leases.extend(now, token, instance);
                self.send_attempt(now, state, token, target);
            }
            self.resend_signs(token, grace == Duration::ZERO, state);
        }
    }

    /// Says again, after a reconnection, what goes with an attempt: its stop and its readers.
    fn resend_signs(&mut self, token: Token, reconnected: bool, state: &State) {
        let Some(attempt) = state.open_attempt(token).filter(|_| reconnected) else { return };
        let Some(session) = self.sessions.of(attempt.instance) else { return };
        if let Some(why) = attempt.stop {
            self.sessions.send(session, LeaderFrame::Stop { token, why });
        }
        if let Some(offset) = self.follow.begin(token) {
            self.sessions.send(session, LeaderFrame::Follow { token, offset });
        }
    }

    fn reported(&mut self, id: SessionId, reports: Vec<Report>, out: &mut Outbox<Effect>) {
        let Some(session) = self.sessions.session(id) else { return };
        // Before the Welcome nothing of this worker may be judged: this node may be deposed.
        if !session.active {
            return;
        }
        let instance = session.hello.instance;
        for report in reports {
            let token = report.token;
            match self.leases.lease_mut(token).filter(|lease| lease.instance == instance) {
                Some(lease) if lease.closing => {}
                Some(lease) => {
                    lease.closing = true;
                    self.reports.push((id, report));
                }
                // Upholds S12: the lease was lost, or the report is a repeat; it is answered and
                // changes nothing (P7.8).
                None => {
                    self.sessions.send_ack(id, token);
                    out.push(Effect::Note(Note::Fenced { token }));
                }
            }
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
