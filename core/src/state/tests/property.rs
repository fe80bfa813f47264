//! Random entries against the model, with replicas, and a snapshot taken while entries are applied.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::collection::vec as list;
use proptest::prelude::*;
use proptest::sample::Index;

use super::model::{Model, Stand};
use super::{KEY, close, profile, recurring};
use crate::codec::flat::EntryBuilder;
use crate::id::{InstanceId, RecordRef, RunNumber, Serial, Slot, Token};
use crate::spec::{AttemptOutcome, Overlap};
use crate::state::history::HistoryBatch;
use crate::state::snapshot::Loader;
use crate::state::view::{AttemptView, RunView, TaskStatus, TaskView};
use crate::state::{
    self, Again, Applied, Changes, Close, Command, Create, Deed, Fire, Key, Open, Past, Rerun,
    Start, State,
};
use crate::time::Timestamp;

/// The entry's profiles, by their retries.
const RETRIES: [u16; 3] = [0, 1, 3];

#[derive(Clone, Debug)]
enum Wish {
    Create { id: u8, spec: u8, open: u8 },
    Open { pick: Index, wrong: bool, instance: u8 },
    Close { pick: Index, outcome: u8, exit: bool, retryable: bool },
    Fire { pick: Index, skip: bool, last: bool, stale: bool, open: u8 },
    Cancel { pick: Index, request: u8 },
    Claim { request: u8, content: u8 },
    TimeOut { pick: Index },
    Trigger { pick: Index, wish: u8, request: u8, open: u8 },
    Again { pick: Index, wish: u8, request: u8, open: u8 },
    Delete { pick: Index, cancel: bool },
    Register { instance: u8 },
    Stored { part: u8 },
    Addresses { node: u8 },
}

fn wishes() -> impl Strategy<Value = Wish> {
    let pick = any::<Index>;
    prop_oneof![
        6 => (0..12_u8, 0..12_u8, 0..8_u8)
            .prop_map(|(id, spec, open)| Wish::Create { id, spec, open }),
        6 => (pick(), prop::bool::weighted(0.1), 0..3_u8)
            .prop_map(|(pick, wrong, instance)| Wish::Open { pick, wrong, instance }),
        6 => (pick(), 0..8_u8, prop::bool::weighted(0.1), prop::bool::weighted(0.9)).prop_map(
            |(pick, outcome, exit, retryable)| Wish::Close { pick, outcome, exit, retryable }
        ),
        4 => (pick(), any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.1), 0..8_u8)
            .prop_map(|(pick, skip, last, stale, open)| {
                Wish::Fire { pick, skip, last, stale, open }
            }),
        1 => (pick(), 0..9_u8).prop_map(|(pick, request)| Wish::Cancel { pick, request }),
        1 => (0..3_u8, 0..2_u8).prop_map(|(request, content)| Wish::Claim { request, content }),
        1 => pick().prop_map(|pick| Wish::TimeOut { pick }),
        3 => (pick(), 0..8_u8, 0..6_u8, 0..8_u8).prop_map(|(pick, wish, request, open)| {
            Wish::Trigger { pick, wish, request, open }
        }),
        3 => (pick(), 0..10_u8, 0..6_u8, 0..8_u8).prop_map(|(pick, wish, request, open)| {
            Wish::Again { pick, wish, request, open }
        }),
        1 => (pick(), any::<bool>()).prop_map(|(pick, cancel)| Wish::Delete { pick, cancel }),
        1 => (0..3_u8).prop_map(|instance| Wish::Register { instance }),
        4 => (0..4_u8).prop_map(|part| Wish::Stored { part }),
        1 => (0..3_u8).prop_map(|node| Wish::Addresses { node }),
    ]
}

