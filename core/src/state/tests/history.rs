//! The outbox (P9.1) and snapshots (P10.1).

use alloc::vec::Vec;

use super::{Rig, create, trigger};
use crate::id::InstanceId;
use crate::limits;
use crate::spec::AttemptOutcome;
use crate::state::history::{HistoryGap, TaskRow};
use crate::state::snapshot::{Loader, SnapshotError};
use crate::state::view::TaskStatus;
use crate::state::{Applied, Command, Create, Dropped, Refusal, Start, State};
use crate::time::Timestamp;

#[test]
fn a_short_task_costs_one_row_of_each_kind() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let token = rig.start(task, 1);
    rig.end(token, AttemptOutcome::Succeeded);
    let batch = rig.state.history_batch(0, 100).expect("there are changes");
    assert_eq!((batch.tasks.len(), batch.runs.len(), batch.attempts.len()), (1, 0, 1));
    assert_eq!(batch.tasks[0].view.status, TaskStatus::Succeeded);
    assert_eq!(batch.attempts[0].view.outcome, Some(AttemptOutcome::Succeeded));
    assert_eq!(batch.through, rig.state.changes());
    assert_eq!(rig.state.history_batch(batch.through, 100), None);
}

#[test]
fn a_later_change_is_not_lost_behind_an_earlier_reference() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let token = rig.start(task, 1);
    let early = rig.state.history_batch(0, 100).expect("there are changes");
    rig.end(token, AttemptOutcome::Succeeded);
    rig.one(Command::HistoryStored { epoch: 5, through: early.through });
    assert!(rig.state.holds(task));
    let late = rig.state.history_batch(early.through, 100).expect("the close is not stored");
    assert_eq!((late.tasks.len(), late.attempts.len()), (1, 1));
    rig.one(Command::HistoryStored { epoch: 5, through: late.through });
    assert!(!rig.state.holds(task));
}

#[test]
fn a_row_that_is_written_again_still_says_why_its_run_failed() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let token = rig.start(task, 1);
    let failed = super::close(token, AttemptOutcome::Failed);
    let told = crate::state::Close { retryable: false, error: "no disk", ..failed };
    rig.one(Command::Close(told));
    let through = rig.state.changes();
    let delete = Command::Delete { target: task, cancel: false };
    rig.run(&[delete, Command::HistoryStored { epoch: 5, through }]);
    let batch = rig.state.history_batch(through, 10).expect("the delete is not stored");
    assert!(batch.tasks[0].deleted);
    assert_eq!(&*batch.tasks[0].view.last_run.as_ref().expect("it ran").reason, "no disk");
}

#[test]
fn an_attempt_never_comes_before_its_task() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let token = rig.start(task, 1);
    rig.end(token, AttemptOutcome::Lost);
    let through = rig.state.changes();
    rig.pass(10);
    let early = rig.state.history_batch(0, 1).expect("there are changes");
    assert!(early.through <= through && early.attempts.len() == 1, "{early:?}");
    assert_eq!(early.tasks[0].view.status, TaskStatus::Ready);
    assert!(early.tasks[0].number > early.through);
}

#[test]
fn a_number_of_the_same_entry_is_not_stored_yet() {
    let mut rig = Rig::new();
    let through = rig.state.changes() + 1;
    let stored = Command::HistoryStored { epoch: 5, through };
    let answers = rig.run(&[Command::Create(create("a")), stored]);
    assert_eq!(answers[1], Applied::Refused(Refusal::Stale));
}

#[test]
fn dropped_changes_take_only_what_has_ended_and_are_counted() {
    let mut rig = Rig::new();
    let (done, live) = (rig.submit("done"), rig.submit("live"));
    let token = rig.start(done, 1);
    rig.end(token, AttemptOutcome::Succeeded);
    let through = rig.state.changes();
    assert!(rig.state.outbox_bytes() > 0 && rig.state.ended_in_memory() == 1);
    let beyond = rig.one(Command::HistoryDropped { through: through + 1 });
    assert_eq!(beyond, Applied::Refused(Refusal::Stale));
    rig.one(Command::HistoryDropped { through });
    assert!(!rig.state.holds(done) && rig.state.holds(live));
    let dropped = Dropped { tasks: 1, runs: 0, attempts: 1 };
    assert_eq!((rig.state.dropped(), rig.state.outbox_bytes()), (dropped, 0));
    let (again, next) = rig.state.history_again(1, 0, 100);
    assert_eq!((again.after, again.through, next), (1, through, None));
    assert_eq!(again.gap, Some(HistoryGap { from: 2, to: through, dropped }));
    assert_eq!(again.tasks.len(), 1);
    // The cursor stands before the gap, then behind it.
    rig.one(Command::HistoryStored { epoch: 5, through: 1 });
    assert_eq!(rig.state.dropped(), dropped);
    rig.one(Command::HistoryStored { epoch: 5, through });
    assert_eq!(rig.state.dropped(), Dropped::default());
}

