//! One worker: its slots, its unacknowledged results, and how it fences itself.
//!
//! `link` finds the leader and counts heartbeats; `attempts` holds what runs and what is not
//! acknowledged; this file is the only place where the two meet. Handlers themselves are the
//! host's.

pub mod config;
pub mod frame;
pub mod io;

mod attempt;
mod attempts;
mod link;
mod live;
#[cfg(test)]
mod tests;
mod tokens;

pub use config::WorkerConfig;
pub use frame::{Assignment, Hello, LeaderFrame, Report, WorkerFrame};
pub use io::{ConnectionId, Effect, Ending, Farewell, Input, Note, Signal};

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use attempt::Fence;
use attempts::{Arrival, Attempts};
use config::{FAREWELL_WAIT, OUTPUT_PERIOD};
use link::Link;

use crate::id::{SessionId, Token};
use crate::limits;
use crate::machine::{Deadline, Machine, Outbox, When};
use crate::rng::Rng;
use crate::spec::AttemptOutcome;
use crate::time::{Instant, Now};

/// The machine of one worker process.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    link: Link,
    attempts: Attempts,
    /// The newest heartbeat's number.
    seq: u64,
    /// Not before: the next piece of live output.
    output_at: Instant,
    drain: Option<Drain>,
    /// The Hello of this connection said that the worker drains.
    said_draining: bool,
    refused: Option<Box<str>>,
    done: bool,
}

/// A shutdown on its way.
#[derive(Debug)]
struct Drain {
    /// Running attempts are interrupted then.
    by: Instant,
    interrupted: bool,
    /// The heartbeat sent behind `Draining`: its answer says that the leader has read that.
    marker: Option<u64>,
    /// The leader opens nothing further here.
    heard: bool,
    /// Nothing runs any more: how long to wait for acknowledgements.
    farewell: Option<Instant>,
}

impl Worker {
    /// A worker that has not connected yet.
    pub fn new(config: WorkerConfig) -> Self {
        let rng = Rng::new(config.instance.0).fork("reconnect");
        Self {
            link: Link::new(config.servers.clone(), rng),
            attempts: Attempts::new(config.slots),
            config,
            seq: 0,
            output_at: Instant::default(),
            drain: None,
            said_draining: false,
            refused: None,
            done: false,
        }
    }

    /// How many handlers run.
    pub const fn running(&self) -> usize {
        self.attempts.running()
    }

    /// Every attempt that is held, ascending.
    pub fn tokens(&self) -> Vec<Token> {
        self.attempts.tokens()
    }

    /// Tells whether a session stands.
    pub const fn is_joined(&self) -> bool {
        self.link.session().is_some()
    }

    /// Tells whether `Done` was emitted.
    pub const fn is_done(&self) -> bool {
        self.done
    }

    fn greet(&mut self, now: Now, out: &mut Outbox<Effect>, connection: ConnectionId) {
        if !self.link.connected(now.mono) {
            return;
        }
        self.said_draining = self.drain.is_some();
        let hello = Hello {
            name: self.config.name.clone(),
            instance: self.config.instance,
            slots: self.config.slots,
            kinds: self.config.kinds.clone(),
            queues: self.config.queues.clone(),
            labels: self.config.labels.clone(),
            tokens: self.attempts.tokens(),
            draining: self.said_draining,
        };
        let frame = WorkerFrame::Hello(hello);
        out.push(Effect::Send { connection, session: None, frame });
    }

