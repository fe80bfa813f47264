//! Opening and closing attempts, and what follows a close (P7.6–P7.8).

use alloc::boxed::Box;
use alloc::format;

use crate::id::Token;
use crate::limits;
use crate::rng::mix;
use crate::spec::{AttemptOutcome, Backoff, Retry};
use crate::state::attempts::{Attempt, Ending};
use crate::state::facts::Changes;
use crate::state::outbox::Change;
use crate::state::record::{Phase, flag};
use crate::state::view::TaskStatus;
use crate::state::{Applied, Close, Open, Refusal, State, digest};

/// What follows an attempt.
enum Next {
    Finish(TaskStatus),
    /// Another attempt, after so many microseconds.
    Retry {
        wait: i64,
        counts: bool,
    },
}

impl State {
    pub(super) fn open(&mut self, open: &Open, changes: &mut Changes) -> Result<Applied, Refusal> {
        let (slot, phase, _) = self.named(open.target)?;
        match phase {
            Phase::Ready { .. } => {}
            Phase::Done(_) => return Err(Refusal::Terminal),
            Phase::Waiting { .. } | Phase::Running | Phase::Scheduled => {
                return Err(Refusal::Stale);
            }
        }
        let attempts = self.slab.at(slot).map_or(0, |record| record.attempts);
        if open.attempt != attempts.saturating_add(1) {
            return Err(Refusal::Stale);
        }
        if !self.instances.accepts(open.instance) {
            return Err(Refusal::UnknownInstance);
        }
        self.touch_run(slot);
        self.unlink(slot);
        let token = self.start_attempt(slot, open.instance, changes);
        Ok(Applied::Opened { token, target: open.target })
    }

    pub(super) fn close(
        &mut self,
        close: &Close<'_>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        // Upholds S12: the token alone names the attempt; one that is not open changes nothing.
        let token = close.token.0;
        let Some(slot) = self.attempts.open(token).map(|attempt| attempt.slot) else {
            return Err(Refusal::StaleToken);
        };
        self.touch_run(slot);
        let bounded = bounded(close);
        let Some(instance) = self.end_attempt(token, &bounded) else {
            return Err(Refusal::StaleToken);
        };
        changes.closed.push((close.token, instance));
        let target = self.reference(slot);
        let retried = match self.follows(slot, &bounded) {
            Next::Finish(status) => {
                self.finish(slot, status, changes);
                false
            }
            Next::Retry { wait, counts } => {
                if let Some(record) = self.slab.at_mut(slot)
                    && counts
                {
                    record.failures += 1;
                }
                if wait > 0 {
                    self.make_wait(slot, self.meta.at.plus_micros(wait), true);
                } else {
                    self.make_ready(slot, None, changes);
                }
                true
            }
        };
        Ok(Applied::Closed { target, token: Token(token), retried })
    }

    /// Moves an attempt from the open table to the closed one.
    fn end_attempt(&mut self, token: u64, close: &Bounded<'_>) -> Option<crate::id::InstanceId> {
        self.keep_attempt_image(token);
        let mut attempt = self.attempts.take_open(token)?;
        let row = self.digest.attempt(token, &attempt);
        self.digest.subtract(row);
        let finished_at = match close.outcome {
            AttemptOutcome::Lost => Some(self.meta.at),
            AttemptOutcome::Succeeded
            | AttemptOutcome::Failed
            | AttemptOutcome::TimedOut
            | AttemptOutcome::Cancelled
            | AttemptOutcome::Interrupted => close.told.finished_at,
        };
        let times = (close.told.started_at, finished_at);
        let texts = (close.error, close.output, close.tail);
        let ending = Ending::new(close.outcome, times, close.told.exit_code, texts);
        self.held_bytes += ending.bytes();
        self.pinned.add_attempt(ending.bytes());
        attempt.ending = Some(Box::new(ending));
        attempt.change = self.outbox.push(Change::Attempt { token });
        let instance = attempt.instance;
        self.add_attempt(token, attempt);
        if let Some(instance) = self.instances.at_mut(instance) {
            instance.open -= 1;
        }
        Some(instance)
    }

    fn add_attempt(&mut self, token: u64, attempt: Attempt) {
        let row = self.digest.attempt(token, &attempt);
        self.digest.add(row);
        self.attempts.insert(token, attempt);
    }

