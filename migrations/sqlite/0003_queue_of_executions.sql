-- The queue of an attempt's task when the attempt was made: executions are listed by queue without
-- looking at every task.
ALTER TABLE execution_logs ADD COLUMN queue TEXT NOT NULL DEFAULT '';

UPDATE execution_logs
SET queue = coalesce((SELECT queue FROM tasks WHERE tasks.id = execution_logs.task_id), '');

CREATE INDEX execution_logs_by_queue ON execution_logs (queue);