    fn hear(&mut self, now: Now, frame: LeaderFrame, out: &mut Outbox<Effect>) {
        match frame {
            LeaderFrame::Welcome { session, lease_ttl_ms, heartbeat_ms, extends } => {
                let fence = Fence::of_ttl(lease_ttl_ms);
                self.join(now, (session, fence, heartbeat_ms), extends, out);
            }
            LeaderFrame::NotLeader { leader } => {
                self.attempts.parted();
                self.link.redirected(now.mono, leader.map(|(_, address)| address), out);
            }
            LeaderFrame::Refused { reason } => {
                self.link.close(out);
                self.attempts.parted();
                self.refused = Some(reason);
                self.attempts.stop_all(
                    AttemptOutcome::Interrupted,
                    now.mono + limits::STOP_GRACE,
                    out,
                );
            }
            frame if self.link.session().is_none() => {
                drop(frame);
                self.leave(now, "a frame before the welcome", out);
            }
            LeaderFrame::Open(list) => self.open(now, list, out),
            LeaderFrame::Renewed { seq, extends } => {
                if let Some(sent) = self.link.renewed(seq) {
                    self.attempts.extend(now.mono, sent, seq, extends, out);
                    if let Some(drain) = &mut self.drain {
                        drain.heard |= drain.marker.is_some_and(|marker| seq >= marker);
                    }
                }
            }
            LeaderFrame::Stop { token, why } => self.attempts.stop(now.mono, token, why, out),
            LeaderFrame::Acknowledged(ranges) => self.attempts.acknowledged(&ranges),
            LeaderFrame::Follow { token, offset } => self.attempts.follow(token, offset),
            LeaderFrame::Unfollow { token } => self.attempts.unfollow(token),
        }
    }

    fn join(
        &mut self,
        now: Now,
        (session, fence, heartbeat_ms): (SessionId, Fence, u64),
        extends: Vec<Token>,
        out: &mut Outbox<Effect>,
    ) {
        // A leader's slip may not silence the worker nor make it flood.
        let every = Duration::from_millis(heartbeat_ms.max(100)).min(limits::LEASE_HEARTBEAT);
        let Some(sent) = self.link.welcomed(session, every, out) else {
            return self.leave(now, "a second welcome", out);
        };
        // The Hello named everything that is held: nothing is opened between it and the Welcome.
        self.attempts.extend(now.mono, sent, u64::MAX, extends, out);
        self.attempts.joined(fence);
        if let Some(drain) = &mut self.drain {
            drain.marker = None;
            drain.heard |= self.said_draining;
        }
    }

    fn open(&mut self, now: Now, list: Vec<Assignment>, out: &mut Outbox<Effect>) {
        let Some(lease_from) = self.link.answered() else { return };
        if self.attempts.len() + list.len() > limits::WORKER_HELD_MAX {
            return self.leave(now, "the leader opens more than can be held", out);
        }
        // The leader's lease of a new attempt begins after it answered the newest answered
        // heartbeat, since frames arrive in order; so counting from that one's sending ends first.
        let draining = self.drain.is_some();
        let arrival = Arrival { lease_from, named_from: self.seq + 1, draining };
        for assignment in list {
            self.attempts.open(now, assignment, arrival, out);
        }
    }

    fn leave(&mut self, now: Now, why: &'static str, out: &mut Outbox<Effect>) {
        self.attempts.parted();
        self.link.leave(now.mono, why, out);
    }

    fn begin_drain(&mut self, now: Instant, within: Duration) {
        let by = now + within;
        match &mut self.drain {
            Some(drain) => drain.by = drain.by.min(by),
            None => {
                self.drain = Some(Drain {
                    by,
                    interrupted: false,
                    marker: None,
                    heard: false,
                    farewell: None,
                });
            }
        }
    }

    /// What time alone asks for outside of attempts.
    fn tick(&mut self, now: Now, out: &mut Outbox<Effect>) {
        let joined = self.is_joined();
        self.link.tick(now.mono, out);
        if joined && !self.is_joined() {
            self.attempts.parted();
        }
        if let Some(drain) = &mut self.drain
            && now.mono >= drain.by
            && !drain.interrupted
        {
            drain.interrupted = true;
            let kill_at = now.mono + limits::STOP_GRACE;
            self.attempts.stop_all(AttemptOutcome::Interrupted, kill_at, out);
        }
    }

