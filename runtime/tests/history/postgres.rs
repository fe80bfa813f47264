//! The contract on a real PostgreSQL, and what only a server can do: lose an answer, die in COMMIT,
//! answer nothing, come back older.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dtask_core::id::{ClusterId, Token};
use dtask_core::node::TaskFilter;
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::history::{HistoryBatch, RunRow, TaskRow};
use dtask_core::state::view::TaskStatus;
use dtask_core::time::Timestamp;
use dtask_runtime::history::postgres::Page;
use dtask_runtime::history::{
    PostgresReader, PostgresUrl, PostgresWriter, WriteError, Writer as _,
};
use dtask_runtime::serve::ports::{ExecutionQuery, HistoryRead as _, RunQuery, TaskQuery};
use dtask_tests::cut::{Cut, Cutter};
use dtask_tests::postgres::{PASSWORD, Postgres, Stop};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::contract::{Backend, CLUSTER, Database, count};
use crate::rows::{attempt, one_shot};

crate::every_fact!(Schema);

/// A database of the server that the tests of this process share.
struct Schema {
    name: String,
}

impl Schema {
    fn url(&self, port: u16) -> PostgresUrl {
        server().url_of(&self.name, port).parse().expect("a URL")
    }

    async fn stranger(&self) -> PgConnection {
        let url = server().url_of(&self.name, server().port());
        PgConnection::connect(&url).await.expect("connects")
    }

    /// A writer whose connections go through a proxy.
    fn writer_through(&self, cutter: &Cutter) -> PostgresWriter {
        PostgresWriter::new(self.url(cutter.port()))
    }
}

fn server() -> &'static Postgres {
    Postgres::shared().expect("PostgreSQL starts")
}

impl Backend for Schema {
    type Writer = PostgresWriter;
    type Reader = PostgresReader;

    fn empty() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server().create_database(&name).expect("a database");
        Self { name }
    }

    fn writer(&self) -> PostgresWriter {
        PostgresWriter::new(self.url(server().port()))
    }

    fn reader(&self) -> PostgresReader {
        PostgresReader::new(self.url(server().port())).expect("a thread")
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&mut self.stranger().await).await.expect("executed");
    }

    async fn numbers(&self, sql: &'static str) -> Vec<i64> {
        let row = sqlx::query(sql).fetch_one(&mut self.stranger().await).await.expect("a row");
        (0..row.len()).map(|column| row.get(column)).collect()
    }
}

