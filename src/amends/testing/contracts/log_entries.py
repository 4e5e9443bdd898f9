"""Entries for a log, short to write: for the suite that every log passes, and for tests beside it."""

from collections.abc import Sequence

from amends.ports.log import Append, RunRow, SagaKey, Start, StoredEvent, StoredRun, TransactionLog, Written

ORDERS = SagaKey("place-order", 1, "d1")
TRIPS = SagaKey("trip", 2, "d2")


def append_id(number: int) -> bytes:
    """A made-up one of the usual length."""
    return number.to_bytes(16, "big")


def events(*kinds: str, epoch: int = 1, at: int = 1_000) -> Sequence[StoredEvent]:
    """Events of these kinds."""
    return tuple(StoredEvent(kind, f'{{"is":"{kind}"}}'.encode(), epoch, at) for kind in kinds)


def row(
    state: str = "running",
    *,
    due_at: int | None = None,
    current: bytes = b"[]",
    stuck: bytes = b"[]",
    ended_at: int | None = None,
) -> RunRow:
    """A row without steps."""
    return RunRow(state, False, due_at, current, b"[]", stuck, ended_at)  # noqa: FBT003 - as the port has it


def start(
    run: str,
    *,
    saga: SagaKey = ORDERS,
    at: int = 1_000,
    number: int = 1,
    shown: RunRow | None = None,
    tags: dict[str, str] | None = None,
    deadline: int | None = None,
    owned: bool = True,
) -> Start:
    """A run of one event."""
    return Start(
        run=run,
        saga=saga.name,
        saga_version=saga.version,
        digest=saga.digest,
        start_print=b"print of " + run.encode(),
        deadline=deadline,
        tags=tags or {},
        at=at,
        append_id=append_id(number),
        events=events("RunStarted", epoch=1 if owned else 0, at=at),
        row=shown or row(),
        owned=owned,
    )


def append(
    run: str,
    expected: int,
    *,
    epoch: int | None = 1,
    at: int = 2_000,
    number: int = 2,
    kinds: Sequence[str] = ("ActionSucceeded",),
    shown: RunRow | None = None,
    release: bool = False,
    progress: bool = True,
) -> Append:
    """More of a run; a visitor's where the epoch is `None`."""
    facts = events(*kinds, epoch=epoch or 0, at=at)
    return Append(run, expected, epoch, append_id(number), at, facts, shown or row(), release, progress)


async def must_read(log: TransactionLog, run: str) -> StoredRun:
    """The run, which is there."""
    found = await log.read(run)
    assert found is not None
    return found


async def write(log: TransactionLog, *entries: Start | Append) -> None:
    """Write what nothing speaks against."""
    assert list(await log.append(entries)) == [Written.ACCEPTED] * len(entries)
