-- Every statement of the log. Each is a transaction of its own (autocommit, READ COMMITTED): what must be together is one statement.
-- Lists of values come as arrays, one per column. `?` stands for a parameter in the conditions of `find`, which are put together.

-- name: write
-- A whole batch: appends where version, owner and epoch are as the writer believes (a visitor's: the version alone), starts where
-- the id is free, and the events of both. Gives the runs of the entries that were taken.
-- What was due and still is keeps its due_at: the update then changes no indexed column. Numbers come as the text of an array, names
-- and JSON with a separator between them, which costs the driver less. `(... IN (SELECT ...)) IS TRUE` is looked up in a table of
-- hashes; without `IS TRUE` it would be a join, and with hash joins off each row would be compared with each.
WITH wanted AS (
    SELECT * FROM unnest(string_to_array($2, E'\x1f'), $3::text::bigint[], $4::text::bigint[], $5::text::bigint[],
                         string_to_array($6, E'\x1f'), $7::text::boolean[], $8::text::boolean[], $9::text::bigint[],
                         string_to_array($10, E'\x1f'), string_to_array($11, E'\x1f'), string_to_array($12, E'\x1f'),
                         $13::text::bigint[], $14::text::bigint[], $44::text::boolean[])
        AS w (run, expected, epoch, version, state, by_hand, release, due_at, current, steps, stuck, at, ended_at, progress)
), accepted AS (
    UPDATE amends.runs AS r
    SET version = w.version, state = w.state, by_hand = w.by_hand,
        owner = CASE WHEN w.release THEN NULL ELSE r.owner END,
        due_at = CASE
            WHEN w.epoch IS NOT NULL AND r.due_at <= w.at AND w.due_at <= w.at THEN r.due_at
            WHEN w.epoch IS NOT NULL OR (r.owner IS NULL AND w.ended_at IS NOT NULL) THEN w.due_at
            ELSE least(r.due_at, w.due_at, w.at) END,
        claims = CASE WHEN w.progress THEN 0 ELSE r.claims END,
        current = w.current::json, steps = w.steps::json, stuck = w.stuck::json, updated_at = w.at, ended_at = w.ended_at
    FROM wanted AS w
    WHERE r.id = w.run AND r.version = w.expected AND r.format > 0
      AND (w.epoch IS NULL OR (r.owner = $1 AND r.epoch = w.epoch))
    RETURNING r.id
), started AS (
    INSERT INTO amends.runs (id, saga, saga_version, digest, state, by_hand, version, owner, epoch, due_at, start_print,
                             current, steps, stuck, deadline, tags, created_at, updated_at, ended_at)
    SELECT s.run, s.saga, s.saga_version, s.digest, s.state, s.by_hand, s.version, CASE WHEN s.owned THEN $1 END, 1, s.due_at, s.start_print,
           s.current::json, s.steps::json, s.stuck::json, s.deadline, s.tags::json, s.at, s.at, s.ended_at
    FROM unnest(string_to_array($15, E'\x1f'), string_to_array($16, E'\x1f'), $17::text::integer[],
                string_to_array($18, E'\x1f'), string_to_array($19, E'\x1f'), $20::text::boolean[], $21::text::bigint[],
                $22::text::boolean[], $23::text::bigint[], $24::bytea[], string_to_array($25, E'\x1f'),
                string_to_array($26, E'\x1f'), string_to_array($27, E'\x1f'), $28::text::bigint[],
                string_to_array($29, E'\x1f'), $30::text::bigint[], $31::text::bigint[])
        AS s (run, saga, saga_version, digest, state, by_hand, version, owned, due_at, start_print, current, steps, stuck, deadline,
              tags, at, ended_at)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), tagged AS (
    INSERT INTO amends.run_tags (name, value, saga, created_at, run)
    SELECT t.name, t.value, t.saga, t.created_at, t.run
    FROM unnest($32::text[], $33::text[], $34::text[], $35::text[], $36::text::bigint[]) AS t (run, name, value, saga, created_at)
    WHERE (t.run IN (SELECT id FROM started)) IS TRUE
), taken AS (
    SELECT id FROM accepted UNION ALL SELECT id FROM started
), written AS (
    INSERT INTO amends.events (run, version, kind, body, epoch, append_id, at)
    SELECT e.* FROM unnest(string_to_array($37, E'\x1f'), $38::text::bigint[], string_to_array($39, E'\x1f'), $40::bytea[],
                           $41::text::bigint[], $42::bytea[], $43::text::bigint[])
        AS e (run, version, kind, body, epoch, append_id, at)
    WHERE (e.run IN (SELECT id FROM taken)) IS TRUE
)
SELECT id FROM taken;

-- name: refused
-- Why weren't they taken? The rows as they are, and which append wrote the version that each wanted to write.
SELECT r.id, r.owner, r.epoch, r.format, e.append_id
FROM unnest($1::text[], $2::bigint[]) AS w (run, wanted)
JOIN amends.runs AS r ON r.id = w.run
LEFT JOIN amends.events AS e ON e.run = w.run AND e.version = w.wanted;

-- name: held
-- Those of these runs whose row another transaction has locked.
WITH free AS (SELECT id FROM amends.runs WHERE id = ANY($1::text[]) FOR NO KEY UPDATE SKIP LOCKED)
SELECT id FROM amends.runs WHERE id = ANY($1::text[]) AND NOT EXISTS (SELECT FROM free WHERE free.id = runs.id);

-- name: sync
-- A commit that waits for whoever commits wait for (synchronous standbys): with it, all that were before it are there as well. One that
-- was given up while it waited for them is found in the log here, and perhaps nowhere else yet.
SELECT pg_logical_emit_message(true, 'amends', '');

-- name: claim
-- Take over up to $7 runs of known sagas ($3, $4, $5) that are due by $2 and have no owner, or whose owner isn't live; of those that
-- were already taken over from an owner that was gone, up to $6, the least often first. Owners are found by hopping from one to the
-- next in the index. What is due is read saga by saga, in the order of the index that has the saga first: runs of a saga that nobody
-- here knows aren't even read.
WITH RECURSIVE owners (id) AS (
    (SELECT owner FROM amends.runs WHERE owner IS NOT NULL ORDER BY owner LIMIT 1)
    UNION ALL
    SELECT (SELECT owner FROM amends.runs WHERE owner > o.id ORDER BY owner LIMIT 1) FROM owners AS o WHERE o.id IS NOT NULL
), gone AS (
    SELECT o.id FROM owners AS o
    WHERE NOT EXISTS (SELECT FROM amends.workers AS w WHERE w.id = o.id AND w.state = 'live')
), known AS (
    SELECT * FROM unnest($3::text[], $4::integer[], $5::text[]) AS k (saga, version, digest)
), due AS (
    SELECT d.id, d.due_at FROM known AS k CROSS JOIN LATERAL (
        SELECT r.id, r.due_at FROM amends.runs AS r
        WHERE r.owner IS NULL AND r.due_at IS NOT NULL
          AND (r.saga, r.saga_version, r.digest, r.due_at) >= (k.saga, k.version, k.digest, 0)
          AND (r.saga, r.saga_version, r.digest, r.due_at) <= (k.saga, k.version, k.digest, $2)
        ORDER BY r.saga, r.saga_version, r.digest, r.due_at LIMIT $7 FOR UPDATE OF r SKIP LOCKED
    ) AS d
), orphans AS (
    SELECT r.id, r.due_at FROM amends.runs AS r JOIN gone AS g ON r.owner = g.id
    WHERE r.claims = 0 AND (r.saga, r.saga_version, r.digest) IN (SELECT * FROM known)
    ORDER BY r.due_at NULLS LAST LIMIT $7 FOR UPDATE OF r SKIP LOCKED
), suspects AS (
    SELECT r.id, r.due_at FROM amends.runs AS r JOIN gone AS g ON r.owner = g.id
    WHERE r.claims > 0 AND (r.saga, r.saga_version, r.digest) IN (SELECT * FROM known)
    ORDER BY r.claims, r.due_at NULLS LAST LIMIT least($6, $7) FOR UPDATE OF r SKIP LOCKED
), needy AS (
    SELECT * FROM due UNION ALL SELECT * FROM orphans UNION ALL SELECT * FROM suspects ORDER BY due_at NULLS LAST LIMIT $7
)
UPDATE amends.runs AS r
SET owner = $1, epoch = r.epoch + 1, claims = r.claims + (r.owner IS NOT NULL)::integer
FROM needy AS n
WHERE r.id = n.id
RETURNING r.id, r.saga, r.saga_version, r.digest, r.state, r.by_hand, r.version, r.owner, r.epoch, r.due_at, r.claims, r.start_print,
          r.current, r.steps, r.stuck, r.deadline, r.tags, r.created_at, r.updated_at, r.ended_at;

-- name: release
-- Let go of a run, unless somebody wrote meanwhile. Its owner lived through it, so it isn't suspected of harming anybody.
-- Gives whether it is due.
UPDATE amends.runs SET owner = NULL, due_at = $2, claims = 0 WHERE id = $1 AND owner = $3 AND epoch = $4 AND version = $5
RETURNING coalesce(due_at <= extract(epoch FROM clock_timestamp()) * 1000000, false);

-- name: exonerate
-- A suspect that its owner lived with: the deaths before aren't counted against it any more, but it stays a suspect.
UPDATE amends.runs SET claims = 1 WHERE id = $1 AND owner = $2 AND epoch = $3 AND claims > 1;

-- name: hand_over
-- Let go of all runs of a worker that ends in good order. Each is due when its row says. A row that somebody holds on to isn't waited
-- for: as a run of a worker that has left it is taken over at once, too.
UPDATE amends.runs SET owner = NULL, claims = 0
WHERE id = ANY (ARRAY(SELECT id FROM amends.runs WHERE owner = $1 FOR UPDATE SKIP LOCKED));

-- name: owned
-- The runs that a worker has by the log.
SELECT id, epoch FROM amends.runs WHERE owner = $1;

-- name: let_go_of_strays
-- Let go of runs that a worker has by the log, but not in memory: the answer to a claim was lost.
UPDATE amends.runs AS r SET owner = NULL, due_at = least(r.due_at, $4)
FROM unnest($2::text[], $3::bigint[]) AS s (run, epoch)
WHERE r.id = s.run AND r.owner = $1 AND r.epoch = s.epoch
RETURNING r.id;

-- name: nudged
-- Runs of ours that are due.
SELECT id, version FROM amends.runs WHERE owner = $1 AND due_at <= $2;

-- name: next_due
-- When the earliest run without an owner needs somebody.
SELECT due_at FROM amends.runs WHERE owner IS NULL AND due_at IS NOT NULL ORDER BY due_at LIMIT 1;

-- name: next_due_of
-- When the earliest run without an owner whose saga is known needs somebody.
SELECT min(d.due_at) FROM unnest($1::text[], $2::integer[], $3::text[]) AS k (saga, version, digest) CROSS JOIN LATERAL (
    SELECT r.due_at FROM amends.runs AS r
    WHERE r.owner IS NULL AND r.due_at IS NOT NULL
      AND (r.saga, r.saga_version, r.digest, r.due_at) >= (k.saga, k.version, k.digest, 0)
      AND (r.saga, r.saga_version, r.digest) <= (k.saga, k.version, k.digest)
    ORDER BY r.saga, r.saga_version, r.digest, r.due_at LIMIT 1
) AS d;

-- name: join
-- This worker may own runs from now on, until its lease is over.
INSERT INTO amends.workers (id, state, expires_at, host, pid, sagas)
VALUES ($1, 'live', clock_timestamp() + make_interval(secs => $2), $3, $4, $5);

-- name: heartbeat
-- This worker lives: its lease begins anew. No row: it was declared dead.
UPDATE amends.workers SET heard_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $2)
WHERE id = $1 AND state = 'live'
RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- name: reap
-- Whoever has said nothing until its lease was over is dead, for good. And, as a row without an id, in how many seconds the next of
-- the others' leases is over.
WITH gone AS (
    UPDATE amends.workers SET state = 'dead' WHERE state = 'live' AND expires_at < clock_timestamp() RETURNING id
)
SELECT id, NULL::float8 FROM gone
UNION ALL
SELECT NULL, extract(epoch FROM min(expires_at) - clock_timestamp())::float8
FROM amends.workers WHERE state = 'live' AND id <> $1 AND expires_at >= clock_timestamp();

