//! The stored encoding of every replicated row: what the digest hashes and the snapshot holds.
//! Derived fields (timer places, links, counts) are left out.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::attempts::{Attempt, Ending};
use super::ended::Ended;
use super::record::{Body, NONE, Phase, Record, flag};
use super::schedules::Schedule;
use super::view::{RunCause, RunView, TaskStatus};
use crate::codec::flat::spec::{put_recurrence, read_outcome, read_recurrence};
use crate::codec::flat::{Cursor, DecodeError, Put};
use crate::id::{InstanceId, NodeId, RunNumber};
use crate::spec::StopWhy;

/// What a row is, as its first byte.
pub(super) mod kind {
    pub(crate) const META: u8 = 1;
    pub(crate) const RECORD: u8 = 2;
    pub(crate) const BODY: u8 = 3;
    pub(crate) const ATTEMPT: u8 = 4;
    pub(crate) const INSTANCE: u8 = 5;
    pub(crate) const ADDRESSES: u8 = 6;
    pub(crate) const ENDED: u8 = 7;
    /// In a snapshot only: a profile, before the first record that names it.
    pub(crate) const PROFILE: u8 = 8;
}

/// Appends a record's row without its body and profile.
pub(super) fn put_record(
    out: &mut Vec<u8>,
    slot: u32,
    record: &Record,
    schedule: Option<&Schedule>,
) {
    out.put_u32(slot);
    out.put_u64(record.serial);
    out.put_u64(record.change);
    out.put_time(record.created_at);
    out.put_time(record.updated_at);
    out.put_time(record.scheduled_for);
    out.put_u64(record.last_token);
    out.put_u16(record.attempts);
    out.put_u16(record.failures);
    out.put_u8(record.priority);
    out.put_u8(record.flags & flag::STORED);
    match record.phase {
        Phase::Waiting { until, backoff, position: _ } => {
            out.put_u8(1);
            out.put_time(until);
            out.put_flag(backoff);
        }
        Phase::Ready { sequence, prev: _, next: _ } => {
            out.put_u8(2);
            out.put_u64(sequence);
        }
        Phase::Running => out.put_u8(3),
        Phase::Scheduled => out.put_u8(4),
        Phase::Done(status) => {
            out.put_u8(5);
            out.put_u8(status as u8);
        }
    }
    if let Some(schedule) = schedule {
        put_schedule(out, schedule);
    }
}

/// Reads what [`put_record`] wrote.
pub(super) fn read_record(
    from: &mut Cursor<'_>,
) -> Result<(u32, Record, Option<Schedule>), DecodeError> {
    let slot = from.u32()?;
    let mut record = Record {
        serial: from.u64()?,
        change: from.u64()?,
        created_at: from.time()?,
        updated_at: from.time()?,
        scheduled_for: from.time()?,
        last_token: from.u64()?,
        attempts: from.u16()?,
        failures: from.u16()?,
        priority: from.u8()?,
        flags: from.u8()?,
        body: Body::default(),
        phase: Phase::Running,
        profile: NONE,
    };
    if record.flags & !flag::STORED != 0 || record.priority > 9 {
        return Err(DecodeError::Range("a record"));
    }
    record.phase = match from.u8()? {
        1 => Phase::Waiting { until: from.time()?, backoff: from.flag()?, position: NONE },
        2 => Phase::Ready { sequence: from.u64()?, prev: NONE, next: NONE },
        3 => Phase::Running,
        4 => Phase::Scheduled,
        5 => Phase::Done(read_status(from)?),
        other => return Err(DecodeError::Tag("a phase", other)),
    };
    let schedule = if record.has(flag::RECURRING) { Some(read_schedule(from)?) } else { None };
    Ok((slot, record, schedule))
}

fn put_schedule(out: &mut Vec<u8>, schedule: &Schedule) {
    out.put_option(schedule.recurrence.as_ref(), put_recurrence);
    out.put_u32(schedule.revision);
    out.put_option(schedule.next_run_at, Vec::put_time);
    out.put_option(schedule.last_fire_time, Vec::put_time);
    out.put_u32(schedule.runs);
    out.put_option(schedule.last_success_at, Vec::put_time);
    out.put_option(schedule.last_failure_at, Vec::put_time);
    out.put_u32(schedule.failures);
    out.put_option(schedule.last_run.as_ref(), put_run);
}

/// Appends a run as it ended.
pub(crate) fn put_run(out: &mut Vec<u8>, run: &RunView) {
    out.put_u32(run.run.0);
    out.put_u8(run.cause as u8);
    out.put_time(run.scheduled_for);
    out.put_u8(run.status as u8);
    out.put_text(&run.reason);
    out.put_u16(run.attempts);
    out.put_u32(run.retry_of.map_or(0, |run| run.0));
}

/// Reads what [`put_run`] wrote.
pub(crate) fn read_run(from: &mut Cursor<'_>) -> Result<RunView, DecodeError> {
    Ok(RunView {
        run: RunNumber(from.u32()?),
        cause: read_cause(from)?,
        scheduled_for: from.time()?,
        status: read_status(from)?,
        reason: from.text()?.into(),
        attempts: from.u16()?,
        retry_of: Some(from.u32()?).filter(|&run| run > 0).map(RunNumber),
    })
}

