"""The steps of `amends.ports.inbox`, typed: what a generator gets back for each one it yields."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from amends.core.words.errors import CannotCompensate, Rejected
from amends.participant.response import Answer
from amends.ports.inbox import (
    Delete,
    Insert,
    Lock,
    Read,
    ReadPurgedThrough,
    Release,
    RollBack,
    Row,
    Savepoint,
    Step,
    Update,
    Work,
)

T = TypeVar("T")

Asking: TypeAlias = Generator[Step, object, T]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a transaction ends: what is answered, under which word of the contract, and whether it is committed first."""

    answer: Answer
    outcome: str | None
    commit: bool

    def final(self) -> Answer:
        """The answer to give once the transaction has ended as the verdict says; never before."""
        return self.answer if self.outcome is None else self.answer.with_outcome(self.outcome)


Program: TypeAlias = Asking[Verdict]


# -- how business code ended


@dataclass(frozen=True, slots=True)
class Done:
    """It returned; `reply` is what it returned, encoded."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class TooMuch:
    """It returned more than may be stored."""

    size: int


@dataclass(frozen=True, slots=True)
class Postponed:
    """It raised `Later`."""


@dataclass(frozen=True, slots=True)
class HandlerRefused:
    """It raised `Rejected`, or `CannotCompensate`."""

    error: Rejected | CannotCompensate


Ended: TypeAlias = Done | TooMuch | Postponed | HandlerRefused


# -- the steps


def insert(row: Row) -> Asking[bool]:
    """Insert unless there is a row."""
    return (yield Insert(row)) is True


def lock(run: str, step: str) -> Asking[Row | None]:
    """Read and lock."""
    return _row((yield Lock(run, step)))


def read(run: str, step: str) -> Asking[Row | None]:
    """Read."""
    return _row((yield Read(run, step)))


def update(row: Row) -> Asking[None]:
    """Store."""
    yield Update(row)


def delete(run: str, step: str) -> Asking[None]:
    """Forget."""
    yield Delete(run, step)


def purged_through() -> Asking[int]:
    """Up to when rows may be gone."""
    moment = yield ReadPurgedThrough()
    assert isinstance(moment, int)
    return moment


def work(row: Row | None) -> Asking[Ended]:
    """Run the business code behind a savepoint."""
    yield Savepoint()
    ended = yield Work(row)
    assert isinstance(ended, Done | TooMuch | Postponed | HandlerRefused)
    return ended


def release() -> Asking[bool]:
    """Keep what it wrote, if the transaction is still the one that holds the row."""
    return (yield Release()) is True


def roll_back() -> Asking[bool]:
    """Undo what it wrote, if the transaction is still the one that holds the row."""
    return (yield RollBack()) is True


def _row(found: object) -> Row | None:
    assert found is None or isinstance(found, Row)
    return found
