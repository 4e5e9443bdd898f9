-- What hasn't ended is counted by graph from the index alone, which has the columns that the counting statement names. (None of them
-- changes, so an append needs no more index entries than before.)
DROP INDEX amends.runs_live;
CREATE INDEX runs_live ON amends.runs (state, created_at, id) INCLUDE (saga, saga_version, digest) WHERE ended_at IS NULL;
-- What is past its deadline.
CREATE INDEX runs_late ON amends.runs (deadline) WHERE ended_at IS NULL AND deadline IS NOT NULL;

-- The views once more: a column that holds no list, or a list of something else, would fail them for all runs.
CREATE OR REPLACE VIEW amends.run_steps AS
SELECT runs.id AS run,
       runs.saga,
       runs.saga_version,
       runs.state AS run_state,
       step.position,
       step.value ->> 'name' AS step,
       step.value ->> 'kind' AS kind,
       step.value ->> 'state' AS state,
       CASE WHEN json_typeof(step.value -> 'attempts') = 'number' THEN (step.value ->> 'attempts')::integer END AS attempts,
       step.value ->> 'error' AS error,
       EXISTS (SELECT FROM json_array_elements_text(CASE WHEN json_typeof(runs.current) = 'array' THEN runs.current ELSE '[]' END) AS name
               WHERE name = step.value ->> 'name') AS is_current
FROM amends.runs,
     json_array_elements(CASE WHEN json_typeof(runs.steps) = 'array' THEN runs.steps ELSE '[]' END) WITH ORDINALITY AS step (value, position);

CREATE OR REPLACE VIEW amends.stuck_steps AS
SELECT runs.id AS run,
       runs.saga,
       runs.saga_version,
       mark.value ->> 'step' AS step,
       mark.value ->> 'phase' AS phase,
       mark.value ->> 'reason' AS reason,
       CASE WHEN json_typeof(mark.value -> 'attempts') = 'number' THEN (mark.value ->> 'attempts')::integer END AS attempts,
       to_timestamp(CASE WHEN json_typeof(mark.value -> 'since') = 'number' THEN (mark.value ->> 'since')::bigint END / 1e6) AS since
FROM amends.runs, json_array_elements(CASE WHEN json_typeof(runs.stuck) = 'array' THEN runs.stuck ELSE '[]' END) AS mark (value)
WHERE runs.state = 'stuck' AND runs.ended_at IS NULL;
