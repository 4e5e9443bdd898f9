-- The log, in a schema of its own. Many processes write it; anybody who may read it can ask it plain questions:
--     select * from amends.run_steps where run = 'order-42'
-- Times are microseconds UTC, but where a column is a timestamptz.

-- One row per run, written anew with every append: "what is going on" without reading events.
-- Most appends change no indexed column, so they need no index entry (HOT), as long as the page has room: fillfactor.
CREATE TABLE amends.runs (
    id           text COLLATE "C" NOT NULL PRIMARY KEY,
    saga         text COLLATE "C" NOT NULL,
    saga_version integer          NOT NULL,
    digest       text COLLATE "C" NOT NULL,             -- of the graph it began with
    format       integer          NOT NULL DEFAULT 1,   -- of its events; 0: they are purged
    state        text COLLATE "C" NOT NULL,
    by_hand      boolean          NOT NULL,
    version      bigint           NOT NULL,             -- how many events it has
    owner        text COLLATE "C",                      -- the worker that has it in memory
    epoch        bigint           NOT NULL,             -- rises with every claim
    due_at       bigint,                                -- since when, or from when on, it needs somebody; null: never by itself
    claims       integer          NOT NULL DEFAULT 0,   -- from owners that were gone, since an owner's last append
    start_print  bytea            NOT NULL,
    current      json             NOT NULL,             -- ["charge"]
    steps        json             NOT NULL,             -- [{"name", "kind", "state", "attempts", "error"}]
    stuck        json             NOT NULL,             -- [{"step", "phase", "reason", "attempts", "since"}]
    deadline     bigint,
    tags         json             NOT NULL,             -- {"customer": "ann"}
    created_at   bigint           NOT NULL,
    updated_at   bigint           NOT NULL,
    ended_at     bigint
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- What happened, in order. Nothing here is ever changed; only a purge takes away. Bodies are JSON text as it was sent
-- and received, kept byte for byte; the view run_events shows them as text.
CREATE TABLE amends.events (
    run       text COLLATE "C" NOT NULL,
    version   bigint           NOT NULL,
    kind      text COLLATE "C" NOT NULL,
    body      bytea            NOT NULL,
    epoch     bigint           NOT NULL,                -- 0: a visitor wrote it
    append_id bytea            NOT NULL,                -- the same append sent again is recognised by it
    at        bigint           NOT NULL,
    PRIMARY KEY (run, version)
);

-- The graphs that runs began with.
CREATE TABLE amends.sagas (
    name    text COLLATE "C" NOT NULL,
    version integer          NOT NULL,
    digest  text COLLATE "C" NOT NULL,
    graph   bytea            NOT NULL,
    kept_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version, digest)
);

-- Who may own runs. A worker that says nothing until its lease is over is declared dead by whoever notices, for good.
CREATE TABLE amends.workers (
    id         text COLLATE "C" NOT NULL PRIMARY KEY,
    state      text COLLATE "C" NOT NULL CHECK (state IN ('live', 'dead', 'left')),
    expires_at timestamptz      NOT NULL,
    heard_at   timestamptz      NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    host       text             NOT NULL,
    pid        integer          NOT NULL,
    sagas      json             NOT NULL DEFAULT '[]'    -- [["place-order", 1, "<digest>"]]: what it has loaded
) WITH (fillfactor = 50);

-- Values made once and kept, such as the secret of callback tokens.
CREATE TABLE amends.settings (
    name  text COLLATE "C" NOT NULL PRIMARY KEY,
    value bytea            NOT NULL
);

-- The tags once more, to find runs by them; they never change after the start.
CREATE TABLE amends.run_tags (
    name       text COLLATE "C" NOT NULL,
    value      text COLLATE "C" NOT NULL,
    saga       text COLLATE "C" NOT NULL,
    created_at bigint           NOT NULL,
    run        text COLLATE "C" NOT NULL,
    PRIMARY KEY (name, value, created_at, run) INCLUDE (saga)
);

-- Claims: runs nobody has, by when they are due.
CREATE INDEX runs_due ON amends.runs (due_at) WHERE owner IS NULL AND due_at IS NOT NULL;
-- Visits, and the runs of owners that are gone.
CREATE INDEX runs_owned ON amends.runs (owner) WHERE owner IS NOT NULL;
-- Lists, newest first: all, of one saga; and what is rare by its state: what hasn't ended, and other ends than the usual.
CREATE INDEX runs_newest ON amends.runs (created_at, id);
CREATE INDEX runs_by_saga ON amends.runs (saga, created_at, id);
CREATE INDEX runs_live ON amends.runs (state, created_at, id) WHERE ended_at IS NULL;
CREATE INDEX runs_other_ends ON amends.runs (state, created_at, id) WHERE ended_at IS NOT NULL AND state <> 'completed';
-- What may be purged.
CREATE INDEX runs_over ON amends.runs (ended_at) WHERE ended_at IS NOT NULL AND format > 0;

-- Every step of every run, one row each.
CREATE VIEW amends.run_steps AS
SELECT runs.id AS run,
       runs.saga,
       runs.saga_version,
       runs.state AS run_state,
       step.position,
       step.value ->> 'name' AS step,
       step.value ->> 'kind' AS kind,
       step.value ->> 'state' AS state,
       (step.value ->> 'attempts')::integer AS attempts,
       step.value ->> 'error' AS error,
       EXISTS (SELECT FROM json_array_elements_text(runs.current) AS name WHERE name = step.value ->> 'name') AS is_current
FROM amends.runs, json_array_elements(runs.steps) WITH ORDINALITY AS step (value, position);

-- Every mark that keeps a run stuck, one row each.
CREATE VIEW amends.stuck_steps AS
SELECT runs.id AS run,
       runs.saga,
       runs.saga_version,
       mark.value ->> 'step' AS step,
       mark.value ->> 'phase' AS phase,
       mark.value ->> 'reason' AS reason,
       (mark.value ->> 'attempts')::integer AS attempts,
       to_timestamp((mark.value ->> 'since')::bigint / 1e6) AS since
FROM amends.runs, json_array_elements(runs.stuck) AS mark (value)
WHERE runs.state = 'stuck' AND runs.ended_at IS NULL;

-- What happened, for people.
CREATE VIEW amends.run_events AS
SELECT run, version, kind, convert_from(body, 'UTF8') AS body, epoch, to_timestamp(at / 1e6) AS at FROM amends.events;
