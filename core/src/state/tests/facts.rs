//! One-shot tasks and their attempts.

use super::{KEY, Rig, WORKER, close, create, created, profile, trigger};
use crate::id::{InstanceId, RecordRef, Serial, Slot, Token};
use crate::limits;
use crate::spec::{AttemptOutcome, Backoff, Profile, Retry, StopWhy};
use crate::state::view::{TaskStatus, WaitCode};
use crate::state::{Applied, ApplyError, Changes, Command, Create, Open, Refusal, Start, State};
use crate::time::Timestamp;

fn status(rig: &Rig, task: RecordRef) -> TaskStatus {
    rig.state.task_view(task).expect("it is in memory").status
}

#[test]
fn a_task_runs_and_leaves_memory_once_stored() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    assert_eq!(status(&rig, task), TaskStatus::Ready);
    let token = rig.start(task, 1);
    let assignment = rig.state.assignment(task, token).expect("it runs");
    assert_eq!((&*assignment.task_id, &*assignment.kind, assignment.attempt), ("a", "exec", 1));
    assert_eq!(&assignment.payload[..], b"payload");
    let answer = rig.end(token, AttemptOutcome::Succeeded);
    assert_eq!(answer, Applied::Closed { target: task, token, retried: false });
    assert_eq!(status(&rig, task), TaskStatus::Succeeded);
    rig.store_all();
    assert!(!rig.state.holds(task));
    assert_eq!(rig.state.find("a"), None);
    assert_eq!(rig.state.records(), 0);
    assert_eq!(rig.state.held_bytes(), 0);
    let ended = rig.state.ended("a").expect("its id stays reserved");
    assert_eq!((ended.serial, ended.status), (task.serial.0, TaskStatus::Succeeded));
}

#[test]
fn create_opens_at_once_on_a_known_instance() {
    let mut rig = Rig::new();
    let open = Some(WORKER);
    let answer = rig.one(Command::Create(Create { open, ..create("a") }));
    let Applied::Created { task, opened: Some(token) } = answer else { panic!("{answer:?}") };
    assert_eq!(rig.changes.opened, [(token, task, WORKER)]);
    let open = Some(InstanceId(1));
    let answer = rig.one(Command::Create(Create { open, ..create("b") }));
    assert!(matches!(answer, Applied::Created { opened: None, .. }), "{answer:?}");
}

#[test]
fn a_repeat_is_answered_alike_before_and_after_the_end() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let repeat = Command::Create(create("a"));
    let other = Command::Create(Create { payload: b"other", ..create("a") });
    let conflict = Applied::Refused(Refusal::IdConflict);
    assert_eq!(rig.one(repeat.clone()), Applied::Repeated { live: Some(task) });
    assert_eq!(rig.one(other.clone()), conflict);
    let token = rig.start(task, 1);
    rig.end(token, AttemptOutcome::Succeeded);
    assert_eq!(rig.one(repeat.clone()), Applied::Repeated { live: Some(task) });
    rig.store_all();
    assert_eq!(rig.one(repeat), Applied::Repeated { live: None });
    assert_eq!(rig.one(other), conflict);
}

#[test]
fn every_field_of_the_spec_tells_tasks_apart() {
    let mut rig = Rig::new();
    rig.submit("a");
    let variants = [
        Create { name: "n", ..create("a") },
        Create { priority: 6, ..create("a") },
        Create { start: Start::At(Timestamp::from_seconds(5_000)), ..create("a") },
        Create { start: super::recurring(crate::spec::Overlap::Skip, None), ..create("a") },
    ];
    for variant in variants {
        let answer = rig.one(Command::Create(variant.clone()));
        assert_eq!(answer, Applied::Refused(Refusal::IdConflict), "{variant:?}");
    }
    let answers = rig.run_with(&profile(4), &[Command::Create(create("a"))]);
    assert_eq!(answers, [Applied::Refused(Refusal::IdConflict)]);
}

#[test]
fn an_id_is_free_again_after_the_window() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    rig.one(Command::Cancel { target: task, key: None });
    rig.store_all();
    rig.pass(3_600);
    assert_eq!(rig.state.ended("a"), None);
    assert!(rig.submit("a").serial > task.serial);
}

