//! The contract of a history database, on a real SQLite file: exactly one row each, a cursor that
//! only its cluster and epoch may move, readers beside the writer.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use dtask_core::id::{ClusterId, RunNumber, Token};
use dtask_core::node::TaskFilter;
use dtask_core::spec::{
    AttemptOutcome, Backoff, DstFold, DstGap, Misfire, Overlap, Profile, Recurrence, Retry, Rule,
};
use dtask_core::state::Dropped;
use dtask_core::state::history::{AttemptRow, HistoryBatch, HistoryGap, RunRow, TaskRow};
use dtask_core::state::view::{
    AttemptView, RunCause, RunView, TaskStatus, TaskView, WaitCode, WaitView,
};
use dtask_core::time::Timestamp;
use dtask_runtime::history::{Cursor, SqliteReader, SqliteWriter, WriteError, Writer as _};
use dtask_runtime::serve::ports::{ExecutionQuery, HistoryRead as _, RunQuery, TaskQuery};
use sqlx::Connection as _;

const CLUSTER: ClusterId = ClusterId(0xfeed);

/// A database file of a test's own, with a writer that has opened it.
struct Database {
    _dir: tempfile::TempDir,
    path: PathBuf,
    writer: SqliteWriter,
    cursor: Cursor,
}

impl Database {
    async fn fresh() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("history.db");
        let mut writer = SqliteWriter::new(path.clone());
        let cursor = writer.open(CLUSTER).await.expect("a new file");
        Self { _dir: dir, path, writer, cursor }
    }

    fn reader(&self) -> SqliteReader {
        SqliteReader::new(&self.path).expect("a thread")
    }

    fn batch(&self, after: u64, through: u64) -> HistoryBatch {
        HistoryBatch {
            cluster: CLUSTER,
            epoch: self.cursor.epoch,
            after,
            through,
            gap: None,
            tasks: Vec::new(),
            runs: Vec::new(),
            attempts: Vec::new(),
        }
    }

    /// Tasks `first..=last` by number, each with one attempt.
    fn lives(&self, first: u64, last: u64) -> HistoryBatch {
        HistoryBatch {
            tasks: (first..=last).map(one_shot).collect(),
            attempts: (first..=last).map(attempt).collect(),
            ..self.batch(first - 1, last)
        }
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_767_225_600 + seconds)
}

