//! What every history database must do: exactly one row each, a cursor that only its cluster and
//! epoch may move, readers beside the writer. Each fact is tested on each kind of database.

use std::time::Duration;

use dtask_core::id::{ClusterId, RunNumber, Token};
use dtask_core::node::TaskFilter;
use dtask_core::spec::{AttemptOutcome, Rule};
use dtask_core::state::Dropped;
use dtask_core::state::history::{AttemptRow, HistoryBatch, HistoryGap, RunRow, TaskRow};
use dtask_core::state::view::{RunCause, RunView, TaskStatus, TaskView};
use dtask_core::time::Timestamp;
use dtask_runtime::history::{Cursor, WriteError, Writer};
use dtask_runtime::serve::ports::{ExecutionQuery, HistoryRead, RunQuery, TaskQuery};

use crate::rows::{at, attempt, one_shot, recurring};

pub(crate) const CLUSTER: ClusterId = ClusterId(0xfeed);

/// A kind of database, and one of it that is a test's own.
pub(crate) trait Backend: Sized + Send + 'static {
    type Writer: Writer;
    type Reader: HistoryRead;

    /// An empty one.
    fn empty() -> Self;
    fn writer(&self) -> Self::Writer;
    fn reader(&self) -> Self::Reader;
    /// Statements of somebody else.
    async fn execute(&self, sql: &'static str);
    /// The first row's numbers, by somebody else.
    async fn numbers(&self, sql: &'static str) -> Vec<i64>;
}

/// An empty database with a writer that has opened it.
pub(crate) struct Database<B: Backend> {
    pub(crate) backend: B,
    pub(crate) writer: B::Writer,
    pub(crate) cursor: Cursor,
}

impl<B: Backend> Database<B> {
    pub(crate) async fn fresh() -> Self {
        let backend = B::empty();
        let mut writer = backend.writer();
        let cursor = writer.open(CLUSTER).await.expect("a new database");
        Self { backend, writer, cursor }
    }

    pub(crate) fn reader(&self) -> B::Reader {
        self.backend.reader()
    }

    pub(crate) fn batch(&self, after: u64, through: u64) -> HistoryBatch {
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
    pub(crate) fn lives(&self, first: u64, last: u64) -> HistoryBatch {
        HistoryBatch {
            tasks: (first..=last).map(one_shot).collect(),
            attempts: (first..=last).map(attempt).collect(),
            ..self.batch(first - 1, last)
        }
    }
}

fn ids(tasks: &[TaskView]) -> Vec<&str> {
    tasks.iter().map(|task| &*task.id).collect()
}

pub(crate) async fn count(reader: &impl HistoryRead) -> usize {
    let query = TaskQuery { limit: 10_000, ..TaskQuery::default() };
    reader.tasks(query).await.expect("readable").len()
}

pub(crate) async fn what_was_stored_is_read_back_whole<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
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
            retry_of: Some(RunNumber(2)),
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

pub(crate) async fn a_batch_offered_again_leaves_each_row_once<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
    let batch = db.lives(1, 1_234);
    assert_eq!(db.writer.store(&batch).await.expect("stored"), 1_234);
    // As if the answer had been lost, on the same connection and on a new one.
    assert_eq!(db.writer.store(&batch).await.expect("known"), 1_234);
    let mut again = db.backend.writer();
    assert_eq!(again.open(CLUSTER).await.expect("opens"), Cursor { through: 1_234, ..db.cursor });
    assert_eq!(again.store(&batch).await.expect("known"), 1_234);
    let reader = db.reader();
    assert_eq!(count(&reader).await, 1_234);
    let query = ExecutionQuery { limit: 10_000, ..ExecutionQuery::default() };
    assert_eq!(reader.executions(query).await.expect("readable").len(), 1_234);
}

pub(crate) async fn only_the_cluster_that_claimed_a_database_opens_or_moves_it<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
    let mut stranger = db.backend.writer();
    let error = stranger.open(ClusterId(0xbeef)).await.expect_err("foreign");
    assert!(matches!(error, WriteError::ForeignCluster { found: 0xfeed, ours: 0xbeef }), "{error}");
    assert!(error.to_string().contains("000000000000feed"), "{error}");
    let batch = HistoryBatch { cluster: ClusterId(0xbeef), ..db.lives(1, 2) };
    let error = db.writer.store(&batch).await.expect_err("foreign");
    assert!(matches!(error, WriteError::ForeignCluster { .. }), "{error}");
    assert_eq!(count(&db.reader()).await, 0);
    assert_eq!(db.reader().cluster().await, Ok(Some(CLUSTER)));
}