-- name: leave
-- This worker is gone, in good order.
UPDATE amends.workers SET state = 'left' WHERE id = $1 AND state = 'live';

-- name: forget_workers
-- Workers that have been gone for a day and own nothing are of no use to anybody.
DELETE FROM amends.workers AS w
WHERE w.state <> 'live' AND w.heard_at < clock_timestamp() - interval '1 day'
  AND NOT EXISTS (SELECT FROM amends.runs AS r WHERE r.owner = w.id);

-- name: announce
-- What a worker has loaded.
UPDATE amends.workers SET sagas = $2 WHERE id = $1;

-- name: workers
-- Who may own runs, or did lately, and how many each has. Where all are gone nobody is left to declare it.
SELECT id, CASE WHEN state = 'live' AND expires_at < clock_timestamp() THEN 'dead' ELSE state END, host, pid,
       (extract(epoch FROM started_at) * 1000000)::bigint, (extract(epoch FROM heard_at) * 1000000)::bigint,
       (extract(epoch FROM expires_at) * 1000000)::bigint, sagas,
       (SELECT count(*) FROM amends.runs AS r WHERE r.owner = w.id)
FROM amends.workers AS w
ORDER BY started_at, id;

-- name: live
-- What hasn't ended, by graph and state: how many, since when. Read from an index alone, which has these columns for it.
SELECT saga, saga_version, digest, state, count(*), min(created_at)
FROM amends.runs WHERE ended_at IS NULL GROUP BY saga, saga_version, digest, state;