/// A server of a test's own, with a database that has been opened.
async fn own_server() -> (Postgres, PostgresUrl, PostgresWriter, HistoryBatch) {
    let server = Postgres::start().expect("PostgreSQL starts");
    let url: PostgresUrl = server.url().parse().expect("a URL");
    let mut writer = PostgresWriter::new(url.clone());
    let epoch = writer.open(CLUSTER).await.expect("opens").epoch;
    let batch = HistoryBatch {
        cluster: CLUSTER,
        epoch,
        after: 0,
        through: 3,
        gap: None,
        tasks: (1..=3).map(one_shot).collect(),
        runs: Vec::new(),
        attempts: (1..=3).map(attempt).collect(),
    };
    (server, url, writer, batch)
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_counts_as_stored() {
    let mut db = Database::<Schema>::fresh().await;
    let cutter = Cutter::before(server().port()).expect("a proxy");
    let mut writer = db.backend.writer_through(&cutter);
    writer.open(CLUSTER).await.expect("opens");
    cutter.next(Cut::BeforeAnswer);
    assert_eq!(writer.store(&db.lives(1, 3)).await.expect("resolved"), 3);
    assert_eq!(cutter.cuts(), 1, "the answer was lost");
    // On the connection that resolved it, the next batch follows.
    assert_eq!(writer.store(&db.lives(4, 5)).await.expect("stored"), 5);
    assert_eq!(count(&db.reader()).await, 5);
    assert_eq!(db.writer.open(CLUSTER).await.expect("opens").through, 5);
}

#[tokio::test]
async fn a_commit_that_never_reached_the_server_is_told_as_away_and_stored_by_the_next_try() {
    let db = Database::<Schema>::fresh().await;
    let cutter = Cutter::before(server().port()).expect("a proxy");
    let mut writer = db.backend.writer_through(&cutter);
    writer.open(CLUSTER).await.expect("opens");
    cutter.next(Cut::BeforeCommit);
    let error = writer.store(&db.lives(1, 3)).await.expect_err("not committed");
    assert!(matches!(error, WriteError::Away(_)), "{error}");
    assert_eq!(cutter.cuts(), 1);
    assert_eq!(count(&db.reader()).await, 0);
    assert_eq!(writer.open(CLUSTER).await.expect("opens").through, 0);
    assert_eq!(writer.store(&db.lives(1, 3)).await.expect("stored"), 3);
}

#[tokio::test]
async fn of_a_server_killed_between_batches_nothing_is_lost_and_nothing_doubled() {
    let (mut server, url, mut writer, batch) = own_server().await;
    writer.store(&batch).await.expect("stored");
    server.kill().expect("dies");
    let later = HistoryBatch {
        after: 3,
        through: 5,
        tasks: vec![one_shot(4), one_shot(5)],
        attempts: vec![attempt(4), attempt(5)],
        ..batch
    };
    let error = writer.store(&later).await.expect_err("it is dead");
    assert!(matches!(error, WriteError::Away(_)), "{error}");
    assert!(writer.open(CLUSTER).await.is_err());
    let reader = PostgresReader::new(url).expect("a thread");
    assert!(reader.task("task-000001").await.is_err(), "away, not missing");
    server.start_again().expect("recovers");
    assert_eq!(writer.open(CLUSTER).await.expect("opens").through, 3);
    assert_eq!(writer.store(&later).await.expect("stored"), 5);
    assert_eq!(count(&reader).await, 5);
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_away_within_the_time_given() {
    let (server, url, writer, batch) = own_server().await;
    let mut writer = writer.patience(Duration::from_millis(500));
    writer.open(CLUSTER).await.expect("opens");
    let reader = PostgresReader::new(url).expect("a thread");
    writer.store(&batch).await.expect("stored");
    assert_eq!(count(&reader).await, 3);
    server.freeze().expect("freezes");
    let again = HistoryBatch { after: 3, through: 4, tasks: vec![one_shot(4)], ..batch };
    let begin = Instant::now();
    let error = writer.store(&again).await.expect_err("no answer");
    assert!(matches!(error, WriteError::Away(_)), "{error}");
    let read = reader.task("task-000001").await;
    assert!(read.is_err(), "{read:?}");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    server.thaw().expect("goes on");
    // Whatever the frozen transaction did meanwhile, the cursor tells.
    let cursor = writer.open(CLUSTER).await.expect("opens");
    if cursor.through == 3 {
        assert_eq!(writer.store(&again).await.expect("stored"), 4);
    }
    assert_eq!(count(&reader).await, 4);
}

#[tokio::test]
async fn a_database_restored_from_an_older_dump_shows_its_older_cursor() {
    let (server, url, mut writer, batch) = own_server().await;
    let folder = tempfile::tempdir().expect("a temporary directory");
    let dump = folder.path().join("dump");
    writer.store(&batch).await.expect("stored");
    server.dump("dtask", &dump).expect("dumps");
    let later = HistoryBatch { after: 3, through: 4, tasks: vec![one_shot(4)], ..batch };
    writer.store(&later).await.expect("stored");
    server.restore("dtask", &dump).expect("restores");
    let error = writer.store(&HistoryBatch { after: 4, through: 5, ..later }).await;
    assert!(error.is_err(), "its connection was thrown out");
    assert_eq!(writer.open(CLUSTER).await.expect("opens").through, 3);
    let reader = PostgresReader::new(url).expect("a thread");
    assert_eq!(reader.task("task-000004").await, Ok(None));
}

#[tokio::test]
async fn a_server_that_stops_and_starts_is_read_again_by_the_same_reader() {
    let (mut server, url, mut writer, batch) = own_server().await;
    writer.store(&batch).await.expect("stored");
    let reader = PostgresReader::new(url).expect("a thread");
    assert_eq!(count(&reader).await, 3);
    server.stop(Stop::Fast).expect("stops");
    let begin = Instant::now();
    assert!(reader.task("task-000001").await.is_err());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(!reader.covers(1, Duration::from_millis(50)).await);
    server.start_again().expect("starts");
    assert_eq!(count(&reader).await, 3);
}

#[tokio::test]
async fn a_password_is_in_no_error() {
    let wrong = server().url().replace("s3cret%2Fword", "s3cret%2Fwrong");
    let url: PostgresUrl = wrong.parse().expect("a URL");
    let error = PostgresWriter::new(url.clone()).open(CLUSTER).await.expect_err("wrong password");
    let read = PostgresReader::new(url).expect("a thread").task("x").await.expect_err("wrong");
    for said in [error.to_string(), format!("{error:?}"), read.to_string()] {
        assert!(!said.contains("s3cret") && !said.contains(PASSWORD), "{said}");
        assert!(said.contains("password authentication failed"), "{said}");
    }
}

#[tokio::test]
async fn two_leaders_may_open_an_empty_database_at_once() {
    let backend = Schema::empty();
    let open = |cluster| {
        let mut writer = backend.writer();
        async move { writer.open(cluster).await }
    };
    let (one, two) = tokio::join!(open(CLUSTER), open(CLUSTER));
    assert_eq!(one.expect("opens"), two.expect("opens"));
    let error = open(ClusterId(0xbeef)).await.expect_err("foreign");
    assert!(matches!(error, WriteError::ForeignCluster { .. }), "{error}");
}

#[tokio::test]
async fn text_that_postgresql_cannot_hold_does_not_stop_history() {
    let mut db = Database::<Schema>::fresh().await;
    let mut batch = db.lives(1, 2);
    batch.attempts[0].view.error = "nul \0 in what a handler said".into();
    batch.tasks[1].view.created_at = Timestamp::from_micros(i64::MIN);
    batch.tasks[1].view.finished_at = Some(Timestamp::MAX);
    db.writer.store(&batch).await.expect("stored");
    let stored = db.reader().execution(Token(1)).await.expect("readable").expect("there");
    assert_eq!(&*stored.view.error, "nul \u{fffd} in what a handler said");
    let task = db.reader().task("task-000002").await.expect("readable").expect("there");
    assert_eq!(task.finished_at, Some(Timestamp::MAX));
}

#[tokio::test]
async fn a_batch_of_large_payloads_is_stored_whole() {
    let mut db = Database::<Schema>::fresh().await;
    let mut batch = db.lives(1, 40);
    for (task, attempt) in batch.tasks.iter_mut().zip(&mut batch.attempts) {
        task.view.payload = Bytes::from(vec![1; 1 << 20]);
        attempt.view.output = Bytes::from(vec![2; 1 << 20]);
    }
    db.writer.store(&batch).await.expect("stored");
    let sum = "SELECT sum(length(payload))::bigint, count(*) FROM tasks";
    assert_eq!(db.backend.numbers(sum).await, [40 << 20, 40]);
}

#[tokio::test]
async fn a_batch_with_two_lives_of_an_id_keeps_the_later_one() {
    let mut db = Database::<Schema>::fresh().await;
    let mut batch = db.batch(0, 4);
    for (number, serial, deleted) in [(2, 1, true), (4, 9, false), (3, 1, true)] {
        let mut row = one_shot(1);
        (row.number, row.view.serial, row.deleted) = (number, serial, deleted);
        batch.tasks.push(row);
    }
    db.writer.store(&batch).await.expect("stored");
    let task = db.reader().task("task-000001").await.expect("readable");
    assert_eq!(task.map(|task| task.serial), Some(9));
}

/// As if the task recurred.
fn run_of(task: &TaskRow) -> RunRow {
    let view = task.view.last_run.clone().expect("it ran");
    let (number, incarnation) = (task.number, task.view.serial);
    RunRow { number, task_id: task.view.id.clone(), incarnation, view }
}

/// Every page of the API, with the index that must find it.
fn pages() -> Vec<(Page, &'static str)> {
    let text = || Some(Box::from("x"));
    let tasks = |filter| {
        let after = Some((Timestamp::from_seconds(1_800_000_000), "x".into()));
        Page::Tasks(TaskQuery { filter, newest_first: true, after, limit: 51 })
    };
    let all = TaskFilter::default();
    let base = ExecutionQuery { limit: 51, ..Default::default() };
    let failed = vec![Some(AttemptOutcome::Failed)];
    let some = vec![Some(AttemptOutcome::Failed), Some(AttemptOutcome::Lost)];
    let one = vec![TaskStatus::Failed];
    let two = vec![TaskStatus::Failed, TaskStatus::Cancelled];
    vec![
        (tasks(all.clone()), "tasks_by_creation"),
        (tasks(TaskFilter { statuses: one, ..all.clone() }), "tasks_by_status"),
        (tasks(TaskFilter { statuses: two, ..all.clone() }), "tasks_by_status"),
        (tasks(TaskFilter { kind: text(), ..all.clone() }), "tasks_by_type"),
        (tasks(TaskFilter { queue: text(), ..all.clone() }), "tasks_by_queue"),
        (tasks(TaskFilter { name: text(), ..all.clone() }), "tasks_by_name"),
        (tasks(TaskFilter { created_after: Some(Timestamp::MAX), ..all }), "tasks_by_creation"),
        (Page::Task("x".into()), "tasks_pkey"),
        (Page::Runs(RunQuery { task_id: "x".into(), after: None, limit: 51 }), "runs_pkey"),
        (Page::Executions(base.clone()), "execution_logs_pkey"),
        (
            Page::Executions(ExecutionQuery { task_id: text(), ..base.clone() }),
            "execution_logs_by_task",
        ),
        (
            Page::Executions(ExecutionQuery { outcomes: failed, ..base.clone() }),
            "execution_logs_by_status",
        ),
        (
            Page::Executions(ExecutionQuery { outcomes: some, ..base.clone() }),
            "execution_logs_by_status",
        ),
        (
            Page::Executions(ExecutionQuery { worker: text(), ..base.clone() }),
            "execution_logs_by_worker",
        ),
        (Page::Executions(ExecutionQuery { queue: text(), ..base }), "execution_logs_by_queue"),
        (Page::Execution(Token(7)), "execution_logs_pkey"),
    ]
}

#[tokio::test]
async fn each_page_is_found_by_an_index_in_its_order() {
    let mut db = Database::<Schema>::fresh().await;
    for batch in 0..10 {
        let mut lives = db.lives(batch * 1_000 + 1, (batch + 1) * 1_000);
        lives.runs = lives.tasks.iter().map(run_of).collect();
        db.writer.store(&lives).await.expect("stored");
    }
    db.backend.execute("ANALYZE").await;
    let reader = db.reader();
    for (page, index) in pages() {
        let plan = reader.explain(page.clone()).await.expect("explained").join("\n");
        assert!(plan.contains(index), "{page:?} does not use {index}:\n{plan}");
        assert!(!plan.contains("Seq Scan on"), "{page:?}:\n{plan}");
        assert!(!plan.contains("Bitmap"), "{page:?} is not read in its order:\n{plan}");
    }
}
