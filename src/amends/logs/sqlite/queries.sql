-- Every statement of the log. Bodies are kept as text, so that people can read the file, and come out as bytes. (They go in as
-- text: Python's sqlite3 looks for an adapter for every value that is bytes, a truth or none, which costs more than to bind it.)

-- name: start
-- New runs, as many as are put in; nothing happens to one whose id is taken.
INSERT INTO runs (id, saga, saga_version, digest, state, by_hand, version, owner, epoch, due_at, start_print,
                  current, steps, stuck, deadline, tags, created_at, updated_at, ended_at)
VALUES /* starts */
ON CONFLICT (id) DO NOTHING;

-- name: tag
-- Makes a new run findable by a tag.
INSERT INTO run_tags (name, value, created_at, run) VALUES (?, ?, ?, ?);

-- name: append_owned
-- The owner's append: only while version, owner and epoch are what the writer believes. Its own id again as owner, or null to let go.
UPDATE runs
SET version = ?, state = ?, by_hand = ?, owner = ?, due_at = ?, claims = claims * ?, current = ?, steps = ?, stuck = ?, updated_at = ?,
    ended_at = ?
WHERE id = ? AND version = ? AND owner = ? AND epoch = ? AND format > 0;

-- name: append_all_owned
-- The same for many runs at once; the entries are put in, as many as there are. (No WITH in front: the driver counts rows only of
-- a statement that begins with UPDATE.) Columns: run, expected, epoch, version, state, by_hand, owner, due_at, current, steps, stuck, at, ended_at,
-- 0 for progress, else 1.
UPDATE runs
SET version = entry.column4, state = entry.column5, by_hand = entry.column6, owner = entry.column7, due_at = entry.column8,
    claims = claims * entry.column14, current = entry.column9, steps = entry.column10, stuck = entry.column11,
    updated_at = entry.column12, ended_at = entry.column13
FROM (VALUES /* entries */) AS entry
WHERE runs.id = entry.column1 AND runs.version = entry.column2 AND runs.owner = ? AND runs.epoch = entry.column3 AND runs.format > 0;

-- name: append_visited
-- A visitor's append: only the version decides. The run is due at once, unless it has ended and nobody has it.
UPDATE runs
SET version = ?, state = ?, by_hand = ?,
    due_at = CASE WHEN owner IS NULL AND ? IS NOT NULL THEN ? ELSE min(coalesce(due_at, ?), ?) END,
    claims = claims * ?, current = ?, steps = ?, stuck = ?, updated_at = ?, ended_at = ?
WHERE id = ? AND version = ? AND format > 0;

-- name: add_events
-- Many facts at once; they are put in, as many as there are.
INSERT INTO events (run, version, kind, body, epoch, append_id, at) VALUES /* events */;

-- name: refused
-- Why was an append refused? The row as it is, and which append wrote the version it wanted to write.
SELECT owner, epoch, format, (SELECT append_id FROM events WHERE run = id AND version = ?) FROM runs WHERE id = ?;

-- name: started_by
-- Which append started a run?
SELECT append_id FROM events WHERE run = ? AND version = 1;

-- name: claimable
-- Runs that need somebody and whose saga is known, most overdue first; of those taken over before only so many (-1: any number), the least often first.
-- (+saga: by who has them, not by all runs of a saga.)
WITH needy (id, due_at) AS (
    SELECT id, due_at FROM runs WHERE owner IS NULL AND due_at <= :now AND (+saga, saga_version, digest) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(:known))
    UNION ALL
    SELECT id, due_at FROM runs WHERE (owner < :me OR owner > :me) AND claims = 0 AND (+saga, saga_version, digest) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(:known))
    UNION ALL
    SELECT id, due_at FROM (
        SELECT id, due_at FROM runs WHERE (owner < :me OR owner > :me) AND claims > 0 AND (+saga, saga_version, digest) IN (
            SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(:known))
        ORDER BY claims, due_at IS NULL, due_at LIMIT :suspects)
)
SELECT id FROM needy ORDER BY due_at IS NULL, due_at LIMIT :limit;

-- name: claim
-- Take a run over. An owner it still had was gone.
UPDATE runs SET claims = claims + (owner IS NOT NULL), owner = ?, epoch = epoch + 1 WHERE id = ?;

-- name: release
-- Let go of a run, unless somebody wrote meanwhile. Its owner lived through it, so it isn't suspected of harming anybody.
UPDATE runs SET owner = NULL, due_at = ?, claims = 0 WHERE id = ? AND owner = ? AND epoch = ? AND version = ?;

-- name: exonerate
-- A suspect that its owner lived with: the deaths before aren't counted against it any more, but it stays a suspect.
UPDATE runs SET claims = 1 WHERE id = ? AND owner = ? AND epoch = ? AND claims > 1;

-- name: nudged
-- Runs of ours that are due.
SELECT id, version FROM runs WHERE owner = ? AND due_at <= ? ORDER BY due_at;

