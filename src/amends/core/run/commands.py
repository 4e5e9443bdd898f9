"""Commands ask; `decide` answers with the facts that follow, or with a refusal.

Time and identity come in with the command: `at` in microseconds UTC, `epoch` the owner's, or 0 for a visitor (a
process that doesn't own the run: a callback, a person's verb).
"""

from typing import Literal, TypeAlias

from amends.core.run.answers import Outcome
from amends.core.run.events import Who
from amends.core.words.keys import Phase
from amends.core.words.values import value


@value
class StartRun:
    """Begin a run. `input` is JSON of the saga's input type."""

    at: int
    epoch: int
    run: str
    input: bytes
    deadline: int | None = None
    by: str = "embedded"


@value
class Reply:
    """What came of a call. It answers a key; `attempt` tells a time-out of an older send from one of the latest."""

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase
    attempt: int
    outcome: Outcome


@value
class Begin:
    """A call that no barrier protects is about to leave: the log must know first."""

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase


@value
class Due:
    """Time has come for whatever was due by `at`: deadline, missing answers, timers."""

    at: int
    epoch: int


@value
class Adopted:
    """A new owner took the run over: calls that a former owner left open are looked at."""

    at: int
    epoch: int


@value
class Cancel:
    """Turn back, if that is still possible. `verb` `compensate` also gives up waiting for a person where a barrier
    allows it.
    """

    at: int
    epoch: int
    who: Who
    verb: Literal["cancel", "compensate"] = "cancel"


@value
class RetryStep:
    """Try again: one step (or one item of it), or everything that is stuck (`step` is `None`)."""

    at: int
    epoch: int
    who: Who
    step: str | None = None
    item: str | None = None


@value
class Resolve:
    """An operator knows what became of a step."""

    at: int
    epoch: int
    who: Who
    step: str
    outcome: Literal["succeeded", "rejected", "undone"]
    reply: bytes | None = None
    item: str | None = None


@value
class Skip:
    """Leave a step as it is."""

    at: int
    epoch: int
    who: Who
    step: str
    item: str | None = None


@value
class Abandon:
    """End a stuck run as it is."""

    at: int
    epoch: int
    who: Who


@value
class AnswerQuestion:
    """The answer to a question that a step asked; `reply` `None` declines it."""

    at: int
    epoch: int
    who: Who
    step: str
    reply: bytes | None
    item: str | None = None


Verb: TypeAlias = Cancel | RetryStep | Resolve | Skip | Abandon | AnswerQuestion
Command: TypeAlias = StartRun | Reply | Begin | Due | Adopted | Verb


@value
class Refusal:
    """What was asked can't be done as the run stands. `problem` is its machine-readable name.

    `possible_from` (microseconds UTC): time alone lifts the refusal then.
    """

    problem: str
    detail: str
    status: int = 409
    possible_from: int | None = None