pub(crate) async fn tasks_written_again_leave_the_cursor_until_the_gap_is_noted<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
    db.writer.store(&db.lives(1, 2)).await.expect("stored");
    let again = HistoryBatch { tasks: vec![one_shot(1), one_shot(7)], ..db.batch(2, 2) };
    assert_eq!(db.writer.store(&again).await.expect("stored"), 2);
    let dropped = Dropped { tasks: 3, runs: 0, attempts: 5 };
    let gap = Some(HistoryGap { from: 3, to: 9, dropped });
    let last = HistoryBatch { gap, tasks: vec![one_shot(8)], ..db.batch(2, 9) };
    assert_eq!(db.writer.store(&last).await.expect("stored"), 9);
    assert_eq!(count(&db.reader()).await, 4);
    let row = db.backend.numbers("SELECT first, last, tasks, runs, executions FROM dtask_gaps");
    assert_eq!(row.await, [3, 9, 3, 0, 5]);
    db.writer.store(&db.lives(10, 10)).await.expect("stored");
    for (id, before_gap) in [("task-000002", true), ("task-000010", false), ("nobody", false)] {
        assert_eq!(db.reader().is_before_gap(id).await, Ok(before_gap), "{id}");
    }
}

pub(crate) async fn a_batch_for_another_epoch_is_refused_and_stores_nothing<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
    let batch = HistoryBatch { epoch: db.cursor.epoch + 1, ..db.lives(1, 2) };
    let error = db.writer.store(&batch).await.expect_err("another database");
    assert!(matches!(error, WriteError::ForeignEpoch { .. }), "{error}");
    assert_eq!(count(&db.reader()).await, 0);
}

pub(crate) async fn a_batch_that_does_not_continue_the_cursor_is_refused_and_stores_nothing<
    B: Backend,
>() {
    let mut db = Database::<B>::fresh().await;
    let error = db.writer.store(&db.lives(3, 4)).await.expect_err("a gap");
    assert!(matches!(error, WriteError::Moved { found: 0, after: 2 }), "{error}");
    assert_eq!(count(&db.reader()).await, 0);
}

pub(crate) async fn of_two_leaders_one_moves_the_cursor_and_the_other_learns_where_it_stands<
    B: Backend,
>() {
    let mut db = Database::<B>::fresh().await;
    let mut newer = db.backend.writer();
    newer.open(CLUSTER).await.expect("opens");
    // The newer leader stores other batches of the same changes; the older one, late, its own.
    newer.store(&db.lives(1, 5)).await.expect("stored");
    newer.store(&db.lives(6, 9)).await.expect("stored");
    assert_eq!(db.writer.store(&db.lives(1, 7)).await.expect("all of it is there"), 9);
    let error = newer.store(&db.lives(8, 12)).await.expect_err("it follows change 7");
    assert!(matches!(error, WriteError::Moved { found: 9, after: 7 }), "{error}");
    assert_eq!(count(&db.reader()).await, 9);
}

pub(crate) async fn a_failed_statement_leaves_nothing_of_its_batch<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
    db.writer.store(&db.lives(1, 3)).await.expect("stored");
    // What the database refuses: somebody broke the table of the last statement.
    db.backend.execute("ALTER TABLE execution_logs RENAME TO elsewhere").await;
    let error = db.writer.store(&db.lives(4, 6)).await.expect_err("no such table");
    assert!(matches!(error, WriteError::Away(_)), "{error}");
    assert_eq!(count(&db.reader()).await, 3);
    db.backend.execute("ALTER TABLE elsewhere RENAME TO execution_logs").await;
    assert_eq!(db.writer.open(CLUSTER).await.expect("opens").through, 3);
    assert_eq!(db.writer.store(&db.lives(4, 6)).await.expect("stored"), 6);
    assert_eq!(count(&db.reader()).await, 6);
}

pub(crate) async fn a_later_change_replaces_a_row_and_an_earlier_one_does_not<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
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

pub(crate) async fn pages_lead_through_all_tasks_in_both_orders<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
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