/// Plans a command on the model as it stands before the entry.
fn command<'a>(
    wish: &Wish,
    model: &Model,
    state: &State,
    rows: &'a [TaskView],
    ids: &'a [String],
) -> Command<'a> {
    let records: Vec<RecordRef> = model.entities.keys().map(|&s| model.reference(s)).collect();
    let any_record = |pick: &Index| match records.len() {
        0 => RecordRef { slot: Slot(0), serial: Serial(0) },
        len => records[pick.index(len)],
    };
    let instance = |n: u8| InstanceId(u64::from(n));
    let open = |n: u8| (n < 3).then_some(instance(n));
    match wish {
        Wish::Create { id, spec, open: n } => create(*id, *spec, open(*n), ids),
        Wish::Open { pick, wrong, instance: n } => {
            let ready: Vec<u64> = stands(model, |stand| matches!(stand, Stand::Ready(_)));
            let target = match ready.len() {
                0 => any_record(pick),
                len => model.reference(ready[pick.index(len)]),
            };
            let attempts = model.entities.get(&target.serial.0).map_or(0, |e| e.attempts);
            let attempt = attempts + if *wrong { 2 } else { 1 };
            Command::Open(Open { target, attempt, instance: instance(*n) })
        }
        Wish::Close { pick, outcome, exit, retryable } => {
            let tokens: Vec<Token> = model.open.keys().copied().collect();
            let token = match tokens.len() {
                0 => Token(1),
                len => tokens[pick.index(len)],
            };
            let exit_code = Some(if *exit { 99 } else { 1 });
            Command::Close(Close {
                exit_code,
                retryable: *retryable,
                ..close(token, told(*outcome))
            })
        }
        Wish::Fire { pick, skip, last, stale, open: n } => {
            let due: Vec<u64> = model
                .entities
                .iter()
                .filter(|(_, e)| e.next.is_some())
                .map(|(&serial, _)| serial)
                .collect();
            let target = match due.len() {
                0 => any_record(pick),
                len => model.reference(due[pick.index(len)]),
            };
            let next = model.entities.get(&target.serial.0).and_then(|task| task.next);
            let fire_time = next.unwrap_or_default();
            Command::Fire(Fire {
                target,
                revision: if *stale { 2 } else { 1 },
                fire_time,
                next: (!last).then(|| fire_time.plus_micros(20_000_000)),
                skip: skip.then_some("misfire"),
                also_missed: 2,
                open: open(*n),
            })
        }
        Wish::Cancel { pick, request } => {
            let content = 20 + pick.index(2) as u8;
            Command::Cancel { target: any_record(pick), key: key(*request, content, ids) }
        }
        Wish::Claim { request, content } => {
            Command::Claim { request: &ids[usize::from(*request)], content: u64::from(*content) }
        }
        Wish::TimeOut { pick } => {
            let open: Vec<_> = model.open.iter().collect();
            match open.len() {
                0 => Command::TimeOut { token: Token(1), target: any_record(pick) },
                len => {
                    let (&token, held) = open[pick.index(len)];
                    Command::TimeOut { token, target: model.reference(held.serial) }
                }
            }
        }
        Wish::Trigger { pick, wish, request, open: n } => {
            let rerun = rerun((*wish, *request), open(*n), ids);
            Command::Trigger { target: any_record(pick), rerun }
        }
        Wish::Again { pick, wish, request, open: n } => match rows.len() {
            0 => Command::Cancel { target: any_record(pick), key: None },
            len => {
                let row = &rows[pick.index(len)];
                let mut past = Box::new(Past::of(row, state.ended_end()));
                let own = |retries: &u16| *retries == row.profile.retry.max_retries;
                past.profile = RETRIES.iter().position(own).map_or(0, |number| number as u16);
                let deed = match wish {
                    8 | 9 => Deed::Delete { cancel: *wish == 9 },
                    _ => Deed::Run(rerun((*wish, *request), open(*n), ids)),
                };
                Command::Again(Again { id: &row.id, serial: Serial(row.serial), past, deed })
            }
        },
        Wish::Delete { pick, cancel } => {
            Command::Delete { target: any_record(pick), cancel: *cancel }
        }
        Wish::Register { instance: n } => {
            Command::RegisterInstance { instance: instance(*n), name: "w" }
        }
        Wish::Stored { part } => {
            let (stored, changes) = (state.stored(), state.changes());
            let through = stored + (changes - stored) * u64::from(part + 1) / 4;
            Command::HistoryStored { epoch: 5, through }
        }
        Wish::Addresses { node } => Command::SetAddresses {
            node: crate::id::NodeId(u64::from(*node)),
            grpc: &ids[usize::from(*node)],
            http: "h",
        },
    }
}

