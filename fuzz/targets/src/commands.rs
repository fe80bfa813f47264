//! Commands from arbitrary bytes: most name records and attempts that exist, some do not, and
//! numbers and times come from the whole of their range.

use arbitrary::{Arbitrary as _, Result, Unstructured};
use bytes::Bytes;
use dtask_core::codec::flat::EntryBuilder;
use dtask_core::id::{InstanceId, NodeId, RecordRef, RunNumber, Serial, Slot, Token};
use dtask_core::spec::{
    AttemptOutcome, Backoff, DstFold, DstGap, Misfire, Overlap, Profile, Recurrence, Retry, Rule,
};
use dtask_core::state::{
    Close, Command, Create, Fire, Key, LEVEL, Open, Rerun, Start, State, Wish,
};
use dtask_core::time::Timestamp;

/// Ids, names, addresses: a few, so that they meet again, and one that is not for an id.
const WORDS: [&str; 6] = ["a", "b", "c", "d", "e", ""];
/// Commands of one entry.
const COMMANDS_MAX: usize = 12;

/// Plans entries.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    /// The stamp of the entry before.
    at: Timestamp,
}

impl Planner {
    /// An entry of a few commands, planned on `state`.
    pub(crate) fn entry(&mut self, u: &mut Unstructured<'_>, state: &State) -> Result<Bytes> {
        self.at = match u8::arbitrary(u)? {
            0 => Timestamp::from_micros(i64::arbitrary(u)?),
            seconds => self.at.plus_micros(i64::from(seconds) * 250_000),
        };
        let level = if u8::arbitrary(u)? == 255 { LEVEL + 1 } else { LEVEL };
        let mut builder = EntryBuilder::new(level, self.at);
        for _ in 0..u.int_in_range(1..=2)? {
            builder.intern(&profile(u)?);
        }
        for _ in 0..u.int_in_range(1..=COMMANDS_MAX)? {
            if u.is_empty() {
                break;
            }
            let payload = [0x5a; 40];
            builder.push(&command(u, state, &payload)?);
        }
        Ok(builder.finish())
    }
}

fn profile(u: &mut Unstructured<'_>) -> Result<Profile> {
    Ok(Profile {
        kind: WORDS[u.choose_index(WORDS.len())?].into(),
        queue: WORDS[u.choose_index(2)?].into(),
        retry: Retry {
            max_retries: *u.choose(&[0, 0, 1, 2, u16::MAX])?,
            backoff: if bool::arbitrary(u)? { Backoff::Fixed } else { Backoff::Exponential },
            backoff_base_ms: *u.choose(&[0, 1, 1_000, u64::MAX])?,
            backoff_max_ms: *u.choose(&[0, 2_000, u64::MAX])?,
            no_retry_exit: if bool::arbitrary(u)? { vec![1] } else { vec![] },
        },
        run_timeout_ms: *u.choose(&[1, 60_000, u64::MAX])?,
    })
}

fn command<'a>(u: &mut Unstructured<'_>, state: &State, payload: &'a [u8]) -> Result<Command<'a>> {
    Ok(match u.int_in_range(0..=18)? {
        0..=2 => Command::Create(create(u, payload)?),
        3 | 4 => open(u, state)?,
        5 | 6 => Command::Close(close(u, state, payload)?),
        7..=9 => Command::Fire(fire(u, state)?),
        10 => Command::Cancel { target: record(u, state)?, key: key(u)? },
        11 => match state.open_attempts().next() {
            Some(open) if u.ratio(3, 4)? => {
                Command::TimeOut { token: open.token, target: open.target }
            }
            Some(_) | None => Command::TimeOut { token: token(u)?, target: record(u, state)? },
        },
        18 => Command::Claim { request: word(u)?, content: u.int_in_range(0..=2)? },
        12 => Command::Trigger { target: record(u, state)?, rerun: rerun(u)? },
        13 => Command::Delete { target: record(u, state)?, cancel: bool::arbitrary(u)? },
        14 => Command::RegisterInstance { instance: instance(u)?, name: word(u)? },
        15 => Command::RetireInstance { instance: instance(u)? },
        16 => stored(u, state)?,
        _ => Command::SetAddresses {
            node: NodeId(u.int_in_range(0..=3)?),
            grpc: word(u)?,
            http: word(u)?,
        },
    })
}

