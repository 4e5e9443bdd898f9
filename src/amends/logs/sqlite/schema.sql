-- One process owns the file (see the lock beside it); others may read it at any time:
--     sqlite3 -readonly orders.db 'select * from run_steps where run = "order-42"'
-- Times are microseconds UTC. Columns holding JSON hold text. PRAGMA user_version
-- is the version of this schema, PRAGMA application_id tells a log from other databases.

-- One row per run, written anew with every append: "what is going on" without reading events.
CREATE TABLE runs (
    id           TEXT    NOT NULL PRIMARY KEY,
    saga         TEXT    NOT NULL,
    saga_version INTEGER NOT NULL,
    digest       TEXT    NOT NULL,             -- of the graph it began with
    format       INTEGER NOT NULL DEFAULT 1,   -- of its events; 0: they are purged
    state        TEXT    NOT NULL,
    by_hand      INTEGER NOT NULL,
    version      INTEGER NOT NULL,             -- how many events it has
    owner        TEXT,                         -- the worker that has it in memory
    epoch        INTEGER NOT NULL,             -- rises with every claim
    due_at       INTEGER,                      -- when it needs somebody; null: never by itself
    claims       INTEGER NOT NULL DEFAULT 0,   -- from owners that were gone, since an owner's last append
    start_print  BLOB    NOT NULL,
    current      TEXT    NOT NULL,             -- ["charge"]
    steps        TEXT    NOT NULL,             -- [{"name", "kind", "state", "attempts", "error"}]
    stuck        TEXT    NOT NULL,             -- [{"step", "phase", "reason", "code", "attempts", "since"}]
    deadline     INTEGER,
    tags         TEXT    NOT NULL,             -- {"customer": "ann"}
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    ended_at     INTEGER
);

-- What happened, in order. Nothing here is ever changed; only a purge takes away.
CREATE TABLE events (
    run       TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    kind      TEXT    NOT NULL,
    body      TEXT    NOT NULL,
    epoch     INTEGER NOT NULL,                -- 0: a visitor wrote it
    append_id BLOB    NOT NULL,                -- the same append sent again is recognised by it
    at        INTEGER NOT NULL,
    PRIMARY KEY (run, version)                 -- with a rowid: all bodies of a batch go to the end of one tree
);

-- The graphs that runs began with.
CREATE TABLE sagas (
    name    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    digest  TEXT    NOT NULL,
    graph   TEXT    NOT NULL,
    PRIMARY KEY (name, version, digest)
);

-- Who may own runs: one is live, while the file is open.
CREATE TABLE workers (
    id         TEXT NOT NULL PRIMARY KEY,
    state      TEXT NOT NULL,                  -- live | dead | left
    expires_at INTEGER                         -- null: the lock on the file is the lease
) WITHOUT ROWID;

-- Values made once and kept, such as the secret of callback tokens.
CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- The tags once more, to find runs by them; they never change after the start.
CREATE TABLE run_tags (
    name       TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    run        TEXT    NOT NULL,
    PRIMARY KEY (name, value, created_at, run)
) WITHOUT ROWID;

-- Claims: runs nobody has, by when they are due.
CREATE INDEX runs_due ON runs (due_at, owner) WHERE owner IS NULL AND due_at IS NOT NULL;
-- Nudges, and the runs of owners that are gone. (Not by due time: that changes with every append, and the owned are few.)
CREATE INDEX runs_owned ON runs (owner) WHERE owner IS NOT NULL;
-- Lists, newest first: all, of one saga; and what is rare by its state: what hasn't ended, and other ends than the usual. What hasn't
-- ended is also counted, by graph: from the index alone, for which it has the columns that the counting statement names.
CREATE INDEX runs_newest ON runs (created_at, id);
CREATE INDEX runs_live ON runs (state, created_at, id, saga, saga_version, digest, ended_at) WHERE ended_at IS NULL;
CREATE INDEX runs_other_ends ON runs (state, created_at, id, ended_at) WHERE ended_at IS NOT NULL AND state <> 'completed';
CREATE INDEX runs_left ON runs (created_at, id) WHERE ended_at IS NOT NULL AND (current <> '[]' OR stuck <> '[]');
CREATE INDEX runs_late ON runs (deadline) WHERE ended_at IS NULL AND deadline IS NOT NULL;
CREATE INDEX runs_by_saga ON runs (saga, created_at, id);
-- What may be purged.
CREATE INDEX runs_over ON runs (ended_at) WHERE ended_at IS NOT NULL AND format > 0;

-- Every step of every run, one row each. (A column that holds no JSON would fail the view for all runs.)
CREATE VIEW run_steps AS
SELECT runs.id AS run,
       runs.saga,
       runs.saga_version,
       runs.state AS run_state,
       step.key + 1 AS position,
       json_extract(step.value, '$.name') AS step,
       json_extract(step.value, '$.kind') AS kind,
       json_extract(step.value, '$.state') AS state,
       json_extract(step.value, '$.attempts') AS attempts,
       json_extract(step.value, '$.error') AS error,
       json_extract(step.value, '$.name') IN (
           SELECT value FROM json_each(CASE WHEN json_valid(runs.current) THEN runs.current ELSE '[]' END)) AS is_current
FROM runs, json_each(CASE WHEN json_valid(runs.steps) THEN runs.steps ELSE '[]' END) AS step
WHERE step.type = 'object';

-- Every mark that keeps a run stuck, one row each.
CREATE VIEW stuck_steps AS
SELECT runs.id AS run,
       runs.saga,
       runs.saga_version,
       json_extract(mark.value, '$.step') AS step,
       json_extract(mark.value, '$.phase') AS phase,
       json_extract(mark.value, '$.reason') AS reason,
       json_extract(mark.value, '$.attempts') AS attempts,
       json_extract(mark.value, '$.since') AS since
FROM runs, json_each(CASE WHEN json_valid(runs.stuck) THEN runs.stuck ELSE '[]' END) AS mark
WHERE mark.type = 'object';