fn key(request: u8, content: u8, ids: &[String]) -> Option<Key<'_>> {
    let content = u64::from(content);
    (request < 3).then(|| Key { request: &ids[usize::from(request)], content, retry: false })
}

fn rerun((number, request): (u8, u8), open: Option<InstanceId>, ids: &[String]) -> Rerun<'_> {
    let wish = match number {
        0..5 => state::Wish::Trigger,
        5 => state::Wish::RetryLatest,
        _ => state::Wish::Retry(RunNumber(u32::from(number) - 5)),
    };
    Rerun { wish, key: key(request, number, ids), open }
}

fn create(id: u8, spec: u8, open: Option<InstanceId>, ids: &[String]) -> Command<'_> {
    let next = Some(Timestamp::from_seconds(1_010));
    let start = match spec % 6 {
        0 => Start::At(Timestamp::from_seconds(1_030)),
        1 => recurring(Overlap::Allow, next),
        2 => recurring(Overlap::Skip, next),
        3..6 => Start::Ready,
        _ => unreachable!("a remainder of six"),
    };
    Command::Create(Create {
        id: &ids[usize::from(id)],
        name: "",
        payload: ids[usize::from(spec)].as_bytes(),
        profile: u16::from(spec % 3),
        priority: spec % 10,
        retry: false,
        start,
        open,
    })
}

fn told(number: u8) -> AttemptOutcome {
    match number {
        0 => AttemptOutcome::Lost,
        1 => AttemptOutcome::TimedOut,
        2 => AttemptOutcome::Cancelled,
        3 => AttemptOutcome::Interrupted,
        4 | 5 => AttemptOutcome::Failed,
        _ => AttemptOutcome::Succeeded,
    }
}

fn stands(model: &Model, wanted: impl Fn(Stand) -> bool) -> Vec<u64> {
    model.entities.iter().filter(|(_, e)| wanted(e.stand)).map(|(&serial, _)| serial).collect()
}

/// Everything that readers of the state see, beside the model's.
fn compare(state: &State, model: &Model) -> Result<(), TestCaseError> {
    for (&serial, entity) in &model.entities {
        let named = model.reference(serial);
        prop_assert!(state.holds(named), "{:?} is gone", entity);
        let expected = match entity.stand {
            Stand::Waiting(_) | Stand::Scheduled => TaskStatus::Waiting,
            Stand::Ready(_) => TaskStatus::Ready,
            Stand::Running(_) => TaskStatus::Running,
            Stand::Done(status) => status,
        };
        if let Some(run) = state.run_view(named.slot.0) {
            prop_assert_eq!(run.status, expected, "{:?}", entity);
            prop_assert_eq!(run.attempts, entity.attempts);
            prop_assert_eq!(run.run, model.run_number(serial));
        } else {
            let view = state.task_view(named).expect("it is held");
            prop_assert_eq!(view.next_run_at, entity.next);
            prop_assert_eq!(view.runs_count, entity.runs);
            prop_assert_eq!(view.finished_at.is_some(), matches!(entity.stand, Stand::Done(_)));
        }
        if entity.parent.is_none() {
            let hidden = entity.deleted && matches!(entity.stand, Stand::Done(_));
            prop_assert_eq!(state.find(&entity.id), (!hidden).then_some(named));
        }
    }
    let live = |e: &&super::model::Entity| e.parent.is_none() && !matches!(e.stand, Stand::Done(_));
    prop_assert_eq!(state.live_tasks(), model.entities.values().filter(live).count() as u64);
    prop_assert_eq!(state.records(), model.entities.len());
    let mut ready: Vec<_> = model
        .entities
        .iter()
        .filter_map(|(&serial, e)| match e.stand {
            Stand::Ready(sequence) => Some((core::cmp::Reverse(e.priority), sequence, serial)),
            _ => None,
        })
        .collect();
    ready.sort_unstable();
    let listed: Vec<u64> = state
        .ready_classes()
        .flat_map(|class| state.ready(class.class).map(|run| run.target.serial.0))
        .collect();
    prop_assert_eq!(listed, ready.into_iter().map(|(_, _, serial)| serial).collect::<Vec<_>>());
    let open: Vec<_> = state.open_attempts().map(|a| (a.token, a.target, a.stop)).collect();
    let expected: Vec<_> =
        model.open.iter().map(|(&t, held)| (t, model.reference(held.serial), held.stop)).collect();
    prop_assert_eq!(open, expected);
    let waits = model.entities.values().filter_map(|e| match e.stand {
        Stand::Waiting(until) => Some(until),
        _ => e.next,
    });
    prop_assert_eq!(state.next_due(), waits.min());
    Ok(())
}

