//! One command as bytes: a tag, then its fields in declaration order.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::cursor::{Cursor, DecodeError, Put};
use super::spec::{put_recurrence, read_outcome, read_recurrence};
use crate::id::{InstanceId, NodeId, RecordRef, RunNumber, Serial, Slot, Token};
use crate::state::row::{put_run, read_run, read_status};
use crate::state::{
    Again, Close, Command, Create, Deed, Fire, Key, Open, Past, Rerun, Start, Wish,
};

/// Appends a command.
pub fn put_command(out: &mut Vec<u8>, command: &Command<'_>) {
    match command {
        Command::Create(create) => put_create(out, create),
        Command::Open(open) => {
            out.put_u8(2);
            put_record(out, open.target);
            out.put_u16(open.attempt);
            out.put_u64(open.instance.0);
        }
        Command::Close(close) => put_close(out, close),
        Command::Fire(fire) => put_fire(out, fire),
        Command::HistoryStored { epoch, through } => {
            out.put_u8(5);
            out.put_u64(*epoch);
            out.put_u64(*through);
        }
        Command::Cancel { target, key } => {
            out.put_u8(6);
            put_record(out, *target);
            out.put_option(*key, put_key);
        }
        Command::TimeOut { token, target } => {
            out.put_u8(7);
            out.put_u64(token.0);
            put_record(out, *target);
        }
        Command::Trigger { target, rerun } => {
            out.put_u8(8);
            put_record(out, *target);
            put_rerun(out, *rerun);
        }
        Command::Again(again) => put_again(out, again),
        Command::Claim { request, content } => {
            out.put_u8(15);
            out.put_text(request);
            out.put_u64(*content);
        }
        Command::Delete { target, cancel } => {
            out.put_u8(9);
            put_record(out, *target);
            out.put_flag(*cancel);
        }
        Command::RegisterInstance { instance, name } => {
            out.put_u8(10);
            out.put_u64(instance.0);
            out.put_text(name);
        }
        Command::RetireInstance { instance } => {
            out.put_u8(11);
            out.put_u64(instance.0);
        }
        Command::HistoryDropped { through } => {
            out.put_u8(13);
            out.put_u64(*through);
        }
        Command::SetAddresses { node, grpc, http } => {
            out.put_u8(12);
            out.put_u64(node.0);
            out.put_text(grpc);
            out.put_text(http);
        }
    }
}

/// Beside a priority of at most nine: the mark of a re-send (P8.2).
const RETRY: u8 = 0x80;

fn put_create(out: &mut Vec<u8>, create: &Create<'_>) {
    out.put_u8(1);
    out.put_text(create.id);
    out.put_text(create.name);
    out.put_bytes(create.payload);
    out.put_u16(create.profile);
    out.put_u8(create.priority | if create.retry { RETRY } else { 0 });
    put_instance(out, create.open);
    match &create.start {
        Start::Ready => out.put_u8(1),
        Start::At(at) => {
            out.put_u8(2);
            out.put_time(*at);
        }
        Start::Recurring { recurrence, next } => {
            out.put_u8(3);
            put_recurrence(out, recurrence);
            out.put_option(*next, Vec::put_time);
        }
    }
}

fn put_again(out: &mut Vec<u8>, again: &Again<'_>) {
    out.put_u8(14);
    out.put_text(again.id);
    out.put_u64(again.serial.0);
    match again.deed {
        Deed::Run(rerun) => {
            out.put_u8(1);
            put_rerun(out, rerun);
        }
        Deed::Delete { cancel } => {
            out.put_u8(2);
            out.put_flag(cancel);
        }
    }
    put_past(out, &again.past);
}

fn put_past(out: &mut Vec<u8>, past: &Past<'_>) {
    out.put_text(past.name);
    out.put_bytes(past.payload);
    out.put_u16(past.profile);
    out.put_u8(past.priority);
    out.put_option(past.at, Vec::put_time);
    out.put_option(past.recurrence.as_deref(), put_recurrence);
    out.put_time(past.created_at);
    out.put_time(past.ended_at);
    out.put_u8(past.status as u8);
    out.put_u32(past.revision);
    out.put_u32(past.runs);
    out.put_option(past.last_success_at, Vec::put_time);
    out.put_option(past.last_failure_at, Vec::put_time);
    out.put_u32(past.failures);
    out.put_option(past.last_run.as_ref(), put_run);
    out.put_u64(past.as_of);
}

