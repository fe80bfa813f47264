//! The way to the leader: which server is asked, when again, and which heartbeats are answered.
//!
//! Knows nothing of attempts. A connection that ends here says so with `Disconnect`; what an older
//! connection still says is recognised by its id and dropped.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::config::{
    BACKOFF_MAX, BACKOFF_MIN, BACKOFF_QUICK_MAX, CONNECT_WAIT, QUICK_TRIES, SILENCE_MAX,
    WELCOME_WAIT,
};
use super::io::{ConnectionId, Effect, Note};
use crate::id::SessionId;
use crate::machine::Outbox;
use crate::rng::Rng;
use crate::time::Instant;

/// Hints followed without a wait: the second one may be right when the first was stale.
const HOPS_MAX: u8 = 2;

/// The way to the leader.
#[derive(Debug)]
pub(super) struct Link {
    servers: Vec<Box<str>>,
    /// Which of `servers` is asked next, when there is no hint.
    next: usize,
    hint: Option<Box<str>>,
    /// The server that said nothing last: a frozen process still accepts connections, so another
    /// one is asked first.
    silent: Option<Box<str>>,
    /// Hints followed since the last wait.
    hops: u8,
    /// Tries without a Welcome since the last one.
    failures: u32,
    rng: Rng,
    connection: ConnectionId,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No connection until then.
    Waiting { until: Instant },
    /// Asked for.
    Connecting { server: Box<str>, until: Instant },
    /// The Hello is sent.
    Greeting { server: Box<str>, sent: Instant, until: Instant },
    /// Welcomed.
    Open(Session),
    /// For good.
    Closed,
}

/// A session that stands.
#[derive(Debug)]
struct Session {
    server: Box<str>,
    id: SessionId,
    /// The sending of the newest answered Hello or heartbeat.
    answered: Instant,
    every: Duration,
    next: Instant,
    /// Heartbeats without an answer and when they were sent, oldest first; a session ends long
    /// before there are many.
    unanswered: VecDeque<(u64, Instant)>,
}

impl Link {
    /// No connection yet; the first try is due at once.
    pub(super) const fn new(servers: Vec<Box<str>>, rng: Rng) -> Self {
        Self {
            servers,
            next: 0,
            hint: None,
            silent: None,
            hops: 0,
            failures: 0,
            rng,
            connection: ConnectionId(0),
            state: State::Waiting { until: Instant::from_micros(0) },
        }
    }

    /// Tells whether `connection` is the one in use.
    pub(super) fn is_current(&self, connection: ConnectionId) -> bool {
        self.connection == connection
            && !matches!(self.state, State::Waiting { .. } | State::Closed)
    }

    /// The session in use, if one stands.
    pub(super) const fn session(&self) -> Option<(ConnectionId, SessionId)> {
        match &self.state {
            State::Open(session) => Some((self.connection, session.id)),
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Greeting { .. }
            | State::Closed => None,
        }
    }

    /// The sending of the newest answered Hello or heartbeat of the session.
    pub(super) const fn answered(&self) -> Option<Instant> {
        match &self.state {
            State::Open(session) => Some(session.answered),
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Greeting { .. }
            | State::Closed => None,
        }
    }

