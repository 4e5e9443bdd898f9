-- Claims of known sagas only: what waits for a version that nobody has loaded, however much it is, isn't even read.
CREATE INDEX runs_due_by_saga ON amends.runs (saga, saga_version, digest, due_at) WHERE owner IS NULL AND due_at IS NOT NULL;