fn put_key(out: &mut Vec<u8>, key: Key<'_>) {
    out.put_text(key.request);
    out.put_u64(key.content);
    out.put_flag(key.retry);
}

fn read_key<'a>(from: &mut Cursor<'a>) -> Result<Key<'a>, DecodeError> {
    Ok(Key { request: from.text()?, content: from.u64()?, retry: from.flag()? })
}

fn put_rerun(out: &mut Vec<u8>, rerun: Rerun<'_>) {
    put_wish(out, rerun.wish);
    out.put_option(rerun.key, put_key);
    put_instance(out, rerun.open);
}

/// Appends a wish.
pub(crate) fn put_wish(out: &mut Vec<u8>, wish: Wish) {
    match wish {
        Wish::Trigger => out.put_u8(1),
        Wish::RetryLatest => out.put_u8(2),
        Wish::Retry(run) => {
            out.put_u8(3);
            out.put_u32(run.0);
        }
    }
}

fn put_close(out: &mut Vec<u8>, close: &Close<'_>) {
    out.put_u8(3);
    out.put_u32(close.slot.0);
    out.put_u64(close.token.0);
    out.put_u8(close.outcome as u8);
    out.put_option(close.started_at, Vec::put_time);
    out.put_option(close.finished_at, Vec::put_time);
    out.put_option(close.exit_code, Vec::put_i32);
    out.put_flag(close.retryable);
    out.put_bytes(close.output);
    out.put_text(close.error);
    out.put_bytes(close.tail);
}

fn put_fire(out: &mut Vec<u8>, fire: &Fire<'_>) {
    out.put_u8(4);
    put_record(out, fire.target);
    out.put_u32(fire.revision);
    out.put_time(fire.fire_time);
    out.put_option(fire.next, Vec::put_time);
    out.put_option(fire.skip, Vec::put_text);
    out.put_u32(fire.also_missed);
    put_instance(out, fire.open);
}

fn put_record(out: &mut Vec<u8>, record: RecordRef) {
    out.put_u32(record.slot.0);
    out.put_u64(record.serial.0);
}

fn put_instance(out: &mut Vec<u8>, instance: Option<InstanceId>) {
    out.put_option(instance, |out, instance| out.put_u64(instance.0));
}

/// Reads a command that fills `bytes`.
///
/// # Errors
/// When it does not.
pub fn read_command(bytes: &[u8]) -> Result<Command<'_>, DecodeError> {
    let mut from = Cursor::new(bytes);
    let command = match from.u8()? {
        1 => Command::Create(read_create(&mut from)?),
        2 => Command::Open(Open {
            target: read_record(&mut from)?,
            attempt: from.u16()?,
            instance: InstanceId(from.u64()?),
        }),
        3 => Command::Close(read_close(&mut from)?),
        4 => Command::Fire(read_fire(&mut from)?),
        5 => Command::HistoryStored { epoch: from.u64()?, through: from.u64()? },
        6 => Command::Cancel { target: read_record(&mut from)?, key: from.option(read_key)? },
        7 => Command::TimeOut { token: Token(from.u64()?), target: read_record(&mut from)? },
        8 => Command::Trigger { target: read_record(&mut from)?, rerun: read_rerun(&mut from)? },
        9 => Command::Delete { target: read_record(&mut from)?, cancel: from.flag()? },
        10 => Command::RegisterInstance { instance: InstanceId(from.u64()?), name: from.text()? },
        11 => Command::RetireInstance { instance: InstanceId(from.u64()?) },
        12 => Command::SetAddresses {
            node: NodeId(from.u64()?),
            grpc: from.text()?,
            http: from.text()?,
        },
        13 => Command::HistoryDropped { through: from.u64()? },
        14 => Command::Again(read_again(&mut from)?),
        15 => Command::Claim { request: from.text()?, content: from.u64()? },
        other => return Err(DecodeError::Tag("a command", other)),
    };
    from.end()?;
    Ok(command)
}