/// A database that is fed with batches, and must in the end show what the state showed.
#[derive(Default)]
struct Database {
    tasks: BTreeMap<u64, TaskView>,
    runs: BTreeMap<(u64, u32), RunView>,
    attempts: BTreeMap<Token, AttemptView>,
}

impl Database {
    fn store(&mut self, batch: HistoryBatch) {
        self.tasks.extend(batch.tasks.into_iter().map(|row| (row.view.serial, row.view)));
        let runs = batch.runs.into_iter().map(|row| ((row.incarnation, row.view.run.0), row.view));
        self.runs.extend(runs);
        self.attempts.extend(batch.attempts.into_iter().map(|row| (row.view.token, row.view)));
    }
}

/// A walk that goes on between entries, and the replica that it gives.
struct Copying {
    begin_at: usize,
    stream: Vec<u8>,
    entries: Vec<(u64, bytes::Bytes)>,
    replica: Option<State>,
}

impl Copying {
    fn step(
        &mut self,
        number: usize,
        bytes: usize,
        state: &mut State,
    ) -> Result<(), TestCaseError> {
        if number == self.begin_at {
            state.begin_snapshot();
            self.entries.clear();
        }
        if state.is_walking() {
            let step = state.step_snapshot(bytes);
            let step = step.map_err(|error| TestCaseError::fail(format!("{error}")))?;
            self.stream.extend_from_slice(&step.data);
            if step.done {
                let mut loader = Loader::new();
                for piece in self.stream.chunks(97) {
                    loader.push(piece).map_err(|e| TestCaseError::fail(format!("{e}")))?;
                }
                let loaded = loader.finish();
                let mut replica = loaded.map_err(|e| TestCaseError::fail(format!("{e}")))?;
                replica.audit().map_err(TestCaseError::fail)?;
                // The tail that was applied while the walk went on.
                for (index, entry) in self.entries.drain(..) {
                    let mut changes = Changes::default();
                    replica.apply(index, &entry, &mut changes).expect("the level is ours");
                }
                self.replica = Some(replica);
            }
        }
        Ok(())
    }
}

