//! How fast PostgreSQL finds the API's pages in a long history:
//! `cargo run --release -p dtask-runtime --example history_pages -- URL [MILLIONS]`.
//!
//! Fills an empty database with that many million tasks (10 unless told) and as many executions,
//! all made by the server, and prints what EXPLAIN (ANALYZE, BUFFERS) says of each filter and page.
//! A database that is filled already is asked only.

use dtask_core::id::{ClusterId, Token};
use dtask_core::node::TaskFilter;
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::view::TaskStatus;
use dtask_core::time::Timestamp;
use dtask_runtime::history::postgres::Page;
use dtask_runtime::history::{PostgresReader, PostgresUrl, PostgresWriter, Writer as _};
use dtask_runtime::serve::ports::{ExecutionQuery, RunQuery, TaskQuery};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The first task's creation: 2026-01-01. One more each 10 ms.
const START: i64 = 1_767_225_600;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let text = arguments.next().expect("the URL of an empty PostgreSQL database");
    let millions: i64 = arguments.next().map_or(10, |text| text.parse().expect("a number"));
    let url: PostgresUrl = text.parse().expect("a PostgreSQL URL");
    let mut writer = PostgresWriter::new(url.clone());
    writer.open(ClusterId(1)).await.expect("opens");
    let mut connection = PgConnection::connect(&text).await.expect("connects");
    let filled: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tasks)")
        .fetch_one(&mut connection)
        .await
        .expect("asks");
    let rows = millions * 1_000_000;
    if !filled {
        for sql in fill(rows) {
            let begin = std::time::Instant::now();
            sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut connection).await.expect("fills");
            let words: Vec<_> = sql.split_whitespace().take(3).collect();
            eprintln!("{} in {:.0?}", words.join(" "), begin.elapsed());
        }
    }
    let reader = PostgresReader::new(url).expect("a thread");
    println!("| page | first time | again | blocks read | index |");
    println!("|---|---:|---:|---:|---|");
    for (name, page) in pages(rows) {
        let cold = reader.explain(page.clone()).await.expect("explains");
        let warm = reader.explain(page).await.expect("explains");
        if std::env::var_os("WHOLE").is_some() {
            eprintln!("{name}\n{}\n", warm.join("\n"));
        }
        let (blocks, indexes) = (blocks(&warm), indexes(&warm));
        println!("| {name} | {} | {} | {blocks} | {indexes} |", time(&cold), time(&warm));
    }
}