fn read_schedule(from: &mut Cursor<'_>) -> Result<Schedule, DecodeError> {
    let recurrence = from.option(read_recurrence)?;
    let revision = from.u32()?;
    let mut schedule = Schedule::new(recurrence, from.option(Cursor::time)?);
    schedule.revision = revision;
    schedule.last_fire_time = from.option(Cursor::time)?;
    schedule.runs = from.u32()?;
    schedule.last_success_at = from.option(Cursor::time)?;
    schedule.last_failure_at = from.option(Cursor::time)?;
    schedule.failures = from.u32()?;
    schedule.last_run = from.option(read_run)?;
    Ok(schedule)
}

fn read_cause(from: &mut Cursor<'_>) -> Result<RunCause, DecodeError> {
    Ok(match from.u8()? {
        1 => RunCause::Submit,
        2 => RunCause::Schedule,
        3 => RunCause::Trigger,
        other => return Err(DecodeError::Tag("a cause", other)),
    })
}

/// Reads a status (its number is the enum's own).
pub(crate) fn read_status(from: &mut Cursor<'_>) -> Result<TaskStatus, DecodeError> {
    Ok(match from.u8()? {
        1 => TaskStatus::Waiting,
        2 => TaskStatus::Ready,
        3 => TaskStatus::Running,
        4 => TaskStatus::Succeeded,
        5 => TaskStatus::Failed,
        6 => TaskStatus::Cancelled,
        7 => TaskStatus::Skipped,
        other => return Err(DecodeError::Tag("a status", other)),
    })
}

/// Appends an attempt's row.
pub(super) fn put_attempt(out: &mut Vec<u8>, token: u64, attempt: &Attempt) {
    out.put_u64(token);
    out.put_u32(attempt.slot);
    out.put_u64(attempt.serial);
    out.put_u16(attempt.number);
    out.put_u64(attempt.instance.0);
    out.put_time(attempt.opened_at);
    out.put_u8(attempt.stop.map_or(0, |why| why as u8));
    out.put_u64(attempt.change);
    out.put_u64(attempt.previous);
    out.put_option(attempt.ending.as_deref(), |out, ending| {
        out.put_u8(ending.outcome as u8);
        out.put_option(ending.started_at, Vec::put_time);
        out.put_option(ending.finished_at, Vec::put_time);
        out.put_option(ending.exit_code, Vec::put_i32);
        out.put_text(ending.error());
        out.put_bytes(ending.output());
        out.put_bytes(ending.tail());
    });
}

/// Reads what [`put_attempt`] wrote.
pub(super) fn read_attempt(from: &mut Cursor<'_>) -> Result<(u64, Attempt), DecodeError> {
    let token = from.u64()?;
    let attempt = Attempt {
        slot: from.u32()?,
        serial: from.u64()?,
        number: from.u16()?,
        instance: InstanceId(from.u64()?),
        opened_at: from.time()?,
        stop: match from.u8()? {
            0 => None,
            1 => Some(StopWhy::Cancelled),
            2 => Some(StopWhy::TimedOut),
            other => return Err(DecodeError::Tag("a stop", other)),
        },
        change: from.u64()?,
        previous: from.u64()?,
        ending: from.option(read_ending)?,
    };
    Ok((token, attempt))
}

fn read_ending(from: &mut Cursor<'_>) -> Result<Box<Ending>, DecodeError> {
    let outcome = read_outcome(from)?;
    let times = (from.option(Cursor::time)?, from.option(Cursor::time)?);
    let exit_code = from.option(Cursor::i32)?;
    let texts = (from.text()?, from.bytes()?, from.bytes()?);
    Ok(Box::new(Ending::new(outcome, times, exit_code, texts)))
}

/// Appends an instance's row.
pub(super) fn put_instance(out: &mut Vec<u8>, id: InstanceId, name: &str, retired: bool) {
    out.put_u64(id.0);
    out.put_text(name);
    out.put_flag(retired);
}

/// Appends a node's addresses.
pub(super) fn put_addresses(out: &mut Vec<u8>, node: NodeId, grpc: &str, http: &str) {
    out.put_u64(node.0);
    out.put_text(grpc);
    out.put_text(http);
}

/// Appends an ended id's row.
pub(super) fn put_ended(out: &mut Vec<u8>, number: u64, ended: &Ended) {
    out.put_u64(number);
    out.put_u64(ended.id);
    out.put_u64(ended.spec);
    out.put_u64(ended.serial);
    out.put_time(ended.created_at);
    out.put_time(ended.ended_at);
    out.put_u8(ended.status as u8);
    out.put_flag(ended.deleted);
}

/// Reads what [`put_ended`] wrote.
pub(super) fn read_ended(from: &mut Cursor<'_>) -> Result<(u64, Ended), DecodeError> {
    let number = from.u64()?;
    let ended = Ended {
        id: from.u64()?,
        spec: from.u64()?,
        serial: from.u64()?,
        created_at: from.time()?,
        ended_at: from.time()?,
        status: read_status(from)?,
        deleted: from.flag()?,
    };
    Ok((number, ended))
}
