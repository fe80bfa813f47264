//! Attempts open and close: S11–S14 and the waits between them.

use dtask_core::id::{InstanceId, RecordRef, Token};
use dtask_core::spec::{AttemptOutcome, Backoff};
use dtask_core::state::{Applied, Close};
use dtask_core::time::Timestamp;

use super::{Attempt, End, Entry, Ledger, Meaning, Record};
use crate::check::{Verdict, Violation, hold};

impl Ledger {
    pub(super) fn open(
        &mut self,
        entry: Entry<'_>,
        target: RecordRef,
        token: Token,
        instance: InstanceId,
    ) -> Verdict {
        self.s11_tokens_increase(token)?;
        let serial = target.serial.0;
        let Some(record) = self.records.get_mut(&serial) else {
            return Err(Violation::new("S8", format!("token {token} opens unknown {serial}")));
        };
        let id = &record.id;
        hold!("S13", record.done.is_none(), "token {token} opens {id} after {:?}", record.done);
        hold!("S17", !record.cancelled, "token {token} opens {id} after its cancel");
        if let Some(held) = record.open {
            return Err(Violation::new(
                "S11",
                format!("token {token} opens {id} while token {held} is open"),
            ));
        }
        hold!(
            "S16",
            entry.at >= record.not_before,
            "token {token} opens {id} at {}, before {}",
            entry.at,
            record.not_before
        );
        record.counted += 1;
        let most = 1 + u32::from(record.profile.retry.max_retries);
        hold!("S14", record.counted <= most, "{id} has {} attempts of {most}", record.counted);
        record.open = Some(token);
        *self.open_by_instance.entry(instance).or_default() += 1;
        let attempt = Attempt { serial, instance, opened_at: entry.at, outcome: None };
        self.attempts.insert(token, attempt);
        Ok(())
    }

    /// S11: tokens strictly increase.
    fn s11_tokens_increase(&mut self, token: Token) -> Verdict {
        let newest = self.newest_token;
        hold!("S11", token > newest, "token {token} is given after token {newest}");
        self.newest_token = token;
        Ok(())
    }

    pub(super) fn close(
        &mut self,
        entry: Entry<'_>,
        close: &Close<'_>,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        let Applied::Closed { target, token, retried } = answer else {
            let open = self.attempts.get(&close.token).is_some_and(|it| it.outcome.is_none());
            hold!("S12", !open, "the close of open token {} is refused: {answer:?}", close.token);
            return Ok(Meaning::StaleReport);
        };
        self.s12_only_the_open_token_closes(target, token, close)?;
        let serial = target.serial.0;
        let (Some(record), Some(attempt)) =
            (self.records.get_mut(&serial), self.attempts.get_mut(&token))
        else {
            return Err(Violation::new("S8", format!("token {token} closes unknown {serial}")));
        };
        attempt.outcome = Some(close.outcome);
        if let Some(open) = self.open_by_instance.get_mut(&attempt.instance) {
            *open -= 1;
        }
        record.open = None;
        if close.outcome == AttemptOutcome::Interrupted {
            record.counted -= 1;
        }
        let (id, counted) = (record.id.clone(), record.counted);
        let most = 1 + u32::from(record.profile.retry.max_retries);
        let left = counted < most;
        let never = record.cancelled
            || match close.outcome {
                AttemptOutcome::Succeeded | AttemptOutcome::Cancelled => true,
                AttemptOutcome::Failed => !close.retryable || !left,
                AttemptOutcome::TimedOut | AttemptOutcome::Lost => !left,
                AttemptOutcome::Interrupted => false,
            };
        hold!(
            "S14",
            !(retried && never),
            "{id} goes on after {:?} (attempt {counted} of {most}, cancelled {})",
            close.outcome,
            record.cancelled
        );
        let no_retry = close
            .exit_code
            .is_some_and(|code| record.profile.retry.no_retry_exit.binary_search(&code).is_ok());
        hold!(
            "S14",
            retried || never || no_retry,
            "{id} ends after {:?} although attempt {counted} of {most} is not the last",
            close.outcome
        );
        if retried {
            record.not_before = earliest_retry(record, entry.at, close.outcome);
            return Ok(Meaning::Closed { outcome: close.outcome, retried });
        }
        let end = match close.outcome {
            AttemptOutcome::Succeeded => End::Succeeded,
            AttemptOutcome::Cancelled => End::Cancelled,
            AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Lost => {
                if record.cancelled { End::Cancelled } else { End::Failed }
            }
            AttemptOutcome::Interrupted => End::Cancelled,
        };
        self.end(serial, end, entry.at);
        Ok(Meaning::Closed { outcome: close.outcome, retried })
    }

    /// S12: a token that is not the record's open attempt changes nothing.
    fn s12_only_the_open_token_closes(
        &self,
        target: RecordRef,
        token: Token,
        close: &Close<'_>,
    ) -> Verdict {
        hold!("S12", token == close.token, "a close of token {} closed {token}", close.token);
        let open = self.records.get(&target.serial.0).and_then(|record| record.open);
        hold!(
            "S12",
            open == Some(token),
            "token {token} closed serial {} whose open attempt is {open:?}",
            target.serial
        );
        Ok(())
    }
}

/// The earliest moment at which a retry may open: the backoff's lower bound (jitter shortens an
/// exponential wait by at most half).
fn earliest_retry(record: &Record, at: Timestamp, outcome: AttemptOutcome) -> Timestamp {
    let retry = &record.profile.retry;
    let waits = match outcome {
        AttemptOutcome::Failed | AttemptOutcome::TimedOut => true,
        AttemptOutcome::Lost
        | AttemptOutcome::Interrupted
        | AttemptOutcome::Succeeded
        | AttemptOutcome::Cancelled => false,
    };
    if !waits {
        return at;
    }
    let wait_ms = match retry.backoff {
        Backoff::Fixed => retry.backoff_base_ms.min(retry.backoff_max_ms),
        Backoff::Exponential => {
            let doublings = record.counted.saturating_sub(1).min(40);
            let full = retry.backoff_base_ms.saturating_mul(1 << doublings);
            full.min(retry.backoff_max_ms) / 2
        }
    };
    at.plus_micros(i64::try_from(wait_ms * 1_000).unwrap_or(i64::MAX))
}