    /// When time alone asks for something, and what.
    pub(super) fn due(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Waiting { until } => Some((*until, "try to connect")),
            State::Connecting { until, .. } => Some((*until, "the connection does not stand")),
            State::Greeting { until, .. } => Some((*until, "the hello is unanswered")),
            State::Open(session) => Some(match session.silent_at() {
                Some(at) if at <= session.next => (at, "heartbeats are unanswered"),
                Some(_) | None => (session.next, "send a heartbeat"),
            }),
            State::Closed => None,
        }
    }

    /// Gives up what takes too long and begins a try that is due.
    pub(super) fn tick(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        let overdue = match &self.state {
            State::Connecting { until, .. } => (now >= *until).then_some("no connection"),
            State::Greeting { until, .. } => (now >= *until).then_some("no welcome"),
            State::Open(session) => {
                session.silent_at().is_some_and(|at| now >= at).then_some("no answer")
            }
            State::Waiting { .. } | State::Closed => None,
        };
        if let Some(why) = overdue {
            self.leave(now, why, out);
        }
        if let State::Waiting { until } = self.state
            && now >= until
        {
            self.connection.0 += 1;
            let server = self.choose();
            out.push(Effect::Connect { connection: self.connection, server: server.clone() });
            self.state = State::Connecting { server, until: now + CONNECT_WAIT };
        }
    }

    /// The connection stands: true when a Hello is to be sent now.
    pub(super) fn connected(&mut self, now: Instant) -> bool {
        let State::Connecting { server, .. } = &mut self.state else { return false };
        let server = core::mem::take(server);
        self.state = State::Greeting { server, sent: now, until: now + WELCOME_WAIT };
        true
    }

    /// The Hello is accepted: when it was sent. `None` when there is no Hello to accept.
    pub(super) fn welcomed(
        &mut self,
        id: SessionId,
        every: Duration,
        out: &mut Outbox<Effect>,
    ) -> Option<Instant> {
        let State::Greeting { server, sent, .. } = &mut self.state else { return None };
        let (server, sent) = (core::mem::take(server), *sent);
        out.push(Effect::Note(Note::Joined { server: server.clone(), session: id }));
        (self.failures, self.hops) = (0, 0);
        self.state = State::Open(Session {
            server,
            id,
            answered: sent,
            every,
            next: sent + every,
            unanswered: VecDeque::new(),
        });
        Some(sent)
    }

    /// Whether a heartbeat is due.
    pub(super) fn heartbeat_due(&self, now: Instant) -> bool {
        matches!(&self.state, State::Open(session) if now >= session.next)
    }

    /// Heartbeat `seq` is sent.
    pub(super) fn heartbeat_sent(&mut self, now: Instant, seq: u64) {
        if let State::Open(session) = &mut self.state {
            session.next = now + session.every;
            session.unanswered.push_back((seq, now));
        }
    }

    /// Heartbeat `seq` is answered: when it was sent. `None` when it is not of this session, or a
    /// newer one was answered before.
    pub(super) fn renewed(&mut self, seq: u64) -> Option<Instant> {
        let State::Open(session) = &mut self.state else { return None };
        let place = session.unanswered.iter().position(|&(sent, _)| sent == seq)?;
        let (_, sent) = session.unanswered.drain(..=place).next_back()?;
        session.answered = sent;
        Some(sent)
    }

    /// The host says that the connection has ended.
    pub(super) fn disconnected(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        self.part("the connection ended", out);
        self.avoid();
        self.retry(now);
    }

    /// The worker ends the connection.
    pub(super) fn leave(&mut self, now: Instant, why: &'static str, out: &mut Outbox<Effect>) {
        out.push(Effect::Disconnect { connection: self.connection });
        self.part(why, out);
        self.avoid();
        self.retry(now);
    }

    /// The server of the connection that has ended is not the next one to be asked.
    fn avoid(&mut self) {
        self.silent = match &mut self.state {
            State::Connecting { server, .. } | State::Greeting { server, .. } => {
                Some(core::mem::take(server))
            }
            State::Open(session) => Some(core::mem::take(&mut session.server)),
            State::Waiting { .. } | State::Closed => None,
        };
    }

    /// The server does not lead, and perhaps knows who does.
    pub(super) fn redirected(
        &mut self,
        now: Instant,
        leader: Option<Box<str>>,
        out: &mut Outbox<Effect>,
    ) {
        out.push(Effect::Disconnect { connection: self.connection });
        self.part("the server does not lead", out);
        if leader.is_some() && self.hops < HOPS_MAX {
            self.hops += 1;
            self.state = State::Waiting { until: now };
        } else {
            self.hops = 0;
            self.retry(now);
        }
        self.hint = leader;
    }

    /// No further try.
    pub(super) fn close(&mut self, out: &mut Outbox<Effect>) {
        if !matches!(self.state, State::Waiting { .. } | State::Closed) {
            out.push(Effect::Disconnect { connection: self.connection });
        }
        self.state = State::Closed;
    }

    fn part(&self, why: &'static str, out: &mut Outbox<Effect>) {
        if let State::Open(session) = &self.state {
            out.push(Effect::Note(Note::Parted { server: session.server.clone(), why }));
        }
    }

    /// Schedules the next try: at once after a session, then ever later, with jitter, so that a
    /// thousand workers do not come back as one (B3).
    fn retry(&mut self, now: Instant) {
        let wait = match self.failures {
            0 => Duration::ZERO,
            n => {
                let bound = if n <= QUICK_TRIES { BACKOFF_QUICK_MAX } else { BACKOFF_MAX };
                let full = (BACKOFF_MIN * (1 << (n - 1).min(8))).min(bound);
                let micros = u64::try_from(full.as_micros()).unwrap_or(u64::MAX);
                Duration::from_micros(self.rng.range(micros / 2, micros))
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting { until: now + wait };
    }

    fn choose(&mut self) -> Box<str> {
        let silent = self.silent.take();
        // A follower that has not noticed yet names the leader that has gone silent.
        if let Some(hint) = self.hint.take().filter(|hint| Some(hint) != silent.as_ref()) {
            return hint;
        }
        let mut server = self.turn();
        if Some(&server) == silent.as_ref() {
            server = self.turn();
        }
        server
    }

    /// The server whose turn it is.
    fn turn(&mut self) -> Box<str> {
        let server = self.servers.get(self.next).cloned().unwrap_or_default();
        self.next = (self.next + 1) % self.servers.len().max(1);
        server
    }
}

impl Session {
    fn silent_at(&self) -> Option<Instant> {
        self.unanswered.front().map(|&(_, sent)| sent + SILENCE_MAX)
    }
}