-- name: due
-- How many runs need a worker by a time and have none.
SELECT count(*) FROM amends.runs WHERE owner IS NULL AND due_at IS NOT NULL AND due_at <= $1;

-- name: stuck
-- How many runs are stuck, by cause: each once per cause. What can't be read of a row counts as a cause, too.
SELECT saga, step, phase, reason, count(*) FROM (
    SELECT DISTINCT r.id, r.saga, split_part(coalesce(mark.value ->> 'step', ''), '/', 1) AS step,
                    coalesce(mark.value ->> 'phase', 'run') AS phase, coalesce(mark.value ->> 'reason', 'unreadable') AS reason
    FROM amends.runs AS r
    LEFT JOIN LATERAL json_array_elements(CASE WHEN json_typeof(r.stuck) = 'array' THEN r.stuck ELSE '[]' END) AS mark (value) ON true
    WHERE r.state = 'stuck' AND r.ended_at IS NULL
) AS causes GROUP BY saga, step, phase, reason;

-- name: late
-- How many runs of each saga are past a deadline and past their pivot.
SELECT r.saga, count(*) FROM amends.runs AS r
WHERE r.ended_at IS NULL AND r.deadline IS NOT NULL AND r.deadline < $1 AND EXISTS (
    SELECT FROM json_array_elements(CASE WHEN json_typeof(r.steps) = 'array' THEN r.steps ELSE '[]' END) AS step (value)
    WHERE (step.value ->> 'kind' = 'pivot' AND step.value ->> 'state' = 'done')
       OR (step.value ->> 'kind' = 'retriable' AND step.value ->> 'state' NOT IN ('waiting', 'skipped')))