fn stored(u: &mut Unstructured<'_>, state: &State) -> Result<Command<'static>> {
    let (stored, changes) = (state.stored(), state.changes());
    let through = match u8::arbitrary(u)? {
        0 => u64::arbitrary(u)?,
        part => stored + (changes - stored) * u64::from(part) / 128,
    };
    Ok(if u.ratio(1, 4)? {
        Command::HistoryDropped { through }
    } else {
        Command::HistoryStored { epoch: u.int_in_range(4..=5)?, through }
    })
}

fn create<'a>(u: &mut Unstructured<'_>, payload: &'a [u8]) -> Result<Create<'a>> {
    Ok(Create {
        id: word(u)?,
        name: word(u)?,
        payload: &payload[..u.choose_index(payload.len())?],
        profile: u.int_in_range(0..=2)?,
        priority: u.int_in_range(0..=10)?,
        start: match u.int_in_range(0..=3)? {
            0 | 1 => Start::Ready,
            2 => Start::At(time(u)?),
            _ => Start::Recurring {
                recurrence: Box::new(recurrence(u)?),
                next: if u.ratio(7, 8)? { Some(time(u)?) } else { None },
            },
        },
        open: maybe_instance(u)?,
        retry: u.ratio(1, 8)?,
    })
}

fn recurrence(u: &mut Unstructured<'_>) -> Result<Recurrence> {
    let rule = if bool::arbitrary(u)? {
        Rule::Every { period_ms: *u.choose(&[0, 1_000, u64::MAX])?, start: None }
    } else {
        let (gap, fold) = (DstGap::Auto, DstFold::Auto);
        Rule::Cron { expr: word(u)?.into(), zone: "UTC".into(), gap, fold }
    };
    Ok(Recurrence {
        rule,
        misfire: if bool::arbitrary(u)? { Misfire::Skip } else { Misfire::FireOnce },
        catch_up_ms: *u.choose(&[0, 10_000, u64::MAX])?,
        overlap: if bool::arbitrary(u)? { Overlap::Allow } else { Overlap::Skip },
    })
}

/// Mostly the next attempt of a run that is ready.
fn open(u: &mut Unstructured<'_>, state: &State) -> Result<Command<'static>> {
    let instance = instance(u)?;
    if u.ratio(3, 4)?
        && let Some(class) = state.ready_classes().next()
    {
        let run = class.head;
        return Ok(Command::Open(Open { target: run.target, attempt: run.attempt, instance }));
    }
    let attempt = *u.choose(&[0, 1, 2, u16::MAX])?;
    Ok(Command::Open(Open { target: record(u, state)?, attempt, instance }))
}

fn close<'a>(u: &mut Unstructured<'_>, state: &State, text: &'a [u8]) -> Result<Close<'a>> {
    let open: Vec<_> = state.open_attempts().take(16).collect();
    let (slot, token) = if open.is_empty() || u.ratio(1, 8)? {
        (Slot(u.int_in_range(0..=20)?), token(u)?)
    } else {
        let open = u.choose(&open)?;
        (open.target.slot, open.token)
    };
    let outcomes = [
        AttemptOutcome::Succeeded,
        AttemptOutcome::Failed,
        AttemptOutcome::Failed,
        AttemptOutcome::TimedOut,
        AttemptOutcome::Lost,
        AttemptOutcome::Cancelled,
        AttemptOutcome::Interrupted,
    ];
    Ok(Close {
        slot,
        token,
        outcome: *u.choose(&outcomes)?,
        started_at: if bool::arbitrary(u)? { Some(time(u)?) } else { None },
        finished_at: if bool::arbitrary(u)? { Some(time(u)?) } else { None },
        exit_code: *u.choose(&[None, Some(1), Some(i32::MIN)])?,
        retryable: u.ratio(7, 8)?,
        output: &text[..u.choose_index(text.len())?],
        error: word(u)?,
        tail: &text[..u.choose_index(text.len())?],
    })
}

/// Mostly the fire time that a schedule waits for.
fn fire(u: &mut Unstructured<'_>, state: &State) -> Result<Fire<'static>> {
    let due = state.due_schedules(Timestamp::MAX, 8);
    let (target, revision, fire_time) = if due.is_empty() || u.ratio(1, 8)? {
        (record(u, state)?, u.int_in_range(0..=2)?, time(u)?)
    } else {
        let due = u.choose(&due)?;
        (due.task, due.revision, due.fire_time)
    };
    let next = match u.int_in_range(0..=7)? {
        0 => None,
        1 => Some(time(u)?),
        _ => Some(fire_time.plus_micros(1_000_000)),
    };
    let skip = if u.ratio(1, 3)? { Some("misfire") } else { None };
    let also_missed = *u.choose(&[0, 1, u32::MAX])?;
    Ok(Fire { target, revision, fire_time, next, skip, also_missed, open: maybe_instance(u)? })
}

/// A record: by an id that lives, by a ready run, by an open attempt, or by numbers.
fn record(u: &mut Unstructured<'_>, state: &State) -> Result<RecordRef> {
    let found = match u.int_in_range(0..=5)? {
        0..=2 => state.find(word(u)?),
        3 => state.open_attempts().next().map(|open| open.target),
        4 => state.ready_classes().next().map(|class| class.head.target),
        _ => None,
    };
    match found {
        Some(found) => Ok(found),
        None => Ok(RecordRef {
            slot: Slot(u.int_in_range(0..=300)?),
            serial: Serial(u.int_in_range(0..=60)?),
        }),
    }
}

fn token(u: &mut Unstructured<'_>) -> Result<Token> {
    Ok(Token(*u.choose(&[0, 1, 2, 3, 5, 8, u64::MAX])?))
}

fn instance(u: &mut Unstructured<'_>) -> Result<InstanceId> {
    Ok(InstanceId(u.int_in_range(0..=3)?))
}

fn rerun(u: &mut Unstructured<'_>) -> Result<Rerun<'static>> {
    let wish = match u.int_in_range(0..=3)? {
        0 | 1 => Wish::Trigger,
        2 => Wish::RetryLatest,
        _ => Wish::Retry(RunNumber(u.int_in_range(0..=3)?)),
    };
    Ok(Rerun { wish, key: key(u)?, open: maybe_instance(u)? })
}

fn key(u: &mut Unstructured<'_>) -> Result<Option<Key<'static>>> {
    if !bool::arbitrary(u)? {
        return Ok(None);
    }
    let content = u.int_in_range(0..=3)?;
    Ok(Some(Key { request: word(u)?, content, retry: bool::arbitrary(u)? }))
}

fn maybe_instance(u: &mut Unstructured<'_>) -> Result<Option<InstanceId>> {
    if bool::arbitrary(u)? { instance(u).map(Some) } else { Ok(None) }
}

/// Mostly seconds after 1970, as entries are stamped, and now and then anything.
fn time(u: &mut Unstructured<'_>) -> Result<Timestamp> {
    Ok(match u8::arbitrary(u)? {
        255 => Timestamp::from_micros(i64::arbitrary(u)?),
        seconds => Timestamp::from_seconds(i64::from(seconds)),
    })
}

fn word(u: &mut Unstructured<'_>) -> Result<&'static str> {
    u.choose(&WORDS).copied()
}