fn profile(kind: &str, queue: &str) -> Profile {
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

fn one_shot(number: u64) -> TaskRow {
    let id: Box<str> = format!("task-{number:06}").into();
    let created_at = at(number as i64 / 10);
    let run = RunView {
        run: RunNumber(1),
        cause: RunCause::Submit,
        scheduled_for: created_at,
        status: TaskStatus::Succeeded,
        reason: "".into(),
        attempts: 1,
    };
    TaskRow {
        number,
        deleted: false,
        view: TaskView {
            name: id.clone(),
            id,
            serial: number,
            profile: profile("exec", if number.is_multiple_of(2) { "mail" } else { "default" }),
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

fn attempt(number: u64) -> AttemptRow {
    AttemptRow {
        number,
        task_id: format!("task-{number:06}").into(),
        incarnation: number,
        run: RunNumber(1),
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
fn recurring(number: u64) -> TaskRow {
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

fn ids(tasks: &[TaskView]) -> Vec<&str> {
    tasks.iter().map(|task| &*task.id).collect()
}

async fn count(reader: &SqliteReader) -> usize {
    let query = TaskQuery { limit: 10_000, ..TaskQuery::default() };
    reader.tasks(query).await.expect("readable").len()
}

#[tokio::test]
async fn what_was_stored_is_read_back_whole() {
    let mut db = Database::fresh().await;
    let every = {
        let mut row = recurring(2);
        let recurrence = row.view.recurrence.as_mut().expect("it recurs");
        recurrence.rule = Rule::Every { period_ms: 60_000, start: Some(at(7)) };
        row
    };
    let run = RunRow {
        number: 3,
        task_id: "task-000001".into(),
        incarnation: 1,
        view: RunView {
            run: RunNumber(4),
            cause: RunCause::Schedule,
            scheduled_for: at(9),
            status: TaskStatus::Skipped,
            reason: "misfire".into(),
            attempts: 0,
        },
    };
    let batch = HistoryBatch {
        tasks: vec![recurring(1), every.clone()],
        runs: vec![run.clone()],
        attempts: vec![attempt(1)],
        ..db.batch(0, 3)
    };
    assert_eq!(db.writer.store(&batch).await.expect("stored"), 3);
    let reader = db.reader();
    assert_eq!(reader.task("task-000001").await, Ok(Some(recurring(1).view)));
    assert_eq!(reader.task("task-000002").await, Ok(Some(every.view)));
    assert_eq!(reader.task("nobody").await, Ok(None));
    assert_eq!(reader.execution(Token(1)).await, Ok(Some(attempt(1))));
    assert_eq!(reader.execution(Token(2)).await, Ok(None));
    let query = RunQuery { task_id: "task-000001".into(), after: None, limit: 10 };
    assert_eq!(reader.runs(query).await, Ok(vec![run]));
}

#[tokio::test]
async fn a_batch_offered_again_leaves_each_row_once() {
    let mut db = Database::fresh().await;
    let batch = db.lives(1, 1_234);
    assert_eq!(db.writer.store(&batch).await.expect("stored"), 1_234);
    // As if the answer had been lost, on the same connection and on a new one.
    assert_eq!(db.writer.store(&batch).await.expect("known"), 1_234);
    let mut again = SqliteWriter::new(db.path.clone());
    assert_eq!(again.open(CLUSTER).await.expect("opens"), Cursor { through: 1_234, ..db.cursor });
    assert_eq!(again.store(&batch).await.expect("known"), 1_234);
    let reader = db.reader();
    assert_eq!(count(&reader).await, 1_234);
    let query = ExecutionQuery { limit: 10_000, ..ExecutionQuery::default() };
    assert_eq!(reader.executions(query).await.expect("readable").len(), 1_234);
}

#[tokio::test]
async fn only_the_cluster_that_claimed_a_database_opens_or_moves_it() {
    let mut db = Database::fresh().await;
    let mut stranger = SqliteWriter::new(db.path.clone());
    let error = stranger.open(ClusterId(0xbeef)).await.expect_err("foreign");
    assert!(matches!(error, WriteError::ForeignCluster { found: 0xfeed, ours: 0xbeef }), "{error}");
    assert!(error.to_string().contains("000000000000feed"), "{error}");
    let batch = HistoryBatch { cluster: ClusterId(0xbeef), ..db.lives(1, 2) };
    let error = db.writer.store(&batch).await.expect_err("foreign");
    assert!(matches!(error, WriteError::ForeignCluster { .. }), "{error}");
    assert_eq!(count(&db.reader()).await, 0);
}

#[tokio::test]
async fn tasks_written_again_leave_the_cursor_until_the_gap_is_noted() {
    let mut db = Database::fresh().await;
    db.writer.store(&db.lives(1, 2)).await.expect("stored");
    let again = HistoryBatch { tasks: vec![one_shot(1), one_shot(7)], ..db.batch(2, 2) };
    assert_eq!(db.writer.store(&again).await.expect("stored"), 2);
    let dropped = Dropped { tasks: 3, runs: 0, attempts: 5 };
    let gap = Some(HistoryGap { from: 3, to: 9, dropped });
    let last = HistoryBatch { gap, tasks: vec![one_shot(8)], ..db.batch(2, 9) };
    assert_eq!(db.writer.store(&last).await.expect("stored"), 9);
    assert_eq!(count(&db.reader()).await, 4);
    let mut plain =
        sqlx::sqlite::SqliteConnection::connect(&format!("sqlite:{}", db.path.display()))
            .await
            .expect("a file");
    let row: (i64, i64, i64, i64, i64) =
        sqlx::query_as("SELECT first, last, tasks, runs, executions FROM dtask_gaps")
            .fetch_one(&mut plain)
            .await
            .expect("one gap");
    assert_eq!(row, (3, 9, 3, 0, 5));
}

#[tokio::test]
async fn a_batch_for_another_epoch_is_refused_and_stores_nothing() {
    let mut db = Database::fresh().await;
    let batch = HistoryBatch { epoch: db.cursor.epoch + 1, ..db.lives(1, 2) };
    let error = db.writer.store(&batch).await.expect_err("another database");
    assert!(matches!(error, WriteError::ForeignEpoch { .. }), "{error}");
    assert_eq!(count(&db.reader()).await, 0);
}

#[tokio::test]
async fn a_batch_that_does_not_continue_the_cursor_is_refused_and_stores_nothing() {
    let mut db = Database::fresh().await;
    let error = db.writer.store(&db.lives(3, 4)).await.expect_err("a gap");
    assert!(matches!(error, WriteError::Moved { found: 0, after: 2 }), "{error}");
    assert_eq!(count(&db.reader()).await, 0);
}

#[tokio::test]
async fn of_two_leaders_one_moves_the_cursor_and_the_other_learns_where_it_stands() {
    let mut db = Database::fresh().await;
    let mut newer = SqliteWriter::new(db.path.clone());
    newer.open(CLUSTER).await.expect("opens");
    // The newer leader stores other batches of the same changes; the older one, late, its own.
    newer.store(&db.lives(1, 5)).await.expect("stored");
    newer.store(&db.lives(6, 9)).await.expect("stored");
    assert_eq!(db.writer.store(&db.lives(1, 7)).await.expect("all of it is there"), 9);
    let error = newer.store(&db.lives(8, 12)).await.expect_err("it follows change 7");
    assert!(matches!(error, WriteError::Moved { found: 9, after: 7 }), "{error}");
    assert_eq!(count(&db.reader()).await, 9);
}

#[tokio::test]
async fn a_failed_statement_leaves_nothing_of_its_batch() {
    let mut db = Database::fresh().await;
    db.writer.store(&db.lives(1, 3)).await.expect("stored");
    // What the database refuses: somebody broke the table of the last statement.
    let url = format!("sqlite:{}", db.path.display());
    let saboteur = sqlx::SqlitePool::connect(&url).await.expect("connects");
    let rename = "ALTER TABLE execution_logs RENAME TO elsewhere";
    sqlx::query(rename).execute(&saboteur).await.expect("renamed");
    let error = db.writer.store(&db.lives(4, 6)).await.expect_err("no such table");
    assert!(matches!(error, WriteError::Away(_)), "{error}");
    assert_eq!(count(&db.reader()).await, 3);
    let rename = "ALTER TABLE elsewhere RENAME TO execution_logs";
    sqlx::query(rename).execute(&saboteur).await.expect("renamed");
    assert_eq!(db.writer.open(CLUSTER).await.expect("opens").through, 3);
    assert_eq!(db.writer.store(&db.lives(4, 6)).await.expect("stored"), 6);
    assert_eq!(count(&db.reader()).await, 6);
}

#[tokio::test]
async fn a_later_change_replaces_a_row_and_an_earlier_one_does_not() {
    let mut db = Database::fresh().await;
    let with = |number, revision, serial, deleted| {
        let mut row = one_shot(1);
        (row.number, row.view.revision, row.view.serial) = (number, revision, serial);
        row.deleted = deleted;
        row
    };
    let store = |rows, after, through| HistoryBatch { tasks: rows, ..db.batch(after, through) };
    let (first, second) =
        (store(vec![with(5, 5, 1, false)], 0, 5), store(vec![with(4, 4, 1, false)], 5, 6));
    let third = store(vec![with(7, 7, 1, true)], 6, 7);
    let fourth = store(vec![with(8, 1, 9, false)], 7, 8);
    let reader = db.reader();
    let revision = || async {
        reader.task("task-000001").await.expect("readable").map(|task| (task.serial, task.revision))
    };
    db.writer.store(&first).await.expect("stored");
    db.writer.store(&second).await.expect("stored");
    assert_eq!(revision().await, Some((1, 5)), "the row keeps the later change");
    db.writer.store(&third).await.expect("stored");
    assert_eq!(revision().await, None, "deleted");
    db.writer.store(&fourth).await.expect("stored");
    assert_eq!(revision().await, Some((9, 1)), "the id's next life");
}

#[tokio::test]
async fn pages_lead_through_all_tasks_in_both_orders() {
    let mut db = Database::fresh().await;
    db.writer.store(&db.lives(1, 57)).await.expect("stored");
    let reader = db.reader();
    for newest_first in [false, true] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let query = TaskQuery { newest_first, after, limit: 10, ..TaskQuery::default() };
            let page = reader.tasks(query).await.expect("readable");
            let Some(last) = page.last() else { break };
            after = Some((last.created_at, last.id.clone()));
            seen.extend(page.into_iter().map(|task| task.id));
        }
        let mut expected: Vec<Box<str>> = (1..=57).map(|n| format!("task-{n:06}").into()).collect();
        if newest_first {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn each_filter_narrows_the_list_of_tasks() {
    let mut db = Database::fresh().await;
    let mut tasks: Vec<TaskRow> = (1..=6).map(one_shot).collect();
    tasks[1] = recurring(2);
    tasks[2].view.status = TaskStatus::Failed;
    tasks[3].view.profile.kind = "resize".into();
    tasks[4].deleted = true;
    tasks[5].view.created_at = at(1_000);
    let batch = HistoryBatch { tasks, ..db.batch(0, 6) };
    db.writer.store(&batch).await.expect("stored");
    let reader = db.reader();
    let list = |filter: TaskFilter| {
        let query = TaskQuery { filter, limit: 10, ..TaskQuery::default() };
        let page = reader.tasks(query);
        async move {
            let page = page.await.expect("readable");
            ids(&page).into_iter().map(|id| id[10..].to_owned()).collect::<String>()
        }
    };
    let all = TaskFilter::default();
    assert_eq!(list(all.clone()).await, "12346");
    let statuses = vec![TaskStatus::Failed, TaskStatus::Waiting];
    assert_eq!(list(TaskFilter { statuses, ..all.clone() }).await, "23");
    assert_eq!(list(TaskFilter { kind: Some("resize".into()), ..all.clone() }).await, "4");
    assert_eq!(list(TaskFilter { queue: Some("mail".into()), ..all.clone() }).await, "246");
    let name = Some("nightly report".into());
    assert_eq!(list(TaskFilter { name, ..all.clone() }).await, "2");
    let name = Some("task-000003".into());
    assert_eq!(list(TaskFilter { name, ..all.clone() }).await, "3");
    let created_after = Some(at(1_000));
    assert_eq!(list(TaskFilter { created_after, ..all.clone() }).await, "6");
    let created_before = Some(at(1_000));
    assert_eq!(list(TaskFilter { created_before, ..all }).await, "1234");
}

#[tokio::test]
async fn each_filter_narrows_the_list_of_executions() {
    let mut db = Database::fresh().await;
    let mut batch = db.lives(1, 5);
    batch.attempts[1].view.outcome = None;
    batch.attempts[2].view.outcome = Some(AttemptOutcome::TimedOut);
    batch.attempts[3].view.worker = "w2".into();
    batch.attempts[4].view.run = RunNumber(7);
    batch.attempts[4].run = RunNumber(7);
    db.writer.store(&batch).await.expect("stored");
    let reader = db.reader();
    let list = |query: ExecutionQuery| {
        let page = reader.executions(ExecutionQuery { limit: 10, ..query });
        async move {
            let page = page.await.expect("readable");
            page.iter().map(|row| row.view.token.0).collect::<Vec<_>>()
        }
    };
    let all = ExecutionQuery::default();
    assert_eq!(list(all.clone()).await, [1, 2, 3, 4, 5]);
    assert_eq!(list(ExecutionQuery { after: Some(Token(3)), ..all.clone() }).await, [4, 5]);
    let outcomes = vec![None, Some(AttemptOutcome::TimedOut)];
    assert_eq!(list(ExecutionQuery { outcomes, ..all.clone() }).await, [2, 3]);
    assert_eq!(list(ExecutionQuery { worker: Some("w2".into()), ..all.clone() }).await, [4]);
    assert_eq!(list(ExecutionQuery { queue: Some("mail".into()), ..all.clone() }).await, [2, 4]);
    assert_eq!(list(ExecutionQuery { run: Some(RunNumber(7)), ..all.clone() }).await, [5]);
    let task_id = Some("task-000004".into());
    assert_eq!(list(ExecutionQuery { task_id, ..all }).await, [4]);
}

#[tokio::test]
async fn a_reader_sees_whole_batches_while_the_writer_writes() {
    let mut db = Database::fresh().await;
    let reader = db.reader();
    let writing = tokio::spawn(async move {
        for batch in 0..20 {
            let (first, last) = (batch * 100 + 1, (batch + 1) * 100);
            db.writer.store(&db.lives(first, last)).await.expect("stored");
        }
        db
    });
    let mut looks = 0;
    while !writing.is_finished() {
        assert_eq!(count(&reader).await % 100, 0, "a batch is seen whole or not at all");
        looks += 1;
    }
    let _db = writing.await.expect("it ends");
    assert!(looks > 0);
    assert_eq!(count(&reader).await, 2_000);
}

#[tokio::test]
async fn covers_answers_when_the_cursor_gets_there_and_not_before() {
    let mut db = Database::fresh().await;
    let reader = db.reader();
    assert!(
        reader.covers(0, Duration::ZERO).await || reader.covers(0, Duration::from_secs(5)).await
    );
    assert!(!reader.covers(5, Duration::from_millis(30)).await);
    db.writer.store(&db.lives(1, 5)).await.expect("stored");
    assert!(reader.covers(5, Duration::from_secs(5)).await);
    assert!(!reader.covers(6, Duration::from_millis(30)).await);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_away_and_not_empty() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let reader = SqliteReader::new(&dir.path().join("none.db")).expect("a thread");
    let away = reader.task("x").await.expect_err("no file");
    assert!(away.to_string().starts_with("the history database cannot be read"), "{away}");
}

#[tokio::test]
async fn a_file_whose_writer_has_gone_is_read_and_goes_on_with_the_next() {
    let mut db = Database::fresh().await;
    db.writer.store(&db.lives(1, 3)).await.expect("stored");
    db.writer.close().await;
    let reader = db.reader();
    assert_eq!(count(&reader).await, 3);
    let error = db.writer.store(&db.lives(4, 5)).await.expect_err("closed");
    assert!(matches!(error, WriteError::Away(_)), "{error}");
    assert_eq!(db.writer.open(CLUSTER).await.expect("opens"), Cursor { through: 3, ..db.cursor });
    db.writer.store(&db.lives(4, 5)).await.expect("stored");
    assert_eq!(count(&reader).await, 5);
}
