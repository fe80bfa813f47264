-- The run that a run repeats, by hand; NULL for every other.
ALTER TABLE runs ADD COLUMN retry_of INTEGER;
ALTER TABLE tasks ADD COLUMN last_run_retry_of INTEGER;
