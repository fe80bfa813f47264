-- Changes that history will never hold: the database was restored from an older backup, or was
-- away for so long that the oldest unstored changes had to leave memory (P9.5). Tasks as they
-- stood afterwards were written again.
CREATE TABLE dtask_gaps (
    -- The first and the last change number that is missing.
    first INTEGER NOT NULL PRIMARY KEY,
    last INTEGER NOT NULL,
    -- What left memory unstored, as far as the cluster knows: of a restored database nothing.
    tasks INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    executions INTEGER NOT NULL
) STRICT;