    fn flush_frames(&mut self, now: Now, out: &mut Outbox<Effect>) {
        let Some((connection, session)) = self.link.session() else { return };
        let mut send = |frame| {
            out.push(Effect::Send { connection, session: Some(session), frame });
        };
        let mut beat = self.link.heartbeat_due(now.mono);
        if let Some(drain) = &mut self.drain
            && !drain.heard
            && drain.marker.is_none()
        {
            send(WorkerFrame::Draining);
            drain.marker = Some(self.seq + 1);
            beat = true;
        }
        if let Some(started) = self.attempts.take_started() {
            send(started);
        }
        let paced = now.mono >= self.output_at && self.attempts.is_owing();
        if paced {
            self.output_at = now.mono + OUTPUT_PERIOD;
        }
        self.attempts.take_output(paced, &mut send);
        self.attempts.take_reports(&mut send);
        if beat {
            self.seq += 1;
            send(WorkerFrame::Heartbeat { seq: self.seq, tokens: self.attempts.tokens() });
            self.link.heartbeat_sent(now.mono, self.seq);
        }
    }

    fn finish(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        if self.attempts.running() > 0 {
            return;
        }
        let results = self.attempts.len();
        let farewell = if let Some(reason) = self.refused.take() {
            Some(Farewell::Refused { reason })
        } else if let Some(drain) = &mut self.drain {
            let until = *drain.farewell.get_or_insert(now + FAREWELL_WAIT);
            let unheard = self.link.session().is_some() && !drain.heard;
            match results {
                0 if !unheard || now >= until => Some(Farewell::Drained),
                0 => None,
                results => (now >= until).then_some(Farewell::Unacknowledged { results }),
            }
        } else {
            None
        };
        if let Some(farewell) = farewell {
            self.link.close(out);
            self.done = true;
            out.push(Effect::Done(farewell));
        }
    }
}

impl Machine for Worker {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Now, input: Input, out: &mut Outbox<Effect>) {
        if self.done {
            return;
        }
        // Whatever arrives, time comes first: after a pause the lease is over before the frame
        // that would have extended it is read.
        self.attempts.expire(now.mono, out);
        match input {
            Input::Wake => self.tick(now, out),
            Input::Flush => {
                self.tick(now, out);
                self.attempts.guard(out);
                self.flush_frames(now, out);
                self.finish(now.mono, out);
            }
            Input::Connected { connection } => {
                if self.link.is_current(connection) {
                    self.greet(now, out, connection);
                }
            }
            Input::Disconnected { connection } => {
                if self.link.is_current(connection) {
                    self.attempts.parted();
                    self.link.disconnected(now.mono, out);
                }
            }
            Input::Frame { connection, frame } => {
                if self.link.is_current(connection) {
                    self.hear(now, frame, out);
                }
            }
            Input::Started { token } => self.attempts.started(now.wall, token),
            Input::Output { token, data } => self.attempts.output(token, &data),
            Input::Ended { token, ending } => self.attempts.ended(now.wall, token, ending),
            Input::Drain { within } => self.begin_drain(now.mono, within),
        }
    }

    fn next_deadline(&self) -> Option<Deadline> {
        if self.done {
            return None;
        }
        let attempts = self.attempts.next_due().map(|at| (at, "stop a handler"));
        let output = (self.attempts.is_owing() && self.is_joined())
            .then_some((self.output_at, "send live output"));
        let drain = self.drain.as_ref().and_then(|drain| match drain.farewell {
            Some(at) => Some((at, "results stay unacknowledged")),
            None if drain.interrupted => None,
            None => Some((drain.by, "the drain has taken too long")),
        });
        [self.link.due(), attempts, output, drain]
            .into_iter()
            .flatten()
            .min()
            .map(|(at, why)| Deadline { at: When::Mono(at), why })
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn flush() -> Input {
        Input::Flush
    }
}
