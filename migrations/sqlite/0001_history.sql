-- History: a projection of what the cluster has agreed on, for people to query.
--
-- Times are microseconds since 1970-01-01T00:00:00Z (datetime(created_at / 1000000, 'unixepoch')
-- shows one), durations milliseconds, payloads and outputs bytes as they came.
-- `incarnation` tells the lives of a reused id apart; `change` is the number of the change that a
-- row stands at (P9.1). Only the leader writes.

-- Which cluster's database this is, and how far it has come. One row.
CREATE TABLE dtask_cursor (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    cluster_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    through INTEGER NOT NULL
) STRICT;

-- One row an id: its newest incarnation. A deleted task's row stays, marked.
CREATE TABLE tasks (
    id TEXT NOT NULL PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    change INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    queue TEXT NOT NULL,
    status TEXT NOT NULL,
    priority INTEGER NOT NULL,
    payload BLOB NOT NULL,
    at INTEGER,
    every INTEGER,
    starts_at INTEGER,
    cron_expr TEXT,
    timezone TEXT,
    dst_gap TEXT,
    dst_fold TEXT,
    misfire TEXT,
    catch_up INTEGER,
    overlap TEXT,
    max_retries INTEGER NOT NULL,
    backoff TEXT NOT NULL,
    backoff_base INTEGER NOT NULL,
    backoff_max INTEGER NOT NULL,
    no_retry_exit TEXT NOT NULL,
    timeout INTEGER NOT NULL,
    wait TEXT,
    wait_message TEXT,
    wait_since INTEGER,
    wait_until INTEGER,
    last_run INTEGER,
    last_run_cause TEXT,
    last_run_scheduled_for INTEGER,
    last_run_status TEXT,
    last_run_reason TEXT,
    last_run_attempts INTEGER,
    last_success_at INTEGER,
    last_failure_at INTEGER,
    consecutive_failures INTEGER NOT NULL,
    runs_count INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    next_run_at INTEGER,
    finished_at INTEGER
) STRICT;

CREATE INDEX tasks_by_creation ON tasks (created_at);
CREATE INDEX tasks_by_status ON tasks (status, created_at);
CREATE INDEX tasks_by_type ON tasks (type, created_at);
CREATE INDEX tasks_by_queue ON tasks (queue, created_at);
-- A task without a name of its own is found by its id.
CREATE INDEX tasks_by_name ON tasks (name, created_at) WHERE name <> id;

-- One row a run of a recurring task, the skipped ones with their reason. A one-shot task is its
-- own run: its columns are those of `tasks`.
CREATE TABLE runs (
    task_id TEXT NOT NULL REFERENCES tasks (id),
    incarnation INTEGER NOT NULL,
    run INTEGER NOT NULL,
    change INTEGER NOT NULL,
    cause TEXT NOT NULL,
    scheduled_for INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (task_id, incarnation, run)
) STRICT, WITHOUT ROWID;

-- One row an attempt; `id` is its fencing token. The writer does not enforce the reference: an
-- attempt may be stored a transaction before its task.
CREATE TABLE execution_logs (
    id INTEGER NOT NULL PRIMARY KEY,
    change INTEGER NOT NULL,
    task_id TEXT NOT NULL REFERENCES tasks (id),
    incarnation INTEGER NOT NULL,
    run INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker_id TEXT NOT NULL,
    status TEXT NOT NULL,
    stop_requested INTEGER NOT NULL,
    output BLOB NOT NULL,
    log_tail BLOB NOT NULL,
    error TEXT NOT NULL,
    exit_code INTEGER,
    scheduled_for INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER
) STRICT;

CREATE INDEX execution_logs_by_task ON execution_logs (task_id);
CREATE INDEX execution_logs_by_status ON execution_logs (status);
CREATE INDEX execution_logs_by_worker ON execution_logs (worker_id);
