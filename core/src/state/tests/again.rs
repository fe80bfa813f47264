//! Tasks that have ended run again (P8.5), and requests that come twice (P8.3).

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Rig, WORKER, create, created, recurring, trigger};
use crate::id::{RecordRef, RunNumber, Serial, Token};
use crate::spec::{AttemptOutcome, Overlap};
use crate::state::history::{RunRow, TaskRow};
use crate::state::view::{RunCause, TaskStatus};
use crate::state::{Again, Applied, Command, Create, Deed, Key, Past, Refusal, Rerun, Start, Wish};
use crate::time::Timestamp;

fn rerun(wish: Wish, request: Option<&str>) -> Rerun<'_> {
    let content = match wish {
        Wish::Trigger => 1,
        Wish::RetryLatest => 2,
        Wish::Retry(run) => 3 + u64::from(run.0),
    };
    let key = request.map(|request| Key { request, content, retry: false });
    Rerun { wish, key, open: Some(WORKER) }
}

fn fired(answer: Applied) -> (RecordRef, Token) {
    match answer {
        Applied::Fired { run: Some(run), opened: Some(token) } => (run, token),
        other => panic!("no run: {other:?}"),
    }
}

/// What the outbox holds of tasks and runs.
fn rows(rig: &Rig) -> (Vec<TaskRow>, Vec<RunRow>) {
    match rig.state.history_batch(rig.state.stored(), 1_000) {
        Some(batch) => (batch.tasks, batch.runs),
        None => (Vec::new(), Vec::new()),
    }
}

/// Submits and ends a task, and stores it: gives its row.
fn ended(rig: &mut Rig, id: &str, outcome: AttemptOutcome) -> TaskRow {
    let start = Start::At(Timestamp::from_seconds(900));
    let task = created(rig.one(Command::Create(Create { start, ..create(id) })));
    let token = rig.start(task, 1);
    rig.end(token, outcome);
    let row = rows(rig).0.pop().expect("its row");
    rig.store_all();
    assert_eq!(rig.state.find(id), None);
    row
}

fn again<'a>(rig: &Rig, row: &'a TaskRow, deed: Deed<'a>) -> Command<'a> {
    let past = Box::new(Past::of(&row.view, rig.state.ended_end()));
    Command::Again(Again { id: &row.view.id, serial: Serial(row.view.serial), past, deed })
}

#[test]
fn an_ended_task_in_memory_gets_a_further_run() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let token = rig.start(task, 1);
    rig.end(token, AttemptOutcome::Cancelled);
    let command = Command::Trigger { target: task, rerun: rerun(Wish::RetryLatest, None) };
    let (run, token) = fired(rig.one(command));
    assert_ne!(run, task, "the ended run stays what it is");
    let view = rig.state.task_view(task).expect("it lives");
    assert_eq!((view.status, view.runs_count), (TaskStatus::Running, 2));
    let latest = view.last_run.expect("it runs");
    assert_eq!((latest.run, latest.cause), (RunNumber(2), RunCause::Trigger));
    assert_eq!(latest.retry_of, Some(RunNumber(1)));
    rig.end(token, AttemptOutcome::Succeeded);
    let runs: Vec<_> =
        rows(&rig).1.into_iter().map(|row| (row.view.run, row.view.status)).collect();
    let expected = [(RunNumber(1), TaskStatus::Cancelled), (RunNumber(2), TaskStatus::Succeeded)];
    assert_eq!(runs, expected, "each run has a row of its own");
    let view = rig.state.task_view(task).expect("it is in memory");
    assert_eq!((view.status, view.next_run_at), (TaskStatus::Succeeded, None));
    rig.store_all();
    assert_eq!(rig.state.records(), 0);
}

#[test]
fn a_task_that_history_alone_has_gets_a_further_run() {
    let mut rig = Rig::new();
    let row = ended(&mut rig, "a", AttemptOutcome::Cancelled);
    let command = again(&rig, &row, Deed::Run(rerun(Wish::Retry(RunNumber(1)), None)));
    let (_, token) = fired(rig.one(command));
    rig.end(token, AttemptOutcome::Succeeded);
    let (tasks, runs) = rows(&rig);
    assert_eq!(tasks.last().map(|row| row.view.runs_count), Some(2));
    assert_eq!(tasks.last().map(|row| row.view.serial), Some(row.view.serial));
    let runs: Vec<_> = runs.into_iter().map(|row| (row.view.run, row.view.retry_of)).collect();
    assert_eq!(runs, [(RunNumber(1), None), (RunNumber(2), Some(RunNumber(1)))]);
    rig.store_all();
    assert_eq!(rig.state.records(), 0);
    // The id stays reserved, and names the same creation.
    let start = Start::At(Timestamp::from_seconds(900));
    let repeat = rig.one(Command::Create(Create { start, ..create("a") }));
    assert_eq!(repeat, Applied::Repeated { live: None });
    assert_eq!(rig.state.ended("a").map(|it| it.status), Some(TaskStatus::Succeeded));
}