GROUP BY r.saga;

-- name: standing
-- Version and state of some runs.
SELECT id, version, state FROM amends.runs WHERE id = ANY ($1::text[]);

-- name: row
-- One run's row.
SELECT id, saga, saga_version, digest, state, by_hand, version, owner, epoch, due_at, claims, start_print,
       current, steps, stuck, deadline, tags, created_at, updated_at, ended_at
FROM amends.runs
WHERE id = $1;

-- name: events
-- A run's events from one version on, in order.
SELECT kind, body, epoch, at FROM amends.events WHERE run = $1 AND version > $2 ORDER BY version;

-- name: whole_run
-- One run's row and its events, as they were at one moment.
SELECT r.id, r.saga, r.saga_version, r.digest, r.state, r.by_hand, r.version, r.owner, r.epoch, r.due_at, r.claims, r.start_print,
       r.current, r.steps, r.stuck, r.deadline, r.tags, r.created_at, r.updated_at, r.ended_at,
       e.kind, e.body, e.epoch, e.at
FROM amends.runs AS r LEFT JOIN amends.events AS e ON e.run = r.id
WHERE r.id = $1
ORDER BY e.version;

-- name: events_of_many
-- The events of several runs, each up to a version, in order.
SELECT e.run, e.kind, e.body, e.epoch, e.at
FROM unnest($1::text[], $2::bigint[]) AS w (run, version)
JOIN amends.events AS e ON e.run = w.run AND e.version <= w.version
ORDER BY e.run, e.version;