fn check(
    entries: &[(u8, Vec<Wish>)],
    begin_at: usize,
    step_bytes: usize,
) -> Result<(), TestCaseError> {
    let ids: Vec<String> = (0..12).map(|n| format!("id-{n}")).collect();
    let (mut state, mut model) = (State::new(KEY), Model::default());
    let mut database = Database::default();
    let mut seen = Database::default();
    let mut copying = Copying { begin_at, stream: Vec::new(), entries: Vec::new(), replica: None };
    let (mut changes, mut at, mut token) = (Changes::default(), Timestamp::from_seconds(1_000), 0);
    for (number, (seconds, wishes)) in entries.iter().enumerate() {
        copying.step(number, step_bytes, &mut state)?;
        at = at.plus_micros(i64::from(*seconds) * 1_000_000);
        let mut builder = EntryBuilder::new(1, at);
        for retries in RETRIES {
            builder.intern(&profile(retries));
        }
        let rows: Vec<TaskView> = database.tasks.values().cloned().collect();
        let mut commands: Vec<_> =
            wishes.iter().map(|w| command(w, &model, &state, &rows, &ids)).collect();
        // One at most: of two, the model could not tell which let a record go.
        let mut stored = false;
        commands.retain(|command| {
            !matches!(command, Command::HistoryStored { .. })
                || !core::mem::replace(&mut stored, true)
        });
        for command in &commands {
            builder.push(command);
            if let Command::HistoryStored { through, .. } = command {
                let mut after = state.stored();
                while after < *through {
                    let Some(batch) = state.history_batch(after, 7) else { break };
                    after = batch.through;
                    database.store(batch);
                }
            }
        }
        let entry = builder.finish();
        changes.clear();
        let index = number as u64 + 1;
        state.apply(index, &entry, &mut changes).expect("the level is ours");
        copying.entries.push((index, entry.clone()));
        if let Some(replica) = &mut copying.replica {
            let mut others = Changes::default();
            replica.apply(index, &entry, &mut others).expect("the level is ours");
            prop_assert_eq!(&others.answers, &changes.answers);
            prop_assert_eq!(replica.digest(), state.digest(), "S6 at {}", index);
            copying.entries.clear();
        }
        model.entry(at);
        for (command, answer) in commands.iter().zip(&changes.answers) {
            if matches!(command, Command::HistoryStored { .. }) {
                // The model cannot number changes; it learns which finished records left.
                let gone: Vec<u64> = stands(&model, |stand| matches!(stand, Stand::Done(_)));
                for serial in gone {
                    if !state.holds(model.reference(serial)) {
                        model.forget(serial);
                    }
                }
                continue;
            }
            prop_assert_eq!(model.apply(command, &RETRIES), *answer, "{:?}", command);
        }
        state.audit().map_err(TestCaseError::fail)?;
        compare(&state, &model)?;
        for (opened, _, _) in &changes.opened {
            prop_assert!(opened.0 > token, "S11: {opened} after {token}");
            token = opened.0;
        }
        if let Some(batch) = state.history_batch(state.stored(), 10_000) {
            seen.store(batch);
        }
    }
    drain(&mut state, &mut database, entries.len() as u64)?;
    // Upholds S18 at lag zero: the database shows each row as it last stood.
    prop_assert_eq!(&database.tasks, &seen.tasks);
    prop_assert_eq!(&database.runs, &seen.runs);
    prop_assert_eq!(&database.attempts, &seen.attempts);
    Ok(())
}

/// Stores everything; only what is unfinished stays.
fn drain(state: &mut State, database: &mut Database, index: u64) -> Result<(), TestCaseError> {
    let mut index = index;
    while let Some(batch) = state.history_batch(state.stored(), 7) {
        let mut builder = EntryBuilder::new(1, state.at());
        builder.push(&Command::HistoryStored { epoch: 5, through: batch.through });
        database.store(batch);
        index += 1;
        let mut changes = Changes::default();
        state.apply(index, &builder.finish(), &mut changes).expect("the level is ours");
        prop_assert_eq!(&changes.answers[..], [Applied::Done]);
    }
    state.audit().map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    #[test]
    fn state_and_replicas_do_what_the_model_does(
        entries in list((0..15_u8, list(wishes(), 0..6)), 1..60),
        begin_at in 0..40_usize,
        step_bytes in prop_oneof![Just(1_usize), 50..2_000_usize],
    ) {
        check(&entries, begin_at, step_bytes)?;
    }
}
