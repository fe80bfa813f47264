//! Rows to store: made from their numbers, with every column in use somewhere.

use bytes::Bytes;
use dtask_core::id::{RunNumber, Token};
use dtask_core::spec::{
    AttemptOutcome, Backoff, DstFold, DstGap, Misfire, Overlap, Profile, Recurrence, Retry, Rule,
};
use dtask_core::state::history::{AttemptRow, TaskRow};
use dtask_core::state::view::{
    AttemptView, RunCause, RunView, TaskStatus, TaskView, WaitCode, WaitView,
};
use dtask_core::time::Timestamp;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_767_225_600 + seconds)
}

pub(crate) fn profile(kind: &str, queue: &str) -> Profile {
    Profile {
        kind: kind.into(),
        queue: queue.into(),
        retry: Retry {
            max_retries: 3,
            backoff: Backoff::Exponential,
            backoff_base_ms: 1_000,
            backoff_max_ms: 600_000,
            no_retry_exit: vec![2, 64],
        },
        run_timeout_ms: 60_000,
    }
}

pub(crate) fn one_shot(number: u64) -> TaskRow {
    let id: Box<str> = format!("task-{number:06}").into();
    let created_at = at(number as i64 / 10);
    let run = RunView {
        run: RunNumber(1),
        cause: RunCause::Submit,
        scheduled_for: created_at,
        status: TaskStatus::Succeeded,
        reason: "".into(),
        attempts: 1,
        retry_of: Some(RunNumber(7)),
    };
    TaskRow {
        number,
        deleted: false,
        view: TaskView {
            name: id.clone(),
            id,
            serial: number,
            profile: profile("exec", if number.is_multiple_of(2) { "mail" } else { "default" })
                .into(),
            payload: Bytes::from_static(b"{\"argv\":[\"true\"]}"),
            priority: 5,
            recurrence: None,
            at: None,
            status: TaskStatus::Succeeded,
            wait: None,
            last_run: Some(run),
            runs_count: 1,
            last_success_at: Some(created_at),
            last_failure_at: None,
            consecutive_failures: 0,
            revision: 1,
            created_at,
            updated_at: created_at,
            next_run_at: None,
            finished_at: Some(created_at),
        },
    }
}

pub(crate) fn attempt(number: u64) -> AttemptRow {
    AttemptRow {
        number,
        task_id: format!("task-{number:06}").into(),
        incarnation: number,
        run: RunNumber(1),
        queue: if number.is_multiple_of(2) { "mail" } else { "default" }.into(),
        view: AttemptView {
            token: Token(number),
            run: RunNumber(1),
            attempt: 1,
            worker: "w1".into(),
            outcome: Some(AttemptOutcome::Succeeded),
            stop_requested: false,
            output: Bytes::from_static(b"\x00\xff out"),
            tail: Bytes::from_static(b"tail"),
            error: "".into(),
            exit_code: Some(0),
            scheduled_for: at(1),
            opened_at: at(2),
            started_at: Some(at(3)),
            finished_at: Some(at(4)),
        },
    }
}

/// A recurring task that waits for a retry, with every column in use.
pub(crate) fn recurring(number: u64) -> TaskRow {
    let mut row = one_shot(number);
    row.view.name = "nightly report".into();
    row.view.status = TaskStatus::Waiting;
    row.view.recurrence = Some(Recurrence {
        rule: Rule::Cron {
            expr: "30 2 * * *".into(),
            zone: "Europe/Paris".into(),
            gap: DstGap::Next,
            fold: DstFold::Second,
        },
        misfire: Misfire::Skip,
        catch_up_ms: 5_000,
        overlap: Overlap::Allow,
    });
    row.view.wait = Some(WaitView {
        code: WaitCode::Backoff,
        message: "retry 1 of 3".into(),
        since: at(5),
        until: Some(at(6)),
    });
    row.view.last_failure_at = Some(at(5));
    row.view.next_run_at = Some(at(86_400));
    row.view.finished_at = None;
    row
}
