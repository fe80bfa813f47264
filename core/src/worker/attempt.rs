//! One attempt on this worker: when it is stopped, and what is reported of it.

use alloc::boxed::Box;
use alloc::format;
use core::time::Duration;

use bytes::Bytes;

use super::frame::{Assignment, Report};
use super::io::{Ending, Signal};
use super::live::Live;
use crate::id::Token;
use crate::limits;
use crate::spec::{AttemptOutcome, StopWhy};
use crate::time::{Instant, Now, Timestamp};

/// How long after the sending of the last answered heartbeat handlers are stopped (P7.4).
#[derive(Clone, Copy, Debug)]
pub(super) struct Fence {
    /// Asked to end.
    pub(super) term: Duration,
    /// Killed.
    pub(super) kill: Duration,
    /// Killed by the watchdog, when the worker itself does not move.
    pub(super) guard: Duration,
}

impl Fence {
    /// Before any leader has said how long its leases last.
    pub(super) const LIMITS: Self =
        Self { term: limits::FENCE_TERM, kill: limits::FENCE_KILL, guard: limits::FENCE_GUARD };

    /// For leases of this length: 9, 12 and 13 fifteenths of it, never more than the limits say.
    pub(super) fn of_ttl(ttl_ms: u64) -> Self {
        let ttl = Duration::from_millis(ttl_ms).min(limits::LEASE_TTL);
        Self {
            term: (ttl * 3 / 5).min(limits::FENCE_TERM),
            kill: (ttl * 4 / 5).min(limits::FENCE_KILL),
            guard: (ttl * 13 / 15).min(limits::FENCE_GUARD),
        }
    }
}

/// An attempt whose handler runs.
#[derive(Debug)]
pub(super) struct Running {
    /// The sending of the newest answered Hello or Heartbeat that covers this token (P7.4).
    pub(super) lease_from: Instant,
    /// The first heartbeat that names it: an answer to an older one says nothing about it.
    pub(super) named_from: u64,
    /// When the handler started, once known.
    pub(super) started_at: Option<Timestamp>,
    /// What it has written.
    pub(super) live: Live,
    run_timeout_ms: u64,
    timeout_at: Option<Instant>,
    stop: Option<Stop>,
    killed: bool,
}

#[derive(Debug)]
struct Stop {
    /// What will be reported, unless a stronger reason comes.
    outcome: AttemptOutcome,
    kill_at: Instant,
}

/// An attempt that has ended and whose report is not acknowledged.
#[derive(Debug)]
pub(super) struct Ended {
    /// What is reported.
    pub(super) report: Report,
    /// The first heartbeat that names it.
    pub(super) named_from: u64,
    /// It was reported in this session.
    pub(super) sent: bool,
    /// Bytes that the handler wrote.
    pub(super) written: u64,
}

/// What a passed deadline asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// What the handler gets.
    pub(super) signal: Signal,
    /// It is the lease that is over.
    pub(super) fenced: bool,
}

impl Running {
    /// The attempt starts now, under a lease that counts from `lease_from`.
    pub(super) fn start(
        assignment: &Assignment,
        now: Now,
        lease_from: Instant,
        named_from: u64,
    ) -> Self {
        let timeout = Duration::from_millis(assignment.run_timeout_ms);
        Self {
            lease_from,
            named_from,
            started_at: None,
            live: Live::default(),
            run_timeout_ms: assignment.run_timeout_ms,
            timeout_at: (assignment.run_timeout_ms > 0).then(|| now.mono + timeout),
            stop: None,
            killed: false,
        }
    }

    /// When the watchdog must have killed the handler. `None` once the worker has done so itself: a
    /// process that even SIGKILL does not end may not cost all others their lives.
    pub(super) fn guarded_until(&self, fence: Fence) -> Option<Instant> {
        (!self.killed).then(|| self.lease_from + fence.guard)
    }

    /// When time alone asks for something next.
    pub(super) fn due(&self, fence: Fence) -> Option<Instant> {
        if self.killed {
            return None;
        }
        let fence_kill = self.lease_from + fence.kill;
        Some(match &self.stop {
            Some(stop) => stop.kill_at.min(fence_kill),
            None => {
                let term = self.lease_from + fence.term;
                self.timeout_at.map_or(term, |at| at.min(term))
            }
        })
    }

