//! Profiles and recurrences as bytes. The layout is canonical: equal values have equal bytes, so
//! bytes are compared and hashed in place of values.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::cursor::{Cursor, DecodeError, Put};
use crate::spec::{
    AttemptOutcome, Backoff, DstFold, DstGap, Misfire, Overlap, Profile, Recurrence, Retry, Rule,
};

/// Appends a profile.
pub fn put_profile(out: &mut Vec<u8>, profile: &Profile) {
    let retry = &profile.retry;
    out.put_text(&profile.kind);
    out.put_text(&profile.queue);
    out.put_u16(retry.max_retries);
    out.put_u8(match retry.backoff {
        Backoff::Fixed => 1,
        Backoff::Exponential => 2,
    });
    out.put_u64(retry.backoff_base_ms);
    out.put_u64(retry.backoff_max_ms);
    out.put_u64(profile.run_timeout_ms);
    let exits = &retry.no_retry_exit[..retry.no_retry_exit.len().min(usize::from(u16::MAX))];
    out.put_u16(exits.len() as u16);
    for &code in exits {
        out.put_i32(code);
    }
}

/// Reads a profile that fills `bytes`.
///
/// # Errors
/// When it does not.
pub fn read_profile(bytes: &[u8]) -> Result<Profile, DecodeError> {
    let mut from = Cursor::new(bytes);
    let kind = from.text()?.into();
    let queue = from.text()?.into();
    let max_retries = from.u16()?;
    let backoff = match from.u8()? {
        1 => Backoff::Fixed,
        2 => Backoff::Exponential,
        other => return Err(DecodeError::Tag("a backoff", other)),
    };
    let backoff_base_ms = from.u64()?;
    let backoff_max_ms = from.u64()?;
    let run_timeout_ms = from.u64()?;
    let exits = usize::from(from.u16()?);
    let mut no_retry_exit = Vec::with_capacity(exits.min(from.remaining() / 4));
    for _ in 0..exits {
        no_retry_exit.push(from.i32()?);
    }
    from.end()?;
    let retry = Retry { max_retries, backoff, backoff_base_ms, backoff_max_ms, no_retry_exit };
    Ok(Profile { kind, queue, retry, run_timeout_ms })
}

/// Appends a recurrence.
pub fn put_recurrence(out: &mut Vec<u8>, recurrence: &Recurrence) {
    match &recurrence.rule {
        Rule::Every { period_ms, start } => {
            out.put_u8(1);
            out.put_u64(*period_ms);
            out.put_option(*start, Vec::put_time);
        }
        Rule::Cron { expr, zone, gap, fold } => {
            out.put_u8(2);
            out.put_text(expr);
            out.put_text(zone);
            out.put_u8(match gap {
                DstGap::Auto => 1,
                DstGap::Skip => 2,
                DstGap::Next => 3,
            });
            out.put_u8(match fold {
                DstFold::Auto => 1,
                DstFold::First => 2,
                DstFold::Second => 3,
                DstFold::Both => 4,
            });
        }
    }
    out.put_u8(match recurrence.misfire {
        Misfire::Skip => 1,
        Misfire::FireOnce => 2,
    });
    out.put_u64(recurrence.catch_up_ms);
    out.put_u8(match recurrence.overlap {
        Overlap::Allow => 1,
        Overlap::Skip => 2,
    });
}

/// Reads a recurrence.
///
/// # Errors
/// When the bytes are none.
pub fn read_recurrence(from: &mut Cursor<'_>) -> Result<Recurrence, DecodeError> {
    let rule = match from.u8()? {
        1 => Rule::Every { period_ms: from.u64()?, start: from.option(Cursor::time)? },
        2 => read_cron(from)?,
        other => return Err(DecodeError::Tag("a rule", other)),
    };
    let misfire = match from.u8()? {
        1 => Misfire::Skip,
        2 => Misfire::FireOnce,
        other => return Err(DecodeError::Tag("a misfire policy", other)),
    };
    let catch_up_ms = from.u64()?;
    let overlap = match from.u8()? {
        1 => Overlap::Allow,
        2 => Overlap::Skip,
        other => return Err(DecodeError::Tag("an overlap policy", other)),
    };
    Ok(Recurrence { rule, misfire, catch_up_ms, overlap })
}

fn read_cron(from: &mut Cursor<'_>) -> Result<Rule, DecodeError> {
    let expr: Box<str> = from.text()?.into();
    let zone = from.text()?.into();
    let gap = match from.u8()? {
        1 => DstGap::Auto,
        2 => DstGap::Skip,
        3 => DstGap::Next,
        other => return Err(DecodeError::Tag("a gap policy", other)),
    };
    let fold = match from.u8()? {
        1 => DstFold::Auto,
        2 => DstFold::First,
        3 => DstFold::Second,
        4 => DstFold::Both,
        other => return Err(DecodeError::Tag("a fold policy", other)),
    };
    Ok(Rule::Cron { expr, zone, gap, fold })
}

/// Reads how an attempt ended (its number is the enum's own).
///
/// # Errors
/// When the byte names no outcome.
pub fn read_outcome(from: &mut Cursor<'_>) -> Result<AttemptOutcome, DecodeError> {
    Ok(match from.u8()? {
        1 => AttemptOutcome::Succeeded,
        2 => AttemptOutcome::Failed,
        3 => AttemptOutcome::TimedOut,
        4 => AttemptOutcome::Lost,
        5 => AttemptOutcome::Cancelled,
        6 => AttemptOutcome::Interrupted,
        other => return Err(DecodeError::Tag("an outcome", other)),
    })
}