#[test]
fn a_batch_of_large_rows_is_bounded_in_bytes() {
    let mut rig = Rig::new();
    let payload = alloc::vec![b'x'; limits::PAYLOAD_BYTES_MAX];
    let count = 2 * limits::HISTORY_BATCH_BYTES_MAX / payload.len() + 1;
    for n in 0..count {
        let id = alloc::format!("t{n}");
        rig.one(Command::Create(Create { payload: &payload, ..create(&id) }));
    }
    let weight = |tasks: &[TaskRow]| tasks.iter().map(|row| row.view.payload.len()).sum::<usize>();
    let most = limits::HISTORY_BATCH_BYTES_MAX + payload.len();
    let (mut after, mut rows) = (0, 0);
    while let Some(batch) = rig.state.history_batch(after, count) {
        assert!(weight(&batch.tasks) <= most, "{} rows", batch.tasks.len());
        (after, rows) = (batch.through, rows + batch.tasks.len());
    }
    assert_eq!((after, rows), (rig.state.changes(), count));
    let (again, next) = rig.state.history_again(0, 0, count);
    assert!(next.is_some() && weight(&again.tasks) <= most, "{} rows", again.tasks.len());
}

#[test]
fn what_has_ended_and_still_waits_is_not_written_again() {
    let mut rig = Rig::new();
    rig.submit("live");
    let done = rig.submit("done");
    rig.one(Command::HistoryStored { epoch: 5, through: rig.state.changes() });
    let token = rig.start(done, 1);
    rig.end(token, AttemptOutcome::Succeeded);
    let (again, _) = rig.state.history_again(0, 0, 100);
    assert_eq!(again.tasks.iter().map(|row| &*row.view.id).collect::<Vec<_>>(), ["live"]);
    let waits = rig.state.history_batch(rig.state.stored(), 100).expect("the close waits");
    assert_eq!(&*waits.tasks[0].view.id, "done");
}

#[test]
fn tasks_are_written_again_in_bounded_batches_and_the_last_one_passes_the_gap() {
    let mut rig = Rig::new();
    for n in 0..7 {
        rig.submit(&alloc::format!("t{n}"));
    }
    let through = rig.state.changes();
    rig.one(Command::HistoryStored { epoch: 5, through });
    let (mut slot, mut ids) = (0, Vec::new());
    loop {
        let (batch, next) = rig.state.history_again(0, slot, 3);
        assert!(batch.tasks.len() <= 3);
        assert_eq!(batch.gap.is_some(), next.is_none());
        assert_eq!(batch.through, if next.is_none() { through } else { 0 });
        ids.extend(batch.tasks.into_iter().map(|row| row.view.id));
        let Some(next) = next else { break };
        slot = next;
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7);
}

#[test]
fn a_foreign_database_is_refused() {
    let mut rig = Rig::new();
    rig.submit("a");
    rig.one(Command::HistoryStored { epoch: 5, through: 0 });
    assert_eq!(rig.state.history_epoch(), 5);
    let foreign = rig.one(Command::HistoryStored { epoch: 6, through: 1 });
    assert_eq!(foreign, Applied::Refused(Refusal::Stale));
}

#[test]
fn one_command_stores_a_bounded_number_of_changes() {
    let mut rig = Rig::new();
    let ids: Vec<_> = (0..1_500).map(|n| alloc::format!("t{n}")).collect();
    let commands: Vec<_> = ids.iter().map(|id| Command::Create(create(id))).collect();
    rig.run(&commands);
    let stored = Command::HistoryStored { epoch: 5, through: 1_500 };
    rig.one(stored.clone());
    assert_eq!(rig.state.stored(), 1_000);
    rig.one(stored);
    assert_eq!(rig.state.stored(), 1_500);
    assert_eq!(rig.state.live_tasks(), 1_500);
}

#[test]
fn a_batch_stops_at_its_bound_and_goes_on_there() {
    let mut rig = Rig::new();
    for n in 0..10 {
        rig.submit(&alloc::format!("t{n}"));
    }
    let (mut after, mut rows) = (0, 0);
    while let Some(batch) = rig.state.history_batch(after, 3) {
        assert!(batch.tasks.len() <= 3 && batch.after == after && batch.through > after);
        rows += batch.tasks.len();
        after = batch.through;
    }
    assert_eq!(rows, 10);
}

/// Walks the whole state in steps of `bytes`.
fn snapshot(state: &mut State, bytes: usize) -> Vec<u8> {
    state.begin_snapshot();
    let mut stream = Vec::new();
    loop {
        let step = state.step_snapshot(bytes).expect("the walk agrees");
        stream.extend_from_slice(&step.data);
        if step.done {
            return stream;
        }
    }
}

