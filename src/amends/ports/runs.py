"""Starting and steering runs: one protocol with two bodies, in this process and over HTTP."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from amends.core.saga.outcomes import Outcome
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step

I = TypeVar("I")  # noqa: E741 - the field's letter for a saga's input
R = TypeVar("R")


class Run(Protocol):
    """One execution of a saga."""

    @property
    def id(self) -> str:
        """The run's id, chosen by the caller or made."""
        ...

    @property
    def version(self) -> int:
        """The version of the saga it runs under."""
        ...

    @property
    def is_new(self) -> bool:
        """Whether this call started it; false where it had been started before."""
        ...

    async def outcome(self, *, wait: timedelta | None = None) -> Outcome:
        """How it ended, or why it is stuck.

        `Unfinished` when `wait` is over first. Without `wait`: as long as it takes.
        """
        ...


class Runs(Protocol):
    """Starts runs, finds them, and does to them what a person may ask."""

    async def start(
        self,
        saga: Saga[I],
        input: I,
        *,
        id: str | None = None,
        deadline: timedelta | datetime | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Begin a run.

        Once this returns it survives any crash. The same id with the same input again is the same run.
        """
        ...

    def get(self, id: str) -> Run:
        """A run by its id; whether there is one shows when it is asked for its outcome."""
        ...

    async def cancel(self, id: str, *, reason: str) -> None:
        """Turn a run back; `PastPivot` where that is no longer possible."""
        ...

    async def answer(self, id: str, step: Step[Any, R], reply: R) -> None:
        """Answer a question that a step asked."""
        ...

    async def decline(self, id: str, step: Step[Any, Any], reason: str) -> None:
        """Decline a question that a step asked: the step is rejected."""
        ...