#[test]
fn a_marked_re_send_is_not_run_while_ids_are_forgotten_before_their_window_ends() {
    let mut rig = Rig::on(State::new(KEY).keeping_ended_ids(2));
    let again = |id| Command::Create(Create { retry: true, ..create(id) });
    let forgotten = Applied::Refused(Refusal::Forgotten);
    // Nothing was forgotten: an unknown id was never accepted.
    created(rig.one(again("a")));
    for id in ["b", "c"] {
        rig.submit(id);
    }
    for id in ["a", "b", "c"] {
        let target = rig.state.find(id).expect("it lives");
        rig.one(Command::Cancel { target, key: None });
        rig.store_all();
        rig.pass(10);
    }
    assert_eq!(rig.one(again("a")), forgotten);
    assert_eq!(rig.one(again("never")), forgotten, "the table cannot tell");
    assert_eq!(rig.one(again("b")), Applied::Repeated { live: None });
    // Without the mark it is another task under a name that is free.
    rig.submit("new");
    // What was forgotten is out of its window like everything before it.
    rig.pass(3_600);
    created(rig.one(again("a")));
}

#[test]
fn a_failed_attempt_waits_and_retries_until_its_retries_are_spent() {
    let mut rig = Rig::new();
    let answers = rig.run_with(&profile(2), &[Command::Create(create("a"))]);
    let task = created(answers[0]);
    for attempt in 1..=2 {
        let token = rig.start(task, attempt);
        let answer = rig.end(token, AttemptOutcome::Failed);
        assert!(matches!(answer, Applied::Closed { retried: true, .. }), "{answer:?}");
        let wait = rig.state.task_view(task).expect("it lives").wait.expect("it waits");
        assert_eq!(wait.code, WaitCode::Backoff);
        assert_eq!(wait.until, Some(rig.at.plus_micros(10_000_000)));
        rig.pass(9);
        assert_eq!(status(&rig, task), TaskStatus::Waiting);
        rig.pass(1);
        assert_eq!(status(&rig, task), TaskStatus::Ready);
    }
    let token = rig.start(task, 3);
    let answer = rig.end(token, AttemptOutcome::Lost);
    assert!(matches!(answer, Applied::Closed { retried: false, .. }), "{answer:?}");
    let view = rig.state.task_view(task).expect("history does not have it");
    assert_eq!(view.status, TaskStatus::Failed);
    assert_eq!(&*view.last_run.expect("it ran").reason, "the worker was lost");
    assert_eq!(rig.state.attempt_views(task).len(), 3);
}

#[test]
fn exponential_backoff_doubles_within_its_upper_half_up_to_the_most() {
    let retry = Retry {
        backoff: Backoff::Exponential,
        backoff_base_ms: 1_000,
        backoff_max_ms: 5_000,
        ..profile(9).retry
    };
    let mut rig = Rig::new();
    let profile = Profile { retry, ..profile(9) };
    let task = created(rig.run_with(&profile, &[Command::Create(create("a"))])[0]);
    for (attempt, full) in [(1, 1_000_i64), (2, 2_000), (3, 4_000), (4, 5_000), (5, 5_000)] {
        let token = rig.start(task, attempt);
        rig.end(token, AttemptOutcome::TimedOut);
        let until = rig.state.next_wake().expect("it waits");
        let waited = until.as_micros() - rig.at.as_micros();
        assert!((full * 500..=full * 1_000).contains(&waited), "{waited} of {full} ms");
        rig.pass(5);
    }
}

#[test]
fn an_interrupted_attempt_never_counts() {
    let mut rig = Rig::new();
    let task = created(rig.run_with(&profile(0), &[Command::Create(create("a"))])[0]);
    for attempt in 1..=4 {
        let token = rig.start(task, attempt);
        rig.end(token, AttemptOutcome::Interrupted);
        assert_eq!(status(&rig, task), TaskStatus::Ready);
    }
    let token = rig.start(task, 5);
    rig.end(token, AttemptOutcome::Failed);
    assert_eq!(status(&rig, task), TaskStatus::Failed);
}

#[test]
fn what_is_not_retryable_fails_for_good() {
    let mut rig = Rig::new();
    for (id, exit_code, retryable) in [("a", Some(99), true), ("b", Some(1), false)] {
        let task = rig.submit(id);
        let token = rig.start(task, 1);
        let failed = close(token, AttemptOutcome::Failed);
        rig.one(Command::Close(crate::state::Close { exit_code, retryable, ..failed }));
        assert_eq!(status(&rig, task), TaskStatus::Failed);
    }
}