    /// Does what time asks for by `now`.
    pub(super) fn expire(&mut self, now: Instant, fence: Fence) -> Option<Expiry> {
        if self.killed {
            return None;
        }
        // Upholds S11: no handler outlives its lease, whatever else stops it.
        if now >= self.lease_from + fence.kill {
            self.stop(AttemptOutcome::Lost, now);
            self.killed = true;
            return Some(Expiry { signal: Signal::Kill, fenced: true });
        }
        match &self.stop {
            Some(stop) if now >= stop.kill_at => {
                self.killed = true;
                Some(Expiry { signal: Signal::Kill, fenced: false })
            }
            Some(_) => None,
            None if now >= self.lease_from + fence.term => {
                self.stop(AttemptOutcome::Lost, self.lease_from + fence.kill);
                Some(Expiry { signal: Signal::Term, fenced: true })
            }
            None if self.timeout_at.is_some_and(|at| now >= at) => {
                self.stop(AttemptOutcome::TimedOut, now + limits::STOP_GRACE);
                Some(Expiry { signal: Signal::Term, fenced: false })
            }
            None => None,
        }
    }

    /// The attempt is to end with `outcome`, at the latest at `kill_at`. Returns whether the
    /// handler must be asked: it is asked once.
    pub(super) fn stop(&mut self, outcome: AttemptOutcome, kill_at: Instant) -> bool {
        match &mut self.stop {
            Some(stop) => {
                stop.kill_at = stop.kill_at.min(kill_at);
                if strength(outcome) > strength(stop.outcome) {
                    stop.outcome = outcome;
                }
                false
            }
            None => {
                self.stop = Some(Stop { outcome, kill_at });
                true
            }
        }
    }

    /// The handler has ended: what is reported.
    pub(super) fn report(&mut self, token: Token, now: Timestamp, ending: Ending) -> Report {
        let mut report = Report {
            token,
            outcome: if ending.succeeded {
                AttemptOutcome::Succeeded
            } else {
                AttemptOutcome::Failed
            },
            started_at: self.started_at.or(Some(now)),
            finished_at: Some(now),
            exit_code: ending.exit_code,
            retryable: ending.retryable,
            output: ending.output,
            error: ending.error,
            tail: self.live.tail(),
        };
        // P7.6: what ends after the request ends by the request.
        if let Some(stop) = &self.stop {
            report.outcome = stop.outcome;
            report.retryable = stop.outcome != AttemptOutcome::Cancelled;
            report.error = self.reason(stop.outcome, &report.error);
        }
        report.bound();
        report
    }

    fn reason(&self, outcome: AttemptOutcome, error: &str) -> Box<str> {
        let reason: Box<str> = match outcome {
            AttemptOutcome::TimedOut => {
                format!("the run timeout of {} ms passed", self.run_timeout_ms).into()
            }
            AttemptOutcome::Lost => "the lease ended before the handler did".into(),
            AttemptOutcome::Interrupted => "the worker shut down".into(),
            AttemptOutcome::Cancelled => "stopped on request".into(),
            // No stop carries these.
            AttemptOutcome::Succeeded | AttemptOutcome::Failed => Box::default(),
        };
        if error.is_empty() { reason } else { format!("{reason}; {error}").into() }
    }
}

impl Ended {
    /// An attempt that was never started: handed back, or stopped before it came.
    pub(super) fn unstarted(
        token: Token,
        now: Timestamp,
        outcome: AttemptOutcome,
        why: &str,
        named_from: u64,
    ) -> Self {
        let report = Report {
            token,
            outcome,
            started_at: None,
            finished_at: Some(now),
            exit_code: None,
            retryable: outcome != AttemptOutcome::Cancelled,
            output: Bytes::new(),
            error: why.into(),
            tail: Bytes::new(),
        };
        Self { report, named_from, sent: false, written: 0 }
    }
}

/// The outcome that a request to stop leads to.
pub(super) const fn outcome_of(why: StopWhy) -> AttemptOutcome {
    match why {
        StopWhy::Cancelled => AttemptOutcome::Cancelled,
        StopWhy::TimedOut => AttemptOutcome::TimedOut,
    }
}

/// Of two reasons to stop, the one that permits less afterwards wins: nobody wants a cancelled
/// run back because the lease ended too.
const fn strength(outcome: AttemptOutcome) -> u8 {
    match outcome {
        AttemptOutcome::Cancelled => 4,
        AttemptOutcome::TimedOut => 3,
        AttemptOutcome::Lost => 2,
        AttemptOutcome::Interrupted => 1,
        AttemptOutcome::Succeeded | AttemptOutcome::Failed => 0,
    }
}
