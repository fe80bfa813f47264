//! Recurring tasks: fire times, overlap, triggers and their end.

use super::{Rig, WORKER, create, created, recurring, trigger};
use crate::id::{RecordRef, RunNumber};
use crate::spec::{AttemptOutcome, Overlap};
use crate::state::view::{RunCause, TaskStatus};
use crate::state::{Applied, Command, Create, Fire, Refusal};
use crate::time::Timestamp;

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// A task that fires at second 1,060, and then every minute.
fn minutely(rig: &mut Rig, overlap: Overlap) -> RecordRef {
    let start = recurring(overlap, Some(seconds(1_060)));
    created(rig.one(Command::Create(Create { start, ..create("r") })))
}

fn fire(target: RecordRef, at: i64, next: Option<i64>) -> Fire<'static> {
    Fire {
        target,
        revision: 1,
        fire_time: seconds(at),
        next: next.map(seconds),
        skip: None,
        also_missed: 0,
        open: None,
    }
}

fn fired(answer: Applied) -> RecordRef {
    match answer {
        Applied::Fired { run: Some(run), .. } => run,
        other => panic!("no run: {other:?}"),
    }
}

#[test]
fn a_fire_time_is_taken_once() {
    let mut rig = Rig::new();
    let task = minutely(&mut rig, Overlap::Allow);
    let stale = Applied::Refused(Refusal::Stale);
    assert_eq!(rig.one(Command::Fire(fire(task, 1_060, Some(1_120)))), stale, "too early");
    rig.pass(60);
    let due = rig.state.due_schedules(rig.at, 10);
    assert_eq!((due.len(), due[0].task, due[0].fire_time), (1, task, seconds(1_060)));
    let refused = [
        fire(task, 1_000, Some(1_120)),
        fire(task, 1_060, Some(1_060)),
        Fire { revision: 2, ..fire(task, 1_060, Some(1_120)) },
    ];
    for fire in refused {
        assert_eq!(rig.one(Command::Fire(fire)), stale, "{fire:?}");
    }
    let run = fired(rig.one(Command::Fire(fire(task, 1_060, Some(1_120)))));
    assert_eq!(rig.one(Command::Fire(fire(task, 1_060, Some(1_120)))), stale);
    let view = rig.state.task_view(task).expect("it lives");
    assert_eq!((view.status, view.runs_count), (TaskStatus::Ready, 1));
    assert_eq!(view.next_run_at, Some(seconds(1_120)));
    let last = view.last_run.expect("it fired");
    assert_eq!((last.run, last.cause), (RunNumber(1), RunCause::Schedule));
    assert_eq!(last.scheduled_for, seconds(1_060));
    assert_eq!(rig.state.live_run(task, RunNumber(1)), Some(run));
    assert_eq!(rig.state.task_of(run), Some(task));
}

#[test]
fn a_run_enters_the_books_of_its_task() {
    let mut rig = Rig::new();
    let task = minutely(&mut rig, Overlap::Allow);
    rig.pass(60);
    let run = fired(rig.one(Command::Fire(fire(task, 1_060, Some(1_120)))));
    let token = rig.start(run, 1);
    assert_eq!(rig.state.task_view(task).expect("lives").status, TaskStatus::Running);
    let assignment = rig.state.assignment(run, token).expect("it runs");
    assert_eq!((&*assignment.task_id, assignment.run), ("r", RunNumber(1)));
    rig.end(token, AttemptOutcome::Succeeded);
    assert_eq!(rig.changes.finished[0].task, task);
    rig.store_all();
    assert!(!rig.state.holds(run) && rig.state.holds(task));
    let view = rig.state.task_view(task).expect("it lives");
    assert_eq!(view.status, TaskStatus::Waiting);
    assert_eq!(view.last_success_at, Some(rig.at));
    assert_eq!(view.last_run.expect("it ran").status, TaskStatus::Succeeded);
}

#[test]
fn an_overlapping_fire_time_is_recorded_as_skipped() {
    let mut rig = Rig::new();
    let task = minutely(&mut rig, Overlap::Skip);
    rig.pass(120);
    fired(rig.one(Command::Fire(fire(task, 1_060, Some(1_120)))));
    let answer = rig.one(Command::Fire(fire(task, 1_120, Some(1_180))));
    assert_eq!(answer, Applied::Fired { run: None, opened: None });
    let batch = rig.state.history_batch(rig.state.stored(), 100).expect("there are changes");
    let skipped = batch.runs.iter().find(|row| row.view.status == TaskStatus::Skipped);
    assert_eq!(&*skipped.expect("it is recorded").view.reason, "overlap");
    assert_eq!(rig.state.task_view(task).expect("lives").status, TaskStatus::Ready);
}