#[test]
fn a_stale_token_changes_nothing() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let first = rig.start(task, 1);
    rig.end(first, AttemptOutcome::Lost);
    rig.pass(10);
    let second = rig.start(task, 2);
    assert!(second > first);
    let (changes, stale) = (rig.state.changes(), Applied::Refused(Refusal::StaleToken));
    assert_eq!(rig.end(first, AttemptOutcome::Succeeded), stale);
    assert_eq!(rig.end(Token(77), AttemptOutcome::Succeeded), stale);
    assert_eq!(rig.one(Command::TimeOut { token: first, target: task }), stale);
    assert_eq!(rig.state.changes(), changes);
    assert_eq!(status(&rig, task), TaskStatus::Running);
}

#[test]
fn an_open_is_refused_when_the_state_has_moved_on() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let open = |attempt, instance| Command::Open(Open { target: task, attempt, instance });
    assert_eq!(rig.one(open(2, WORKER)), Applied::Refused(Refusal::Stale));
    let unknown = Applied::Refused(Refusal::UnknownInstance);
    assert_eq!(rig.one(open(1, InstanceId(1))), unknown);
    let other = RecordRef { slot: task.slot, serial: Serial(99) };
    let foreign = Command::Open(Open { target: other, attempt: 1, instance: WORKER });
    assert_eq!(rig.one(foreign), Applied::Refused(Refusal::NotFound));
    rig.start(task, 1);
    assert_eq!(rig.one(open(2, WORKER)), Applied::Refused(Refusal::Stale));
}

#[test]
fn a_waiting_task_is_cancelled_at_once_and_stays_so() {
    let mut rig = Rig::new();
    let start = Start::At(Timestamp::from_seconds(2_000));
    let task = created(rig.one(Command::Create(Create { start, ..create("a") })));
    assert_eq!(rig.state.next_due(), Some(Timestamp::from_seconds(2_000)));
    assert_eq!(rig.one(Command::Cancel { target: task, key: None }), Applied::Done);
    assert_eq!(rig.changes.finished.len(), 1);
    assert_eq!(rig.state.next_due(), None);
    let again = rig.one(Command::Cancel { target: task, key: None });
    assert_eq!(again, Applied::Refused(Refusal::Terminal));
    rig.pass(2_000);
    assert_eq!(status(&rig, task), TaskStatus::Cancelled);
}

#[test]
fn a_running_task_keeps_its_slot_until_the_worker_has_spoken() {
    for (outcome, expected) in [
        (AttemptOutcome::Succeeded, TaskStatus::Succeeded),
        (AttemptOutcome::Cancelled, TaskStatus::Cancelled),
        (AttemptOutcome::Failed, TaskStatus::Cancelled),
        (AttemptOutcome::Lost, TaskStatus::Cancelled),
        (AttemptOutcome::Interrupted, TaskStatus::Cancelled),
    ] {
        let mut rig = Rig::new();
        let task = rig.submit("a");
        let token = rig.start(task, 1);
        let stopping = Applied::Stopping { target: task, token };
        assert_eq!(rig.one(Command::Cancel { target: task, key: None }), stopping);
        assert_eq!(rig.changes.stops, [(token, WORKER, StopWhy::Cancelled)]);
        assert_eq!(status(&rig, task), TaskStatus::Running);
        assert_eq!(rig.one(Command::Cancel { target: task, key: None }), stopping);
        assert!(rig.changes.stops.is_empty());
        rig.end(token, outcome);
        assert_eq!(status(&rig, task), expected, "{outcome:?}");
    }
}

#[test]
fn a_run_timeout_asks_once_and_is_retried() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let token = rig.start(task, 1);
    let ask = Command::TimeOut { token, target: task };
    rig.one(ask.clone());
    assert_eq!(rig.changes.stops, [(token, WORKER, StopWhy::TimedOut)]);
    rig.one(ask);
    assert!(rig.changes.stops.is_empty());
    assert_eq!(rig.state.open_attempt(token).expect("it runs").stop, Some(StopWhy::TimedOut));
    rig.end(token, AttemptOutcome::TimedOut);
    assert_eq!(status(&rig, task), TaskStatus::Waiting);
}

