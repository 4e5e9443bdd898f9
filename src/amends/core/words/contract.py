"""The words of the contract between orchestrator and participant, as they stand on the wire.

An answer carries an outcome word in the header `Saga-Outcome`. An answer without one may carry a problem body
(RFC 9457) whose type is `urn:amends:<name>`.
"""

from amends.core.words.values import Words


class OutcomeWord(Words):
    """What a participant says of a call."""

    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    """The call had no effect, and never will have one."""
    PENDING = "pending"
    """The participant took the work on and answers later."""
    NOOP = "noop"
    """There was nothing to undo, or nothing is known of the call."""
    BLOCKED = "blocked"
    """A compensation or a seal came first, so the action can't act any more."""
    CANNOT_COMPENSATE = "cannot-compensate"


UNDONE_NOTHING = frozenset({OutcomeWord.NOOP, OutcomeWord.BLOCKED})
"""Words of a compensation that undid nothing: the action never acted, or was sealed."""


class ContractProblem(Words):
    """Problems that a barrier answers with, where it has no outcome to report."""

    IN_PROGRESS = "in-progress"
    KEY_REUSED = "key-reused"
    STALE_EPOCH = "stale-epoch"
    BARRIER_EXPIRED = "barrier-expired"
    BAD_REQUEST = "bad-request"
    UNKNOWN_OPERATION = "unknown-operation"