#[test]
fn deleting_what_history_alone_has_marks_its_row_and_nothing_else() {
    let mut rig = Rig::new();
    let row = ended(&mut rig, "a", AttemptOutcome::Succeeded);
    let command = again(&rig, &row, Deed::Delete { cancel: false });
    assert_eq!(rig.one(command), Applied::Done);
    assert_eq!((rig.state.find("a"), rig.state.is_deleted("a")), (None, true));
    let marked = rows(&rig).0.pop().expect("its row");
    assert!(marked.deleted);
    assert_eq!(marked.view, row.view);
    let command = again(&rig, &row, Deed::Delete { cancel: false });
    assert_eq!(rig.one(command.clone()), Applied::Refused(Refusal::NotFound));
    rig.store_all();
    assert_eq!(rig.one(command), Applied::Refused(Refusal::Stale));
    assert!(rig.state.is_deleted("a"));
}

#[test]
fn a_recurring_task_that_was_cancelled_runs_once_more_and_does_not_recur() {
    let mut rig = Rig::new();
    let start = recurring(Overlap::Skip, Some(Timestamp::from_seconds(1_060)));
    let task = created(rig.one(Command::Create(Create { start, ..create("a") })));
    rig.one(Command::Cancel { target: task, key: None });
    let row = rows(&rig).0.pop().expect("its row");
    rig.store_all();
    let retry = again(&rig, &row, Deed::Run(rerun(Wish::RetryLatest, None)));
    assert_eq!(rig.one(retry), Applied::Refused(Refusal::NoSuchRun), "it never ran");
    let (_, token) = fired(rig.one(again(&rig, &row, Deed::Run(rerun(Wish::Trigger, None)))));
    rig.end(token, AttemptOutcome::Succeeded);
    let row = rows(&rig).0.pop().expect("its row");
    assert_eq!((row.view.status, row.view.next_run_at), (TaskStatus::Succeeded, None));
    assert!(row.view.recurrence.is_some());
}

#[test]
fn a_row_that_is_older_than_the_latest_end_brings_nothing_back() {
    let mut rig = Rig::new();
    let row = ended(&mut rig, "a", AttemptOutcome::Cancelled);
    let late = again(&rig, &row, Deed::Run(rerun(Wish::Trigger, None)));
    let (_, token) = fired(rig.one(again(&rig, &row, Deed::Run(rerun(Wish::Trigger, None)))));
    rig.end(token, AttemptOutcome::Succeeded);
    rig.store_all();
    assert_eq!(rig.one(late), Applied::Refused(Refusal::Stale));
    assert_eq!(rig.state.records(), 0);
}

#[test]
fn what_is_remembered_of_an_end_vouches_for_its_row_alone() {
    let mut rig = Rig::new();
    let row = ended(&mut rig, "a", AttemptOutcome::Cancelled);
    let end = |row: &TaskRow| row.view.finished_at.expect("it has ended");
    let vouches =
        |rig: &Rig, row: &TaskRow| rig.state.remembers_end("a", row.view.serial, end(row));
    assert!(vouches(&rig, &row));
    assert!(!rig.state.remembers_end("a", row.view.serial + 1, end(&row)));
    rig.pass(10);
    let (_, token) = fired(rig.one(again(&rig, &row, Deed::Run(rerun(Wish::Trigger, None)))));
    rig.end(token, AttemptOutcome::Succeeded);
    let later = rows(&rig).0.pop().expect("its row");
    rig.store_all();
    assert!(vouches(&rig, &later) && !vouches(&rig, &row));
    assert_eq!(rig.one(again(&rig, &later, Deed::Delete { cancel: false })), Applied::Done);
    rig.store_all();
    assert!(!vouches(&rig, &later), "it was deleted");
}

#[test]
fn an_id_that_names_another_task_by_now_brings_nothing_back() {
    let mut rig = Rig::new();
    let row = ended(&mut rig, "a", AttemptOutcome::Cancelled);
    rig.pass(3_601);
    let late = again(&rig, &row, Deed::Run(rerun(Wish::Trigger, None)));
    let task = rig.submit("a");
    assert_eq!(rig.one(late.clone()), Applied::Refused(Refusal::Stale));
    let token = rig.start(task, 1);
    rig.end(token, AttemptOutcome::Succeeded);
    rig.store_all();
    assert_eq!(rig.one(late.clone()), Applied::Refused(Refusal::Stale));
    rig.pass(3_601);
    assert_eq!(rig.state.ended("a"), None);
    assert_eq!(rig.one(late), Applied::Refused(Refusal::Stale), "S9: nobody can tell any more");
}

