-- Four indexes that had an entry for each row become one entry for each stretch of rows. Most rows
-- say the same few words, in the order in which they come, and a tree that is touched for each row
-- costs the writer more than anything else about it.

-- Where a word occurs: in `span` of a list there is, or was, a row with it. The lists:
--   tasks.type, tasks.queue                          spans of 1,024 microseconds of created_at
--   execution_logs.worker_id, execution_logs.queue   spans of 256 ids
-- A page with such a filter reads these spans only. Written with the rows; never taken back, so
-- that a span may hold no such row any more.
CREATE TABLE dtask_spans (
    list TEXT NOT NULL,
    word TEXT NOT NULL,
    span INTEGER NOT NULL,
    PRIMARY KEY (list, word, span)
) STRICT, WITHOUT ROWID;

INSERT INTO dtask_spans SELECT DISTINCT 'tasks.type', type, created_at >> 10 FROM tasks;
INSERT INTO dtask_spans SELECT DISTINCT 'tasks.queue', queue, created_at >> 10 FROM tasks;
INSERT INTO dtask_spans
SELECT DISTINCT 'execution_logs.worker_id', worker_id, id >> 8 FROM execution_logs;
INSERT INTO dtask_spans
SELECT DISTINCT 'execution_logs.queue', queue, id >> 8 FROM execution_logs;

DROP INDEX tasks_by_type;
DROP INDEX tasks_by_queue;
DROP INDEX execution_logs_by_worker;
DROP INDEX execution_logs_by_queue;

-- The indexes of statuses have few entries: they may be wider. A second filter is judged there.
DROP INDEX tasks_by_status;
CREATE INDEX tasks_by_status ON tasks (status, created_at, type, queue)
WHERE status <> 'succeeded';
DROP INDEX execution_logs_by_status;
CREATE INDEX execution_logs_by_status ON execution_logs (status, id, worker_id, queue)
WHERE status <> 'succeeded';