/// Words that are common, rare or in one stretch only, alone and together, with and without bounds.
pub(crate) async fn pages_by_words_lead_through_all_tasks_that_have_them<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
    let mut batch = db.lives(1, 3_000);
    for (number, row) in batch.tasks.iter_mut().enumerate() {
        // Many at one moment, many close together, many far apart; a few before 1970.
        let micros = match number {
            0..20 => number as i64 - 10,
            20..1_500 => 1_000_000_000 + number as i64 / 100,
            1_500..2_500 => 1_000_000_000 + number as i64 * 7,
            _ => 1_000_000_000 + number as i64 * 100_000,
        };
        row.view.created_at = Timestamp::from_micros(micros);
        let profile = std::sync::Arc::make_mut(&mut row.view.profile);
        profile.kind = if number % 97 == 5 { "resize" } else { "exec" }.into();
        profile.queue = if number % 300 < 120 { "mail" } else { "default" }.into();
        if number % 5 == 0 {
            row.view.status = TaskStatus::Failed;
        }
    }
    db.writer.store(&batch).await.expect("stored");
    let reader = db.reader();
    let mut rows: Vec<TaskView> = batch.tasks.into_iter().map(|row| row.view).collect();
    rows.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
    let resize = TaskFilter { kind: Some("resize".into()), ..TaskFilter::default() };
    let mail = TaskFilter { queue: Some("mail".into()), ..TaskFilter::default() };
    let both = TaskFilter { queue: Some("mail".into()), ..resize.clone() };
    let ended = vec![TaskStatus::Succeeded, TaskStatus::Failed];
    let (some, other) = (Timestamp::from_micros(3), Timestamp::from_micros(1_000_016_000));
    let filters = [
        resize.clone(),
        mail.clone(),
        both.clone(),
        TaskFilter { created_after: Some(some), created_before: Some(other), ..mail },
        TaskFilter { statuses: vec![TaskStatus::Failed], ..both },
        TaskFilter { statuses: ended, created_before: Some(other), ..resize.clone() },
        TaskFilter { kind: Some("nothing".into()), ..resize },
    ];
    for filter in filters {
        let meets = |view: &&TaskView| {
            filter.kind.as_ref().is_none_or(|kind| *kind == view.profile.kind)
                && filter.queue.as_ref().is_none_or(|queue| *queue == view.profile.queue)
                && (filter.statuses.is_empty() || filter.statuses.contains(&view.status))
                && filter.created_after.is_none_or(|from| view.created_at >= from)
                && filter.created_before.is_none_or(|to| view.created_at < to)
        };
        let mut expected: Vec<&str> = rows.iter().filter(meets).map(|view| &*view.id).collect();
        for newest_first in [false, true] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let filter = filter.clone();
                let page = TaskQuery { filter, newest_first, after, limit: 50 };
                let page = reader.tasks(page).await.expect("readable");
                let Some(last) = page.last() else { break };
                after = Some((last.created_at, last.id.clone()));
                seen.extend(page.into_iter().map(|task| task.id));
            }
            assert_eq!(seen.iter().map(|id| &**id).collect::<Vec<_>>(), expected, "{filter:?}");
            expected.reverse();
        }
    }
}

pub(crate) async fn pages_by_words_lead_through_all_executions_that_have_them<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
    let mut batch = db.lives(1, 2_000);
    for (number, row) in batch.attempts.iter_mut().enumerate() {
        row.view.worker = if number % 301 == 7 { "w2" } else { "w1" }.into();
        row.queue = if number % 700 < 300 { "mail" } else { "default" }.into();
    }
    db.writer.store(&batch).await.expect("stored");
    let reader = db.reader();
    for (worker, queue) in [
        (Some("w2"), None),
        (Some("w1"), None),
        (None, Some("mail")),
        (Some("w2"), Some("mail")),
        (Some("w3"), Some("mail")),
    ] {
        let meets = |row: &&AttemptRow| {
            worker.is_none_or(|worker| worker == &*row.view.worker)
                && queue.is_none_or(|queue| queue == &*row.queue)
        };
        let expected: Vec<Token> =
            batch.attempts.iter().filter(meets).map(|row| row.view.token).collect();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let (worker, queue) = (worker.map(Box::from), queue.map(Box::from));
            let page = ExecutionQuery { worker, queue, after, limit: 50, ..Default::default() };
            let page = reader.executions(page).await.expect("readable");
            let Some(last) = page.last() else { break };
            after = Some(last.view.token);
            seen.extend(page.into_iter().map(|row| row.view.token));
        }
        assert_eq!(seen, expected, "{worker:?} {queue:?}");
    }
}

pub(crate) async fn each_filter_narrows_the_list_of_tasks<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
    let mut tasks: Vec<TaskRow> = (1..=6).map(one_shot).collect();
    tasks[1] = recurring(2);
    tasks[2].view.status = TaskStatus::Failed;
    std::sync::Arc::make_mut(&mut tasks[3].view.profile).kind = "resize".into();
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

pub(crate) async fn each_filter_narrows_the_list_of_executions<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
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

pub(crate) async fn a_reader_sees_whole_batches_while_the_writer_writes<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
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

pub(crate) async fn covers_answers_when_the_cursor_gets_there_and_not_before<B: Backend>() {
    let mut db = Database::<B>::fresh().await;
    let reader = db.reader();
    assert!(
        reader.covers(0, Duration::ZERO).await || reader.covers(0, Duration::from_secs(5)).await
    );
    assert!(!reader.covers(5, Duration::from_millis(30)).await);
    db.writer.store(&db.lives(1, 5)).await.expect("stored");
    assert!(reader.covers(5, Duration::from_secs(5)).await);
    assert!(!reader.covers(6, Duration::from_millis(30)).await);
}

pub(crate) async fn a_database_whose_writer_has_gone_is_read_and_goes_on_with_the_next<
    B: Backend,
>() {
    let mut db = Database::<B>::fresh().await;
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
