//! One caller's call: finds the leader, repeats with the same id, and tells "nothing was done"
//! from "the outcome is unknown".
//!
//! The request is opaque here: the host sends it, keeps the reply, and says how a sending ended.
//! The command line and the simulators drive the same machine.

pub mod io;
#[cfg(test)]
mod tests;

pub use io::{CallConfig, Effect, Input, Outcome, Repeat, TryId, Verdict};

use alloc::boxed::Box;
use core::time::Duration;

use crate::machine::{Deadline, Machine, Outbox, When};
use crate::rng::Rng;
use crate::time::{Instant, Now};

/// The first wait between two rounds over the servers.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait between two tries: a new leader is found within it.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The longest wait that a busy node may ask for.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);
/// Hints followed without a wait.
const HOPS_MAX: u8 = 2;

/// The machine of one call.
#[derive(Debug)]
pub struct Client {
    config: CallConfig,
    rng: Rng,
    /// When patience ends; known from the first step on.
    until: Option<Instant>,
    state: State,
    attempt: TryId,
    /// Which of the servers is asked next, when there is no hint.
    next: usize,
    hint: Option<Box<str>>,
    hops: u8,
    /// Waits so far, for the backoff.
    waits: u32,
    /// Sendings in a row that did not reach their node.
    unreached: u32,
    /// A sending may have been done.
    perhaps_done: bool,
    /// The newest word of a node was that it is busy.
    busy: bool,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Sent { server: Box<str>, until: Instant },
    Done,
}

impl Client {
    /// A call that is not sent yet.
    pub const fn new(config: CallConfig) -> Self {
        let rng = Rng::new(config.seed);
        Self {
            config,
            rng,
            until: None,
            state: State::Waiting { until: Instant::from_micros(0) },
            attempt: TryId(0),
            next: 0,
            hint: None,
            hops: 0,
            waits: 0,
            unreached: 0,
            perhaps_done: false,
            busy: false,
        }
    }

    /// Tells whether `Done` was emitted.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn tick(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        let until = *self.until.get_or_insert(now + self.config.patience);
        let late = matches!(&self.state, State::Sent { until, .. } if now >= *until);
        if late {
            out.push(Effect::Abandon { attempt: self.attempt });
            self.judge(now, Verdict::Unknown, out);
        }
        if self.is_done() {
            return;
        }
        if now >= until {
            return self.give_up(out);
        }
        if let State::Waiting { until: at } = self.state
            && now >= at
        {
            let server = self.choose();
            self.attempt.0 += 1;
            let (attempt, again) = (self.attempt, self.perhaps_done);
            out.push(Effect::Send { attempt, server: server.clone(), again });
            let at = (now + self.config.try_timeout).min(until);
            self.state = State::Sent { server, until: at };
        }
    }

    fn judge(&mut self, now: Instant, verdict: Verdict, out: &mut Outbox<Effect>) {
        let State::Sent { server, .. } = &mut self.state else { return };
        let server = core::mem::take(server);
        self.busy = false;
        let unreached = core::mem::take(&mut self.unreached);
        match verdict {
            Verdict::Answered => {
                let outcome = Outcome::Answered { attempt: self.attempt, server };
                self.finish(outcome, out);
            }
            Verdict::NotLeader { leader: Some(leader) } if self.hops < HOPS_MAX => {
                self.hops += 1;
                self.hint = Some(leader);
                self.state = State::Waiting { until: now };
            }
            Verdict::NotLeader { leader } => {
                self.hops = 0;
                self.hint = leader;
                self.wait(now);
            }
            Verdict::Busy { retry_after_ms } => {
                self.busy = true;
                self.hint = Some(server);
                let wait = Duration::from_millis(retry_after_ms.max(1)).min(BUSY_WAIT_MAX);
                self.state = State::Waiting { until: now + wait };
            }
            Verdict::Unreachable => {
                self.unreached = unreached + 1;
                let servers = u32::try_from(self.config.servers.len()).unwrap_or(u32::MAX).max(1);
                let rounds = self.unreached / servers;
                if self.config.rounds_max > 0 && rounds >= self.config.rounds_max {
                    return self.give_up(out);
                }
                // A whole round is tried before the first wait: one dead node costs nothing.
                if self.unreached.is_multiple_of(servers) {
                    self.wait(now);
                } else {
                    self.state = State::Waiting { until: now };
                }
            }
            Verdict::Unknown => {
                match self.config.repeat {
                    Repeat::Read => {}
                    Repeat::SameId => self.perhaps_done = true,
                    Repeat::Once => return self.finish(Outcome::Unknown, out),
                }
                self.wait(now);
            }
        }
    }

    fn wait(&mut self, now: Instant) {
        let full = (BACKOFF_MIN * (1 << self.waits.min(8))).min(BACKOFF_MAX);
        self.waits = self.waits.saturating_add(1);
        let micros = u64::try_from(full.as_micros()).unwrap_or(u64::MAX);
        let wait = Duration::from_micros(self.rng.range(micros / 2, micros));
        self.state = State::Waiting { until: now + wait };
    }

    fn give_up(&mut self, out: &mut Outbox<Effect>) {
        let outcome = if self.perhaps_done {
            Outcome::Unknown
        } else if self.busy {
            Outcome::Busy
        } else {
            Outcome::Unreachable
        };
        self.finish(outcome, out);
    }

    fn finish(&mut self, outcome: Outcome, out: &mut Outbox<Effect>) {
        self.state = State::Done;
        out.push(Effect::Done(outcome));
    }

    fn choose(&mut self) -> Box<str> {
        if let Some(hint) = self.hint.take() {
            return hint;
        }
        let server = self.config.servers.get(self.next).cloned().unwrap_or_default();
        self.next = (self.next + 1) % self.config.servers.len().max(1);
        server
    }
}

impl Machine for Client {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Now, input: Input, out: &mut Outbox<Effect>) {
        match input {
            Input::Wake | Input::Flush => {}
            Input::Ended { attempt, verdict } => {
                if attempt == self.attempt {
                    self.judge(now.mono, verdict, out);
                }
            }
        }
        if !self.is_done() {
            self.tick(now.mono, out);
        }
    }

    fn next_deadline(&self) -> Option<Deadline> {
        let (at, why) = match &self.state {
            State::Waiting { until } => (*until, "send the request"),
            State::Sent { until, .. } => (*until, "the answer is late"),
            State::Done => return None,
        };
        let (at, why) = match self.until {
            Some(until) if until < at => (until, "patience ends"),
            Some(_) | None => (at, why),
        };
        Some(Deadline { at: When::Mono(at), why })
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn flush() -> Input {
        Input::Flush
    }
}