-- name: find
-- Rows by what was asked; the conditions that follow are put in, as many as were asked for.
SELECT id, saga, saga_version, digest, state, by_hand, version, owner, epoch, due_at, claims, start_print,
       current, steps, stuck, deadline, tags, created_at, updated_at, ended_at
FROM amends.runs
WHERE /* conditions */
ORDER BY created_at DESC, id DESC
LIMIT ?;

-- name: find_by_tag
-- The same beginning from the runs with a tag, which are in the order of the page.
SELECT id, runs.saga, saga_version, digest, state, by_hand, version, owner, epoch, due_at, claims, start_print,
       current, steps, stuck, deadline, tags, runs.created_at, updated_at, ended_at
FROM (SELECT run, created_at AS tagged_at FROM amends.run_tags WHERE name = ? AND value = ? /* saga */) AS tagged
JOIN amends.runs ON runs.id = tagged.run
WHERE /* conditions */
ORDER BY tagged_at DESC, run DESC
LIMIT ?;

-- name: find_in_live
-- Condition: in one of these states, none of which is an end.
state = ANY (?::text[]) AND ended_at IS NULL;

-- name: find_in_other_ends
-- Condition: in one of these states, all of which are ends, and none the usual one.
state = ANY (?::text[]) AND ended_at IS NOT NULL AND state <> 'completed';

-- name: find_in_states
-- Condition: in one of these states.
state = ANY (?::text[]);

-- name: find_of_saga
-- Condition: of this saga.
runs.saga = ?;

-- name: find_of_version
-- Condition: of this version of its saga.
saga_version = ?;

-- name: find_tagged
-- Condition: with this tag, too.
EXISTS (SELECT FROM amends.run_tags AS t WHERE t.name = ? AND t.value = ? AND t.created_at = runs.created_at AND t.run = runs.id);

-- name: find_at_step
-- Condition: this step is current, or stuck. (A column that holds no list would fail the statement, and with it every other row.)
(EXISTS (SELECT FROM json_array_elements_text(CASE WHEN json_typeof(current) = 'array' THEN current ELSE '[]' END) AS step WHERE step = ?)
 OR EXISTS (SELECT FROM json_array_elements(CASE WHEN json_typeof(stuck) = 'array' THEN stuck ELSE '[]' END) AS mark
            WHERE mark ->> 'step' = ?));

