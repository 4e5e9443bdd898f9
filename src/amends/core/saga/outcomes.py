"""How a run stands, for the code that waits for it: values closed under `match`.

Clean ends, repaired ends and dirty ends have different names: `Compensated(by_hand=True)` when a person vouched for
something, `Abandoned` when something was left on purpose. Replies stay bytes until they are asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, TypeVar

from amends.core.saga.steps import Step
from amends.core.words.errors import NoSuchReply

R = TypeVar("R")

_STATE_COLUMNS: Final = 13


@dataclass(frozen=True, slots=True)
class Completed:
    """Every step that wasn't skipped took effect exactly once, and nothing was compensated. `steps`: in graph order."""

    run: str
    by_hand: bool
    steps: tuple[str, ...] = ()
    read: Callable[[Step[Any, Any]], Any] | None = field(default=None, repr=False, compare=False)

    def reply(self, step: Step[Any, R]) -> R:
        """What the step's participant answered; `None` for a skipped step; `NoSuchReply` if there is no such step."""
        if self.read is None:
            msg = f"{self.run} carries no replies here. Ask the orchestrator that ran it."
            raise NoSuchReply(msg)
        decoded: R = self.read(step)
        return decoded

    def __str__(self) -> str:
        return _line("completed", ", ".join(self.steps), by_hand=self.by_hand)


@dataclass(frozen=True, slots=True)
class Compensated:
    """Every effect was undone; net effect zero. `step` and `code` say which step was rejected and why, if one was."""

    run: str
    by_hand: bool
    step: str | None
    code: str | None
    reason: str
    undone: tuple[str, ...] = ()

    def __str__(self) -> str:
        undone = f"; undone: {', '.join(self.undone)}" if self.undone else ""
        return _line("compensated", f"{self.reason}{undone}", by_hand=self.by_hand)


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A person ended the run, or left an effect on purpose: not clean, and says so."""

    run: str
    by: str
    reason: str

    def __str__(self) -> str:
        return _line("abandoned", f"by {self.by}: {self.reason}", by_hand=False)


@dataclass(frozen=True, slots=True)
class Stuck:
    """Only a person can move the run on; the oldest of its reasons. `step` is empty where it is the run as a whole."""

    run: str
    step: str
    phase: Literal["action", "compensation", "probe", "seal"]
    reason: str

    def __str__(self) -> str:
        where = f"{self.step}, {self.phase}: " if self.step else ""
        return _line("stuck", f"{where}{self.reason}", by_hand=False)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The wait is over, the run isn't."""

    run: str
    state: Literal["running", "compensating"]
    current: tuple[str, ...]

    def __str__(self) -> str:
        return _line(self.state, ", ".join(self.current), by_hand=False)


Ended: TypeAlias = Completed | Compensated | Abandoned
Outcome: TypeAlias = Completed | Compensated | Abandoned | Stuck | Unfinished


def _line(state: str, rest: str, *, by_hand: bool) -> str:
    told = ", ".join(each for each in (rest, "by hand" if by_hand else "") if each)
    return f"{state:<{_STATE_COLUMNS}}{told}".rstrip()
