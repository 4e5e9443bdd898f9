"""What a log was told, what it acknowledged and when: and whether an image of its disk keeps that.

The appends are real ones: an orchestrator's, noted while it drove runs to their ends on a log in memory. They are
written again to the log under test, batch for batch, so the bytes are those of production and the story is the same
each time.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from typing_extensions import override

from amends.codecs.events import JsonEventCodec
from amends.core.words.errors import LogDamaged, LogUnavailable
from amends.engine.load import record_of
from amends.logs.memory import MemoryLog
from amends.logs.sqlite.log import SqliteLog
from amends.ports.log import Append, Find, RunRow, SagaKey, Start, StoredEvent, StoredRun, Written
from tests.fast.engine.support import QUICK, Pretend, Script, no, opened, order_saga, virtually, wide_saga
from tests.real.crash.recording import Trace

EVENTS: Final = JsonEventCodec()
SECRET: Final = b"a secret"
FAR: Final = 2**62


@dataclass
class Appends:
    """What an orchestrator wrote: the graphs, and its batches."""

    graphs: dict[SagaKey, bytes]
    batches: list[list[Start | Append]]


class _Noting(MemoryLog):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Start | Append]] = []

    @override
    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        verdicts = await super().append(batch)
        assert set(verdicts) == {Written.ACCEPTED}
        self.batches.append(list(batch))
        return verdicts


def appends() -> Appends:
    """Five runs at once: three that are completed, two that are turned back by their pivot."""
    order, wide = order_saga("order", policy=QUICK), wide_saga(policy=QUICK)
    log = _Noting()

    async def test() -> None:
        answers = Pretend(lambda call: no() if call.run.startswith("w") and call.step == "pay" else Script()(call))
        async with opened([order, wide], log, shop=answers) as runs:
            started = [await runs.start(order, "x" * 300, id=f"o{number}", tags={"who": "ann"}) for number in range(3)]
            started += [await runs.start(wide, "y" * 2_000, id=f"w{number}") for number in range(2)]
            await asyncio.gather(*(run.outcome() for run in started))

    virtually(test)
    return Appends(log.store.graphs, log.batches)


@dataclass
class Told:
    """One entry: when it was handed over and when it was acknowledged, in acts of the disk."""

    version: int
    row: RunRow
    events: Sequence[StoredEvent]
    handed_over: int
    acknowledged: int | None = None


@dataclass
class Ledger:
    """Everything the log was told, by run; and what else it acknowledged."""

    graphs: Mapping[SagaKey, bytes]
    runs: dict[str, list[Told]] = field(default_factory=dict[str, list[Told]])
    claims: list[tuple[int, str, int]] = field(default_factory=list[tuple[int, str, int]])
    defined: int | None = None
    secret: int | None = None


async def tell(path: Path, story: Appends, trace: Trace, ledger: Ledger) -> None:
    """Write the story to a new log, closed and opened again on the way, and note what is acknowledged when."""
    log = SqliteLog(path)
    await log.open()
    for saga, graph in story.graphs.items():
        assert await log.define(saga, graph) is None
    ledger.defined = trace.length
    assert await log.setting("secret", SECRET) == SECRET
    ledger.secret = trace.length
    epochs: dict[str, int] = {}
    for number, batch in enumerate(story.batches):
        if number == len(story.batches) // 2:
            await log.close()
            await log.open()
            for claimed in await log.claim(list(story.graphs), FAR, 100):
                epochs[claimed.run] = claimed.epoch
                ledger.claims.append((trace.length, claimed.run, claimed.epoch))
            assert epochs, "some runs were under way"
        await write(log, [under(entry, epochs.get(entry.run, 1)) for entry in batch], trace, ledger)
    await log.close()


def under(entry: Start | Append, epoch: int) -> Start | Append:
    """The entry as the owner of this epoch writes it."""
    events = [replace(event, epoch=epoch) for event in entry.events]
    return replace(entry, events=events) if isinstance(entry, Start) else replace(entry, events=events, epoch=epoch)


async def write(log: SqliteLog, batch: Sequence[Start | Append], trace: Trace, ledger: Ledger) -> None:
    told: list[Told] = []
    for entry in batch:
        version = (0 if isinstance(entry, Start) else entry.expected) + len(entry.events)
        told.append(Told(version, entry.row, entry.events, trace.length))
        ledger.runs.setdefault(entry.run, []).append(told[-1])
    assert list(await log.append(batch)) == [Written.ACCEPTED] * len(batch)
    for each in told:
        each.acknowledged = trace.length


class Lost(AssertionError):
    """Something that was acknowledged isn't there."""