-- name: next_due
-- When the earliest run without an owner needs somebody.
SELECT due_at FROM runs WHERE owner IS NULL AND due_at IS NOT NULL ORDER BY due_at LIMIT 1;

-- name: next_due_of
-- When the earliest run without an owner whose saga is known needs somebody.
SELECT due_at FROM runs
WHERE owner IS NULL AND due_at IS NOT NULL AND (+saga, saga_version, digest) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?))
ORDER BY due_at LIMIT 1;

-- name: row
-- One run's row.
SELECT id, saga, saga_version, digest, state, by_hand, version, owner, epoch, due_at, claims, start_print,
       CAST(current AS BLOB), CAST(steps AS BLOB), CAST(stuck AS BLOB), deadline, CAST(tags AS BLOB), created_at, updated_at, ended_at
FROM runs
WHERE id = ?;

-- name: events
-- A run's events from one version on, in order.
SELECT kind, CAST(body AS BLOB), epoch, at FROM events WHERE run = ? AND version > ? ORDER BY version;

-- name: find
-- Rows by what was asked; the conditions that follow are put in, as many as were asked for.
SELECT id, saga, saga_version, digest, state, by_hand, version, owner, epoch, due_at, claims, start_print,
       CAST(current AS BLOB), CAST(steps AS BLOB), CAST(stuck AS BLOB), deadline, CAST(tags AS BLOB), created_at, updated_at, ended_at
FROM runs
WHERE /* conditions */
ORDER BY created_at DESC, id DESC
LIMIT ?;

-- name: find_in_state
-- Condition: in this one state.
state = ?;

-- name: find_in_states
-- Condition: in one of these states (JSON).
state IN (SELECT value FROM json_each(?));

-- name: find_live
-- Condition: it hasn't ended. Beside states none of which is an end it says which index has them all.
ended_at IS NULL;

-- name: find_other_ends
-- Condition: it ended otherwise than most runs do. Beside states that are such ends it says which index has them all.
ended_at IS NOT NULL AND state <> 'completed';

-- name: find_of_saga
-- Condition: of this saga.
saga = ?;

-- name: find_of_version
-- Condition: of this version of its saga.
saga_version = ?;

-- name: find_tagged
-- Condition: with this tag.
(created_at, id) IN (SELECT created_at, run FROM run_tags WHERE name = ? AND value = ?);

-- name: find_at_step
-- Condition: this step is current, or stuck. (A column that holds no JSON would fail the statement, and with it every other row.)
(EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(current) THEN current ELSE '[]' END) WHERE value = ?)
 OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(stuck) THEN stuck ELSE '[]' END) AS mark
            WHERE json_extract(CASE WHEN mark.type = 'object' THEN mark.value END, '$.step') = ?));

-- name: find_begun
-- Condition beside a step: the run hasn't ended, or ended with a step or a mark left. These are found by indexes, the others not looked at.
id IN (SELECT id FROM runs WHERE state IN ('running', 'compensating', 'stuck') AND ended_at IS NULL
       UNION ALL SELECT id FROM runs WHERE ended_at IS NOT NULL AND (current <> '[]' OR stuck <> '[]'));

-- name: find_late
-- Condition: it should have ended before this time.
ended_at IS NULL AND deadline IS NOT NULL AND deadline < ?;

-- name: find_after
-- Condition: on the pages that follow this run.
(created_at, id) < (?, ?);

-- name: count
-- How many runs are in each state. What is rare is counted in its own indexes, and the rest is what is usual: only keys are read, and no row.
SELECT state, count(*) FROM runs WHERE ended_at IS NULL GROUP BY state
UNION ALL SELECT state, count(*) FROM runs WHERE ended_at IS NOT NULL AND state <> 'completed' GROUP BY state
UNION ALL SELECT 'completed', (SELECT count(*) FROM runs) - (SELECT count(*) FROM runs WHERE ended_at IS NULL)
                              - (SELECT count(*) FROM runs WHERE ended_at IS NOT NULL AND state <> 'completed');

-- name: live
-- What hasn't ended, by graph and state: how many, since when. Read from an index alone, which has these columns for it.
SELECT saga, saga_version, digest, state, count(*), min(created_at)
FROM runs WHERE state IN ('running', 'compensating', 'stuck') AND ended_at IS NULL GROUP BY saga, saga_version, digest, state;

-- name: due
-- How many runs need a worker by a time and have none.
SELECT count(*) FROM runs WHERE owner IS NULL AND due_at IS NOT NULL AND due_at <= ?;

