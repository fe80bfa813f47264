//! The flat layout: round trips, every truncation, arbitrary bytes.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{DecodeError, EntryBuilder, EntryRef};
use crate::id::{InstanceId, NodeId, RecordRef, RunNumber, Serial, Slot, Token};
use crate::spec::{
    AttemptOutcome, Backoff, DstFold, DstGap, Misfire, Overlap, Profile, Recurrence, Retry, Rule,
};
use crate::state::view::{RunCause, RunView, TaskStatus};
use crate::state::{
    Again, Close, Command, Create, Deed, Fire, Key, Open, Past, Rerun, Start, Wish,
};
use crate::time::Timestamp;

/// What the borrowed commands borrow from.
#[derive(Clone, Debug)]
struct Material {
    text: String,
    other: String,
    bytes: Vec<u8>,
    numbers: [u64; 4],
    small: [u32; 2],
    time: i64,
    later: Option<i64>,
    exit: Option<i32>,
    flag: bool,
    which: u8,
    profile: Profile,
    recurrence: Recurrence,
}

fn profiles() -> impl Strategy<Value = Profile> {
    (".{0,8}", ".{0,8}", any::<(u16, bool, u64, u64, u64)>(), vec(any::<i32>(), 0..4)).prop_map(
        |(kind, queue, (max_retries, fixed, base, max, timeout), no_retry_exit)| Profile {
            kind: kind.into(),
            queue: queue.into(),
            retry: Retry {
                max_retries,
                backoff: if fixed { Backoff::Fixed } else { Backoff::Exponential },
                backoff_base_ms: base,
                backoff_max_ms: max,
                no_retry_exit,
            },
            run_timeout_ms: timeout,
        },
    )
}

fn recurrences() -> impl Strategy<Value = Recurrence> {
    let gap = prop_oneof![Just(DstGap::Auto), Just(DstGap::Skip), Just(DstGap::Next)];
    let fold = prop_oneof![
        Just(DstFold::Auto),
        Just(DstFold::First),
        Just(DstFold::Second),
        Just(DstFold::Both)
    ];
    let every = any::<(u64, Option<i64>)>().prop_map(|(period_ms, start)| Rule::Every {
        period_ms,
        start: start.map(Timestamp::from_micros),
    });
    let cron = (".{0,12}", ".{0,12}", gap, fold).prop_map(|(expr, zone, gap, fold)| Rule::Cron {
        expr: expr.into(),
        zone: zone.into(),
        gap,
        fold,
    });
    (prop_oneof![every, cron], any::<(bool, u64, bool)>()).prop_map(|(rule, (skip, ms, allow))| {
        Recurrence {
            rule,
            misfire: if skip { Misfire::Skip } else { Misfire::FireOnce },
            catch_up_ms: ms,
            overlap: if allow { Overlap::Allow } else { Overlap::Skip },
        }
    })
}

fn materials() -> impl Strategy<Value = Material> {
    (
        (".{0,20}", ".{0,20}", vec(any::<u8>(), 0..40)),
        any::<([u64; 4], [u32; 2], i64, bool, u8)>(),
        (option::of(any::<i64>()), option::of(any::<i32>())),
        profiles(),
        recurrences(),
    )
        .prop_map(
            |(texts, (numbers, small, time, flag, which), (later, exit), profile, recurrence)| {
                let (text, other, bytes) = texts;
                Material {
                    text,
                    other,
                    bytes,
                    numbers,
                    small,
                    time,
                    later,
                    exit,
                    flag,
                    which,
                    profile,
                    recurrence,
                }
            },
        )
}

fn command(m: &Material, profile: u16) -> Command<'_> {
    let target = RecordRef { slot: Slot(m.small[0]), serial: Serial(m.numbers[0]) };
    let time = Timestamp::from_micros(m.time);
    let later = m.later.map(Timestamp::from_micros);
    let instance = InstanceId(m.numbers[1]);
    let open = m.flag.then_some(instance);
    let start = match m.numbers[2] % 3 {
        0 => Start::Ready,
        1 => Start::At(time),
        _ => Start::Recurring { recurrence: Box::new(m.recurrence.clone()), next: later },
    };
    match m.which % 15 {
        0 => Command::Create(Create {
            id: &m.text,
            name: &m.other,
            payload: &m.bytes,
            profile,
            priority: m.which % 10,
            retry: m.which > 127,
            start,
            open,
        }),
        1 => Command::Open(Open { target, attempt: m.small[1] as u16, instance }),
        2 => Command::Close(Close {
            slot: target.slot,
            token: Token(m.numbers[1]),
            outcome: [
                AttemptOutcome::Succeeded,
                AttemptOutcome::Failed,
                AttemptOutcome::TimedOut,
                AttemptOutcome::Lost,
                AttemptOutcome::Cancelled,
                AttemptOutcome::Interrupted,
            ][(m.numbers[2] % 6) as usize],
            started_at: later,
            finished_at: m.flag.then_some(time),
            exit_code: m.exit,
            retryable: m.flag,
            output: &m.bytes,
            error: &m.text,
            tail: m.other.as_bytes(),
        }),
        3 => Command::Fire(Fire {
            target,
            revision: m.small[1],
            fire_time: time,
            next: later,
            skip: m.flag.then_some(m.text.as_str()),
            also_missed: m.small[0],
            open,
        }),
        4 => Command::HistoryStored { epoch: m.numbers[0], through: m.numbers[1] },
        5 => Command::Cancel { target, key: key(m) },
        6 => Command::TimeOut { token: Token(m.numbers[3]), target },
        7 => Command::Trigger { target, rerun: rerun(m, open) },
        8 => Command::Delete { target, cancel: m.flag },
        9 => Command::RegisterInstance { instance, name: &m.text },
        10 => Command::RetireInstance { instance },
        11 => Command::HistoryDropped { through: m.numbers[1] },
        12 => Command::Again(again(m, profile, open)),
        13 => Command::Claim { request: &m.other, content: m.numbers[0] },
        _ => Command::SetAddresses { node: NodeId(m.numbers[3]), grpc: &m.text, http: &m.other },
    }
}