class Torn(AssertionError):
    """Something is there in part, or nobody ever wrote it."""


async def hold_to_it(path: Path, ledger: Ledger, at: int) -> tuple[int, ...]:
    """Open what is left after the power was lost at `at`; raise if it isn't what the log had promised by then.

    Gives how far each run was found to have come.
    """
    log = SqliteLog(path)
    try:
        await log.open()
        return await judge_all(log, ledger, at)
    except (LogDamaged, LogUnavailable) as error:
        raise Torn(str(error)) from error
    finally:
        await log.close()


async def judge_all(log: SqliteLog, ledger: Ledger, at: int) -> tuple[int, ...]:
    found = {row.run: row.version for row in await log.find(Find())}
    if not found.keys() <= ledger.runs.keys():
        raise Torn(f"runs that nobody started: {found.keys() - ledger.runs.keys()}")
    for run, told in ledger.runs.items():
        judge(run, await log.read(run), told, at)
    await judge_the_rest(log, ledger, at)
    claimed = await log.claim(list(ledger.graphs), FAR, 100)
    if ledger.defined is not None and ledger.defined <= at:
        unfinished = {run for run, version in found.items() if told_at(ledger, run, version).row.ended_at is None}
        if not unfinished <= {each.run for each in claimed}:
            raise Torn("a run that hasn't ended can't be claimed")
    return tuple(found.get(run, 0) for run in ledger.runs)


def told_at(ledger: Ledger, run: str, version: int) -> Told:
    return next(each for each in ledger.runs[run] if each.version == version)


def judge(run: str, found: StoredRun | None, told: Sequence[Told], at: int) -> None:
    """All that was acknowledged, and otherwise whole entries that were handed over, in order."""
    version = 0 if found is None else found.version
    least = max((each.version for each in told if each.acknowledged is not None and each.acknowledged <= at), default=0)
    if version < least:
        raise Lost(f"{run}: version {least} was acknowledged, there are {version}")
    if found is None:
        return
    last = next((each for each in told if each.version == version and each.handed_over < at), None)
    if last is None:
        raise Torn(f"{run}: version {version} is no end of an entry that was handed over")
    events = [event for each in told if each.version <= version for event in each.events]
    if list(found.events) != events:
        raise Torn(f"{run}: its events aren't those that were written")
    row = RunRow(
        state=found.state,
        by_hand=found.by_hand,
        due_at=last.row.due_at,  # a release and a claim have their own
        current=found.current,
        steps=found.steps,
        stuck=found.stuck,
        ended_at=found.ended_at,
    )
    if row != last.row:
        raise Torn(f"{run}: its row isn't the one written with its last event")
    record_of(found, EVENTS)


async def judge_the_rest(log: SqliteLog, ledger: Ledger, at: int) -> None:
    """Graphs, settings, and the epochs that keep a former owner out."""
    if ledger.defined is not None and ledger.defined <= at:
        for saga, graph in ledger.graphs.items():
            if await log.graph(saga) != graph:
                raise Lost(f"the graph of {saga.name}")
    if ledger.secret is not None and ledger.secret <= at and await log.setting("secret", b"another") != SECRET:
        raise Lost("the secret")
    for claimed, run, epoch in ledger.claims:
        row = await log.read_row(run)
        if claimed <= at and (row is None or row.epoch < epoch):
            raise Lost(f"{run} was claimed under epoch {epoch}")