    /// What follows, as a function of agreed state alone. Upholds S13 and S14.
    fn follows(&self, slot: u32, close: &Bounded<'_>) -> Next {
        let Some(record) = self.slab.at(slot) else { return Next::Finish(TaskStatus::Failed) };
        let Some(profile) = self.profiles.at(record.profile).map(|held| &held.profile) else {
            return Next::Finish(TaskStatus::Failed);
        };
        let stopped = record.has(flag::CANCEL);
        let spent = record.failures >= profile.retry.max_retries;
        let again = || Next::Retry {
            wait: self.backoff(&profile.retry, record.serial, record.failures, record.attempts),
            counts: true,
        };
        match close.outcome {
            // A stopped attempt's real outcome counts if it came first.
            AttemptOutcome::Succeeded => Next::Finish(TaskStatus::Succeeded),
            AttemptOutcome::Cancelled => Next::Finish(TaskStatus::Cancelled),
            AttemptOutcome::Failed => {
                let exits = &profile.retry.no_retry_exit;
                let final_exit = close.told.exit_code.is_some_and(|code| exits.contains(&code));
                if spent || final_exit || !close.retryable {
                    Next::Finish(TaskStatus::Failed)
                } else if stopped {
                    Next::Finish(TaskStatus::Cancelled)
                } else {
                    again()
                }
            }
            AttemptOutcome::TimedOut | AttemptOutcome::Lost => {
                // Upholds S17: after a cancel nothing starts any more.
                if stopped {
                    Next::Finish(TaskStatus::Cancelled)
                } else if spent {
                    Next::Finish(TaskStatus::Failed)
                } else {
                    again()
                }
            }
            AttemptOutcome::Interrupted if stopped => Next::Finish(TaskStatus::Cancelled),
            AttemptOutcome::Interrupted => Next::Retry { wait: 0, counts: false },
        }
    }

    /// The wait before a retry, in microseconds: integers alone, jitter from a keyed hash (P2.1).
    fn backoff(&self, retry: &Retry, serial: u64, failures: u16, attempt: u16) -> i64 {
        let most = retry.backoff_max_ms.max(retry.backoff_base_ms);
        let micros = match retry.backoff {
            Backoff::Fixed => retry.backoff_base_ms.saturating_mul(1_000),
            Backoff::Exponential => {
                let factor = 1_u64.checked_shl(u32::from(failures)).unwrap_or(u64::MAX);
                let full = retry.backoff_base_ms.saturating_mul(factor).min(most);
                let half = full.saturating_mul(1_000) / 2;
                let key = digest::seed(self.key);
                let draw = mix(mix(key ^ serial).wrapping_add(u64::from(attempt)));
                half.saturating_add(((u128::from(draw) * (u128::from(half) + 1)) >> 64) as u64)
            }
        };
        i64::try_from(micros).unwrap_or(i64::MAX)
    }
}

/// A close with its texts cut to the bounds of `limits.rs`.
struct Bounded<'a> {
    told: &'a Close<'a>,
    outcome: AttemptOutcome,
    retryable: bool,
    error: &'a str,
    output: &'a [u8],
    tail: &'a [u8],
}

/// A report is never refused: what is too large fails the attempt for good, tail kept (P7.8).
fn bounded<'a>(close: &'a Close<'a>) -> Bounded<'a> {
    let tail = &close.tail[close.tail.len().saturating_sub(limits::OUTPUT_TAIL_BYTES_MAX)..];
    if close.output.len() > limits::RESULT_BYTES_MAX {
        return Bounded {
            told: close,
            outcome: AttemptOutcome::Failed,
            retryable: false,
            error: "RESULT_TOO_LARGE: the result exceeds 1 MiB; store it elsewhere and return its \
                    address",
            output: &[],
            tail,
        };
    }
    Bounded {
        told: close,
        outcome: close.outcome,
        retryable: close.retryable,
        error: &close.error[..close.error.floor_char_boundary(limits::ERROR_BYTES_MAX)],
        output: close.output,
        tail,
    }
}

/// The reason of a run that was skipped, for people.
pub(super) fn skip_reason(why: &str, also_missed: u32) -> Box<str> {
    let why = &why[..why.floor_char_boundary(limits::ERROR_BYTES_MAX)];
    match also_missed {
        0 => why.into(),
        1 => format!("{why}; 1 further fire time was missed").into(),
        more => format!("{why}; {more} further fire times were missed").into(),
    }
}
