"""Where a service keeps the barrier's rows: in its own database, in the very transaction its business code writes in.

There is one row per `(run, step)`, for both phases, so there is one lock order. The barrier itself is written once,
as generators that yield the steps below (`amends.participant.barrier`); an inbox performs them on a transaction of
its own kind. An implementation keeps these rules:

* `insert` comes first in every transaction and waits for a twin that is still undecided; a locking read never comes
  first.
* `lock` is a statement of its own, so that under READ COMMITTED it sees what the twin committed.
* `purged_through` too: an insert that waited for a purge must see the mark that purge moved. It can't be part of
  the insert.
* Waiting for a lock ends after `LOCK_WAIT_SECONDS` with an error that `classify` calls `Busy`.
* Nothing is committed except by `commit`, and leaving the context without it rolls everything back.

Driver errors are passed on as they are, from steps and handlers alike; `classify` says what they mean.
"""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeAlias, TypeVar, runtime_checkable

from amends.core.words.errors import AmendsError
from amends.core.words.retry import Kind

Tx = TypeVar("Tx")
Tx_co = TypeVar("Tx_co", covariant=True)

LOCK_WAIT_SECONDS: Final = 2
"""How long a call waits for a twin before it is told to come back: less than half of a call's default time-out."""

BARRIER_TABLE: Final = "amends_barrier"
PURGED_TABLE: Final = "amends_barrier_purged"


class RowState(StrEnum):
    """What became of one step at this participant. `BLOCKED` is the tombstone: it never acted and never will."""

    ACTING = "acting"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"


@dataclass(frozen=True, slots=True)
class Row:
    """The barrier's row. `step` may be `step/item`; prints are SHA-256 of operation name, a zero byte and the body.

    The answer of the action is kept as it was sent (`reply_status`, `reply_type`, `reply`). A `COMPENSATED` row without
    `compensation_reply` was sealed after a person undid it: no code of the service ran. `holder` names the process that
    performs an effect outside of any transaction; such rows are not made yet.
    """

    run: str
    step: str
    state: RowState
    kind: Kind | None = None
    operation: str | None = None
    request_print: bytes | None = None
    reply_status: int | None = None
    reply_type: str | None = None
    reply: bytes | None = None
    compensation_print: bytes | None = None
    compensation_reply: bytes | None = None
    epoch: int = 0
    holder: str | None = None


# -- what a driver's error means


class Busy(AmendsError):
    """Another session holds the row or the database, or this transaction lost a deadlock: nothing happened."""


class NotSerializable(AmendsError):
    """The database could not order this transaction among others: nothing happened, run the whole request again."""


class TableMissing(AmendsError):
    """The barrier's table isn't there; the message says how to make it."""


# -- the steps


@dataclass(frozen=True, slots=True)
class Insert:
    """Insert the row unless there is one. Gives True if it was inserted."""

    row: Row


@dataclass(frozen=True, slots=True)
class Lock:
    """Read and lock the row, in a new statement. Gives the `Row` or None."""

    run: str
    step: str


@dataclass(frozen=True, slots=True)
class Read:
    """Read the row without a lock. Gives the `Row` or None."""

    run: str
    step: str


@dataclass(frozen=True, slots=True)
class Update:
    """Store the row's state, replies, compensation print and epoch."""

    row: Row


@dataclass(frozen=True, slots=True)
class Delete:
    """Forget the row."""

    run: str
    step: str


@dataclass(frozen=True, slots=True)
class ReadPurgedThrough:
    """Gives the moment up to which rows may be gone, in microseconds UTC; 0 if nothing was ever purged."""


@dataclass(frozen=True, slots=True)
class Savepoint:
    """From here on it is the handler's."""


@dataclass(frozen=True, slots=True)
class Work:
    """Run the business code. It is handed the row whose effect it undoes, or None for an action."""

    row: Row | None


@dataclass(frozen=True, slots=True)
class Release:
    """Keep what the handler wrote. Gives False if the handler ended the transaction, which it must not."""


@dataclass(frozen=True, slots=True)
class RollBack:
    """Undo what the handler wrote, back to the savepoint. Gives False as `Release` does."""