#[test]
fn ready_runs_stand_by_priority_then_age_and_retries_at_the_tail() {
    let mut rig = Rig::new();
    let (a, b, c) = (rig.submit("a"), rig.submit("b"), rig.submit("c"));
    let high = created(rig.one(Command::Create(Create { priority: 9, ..create("h") })));
    let token = rig.start(a, 1);
    rig.end(token, AttemptOutcome::Interrupted);
    rig.one(Command::Cancel { target: b, key: None });
    let classes: alloc::vec::Vec<_> = rig.state.ready_classes().collect();
    assert_eq!(classes.len(), 1);
    assert_eq!((classes[0].queue, classes[0].kind, classes[0].len), ("default", "exec", 3));
    let order: alloc::vec::Vec<_> = rig.state.ready(classes[0].class).map(|r| r.target).collect();
    assert_eq!(order, [high, c, a]);
    assert!(!rig.state.class_is_empty("default", "exec"));
    assert!(rig.state.class_is_empty("default", "other"));
}

#[test]
fn a_deleted_id_is_hidden_and_stays_reserved() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let token = rig.start(task, 1);
    let refused = rig.one(Command::Delete { target: task, cancel: false });
    assert_eq!(refused, Applied::Refused(Refusal::Running));
    rig.one(Command::Delete { target: task, cancel: true });
    assert_eq!(rig.state.find("a"), Some(task));
    assert!(!rig.state.is_deleted("a"));
    rig.end(token, AttemptOutcome::Cancelled);
    assert_eq!(rig.state.find("a"), None);
    assert!(rig.state.is_deleted("a"));
    assert_eq!(rig.one(Command::Create(create("a"))), Applied::Repeated { live: None });
    let gone = rig.one(Command::Delete { target: task, cancel: false });
    assert_eq!(gone, Applied::Refused(Refusal::NotFound));
    rig.store_all();
    assert_eq!(rig.one(Command::Create(create("a"))), Applied::Repeated { live: None });
    assert!(rig.state.ended("a").expect("reserved").deleted);
    assert!(rig.state.is_deleted("a"));
}

#[test]
fn a_trigger_runs_a_waiting_task_now() {
    let mut rig = Rig::new();
    let start = Start::At(Timestamp::from_seconds(9_000));
    let task = created(rig.one(Command::Create(Create { start, ..create("a") })));
    let answer = rig.one(trigger(task, Some(WORKER)));
    let Applied::Fired { run, opened: Some(token) } = answer else { panic!("{answer:?}") };
    assert_eq!(run, Some(task));
    let running = rig.one(trigger(task, None));
    assert_eq!(running, Applied::Refused(Refusal::Running));
    rig.end(token, AttemptOutcome::Succeeded);
    assert_eq!(rig.state.task_view(task).map(|view| view.runs_count), Some(1));
}

#[test]
fn an_oversize_result_fails_for_good_and_keeps_its_tail() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let token = rig.start(task, 1);
    let output = alloc::vec![1; limits::RESULT_BYTES_MAX + 1];
    let tail = alloc::vec![2; limits::OUTPUT_TAIL_BYTES_MAX + 5];
    let done = close(token, AttemptOutcome::Succeeded);
    rig.one(Command::Close(crate::state::Close { output: &output, tail: &tail, ..done }));
    assert_eq!(status(&rig, task), TaskStatus::Failed);
    let attempt = &rig.state.attempt_views(task)[0];
    assert_eq!(attempt.outcome, Some(AttemptOutcome::Failed));
    assert!(attempt.error.starts_with("RESULT_TOO_LARGE"), "{}", attempt.error);
    assert_eq!((attempt.output.len(), attempt.tail.len()), (0, limits::OUTPUT_TAIL_BYTES_MAX));
}

#[test]
fn replicated_time_never_falls_and_an_empty_entry_wakes_what_is_left() {
    let mut rig = Rig::new();
    let due = Timestamp::from_seconds(1_010);
    let ids: alloc::vec::Vec<_> = (0..1_001).map(|n| alloc::format!("t{n}")).collect();
    let start = || Start::At(due);
    let commands: alloc::vec::Vec<_> =
        ids.iter().map(|id| Command::Create(Create { start: start(), ..create(id) })).collect();
    rig.run(&commands);
    rig.at = due;
    rig.run(&[]);
    assert_eq!(rig.changes.readied.len(), 1_000);
    rig.at = Timestamp::from_seconds(1);
    rig.run(&[]);
    assert_eq!(rig.state.at(), due);
    assert_eq!(rig.changes.readied.len(), 1);
    assert_eq!(rig.state.next_due(), None);
}

#[test]
fn an_empty_entry_of_raft_wakes_too() {
    let mut rig = Rig::new();
    let due = rig.at.plus_micros(1);
    let ids: alloc::vec::Vec<_> = (0..1_001).map(|n| alloc::format!("t{n}")).collect();
    let commands: alloc::vec::Vec<_> = ids
        .iter()
        .map(|id| Command::Create(Create { start: Start::At(due), ..create(id) }))
        .collect();
    rig.run(&commands);
    rig.pass(1);
    rig.apply(&[]);
    assert_eq!(rig.changes.readied.len(), 1);
}