fn key(m: &Material) -> Option<Key<'_>> {
    m.flag.then_some(Key {
        request: &m.other,
        content: m.numbers[2],
        retry: m.which.is_multiple_of(2),
    })
}

fn rerun(m: &Material, open: Option<InstanceId>) -> Rerun<'_> {
    let wish = match m.small[0] % 3 {
        0 => Wish::Trigger,
        1 => Wish::RetryLatest,
        _ => Wish::Retry(RunNumber(m.small[1])),
    };
    Rerun { wish, key: key(m), open }
}

fn again(m: &Material, profile: u16, open: Option<InstanceId>) -> Again<'_> {
    let time = Timestamp::from_micros(m.numbers[1] as i64);
    let last_run = RunView {
        run: RunNumber(m.small[0]),
        cause: RunCause::Trigger,
        scheduled_for: time,
        status: TaskStatus::Skipped,
        reason: m.other.as_str().into(),
        attempts: m.small[1] as u16,
        retry_of: m.flag.then_some(RunNumber(7)),
    };
    let recurrence = m.recurrence.clone();
    let past = Past {
        name: &m.other,
        payload: &m.bytes,
        profile,
        priority: m.which,
        at: m.flag.then_some(time),
        recurrence: m.flag.then(|| Box::new(recurrence)),
        created_at: time,
        ended_at: Timestamp::from_micros(m.numbers[2] as i64),
        status: TaskStatus::Failed,
        revision: m.small[1],
        runs: m.small[0],
        last_success_at: m.flag.then_some(time),
        last_failure_at: None,
        failures: m.small[1],
        last_run: m.flag.then_some(last_run),
        as_of: m.numbers[3],
    };
    let deed = match m.small[1] % 2 {
        0 => Deed::Run(rerun(m, open)),
        _ => Deed::Delete { cancel: m.flag },
    };
    Again { id: &m.text, serial: Serial(m.numbers[0]), past: Box::new(past), deed }
}

fn build(level: u32, at: i64, materials: &[Material]) -> (bytes::Bytes, Vec<u16>) {
    let mut builder = EntryBuilder::new(level, Timestamp::from_micros(at));
    let mut numbers = Vec::new();
    for material in materials {
        let profile = builder.intern(&material.profile);
        numbers.push(profile);
        builder.push(&command(material, profile));
    }
    let bytes = builder.bytes();
    let entry = builder.finish();
    assert_eq!(entry.len(), bytes);
    (entry, numbers)
}

/// Reads everything that can be read.
fn read_all(bytes: &[u8]) -> Result<usize, DecodeError> {
    let entry = EntryRef::parse(bytes)?;
    let profiles = (0..entry.profile_bytes().len()).filter(|&n| entry.profile(n as u16).is_ok());
    Ok(profiles.count() + entry.commands().filter(Result::is_ok).count())
}

proptest! {
    #[test]
    fn entries_come_back_as_they_were_built(
        level: u32, at: i64, materials in vec(materials(), 0..12),
    ) {
        let (bytes, numbers) = build(level, at, &materials);
        let entry = EntryRef::parse(&bytes).expect("it was built here");
        prop_assert_eq!(entry.level(), level);
        prop_assert_eq!(entry.at(), Timestamp::from_micros(at));
        prop_assert_eq!(entry.len(), materials.len());
        for ((read, material), number) in entry.commands().zip(&materials).zip(numbers) {
            prop_assert_eq!(read.expect("it was built here"), command(material, number));
            prop_assert_eq!(&entry.profile(number).expect("it was interned"), &material.profile);
        }
    }

    #[test]
    fn every_truncation_is_an_error(materials in vec(materials(), 1..4)) {
        let (bytes, _) = build(1, 2, &materials);
        for len in 0..bytes.len() {
            prop_assert!(EntryRef::parse(&bytes[..len]).is_err(), "{} of {}", len, bytes.len());
        }
    }

    #[test]
    fn flipped_bytes_never_panic(
        materials in vec(materials(), 1..4), place: prop::sample::Index, value: u8,
    ) {
        let (bytes, _) = build(1, 2, &materials);
        let mut bytes = bytes.to_vec();
        let place = place.index(bytes.len());
        bytes[place] = value;
        let _ = read_all(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..200), ours: bool) {
        if let (true, Some(first)) = (ours, bytes.first_mut()) {
            *first = super::VERSION;
        }
        let _ = read_all(&bytes);
        let _ = super::command::read_command(&bytes);
        let _ = super::spec::read_profile(&bytes);
    }
}

#[test]
fn equal_profiles_share_a_number() {
    let profile = Profile {
        kind: "exec".into(),
        queue: "default".into(),
        retry: Retry {
            max_retries: 3,
            backoff: Backoff::Fixed,
            backoff_base_ms: 1,
            backoff_max_ms: 2,
            no_retry_exit: Vec::new(),
        },
        run_timeout_ms: 3,
    };
    let mut builder = EntryBuilder::new(1, Timestamp::default());
    assert_eq!(builder.intern(&profile), 0);
    assert_eq!(builder.intern(&Profile { queue: "mail".into(), ..profile.clone() }), 1);
    assert_eq!(builder.intern(&profile), 0);
}