#[test]
fn only_a_run_that_exists_and_has_ended_is_repeated() {
    let mut rig = Rig::new();
    let target = rig.submit("a");
    let retry = |wish| Command::Trigger { target, rerun: rerun(wish, None) };
    assert_eq!(rig.one(retry(Wish::RetryLatest)), Applied::Refused(Refusal::Running));
    let token = rig.start(target, 1);
    assert_eq!(rig.one(retry(Wish::RetryLatest)), Applied::Refused(Refusal::Running));
    rig.end(token, AttemptOutcome::Succeeded);
    assert_eq!(rig.one(retry(Wish::Retry(RunNumber(2)))), Applied::Refused(Refusal::NoSuchRun));
    let (_, token) = fired(rig.one(retry(Wish::Retry(RunNumber(1)))));
    assert_eq!(rig.one(retry(Wish::Retry(RunNumber(1)))), Applied::Refused(Refusal::Running));
    assert_eq!(rig.one(trigger(target, None)), Applied::Refused(Refusal::Running));
    rig.end(token, AttemptOutcome::Failed);
    // It waits for its next attempt: a trigger runs it now, and makes no other.
    let (run, _) = fired(rig.one(trigger(target, Some(WORKER))));
    assert_eq!(rig.state.task_of(run), Some(target));
    assert_eq!(rig.state.task_view(target).map(|view| view.runs_count), Some(2));
}

#[test]
fn a_request_that_comes_twice_makes_one_run() {
    let mut rig = Rig::new();
    let row = ended(&mut rig, "a", AttemptOutcome::Cancelled);
    let ask = |wish, request| Deed::Run(rerun(wish, request));
    let first = again(&rig, &row, ask(Wish::RetryLatest, Some("r1")));
    let (_, token) = fired(rig.one(first.clone()));
    assert_eq!(rig.one(first.clone()), Applied::Repeated { live: None });
    rig.end(token, AttemptOutcome::Succeeded);
    rig.store_all();
    assert_eq!(rig.one(first), Applied::Repeated { live: None });
    let other = again(&rig, &row, ask(Wish::Trigger, Some("r1")));
    assert_eq!(rig.one(other), Applied::Refused(Refusal::RequestReused));
    assert_eq!(rig.state.open_attempts().count(), 0);
}

#[test]
fn a_cancel_that_comes_twice_stops_nothing_that_runs_since() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let key = |request, content| Some(Key { request, content, retry: false });
    let cancel = Command::Cancel { target: task, key: key("c1", 1) };
    assert_eq!(rig.one(cancel.clone()), Applied::Done);
    let retry = Command::Trigger { target: task, rerun: rerun(Wish::RetryLatest, None) };
    fired(rig.one(retry));
    assert_eq!(rig.one(cancel), Applied::Repeated { live: None });
    let view = rig.state.task_view(task).expect("it lives");
    assert_eq!(view.status, TaskStatus::Running);
    let other = rig.submit("b");
    let reused = rig.one(Command::Cancel { target: other, key: key("c1", 2) });
    assert_eq!(reused, Applied::Refused(Refusal::RequestReused));
    let own = rig.one(Command::Cancel { target: task, key: key("c2", 1) });
    assert!(matches!(own, Applied::Stopping { .. }), "{own:?}");
}

#[test]
fn a_cancel_that_comes_twice_is_known_when_its_task_is_gone() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let key = |content| Some(Key { request: "c1", content, retry: false });
    let cancel = |content| Command::Cancel { target: task, key: key(content) };
    assert_eq!(rig.one(cancel(1)), Applied::Done);
    let retry = Command::Trigger { target: task, rerun: rerun(Wish::RetryLatest, None) };
    let (_, token) = fired(rig.one(retry));
    rig.end(token, AttemptOutcome::Succeeded);
    rig.store_all();
    assert_eq!(rig.state.records(), 0);
    assert_eq!(rig.state.asked_before(key(1)), Some(Ok(Applied::Repeated { live: None })));
    assert_eq!(rig.state.asked_before(key(2)), Some(Err(Refusal::RequestReused)));
    // As planned while the task was still there.
    assert_eq!(rig.one(cancel(1)), Applied::Repeated { live: None });
    assert_eq!(rig.one(cancel(2)), Applied::Refused(Refusal::RequestReused));
}

#[test]
fn a_claimed_request_id_stands_for_one_content() {
    let mut rig = Rig::new();
    let claim = |content| Command::Claim { request: "r1", content };
    assert_eq!(rig.one(claim(7)), Applied::Done);
    assert_eq!(rig.one(claim(7)), Applied::Repeated { live: None });
    assert_eq!(rig.one(claim(8)), Applied::Refused(Refusal::RequestReused));
    let target = rig.submit("a");
    let trigger = Command::Trigger { target, rerun: rerun(Wish::Trigger, Some("r1")) };
    assert_eq!(rig.one(trigger), Applied::Refused(Refusal::RequestReused));
    let long = "r".repeat(crate::limits::REQUEST_ID_BYTES_MAX + 1);
    let malformed = rig.one(Command::Claim { request: &long, content: 7 });
    assert_eq!(malformed, Applied::Refused(Refusal::Malformed));
    rig.pass(3_601);
    assert_eq!(rig.one(claim(8)), Applied::Done, "it is forgotten after its hour");
}