Step: TypeAlias = Insert | Lock | Read | Update | Delete | ReadPurgedThrough | Savepoint | Work | Release | RollBack


# -- what performs them


class Transaction(Protocol[Tx_co]):
    """One open local transaction that blocks, and the barrier's rows in it."""

    @property
    def handle(self) -> Tx_co:
        """What the handler is given: the driver's connection or session."""
        ...

    @property
    def tampered(self) -> bool:
        """The handler ended this transaction, or tried to."""
        ...

    def insert(self, row: Row) -> bool:
        """As `Insert`."""
        ...

    def lock(self, run: str, step: str) -> Row | None:
        """As `Lock`."""
        ...

    def read(self, run: str, step: str) -> Row | None:
        """As `Read`."""
        ...

    def update(self, row: Row) -> None:
        """As `Update`; `touched_at` becomes now, in database time."""
        ...

    def delete(self, run: str, step: str) -> None:
        """As `Delete`."""
        ...

    def purged_through(self) -> int:
        """As `ReadPurgedThrough`."""
        ...

    def purge(self, age: int, limit: int) -> int:
        """Move the mark to `age` microseconds ago, never back; then delete up to `limit` older rows. Gives how many."""
        ...

    def savepoint(self) -> None:
        """As `Savepoint`."""
        ...

    def release(self) -> bool:
        """As `Release`."""
        ...

    def roll_back(self) -> bool:
        """As `RollBack`."""
        ...

    def commit(self) -> None:
        """Make it durable. Returning is the proof; any error leaves it open whether it is."""
        ...


class AsyncTransaction(Protocol[Tx_co]):
    """`Transaction` for drivers that are awaited."""

    @property
    def handle(self) -> Tx_co:
        """What the handler is given: the driver's connection or session."""
        ...

    @property
    def tampered(self) -> bool:
        """The handler ended this transaction, or tried to."""
        ...

    async def insert(self, row: Row) -> bool:
        """As `Insert`."""
        ...

    async def lock(self, run: str, step: str) -> Row | None:
        """As `Lock`."""
        ...

    async def read(self, run: str, step: str) -> Row | None:
        """As `Read`."""
        ...

    async def update(self, row: Row) -> None:
        """As `Update`; `touched_at` becomes now, in database time."""
        ...

    async def delete(self, run: str, step: str) -> None:
        """As `Delete`."""
        ...

    async def purged_through(self) -> int:
        """As `ReadPurgedThrough`."""
        ...

    async def purge(self, age: int, limit: int) -> int:
        """Move the mark to `age` microseconds ago, never back; then delete up to `limit` older rows. Gives how many."""
        ...

    async def savepoint(self) -> None:
        """As `Savepoint`."""
        ...

    async def release(self) -> bool:
        """As `Release`."""
        ...

    async def roll_back(self) -> bool:
        """As `RollBack`."""
        ...

    async def commit(self) -> None:
        """Make it durable. Returning is the proof; any error leaves it open whether it is."""
        ...


@runtime_checkable
class Inbox(Protocol[Tx]):
    """Opens transactions for handlers that block. Used by many threads at once."""

    def open(self) -> AbstractContextManager[Transaction[Tx]]:
        """Begin a transaction; leaving the context without `commit` rolls it back."""
        ...

    def join(self, handle: Tx, /) -> Transaction[Tx]:
        """The barrier's rows in a transaction that is open already and that its owner commits."""
        ...

    def classify(self, error: Exception, /) -> Busy | NotSerializable | TableMissing | None:
        """What an error of the driver means, wherever it was raised; None: it is not one of these."""
        ...


@runtime_checkable
class AsyncInbox(Protocol[Tx]):
    """Opens transactions for handlers that are awaited."""

    def open_async(self) -> AbstractAsyncContextManager[AsyncTransaction[Tx]]:
        """Begin a transaction; leaving the context without `commit` rolls it back."""
        ...

    def join_async(self, handle: Tx, /) -> AsyncTransaction[Tx]:
        """The barrier's rows in a transaction that is open already and that its owner commits."""
        ...

    def classify(self, error: Exception, /) -> Busy | NotSerializable | TableMissing | None:
        """What an error of the driver means, wherever it was raised; None: it is not one of these."""
        ...
