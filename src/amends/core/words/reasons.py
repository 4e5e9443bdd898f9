"""Why a step or a run is stuck: each reason with what it means and what an operator does about it.

A run is stuck where retrying gains nothing and an operator must decide. The reason is stored with the run, so a
member's value never changes; the texts beside it may. The command line and the documentation read them from here.
"""

from collections.abc import Mapping
from typing import Final

from amends.core.words.values import Words, value


class StuckReason(Words):
    """A reason. Its meaning and its remedy are in `EXPLAINED`, below."""

    CANNOT_COMPENSATE = "cannot-compensate"
    COMPENSATION_REJECTED = "compensation-rejected"
    MISROUTED = "misrouted"
    SPENT = "spent"
    OUTCOME_UNKNOWN = "outcome-unknown"
    AUTHOR_ERROR = "author-error"
    KEY_REUSED = "key-reused"
    BARRIER_EXPIRED = "barrier-expired"
    BLOCKED = "blocked"
    REJECTED_AFTER_PIVOT = "rejected-after-pivot"
    NO_ANSWER = "no-answer"
    CONTRADICTION = "contradiction"
    LATE_SUCCESS = "late-success"
    CONFIRM_UNDONE = "confirm-undone"
    SEALING = "sealing"
    STALE_EPOCH = "stale-epoch"
    PROTOCOL = "protocol"
    CRASH_LOOP = "crash-loop"
    UNREADABLE = "unreadable"

    @property
    def meaning(self) -> str:
        """What happened, in one sentence."""
        return EXPLAINED[self].meaning

    @property
    def remedy(self) -> str:
        """What an operator does about it, in one sentence."""
        return EXPLAINED[self].remedy


@value
class Explained:
    """Two sentences about a reason."""

    meaning: str
    remedy: str


EXPLAINED: Final[Mapping[StuckReason, Explained]] = {
    StuckReason.CANNOT_COMPENSATE: Explained(
        "The service reported that it can't undo this.",
        "Undo it manually, then resolve the step as undone.",
    ),
    StuckReason.COMPENSATION_REJECTED: Explained(
        "The service rejected a compensation, which the contract doesn't allow.",
        "Repair the service, then retry.",
    ),
    StuckReason.MISROUTED: Explained(
        "Answers came, but not from the participant's barrier; nothing was undone because of them.",
        "Check the base URL and the token of the route, then retry.",
    ),
    StuckReason.SPENT: Explained(
        "Retries are exhausted: the step was tried for as long as its policy allows.",
        "Repair what failed, then retry.",
    ),
    StuckReason.OUTCOME_UNKNOWN: Explained(
        "It can't be determined whether the step took effect, so nothing is assumed.",
        "Look in the service, then resolve the step.",
    ),
    StuckReason.AUTHOR_ERROR: Explained(
        "The saga's own code failed: a builder raised, or a value of the call can't be read or written.",
        "Deploy a fix under the same version, then retry.",
    ),
    StuckReason.KEY_REUSED: Explained(
        "The service has seen other bytes under the same idempotency key.",
        "Look in the service: something else used the key, or the request was changed.",
    ),
    StuckReason.BARRIER_EXPIRED: Explained(
        "The service has purged rows that old, so it can't tell any more whether it acted.",
        "Look in the service's data, then resolve the step.",
    ),
    StuckReason.BLOCKED: Explained(
        "A step that is never undone was preceded by its own compensation.",
        "Find out what sealed it, then resolve or skip the step.",
    ),
    StuckReason.REJECTED_AFTER_PIVOT: Explained(
        "A step after the pivot was rejected, but must succeed.",
        "Make it possible, then retry; or skip the step.",
    ),
    StuckReason.NO_ANSWER: Explained(
        "A question after the pivot was not answered in time.",
        "Answer it, or skip the step.",
    ),
    StuckReason.CONTRADICTION: Explained(
        "An answer contradicts what is known.",
        "Look in the service, then resolve the step to acknowledge it.",
    ),
    StuckReason.LATE_SUCCESS: Explained(
        "The action took effect again after its compensation.",
        "Look in the service, then resolve the step to acknowledge it.",
    ),
    StuckReason.CONFIRM_UNDONE: Explained(
        "The effect was found in place and is yours to undo.",
        "Undo it manually, then confirm it by resolving the step as undone.",
    ),
    StuckReason.SEALING: Explained(
        "The service must confirm that this step is settled manually, and it doesn't answer.",
        "Repair the service, then retry; or skip the step.",
    ),
    StuckReason.STALE_EPOCH: Explained(
        "A later owner of this run has already called the service.",
        "Check whether two logs are in use for one set of runs.",
    ),
    StuckReason.PROTOCOL: Explained(
        "The service gave an answer that the contract doesn't allow.",
        "Repair the service, then retry.",
    ),
    StuckReason.CRASH_LOOP: Explained(
        "The whole run is set aside, because its workers crashed over it repeatedly.",
        "Find what crashes them, then retry.",
    ),
    StuckReason.UNREADABLE: Explained(
        "The run's history, or its row in the log, can't be read here.",
        "Give the server the key or the newer version that reads it, then retry.",
    ),
}

ACKNOWLEDGED: Final = frozenset({StuckReason.CONTRADICTION, StuckReason.LATE_SUCCESS})
"""Reasons after which nothing is sent any more: an operator acknowledges them."""