fn read_create<'a>(from: &mut Cursor<'a>) -> Result<Create<'a>, DecodeError> {
    let (id, name) = (from.text()?, from.text()?);
    let (payload, profile, priority) = (from.bytes()?, from.u16()?, from.u8()?);
    Ok(Create {
        id,
        name,
        payload,
        profile,
        priority: priority & !RETRY,
        retry: priority & RETRY != 0,
        open: read_instance(from)?,
        start: match from.u8()? {
            1 => Start::Ready,
            2 => Start::At(from.time()?),
            3 => Start::Recurring {
                recurrence: Box::new(read_recurrence(from)?),
                next: from.option(Cursor::time)?,
            },
            other => return Err(DecodeError::Tag("a start", other)),
        },
    })
}

fn read_again<'a>(from: &mut Cursor<'a>) -> Result<Again<'a>, DecodeError> {
    Ok(Again {
        id: from.text()?,
        serial: Serial(from.u64()?),
        deed: match from.u8()? {
            1 => Deed::Run(read_rerun(from)?),
            2 => Deed::Delete { cancel: from.flag()? },
            other => return Err(DecodeError::Tag("a deed", other)),
        },
        past: Box::new(read_past(from)?),
    })
}

fn read_past<'a>(from: &mut Cursor<'a>) -> Result<Past<'a>, DecodeError> {
    Ok(Past {
        name: from.text()?,
        payload: from.bytes()?,
        profile: from.u16()?,
        priority: from.u8()?,
        at: from.option(Cursor::time)?,
        recurrence: from.option(read_recurrence)?.map(Box::new),
        created_at: from.time()?,
        ended_at: from.time()?,
        status: read_status(from)?,
        revision: from.u32()?,
        runs: from.u32()?,
        last_success_at: from.option(Cursor::time)?,
        last_failure_at: from.option(Cursor::time)?,
        failures: from.u32()?,
        last_run: from.option(read_run)?,
        as_of: from.u64()?,
    })
}

fn read_rerun<'a>(from: &mut Cursor<'a>) -> Result<Rerun<'a>, DecodeError> {
    let wish = match from.u8()? {
        1 => Wish::Trigger,
        2 => Wish::RetryLatest,
        3 => Wish::Retry(RunNumber(from.u32()?)),
        other => return Err(DecodeError::Tag("a wish", other)),
    };
    Ok(Rerun { wish, key: from.option(read_key)?, open: read_instance(from)? })
}

fn read_close<'a>(from: &mut Cursor<'a>) -> Result<Close<'a>, DecodeError> {
    Ok(Close {
        slot: Slot(from.u32()?),
        token: Token(from.u64()?),
        outcome: read_outcome(from)?,
        started_at: from.option(Cursor::time)?,
        finished_at: from.option(Cursor::time)?,
        exit_code: from.option(Cursor::i32)?,
        retryable: from.flag()?,
        output: from.bytes()?,
        error: from.text()?,
        tail: from.bytes()?,
    })
}

fn read_fire<'a>(from: &mut Cursor<'a>) -> Result<Fire<'a>, DecodeError> {
    Ok(Fire {
        target: read_record(from)?,
        revision: from.u32()?,
        fire_time: from.time()?,
        next: from.option(Cursor::time)?,
        skip: from.option(Cursor::text)?,
        also_missed: from.u32()?,
        open: read_instance(from)?,
    })
}

fn read_record(from: &mut Cursor<'_>) -> Result<RecordRef, DecodeError> {
    Ok(RecordRef { slot: Slot(from.u32()?), serial: Serial(from.u64()?) })
}

fn read_instance(from: &mut Cursor<'_>) -> Result<Option<InstanceId>, DecodeError> {
    from.option(|from| from.u64().map(InstanceId))
}