/// Statuses as a year of tasks leaves them: 1 % failed, 0.1 % cancelled, a handful waiting. A
/// thousand queues of which one takes half, one in a thousand tasks has a name of its own. Queue
/// `rare` has only the last thousand tasks.
fn fill(rows: i64) -> Vec<String> {
    let queue = format!(
        "CASE WHEN i > {rows} - 1000 THEN 'rare' WHEN i % 2 = 0 THEN 'default' \
         ELSE 'queue' || i % 1000 END"
    );
    let status = format!(
        "CASE WHEN i > {rows} - 100 THEN 'waiting' WHEN i % 100 = 1 THEN 'failed' \
         WHEN i % 1000 = 2 THEN 'cancelled' ELSE 'succeeded' END"
    );
    let at = format!("to_timestamp({START} + i / 100.0)");
    let id = "lpad(to_hex(i), 12, '0') || '-' || substr(md5(i::text), 1, 13)";
    let tasks = format!(
        "INSERT INTO tasks (id, incarnation, change, deleted, name, type, queue, status, priority, \
         payload, max_retries, backoff, backoff_base, backoff_max, no_retry_exit, timeout, \
         last_run, last_run_cause, last_run_scheduled_for, last_run_status, last_run_reason, \
         last_run_attempts, consecutive_failures, runs_count, revision, created_at, updated_at, \
         finished_at) \
         SELECT {id}, i, 2 * i, i % 5000 = 3, CASE WHEN i % 1000 = 7 THEN 'report' ELSE {id} END, \
         'type' || i % 50, {queue}, {status}, 5, \
         convert_to('{{\"argv\":[\"resize\",\"' || md5(i::text) || '\"]}}', 'UTF8'), 3, \
         'exponential', 1000, 600000, '[]', 86400000, 1, 'submit', {at}, {status}, '', 1, 0, 1, 1, \
         {at}, {at}, {at} FROM generate_series(1, {rows}) AS i"
    );
    let outcome = "CASE WHEN i % 100 = 1 THEN 'failed' WHEN i % 10000 = 3 THEN 'lost' \
                   WHEN i % 1000 = 2 THEN 'cancelled' ELSE 'succeeded' END";
    let executions = format!(
        "INSERT INTO execution_logs (id, change, task_id, incarnation, run, attempt, queue, \
         worker_id, status, stop_requested, output, log_tail, error, exit_code, scheduled_for, \
         opened_at, started_at, finished_at) \
         SELECT i, 2 * i + 1, {id}, i, 1, 1, {queue}, CASE WHEN i > {rows} - 500 THEN 'newest' ELSE \
         'worker' || i % 40 END, {outcome}, false, convert_to('{{\"ok\":true}}', 'UTF8'), \
         ''::bytea, '', 0, {at}, {at}, {at}, {at} FROM generate_series(1, {rows}) AS i"
    );
    let runs = "INSERT INTO runs SELECT 'nightly' || i % 100, 1, i / 100 + 1, i, 'schedule', \
                to_timestamp(1767225600 + i), 'succeeded', '', 1 FROM generate_series(1, 1000000) i";
    vec![tasks, executions, runs.to_owned(), "VACUUM ANALYZE".to_owned()]
}