-- name: stuck
-- How many runs are stuck, by cause: each once per cause. What can't be read of a row counts as a cause, too.
SELECT saga, step, phase, reason, count(*) FROM (
    SELECT DISTINCT run, saga, coalesce(substr(step, 1, instr(step || '/', '/') - 1), '') AS step, coalesce(phase, 'run') AS phase,
                    coalesce(reason, 'unreadable') AS reason
    FROM (
        SELECT run, saga, json_extract(object, '$.step') AS step, json_extract(object, '$.phase') AS phase,
               json_extract(object, '$.reason') AS reason
        FROM (
            SELECT runs.id AS run, saga, CASE WHEN element.type = 'object' THEN element.value END AS object
            FROM runs LEFT JOIN json_each(CASE WHEN json_valid(stuck) THEN stuck ELSE '[]' END) AS element
            WHERE state = 'stuck' AND ended_at IS NULL)))
GROUP BY saga, step, phase, reason;

-- name: late
-- How many runs of each saga are past a deadline and past their pivot.
SELECT saga, count(*) FROM runs
WHERE ended_at IS NULL AND deadline IS NOT NULL AND deadline < ? AND EXISTS (
    SELECT 1 FROM (SELECT json_extract(object, '$.kind') AS kind, json_extract(object, '$.state') AS state
                   FROM (SELECT CASE WHEN element.type = 'object' THEN element.value END AS object
                         FROM json_each(CASE WHEN json_valid(steps) THEN steps ELSE '[]' END) AS element))
    WHERE (kind = 'pivot' AND state = 'done') OR (kind = 'retriable' AND state NOT IN ('waiting', 'skipped')))
GROUP BY saga;

-- name: standing
-- Version and state of some runs (JSON).
SELECT id, version, state FROM runs WHERE id IN (SELECT value FROM json_each(?));

-- name: workers
-- Who has the file, and who had it and still has runs, and how many.
SELECT id, state, (SELECT count(*) FROM runs WHERE owner = workers.id) FROM workers ORDER BY id;

-- name: graph
-- The graph of one digest.
SELECT CAST(graph AS BLOB) FROM sagas WHERE name = ? AND version = ? AND digest = ?;

-- name: other_graph
-- The newest graph of this name and version, whatever its digest.
SELECT CAST(graph AS BLOB) FROM sagas WHERE name = ? AND version = ? ORDER BY rowid DESC LIMIT 1;

-- name: keep_graph
-- Keep a graph.
INSERT INTO sagas (name, version, digest, graph) VALUES (?, ?, ?, CAST(? AS TEXT));

-- name: keep_setting
-- Keep a value, unless there is one.
INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING;

-- name: setting
-- The value kept under a name.
SELECT value FROM settings WHERE name = ?;

-- name: bury_workers
-- The lock is ours, so every other worker is gone.
UPDATE workers SET state = 'dead' WHERE state = 'live';

-- name: clock_set_back
-- Rows from the future were written before the clock was set back: their waits end as long after now as they were to last.
UPDATE runs SET due_at = due_at - (updated_at - :now) WHERE owner IS NULL AND due_at > :now AND updated_at > :now;

-- name: forget_workers
-- Workers that are gone and own nothing are of no use to anybody.
DELETE FROM workers WHERE state <> 'live' AND id NOT IN (SELECT owner FROM runs WHERE owner IS NOT NULL);

-- name: begin_work
-- This worker may own runs from now on.
INSERT INTO workers (id, state, expires_at) VALUES (?, 'live', NULL);

-- name: hand_over
-- Let go of all runs of a worker that ends in good order. Each is due when its row says.
UPDATE runs SET owner = NULL, claims = 0 WHERE owner = ?;

-- name: end_work
-- This worker is gone, in good order.
UPDATE workers SET state = 'left' WHERE id = ?;

-- name: purgeable
-- Runs that ended before a time (in a state) and that nobody has or needs, the oldest first.
SELECT id FROM runs
WHERE ended_at < ? AND (? IS NULL OR state = ?) AND format > 0 AND owner IS NULL AND due_at IS NULL
ORDER BY ended_at LIMIT ?;

-- name: purge_events
-- A purged run's events go.
DELETE FROM events WHERE run = ?;

-- name: purge_tags
-- A purged run is not found by its tags any more.
DELETE FROM run_tags WHERE run = ? AND (name, value, created_at) IN (
    SELECT tag.key, tag.value, runs.created_at
    FROM runs, json_each(CASE WHEN json_valid(runs.tags) THEN runs.tags ELSE '{}' END) AS tag WHERE runs.id = ?);

-- name: damaged_tags
-- Those of some runs (JSON) whose own tags can't be read.
SELECT id FROM runs WHERE id IN (SELECT value FROM json_each(?)) AND (
    coalesce(json_type(CASE WHEN json_valid(tags) THEN tags END), '') <> 'object'
    OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(tags) THEN tags END) WHERE type <> 'text'));

-- name: purge_damaged_tags
-- The same for such a run: every tag is looked at, which only damage is worth.
DELETE FROM run_tags WHERE run = ?;

-- name: purge_row
-- A purged run's row keeps what tells that its id is taken, by what, and how it ended.
UPDATE runs SET format = 0, current = '[]', steps = '[]', stuck = '[]', tags = '{}' WHERE id = ?;