fn load(stream: &[u8], piece: usize) -> Result<State, SnapshotError> {
    let mut loader = Loader::new();
    for piece in stream.chunks(piece) {
        loader.push(piece)?;
    }
    loader.finish()
}

/// A state with something of everything.
fn varied() -> Rig {
    let mut rig = Rig::new();
    for n in 0..20 {
        rig.submit(&alloc::format!("t{n}"));
    }
    let start = Start::At(Timestamp::from_seconds(2_000));
    rig.one(Command::Create(Create { start, ..create("later") }));
    let next = Some(Timestamp::from_seconds(3_000));
    let start = super::recurring(crate::spec::Overlap::Allow, next);
    let answer = rig.one(Command::Create(Create { start, ..create("again") }));
    let recurring = super::created(answer);
    rig.one(trigger(recurring, Some(super::WORKER)));
    let ended = rig.state.find("t3").expect("it lives");
    rig.one(Command::Cancel { target: ended, key: None });
    rig.store_all();
    let task = rig.state.find("t5").expect("it lives");
    let token = rig.start(task, 1);
    rig.end(token, AttemptOutcome::Failed);
    let task = rig.state.find("t6").expect("it lives");
    rig.start(task, 1);
    rig.one(Command::RegisterInstance { instance: InstanceId(4), name: "idle" });
    rig.one(Command::SetAddresses { node: crate::id::NodeId(2), grpc: "g:1", http: "h:2" });
    rig
}

#[test]
fn a_snapshot_says_how_many_ids_are_kept_and_which_were_forgotten() {
    let mut rig = Rig::on(State::new(super::KEY).keeping_ended_ids(0));
    let target = rig.submit("a");
    rig.one(Command::Cancel { target, key: None });
    rig.store_all();
    let stream = snapshot(&mut rig.state, 64);
    rig.state = load(&stream, 7).expect("it is whole");
    let again = Command::Create(Create { retry: true, ..create("a") });
    assert_eq!(rig.one(again), Applied::Refused(crate::state::Refusal::Forgotten));
}

#[test]
fn a_snapshot_comes_back_as_it_was() {
    let mut rig = varied();
    let stream = snapshot(&mut rig.state, 64);
    for piece in [1, 7, 1 << 20] {
        let loaded = load(&stream, piece).expect("it is whole");
        loaded.audit().expect("it is consistent");
        assert_eq!(loaded.digest(), rig.state.digest());
        assert_eq!(loaded.find("later"), rig.state.find("later"));
        assert_eq!(loaded.ended("t3"), rig.state.ended("t3"));
        assert_eq!(loaded.changes(), rig.state.changes());
        let batch = |state: &State| state.history_batch(state.stored(), 1_000);
        assert_eq!(batch(&loaded), batch(&rig.state));
    }
}

#[test]
fn a_walk_stays_at_its_index_while_everything_changes() {
    for steps_before in [0, 3, 12, 22, 24, 25] {
        let mut rig = varied();
        rig.store_all();
        let digest = rig.state.digest();
        rig.state.begin_snapshot();
        let mut stream = Vec::new();
        for _ in 0..steps_before {
            stream.extend_from_slice(&rig.state.step_snapshot(1).expect("it walks").data);
        }
        // The ended id expires, finished tasks go, slots and profiles are used again.
        rig.pass(3_600);
        for n in 0..20 {
            if let Some(task) = rig.state.find(&alloc::format!("t{n}")) {
                rig.one(Command::Cancel { target: task, key: None });
            }
        }
        rig.store_all();
        for n in 20..50 {
            let id = alloc::format!("t{n}");
            rig.run_with(&super::profile(n), &[Command::Create(create(&id))]);
        }
        loop {
            let step = rig.state.step_snapshot(1_000).expect("the walk agrees");
            stream.extend_from_slice(&step.data);
            if step.done {
                break;
            }
        }
        let loaded = load(&stream, 512).expect("it is whole");
        loaded.audit().expect("it is consistent");
        assert_eq!(loaded.digest(), digest, "after {steps_before} steps");
    }
}

#[test]
fn a_cut_or_damaged_snapshot_is_an_error() {
    let mut rig = varied();
    let stream = snapshot(&mut rig.state, 1 << 20);
    for len in 0..stream.len() {
        assert!(load(&stream[..len], 4_096).is_err(), "cut at {len}");
    }
    for place in 0..stream.len() {
        let mut damaged = stream.clone();
        damaged[place] ^= 0x10;
        assert!(load(&damaged, 4_096).is_err(), "damaged at {place}");
    }
}

#[test]
fn a_walk_that_was_dropped_gives_no_more() {
    let mut rig = varied();
    rig.state.begin_snapshot();
    assert!(rig.state.is_walking());
    rig.state.abort_snapshot();
    assert_eq!(rig.state.step_snapshot(10), Err(SnapshotError::NotRunning));
}