#[test]
fn a_misfire_says_how_many_were_missed() {
    let mut rig = Rig::new();
    let task = minutely(&mut rig, Overlap::Allow);
    rig.pass(600);
    let skip = Some("misfire");
    let missed = Fire { skip, also_missed: 8, ..fire(task, 1_060, Some(1_600)) };
    assert_eq!(rig.one(Command::Fire(missed)), Applied::Fired { run: None, opened: None });
    let last = rig.state.task_view(task).expect("lives").last_run.expect("recorded");
    assert_eq!(&*last.reason, "misfire; 8 further fire times were missed");
}

#[test]
fn a_schedule_ends_with_its_last_run() {
    let mut rig = Rig::new();
    let task = minutely(&mut rig, Overlap::Allow);
    rig.pass(60);
    let last = Fire { open: Some(WORKER), ..fire(task, 1_060, None) };
    let Applied::Fired { opened: Some(token), .. } = rig.one(Command::Fire(last)) else {
        panic!("it opens at once");
    };
    assert_eq!(rig.state.live_tasks(), 1);
    rig.end(token, AttemptOutcome::Succeeded);
    let view = rig.state.task_view(task).expect("history does not have it");
    assert_eq!(view.status, TaskStatus::Succeeded);
    assert_eq!(rig.state.live_tasks(), 0);
    rig.store_all();
    assert_eq!(rig.state.records(), 0);
}

#[test]
fn cancelling_a_recurring_task_ends_its_runs() {
    let mut rig = Rig::new();
    let task = minutely(&mut rig, Overlap::Allow);
    rig.pass(120);
    let running = fired(rig.one(Command::Fire(fire(task, 1_060, Some(1_120)))));
    let token = rig.start(running, 1);
    let ready = fired(rig.one(Command::Fire(fire(task, 1_120, Some(1_180)))));
    let answer = rig.one(Command::Cancel { target: task, key: None });
    assert_eq!(answer, Applied::Stopping { target: running, token });
    assert!(!rig.state.is_ready(ready));
    assert_eq!(rig.state.next_due(), None);
    let trigger = rig.one(trigger(task, None));
    assert_eq!(trigger, Applied::Refused(Refusal::Terminal));
    assert_eq!(rig.state.task_view(task).expect("lives").status, TaskStatus::Running);
    rig.end(token, AttemptOutcome::Cancelled);
    assert_eq!(rig.state.task_view(task).expect("ended").status, TaskStatus::Cancelled);
    rig.store_all();
    assert_eq!(rig.state.records(), 0);
}

#[test]
fn one_run_is_cancelled_alone() {
    let mut rig = Rig::new();
    let task = minutely(&mut rig, Overlap::Allow);
    let run = fired(rig.one(trigger(task, None)));
    assert_eq!(rig.one(Command::Cancel { target: run, key: None }), Applied::Done);
    let view = rig.state.task_view(task).expect("it lives");
    assert_eq!((view.status, view.next_run_at), (TaskStatus::Waiting, Some(seconds(1_060))));
    assert_eq!(view.last_run.expect("it was").status, TaskStatus::Cancelled);
}

#[test]
fn unfinished_runs_are_bounded() {
    let mut rig = Rig::new();
    let task = minutely(&mut rig, Overlap::Allow);
    let trigger = trigger(task, None);
    let answers = rig.run(&alloc::vec![trigger; crate::limits::UNFINISHED_RUNS_MAX + 1]);
    assert_eq!(answers.last(), Some(&Applied::Refused(Refusal::Full)));
    rig.one(Command::Cancel { target: task, key: None });
    assert_eq!(rig.state.live_tasks(), 0);
    assert_eq!(rig.changes.finished.len(), crate::limits::UNFINISHED_RUNS_MAX + 1);
}

#[test]
fn a_rule_without_instants_ends_at_once() {
    let mut rig = Rig::new();
    let start = recurring(Overlap::Allow, None);
    let task = created(rig.one(Command::Create(Create { start, ..create("r") })));
    assert_eq!(rig.state.task_view(task).expect("recorded").status, TaskStatus::Skipped);
    assert_eq!(rig.state.live_tasks(), 0);
}