-- name: find_late
-- Condition: past its deadline by this time, and not ended.
ended_at IS NULL AND deadline IS NOT NULL AND deadline < ?;

-- name: find_after
-- Condition: on the pages that follow this run.
(created_at, id) < (?, ?);

-- name: find_tagged_after
-- Condition: on the pages that follow this run, where a tag was the beginning.
(tagged_at, run) < (?, ?);

-- name: count
-- How many runs are in each state. What is rare is counted in its own indexes, and the rest is what is usual: so only the keys of one
-- index are read, and no row.
WITH rare AS (
    SELECT state, count(*) AS runs FROM amends.runs WHERE ended_at IS NULL GROUP BY state
    UNION ALL
    SELECT state, count(*) FROM amends.runs WHERE ended_at IS NOT NULL AND state <> 'completed' GROUP BY state
), usual AS (
    SELECT (SELECT count(*) FROM amends.runs) - (SELECT coalesce(sum(runs), 0) FROM rare) AS runs
)
SELECT state, sum(runs)::bigint FROM (SELECT * FROM rare UNION ALL SELECT 'completed', runs FROM usual WHERE runs > 0) AS found
GROUP BY state;

-- name: graph
-- The graph of one digest.
SELECT graph FROM amends.sagas WHERE name = $1 AND version = $2 AND digest = $3;

-- name: keep_graph
-- Keep a graph, unless this name and version has another and $5 (beside) isn't said. Gives the other one.
WITH other AS (
    SELECT graph FROM amends.sagas
    WHERE name = $1 AND version = $2 AND NOT $5
      AND NOT EXISTS (SELECT FROM amends.sagas WHERE name = $1 AND version = $2 AND digest = $3)
    ORDER BY kept_at DESC LIMIT 1
), kept AS (
    INSERT INTO amends.sagas (name, version, digest, graph)
    SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT FROM other)
    ON CONFLICT DO NOTHING
)
SELECT graph FROM other;

-- name: setting
-- The value kept under a name.
SELECT value FROM amends.settings WHERE name = $1;

-- name: keep_setting
-- Keep a value, unless there is one.
INSERT INTO amends.settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING;

-- name: purge
-- Forget runs that ended before a time (in a state) and that nobody has or needs, the oldest first: their events and tags
-- go, and the row keeps what tells that the id is taken, by what, and how it ended. (Where a row's own tags can't be read, every tag
-- of every run is looked at; only then.)
WITH over AS (
    SELECT id, tags, created_at FROM amends.runs
    WHERE ended_at < $1 AND ($3::text IS NULL OR state = $3) AND format > 0 AND owner IS NULL AND due_at IS NULL
    ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED
), events_gone AS (
    DELETE FROM amends.events USING over WHERE events.run = over.id
), tags_gone AS (
    DELETE FROM amends.run_tags AS t
    USING over, json_each_text(CASE WHEN json_typeof(over.tags) = 'object' THEN over.tags ELSE '{}' END) AS tag
    WHERE t.name = tag.key AND t.value = tag.value AND t.created_at = over.created_at AND t.run = over.id
), damaged AS (
    SELECT id, created_at FROM over WHERE json_typeof(tags) <> 'object' OR EXISTS (
        SELECT FROM json_each(CASE WHEN json_typeof(tags) = 'object' THEN tags ELSE '{}' END) AS tag WHERE json_typeof(tag.value) <> 'string')
), damaged_tags_gone AS (
    DELETE FROM amends.run_tags AS t USING damaged AS d WHERE t.created_at = d.created_at AND t.run = d.id
)
UPDATE amends.runs AS r SET format = 0, current = '[]', steps = '[]', stuck = '[]', tags = '{}'
FROM over WHERE r.id = over.id
RETURNING r.id;

-- name: notify
-- Wake whoever listens: a run needs somebody.
SELECT pg_notify('amends', '');