#[test]
fn an_entry_that_cannot_be_read_is_refused_and_counts_as_applied() {
    let mut rig = Rig::new();
    rig.apply(b"no entry");
    assert_eq!(rig.state.applied_index(), rig.index);
    assert!(rig.changes.answers.is_empty());
}

#[test]
fn an_entry_above_our_level_halts_before_anything_changes() {
    let mut state = State::new(super::KEY);
    let digest = state.digest();
    let entry = crate::codec::flat::EntryBuilder::new(2, Timestamp::from_seconds(5)).finish();
    let halted = state.apply(3, &entry, &mut Changes::default());
    assert_eq!(halted, Err(ApplyError::Level { index: 3, needed: 2, known: 1 }));
    assert_eq!((state.digest(), state.applied_index()), (digest, 0));
}

#[test]
fn an_instance_is_forgotten_once_nothing_names_it() {
    let mut rig = Rig::new();
    let task = rig.submit("a");
    let token = rig.start(task, 1);
    let retire = Command::RetireInstance { instance: WORKER };
    assert_eq!(rig.one(retire.clone()), Applied::Refused(Refusal::Running));
    rig.end(token, AttemptOutcome::Succeeded);
    assert_eq!(rig.one(retire.clone()), Applied::Done);
    assert_eq!(rig.state.instance(WORKER), None);
    assert_eq!(&*rig.state.attempt_views(task)[0].worker, "w1");
    rig.store_all();
    assert_eq!(rig.one(retire), Applied::Refused(Refusal::UnknownInstance));
}

#[test]
fn addresses_are_replaced() {
    let mut rig = Rig::new();
    let node = crate::id::NodeId(1);
    rig.one(Command::SetAddresses { node, grpc: "a:1", http: "a:2" });
    rig.one(Command::SetAddresses { node, grpc: "b:1", http: "b:2" });
    assert_eq!(rig.state.addresses(node), Some(("b:1", "b:2")));
}

#[test]
fn commands_on_nothing_are_refused() {
    let mut rig = Rig::new();
    let target = RecordRef { slot: Slot(u32::MAX), serial: Serial(0) };
    for command in [
        Command::Cancel { target, key: None },
        trigger(target, None),
        Command::Delete { target, cancel: true },
    ] {
        assert_eq!(rig.one(command), Applied::Refused(Refusal::NotFound));
    }
    let unknown = Command::Create(Create { profile: 9, ..create("a") });
    assert_eq!(rig.one(unknown), Applied::Refused(Refusal::Malformed));
}

#[test]
fn ten_thousand_timers_wake_in_order_and_cancelled_ones_never() {
    let mut rig = Rig::new();
    let mut draw = crate::rng::Rng::new(4);
    let mut tasks = alloc::vec::Vec::new();
    for first in (0..10_000).step_by(1_000) {
        let ids: alloc::vec::Vec<_> =
            (first..first + 1_000).map(|n| alloc::format!("{n}")).collect();
        let commands: alloc::vec::Vec<_> = ids
            .iter()
            .map(|id| {
                let due = Timestamp::from_seconds(2_000 + draw.below(500) as i64);
                Command::Create(Create { start: Start::At(due), ..create(id) })
            })
            .collect();
        tasks.extend(rig.run(&commands).into_iter().map(created));
    }
    let cancels = |at: usize| Command::Cancel { target: tasks[at], key: None };
    for part in (0..10_000).step_by(3).collect::<alloc::vec::Vec<_>>().chunks(1_000) {
        let cancels: alloc::vec::Vec<_> = part.iter().map(|&at| cancels(at)).collect();
        rig.run(&cancels);
    }
    let due = |rig: &Rig, task| {
        let view = rig.state.task_view(task).expect("nothing was stored");
        (view.at.expect("it has a time"), task.serial)
    };
    let mut woken = alloc::vec::Vec::new();
    rig.pass(5_000);
    while !rig.changes.readied.is_empty() {
        woken.extend(rig.changes.readied.iter().map(|&task| due(&rig, task)));
        rig.run(&[]);
    }
    assert_eq!(woken.len(), 10_000 - 3_334);
    assert!(woken.is_sorted());
    assert_eq!(rig.state.next_wake(), None);
}
