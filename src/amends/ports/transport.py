"""The way to a participant: one request out, what came back in. A transport knows nothing of sagas and judges nothing.

What came back is a value, also when nothing did: `NotSent` where provably no byte of the request left, `Lost` where it
may have been acted on, `CodeMismatch` where code of this process and the call don't fit. The core turns these into
outcomes (`amends.core.run.answers`), so that every transport agrees.
"""

from datetime import datetime
from typing import Protocol, runtime_checkable

from amends.core.run.answers import Came
from amends.core.words.keys import Phase
from amends.core.words.retry import Guard, Kind
from amends.core.words.values import value


@value
class Outgoing:
    """One call as it leaves. `body` and `since` never change between attempts; attempt, epoch and deadline do.

    `operation` is the last part of the URL: of the action, or for `Phase.COMPENSATION` of what undoes it. `kind` is
    how the step behaves (a neutral one as compensable or retriable). `seal` is `"undone"` or `"rejected"` where a
    person settled it. Times are microseconds UTC, the time-out a duration in seconds.
    """

    key: str
    run: str
    step: str
    item: str
    phase: Phase
    participant: str
    operation: str
    guard: Guard
    kind: Kind
    body: bytes
    attempt: int
    epoch: int
    since: int
    timeout_seconds: float
    deadline: datetime | None = None
    callback: str | None = None
    seal: str | None = None


class Transport(Protocol):
    """Sends calls to one participant. Its opener closes it."""

    async def send(self, call: Outgoing) -> Came:
        """Send once and wait for the answer, within the call's time-out. Raises nothing but `CancelledError`."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...


@runtime_checkable
class Reloadable(Protocol):
    """A transport that holds what can be renewed while it is used, such as certificates."""

    def reload(self) -> None:
        """Read it again. Raises an `AmendsError`, and leaves it as it is, where that can't be done."""
        ...