fn pages(rows: i64) -> Vec<(&'static str, Page)> {
    let all = TaskFilter::default();
    let tasks = |filter: TaskFilter, after| {
        Page::Tasks(TaskQuery { filter, newest_first: true, after, limit: 51 })
    };
    let middle = || Some((Timestamp::from_seconds(START + rows / 200), "x".into()));
    let kind = |kind: &str| TaskFilter { kind: Some(kind.into()), ..TaskFilter::default() };
    let queue = |queue: &str| TaskFilter { queue: Some(queue.into()), ..TaskFilter::default() };
    let name = |name: &str| TaskFilter { name: Some(name.into()), ..TaskFilter::default() };
    let status =
        |statuses: &[TaskStatus]| TaskFilter { statuses: statuses.to_vec(), ..all.clone() };
    let pending = [TaskStatus::Waiting, TaskStatus::Ready];
    let bad = [TaskStatus::Failed, TaskStatus::Cancelled];
    let oldest = Page::Tasks(TaskQuery { limit: 51, ..TaskQuery::default() });
    let id = format!("{:012x}", rows / 2);
    let between = TaskFilter {
        created_after: Some(Timestamp::from_seconds(START + rows / 400)),
        created_before: Some(Timestamp::from_seconds(START + rows / 300)),
        ..all.clone()
    };
    let failed_resize = TaskFilter { kind: Some("type7".into()), ..status(&[TaskStatus::Failed]) };
    let failed_rare = TaskFilter { queue: Some("rare".into()), ..status(&[TaskStatus::Failed]) };
    let base = ExecutionQuery { limit: 51, ..ExecutionQuery::default() };
    let execution = |query: ExecutionQuery| Page::Executions(query);
    let half = Some(Token(rows as u64 / 2));
    let lost = vec![Some(AttemptOutcome::Lost)];
    let ended_badly = vec![Some(AttemptOutcome::Failed), Some(AttemptOutcome::TimedOut)];
    vec![
        ("tasks, newest first", tasks(all.clone(), None)),
        ("tasks, oldest first", oldest),
        ("tasks, a page in the middle", tasks(all.clone(), middle())),
        ("status=succeeded (98.9 %)", tasks(status(&[TaskStatus::Succeeded]), None)),
        ("status=failed (1 %), middle", tasks(status(&[TaskStatus::Failed]), middle())),
        ("status=running (none)", tasks(status(&[TaskStatus::Running]), None)),
        ("status=pending (two, 100 rows)", tasks(status(&pending), None)),
        ("status=failed,cancelled, middle", tasks(status(&bad), middle())),
        ("type (2 %), middle", tasks(kind("type7"), middle())),
        ("type (none)", tasks(kind("nobody"), None)),
        ("queue (50 %), middle", tasks(queue("default"), middle())),
        ("queue (0.1 %), middle", tasks(queue("queue7"), middle())),
        ("queue (the newest 1,000), a page before them", tasks(queue("rare"), middle())),
        ("name (0.1 %), middle", tasks(name("report"), middle())),
        ("name (none)", tasks(name("nobody"), None)),
        ("created_after, created_before", tasks(between, None)),
        ("status=failed and type (none match)", tasks(failed_resize, None)),
        ("status=failed and queue (10 rows)", tasks(failed_rare, None)),
        ("one task", Page::Task(id.clone().into())),
        (
            "runs of a task, a page in the middle",
            Page::Runs(RunQuery {
                task_id: "nightly7".into(),
                after: Some((1, dtask_core::id::RunNumber(5_000))),
                limit: 51,
            }),
        ),
        ("executions", execution(base.clone())),
        ("executions, middle", execution(ExecutionQuery { after: half, ..base.clone() })),
        (
            "executions of a task",
            execution(ExecutionQuery { task_id: Some(id.into()), ..base.clone() }),
        ),
        (
            "executions, status=lost (0.01 %), middle",
            execution(ExecutionQuery { outcomes: lost, after: half, ..base.clone() }),
        ),
        (
            "executions, status=failed,timed_out, middle",
            execution(ExecutionQuery { outcomes: ended_badly, after: half, ..base.clone() }),
        ),
        (
            "executions, worker (2.5 %), middle",
            execution(ExecutionQuery {
                worker: Some("worker7".into()),
                after: half,
                ..base.clone()
            }),
        ),
        (
            "executions, worker (the newest 500)",
            execution(ExecutionQuery { worker: Some("newest".into()), ..base.clone() }),
        ),
        (
            "executions, queue (50 %), middle",
            execution(ExecutionQuery {
                queue: Some("default".into()),
                after: half,
                ..base.clone()
            }),
        ),
        (
            "executions, queue (the newest 1,000)",
            execution(ExecutionQuery { queue: Some("rare".into()), ..base }),
        ),
        ("one execution", Page::Execution(Token(rows as u64 / 3))),
    ]
}

/// `Execution Time: 0.123 ms`, with planning.
fn time(plan: &[String]) -> String {
    let millis = plan.iter().filter_map(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("Execution Time: ").or(line.strip_prefix("Planning Time: "))?;
        rest.strip_suffix(" ms")?.parse::<f64>().ok()
    });
    format!("{:.2} ms", millis.sum::<f64>())
}

/// Blocks that execution touched, in memory or not.
fn blocks(plan: &[String]) -> u64 {
    let line = plan.iter().find(|line| line.trim().starts_with("Buffers: "));
    let words = line.into_iter().flat_map(|line| line.split([' ', '=']));
    words.filter_map(|word| word.parse::<u64>().ok()).sum()
}

fn indexes(plan: &[String]) -> String {
    let mut found: Vec<&str> = Vec::new();
    for line in plan {
        let words: Vec<&str> = line.split_whitespace().collect();
        let scan = words.windows(2).find(|pair| matches!(pair[0], "using" | "on"));
        let index = scan.map(|pair| pair[1]).filter(|_| line.contains("Scan"));
        if let Some(index) = index.filter(|index| !found.contains(index)) {
            found.push(index);
        }
        if line.contains("Sort Method") && !found.contains(&"sort") {
            found.push("sort");
        }
    }
    found.join(", ")
}
