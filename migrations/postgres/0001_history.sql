-- History: a projection of what the cluster has agreed on, for people to query.
--
-- The tables and columns are those of SQLite; times are timestamptz here, flags boolean, bytes
-- bytea. Durations are milliseconds, payloads and outputs bytes as they came
-- (convert_from(payload, 'UTF8')::jsonb reads a JSON one). `incarnation` tells the lives of a
-- reused id apart; `change` is the number of the change that a row stands at (P9.1). Only the
-- leader writes.
--
-- What pages are ordered by compares bytes, as every node does.

-- Which cluster's database this is, and how far it has come. One row.
CREATE TABLE dtask_cursor (
    one smallint PRIMARY KEY CHECK (one = 1),
    cluster_id text NOT NULL,
    epoch bigint NOT NULL,
    through bigint NOT NULL
);

-- One row an id: its newest incarnation. A deleted task's row stays, marked.
CREATE TABLE tasks (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    incarnation bigint NOT NULL,
    change bigint NOT NULL,
    deleted boolean NOT NULL,
    name text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    payload bytea NOT NULL,
    at timestamptz,
    every bigint,
    starts_at timestamptz,
    cron_expr text,
    timezone text,
    dst_gap text,
    dst_fold text,
    misfire text,
    catch_up bigint,
    overlap text,
    max_retries bigint NOT NULL,
    backoff text NOT NULL,
    backoff_base bigint NOT NULL,
    backoff_max bigint NOT NULL,
    no_retry_exit text NOT NULL,
    timeout bigint NOT NULL,
    wait text,
    wait_message text,
    wait_since timestamptz,
    wait_until timestamptz,
    last_run bigint,
    last_run_cause text,
    last_run_scheduled_for timestamptz,
    last_run_status text,
    last_run_reason text,
    last_run_attempts bigint,
    last_success_at timestamptz,
    last_failure_at timestamptz,
    consecutive_failures bigint NOT NULL,
    runs_count bigint NOT NULL,
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    next_run_at timestamptz,
    finished_at timestamptz
);

-- Pages go by creation, and by id among those of one moment. Deleted tasks are never listed.
CREATE INDEX tasks_by_creation ON tasks (created_at, id) WHERE NOT deleted;
-- The words behind the order let two filters at once be judged in the index: a pair that hardly ever
-- meets would else look at a hundred thousand rows to find that it does not.
CREATE INDEX tasks_by_status ON tasks (status, created_at, id, type, queue) WHERE NOT deleted;
CREATE INDEX tasks_by_type ON tasks (type, created_at, id, status, queue) WHERE NOT deleted;
CREATE INDEX tasks_by_queue ON tasks (queue, created_at, id, status, type) WHERE NOT deleted;
-- A task without a name of its own is found by its id.
CREATE INDEX tasks_by_name ON tasks (name, created_at, id) WHERE NOT deleted AND name <> id;

-- One row a run of a recurring task, the skipped ones with their reason. A one-shot task is its
-- own run: its columns are those of `tasks`.
CREATE TABLE runs (
    task_id text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    run bigint NOT NULL,
    change bigint NOT NULL,
    cause text NOT NULL,
    scheduled_for timestamptz NOT NULL,
    status text NOT NULL,
    reason text NOT NULL,
    attempts bigint NOT NULL,
    PRIMARY KEY (task_id, incarnation, run)
);

-- One row an attempt; `id` is its fencing token. `queue` is the task's when the attempt was made.
CREATE TABLE execution_logs (
    id bigint NOT NULL PRIMARY KEY,
    change bigint NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    run bigint NOT NULL,
    attempt bigint NOT NULL,
    queue text COLLATE "C" NOT NULL,
    worker_id text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    stop_requested boolean NOT NULL,
    output bytea NOT NULL,
    log_tail bytea NOT NULL,
    error text NOT NULL,
    exit_code integer,
    scheduled_for timestamptz NOT NULL,
    opened_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz
);

CREATE INDEX execution_logs_by_task ON execution_logs (task_id, id);
CREATE INDEX execution_logs_by_status ON execution_logs (status, id);
CREATE INDEX execution_logs_by_worker ON execution_logs (worker_id, id);
CREATE INDEX execution_logs_by_queue ON execution_logs (queue, id);

-- The references that `runs` and `execution_logs` make: they tell people how the tables join and
-- are not enforced. An id's next life replaces its row, and a check a row would lock and dirty the
-- task's page once more.
COMMENT ON COLUMN runs.task_id IS 'tasks.id';
COMMENT ON COLUMN execution_logs.task_id IS 'tasks.id';

-- Changes that history will never hold: the database was restored from an older backup, or was
-- away for so long that the oldest unstored changes had to leave memory (P9.5). Tasks as they
-- stood afterwards were written again.
CREATE TABLE dtask_gaps (
    -- The first and the last change number that is missing.
    first bigint NOT NULL PRIMARY KEY,
    last bigint NOT NULL,
    -- What left memory unstored, as far as the cluster knows: of a restored database nothing.
    tasks bigint NOT NULL,
    runs bigint NOT NULL,
    executions bigint NOT NULL
);
