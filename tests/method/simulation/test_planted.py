# ruff: noqa: ANN401 - what is planted takes what the real function takes
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
"""The simulator can fail: each bug that is planted in the engine, a log or a codec is found, and called by its name."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from amends.codecs.events import JsonEventCodec
from amends.core.run.answers import Came
from amends.core.run.events import CompensationRequested, Event
from amends.core.run.record import RunRecord
from amends.engine import claims, worker
from amends.engine.appends import stored
from amends.engine.claims import Claims
from amends.engine.engine import Engine
from amends.engine.group_commit import GroupCommit
from amends.engine.lanes import Lane
from amends.engine.load import record_of
from amends.engine.projection import Projector
from amends.engine.wakeups import Alarm
from amends.engine.worker import Worker
from amends.logs.memory import MemoryLog
from amends.logs.sqlite import writer as sqlite_writer
from amends.logs.sqlite.statements import SQL
from amends.ports.log import Append, RunRow, Start, StoredEvent, StoredRun, Written
from amends.ports.transport import Outgoing
from amends.testing.simulation import network, world
from amends.testing.simulation.simulate import Simulation, SimulationFailed
from tests.method.exploration.sagas import definition_of

SAGAS = ("chain", "chain-pivot", "whole", "parallel", "diamond", "local")
WORLDS_MAX = 400


def found(log: str = "memory") -> str:
    """The sentence of the first world that shows it."""
    with Simulation([definition_of(name) for name in SAGAS], log) as played:
        with pytest.raises(SimulationFailed) as failure:
            played.play(0, WORLDS_MAX)
        return str(failure.value)


Patch = pytest.MonkeyPatch


# -- writer


def test_acknowledging_before_it_is_durable_is_found(monkeypatch: Patch) -> None:
    real = GroupCommit._write

    async def hasty(writer: GroupCommit, batch: list[Any]) -> None:
        for _, done in batch:
            done(Written.ACCEPTED)
        await real(writer, [(entry, lambda _: None) for entry, _ in batch])

    monkeypatch.setattr(GroupCommit, "_write", hasty)
    assert found().startswith(("P1 a start is durable", "P1 nothing leaves before the log knows"))


def test_an_append_that_is_not_tried_again_is_found(monkeypatch: Patch) -> None:
    real = GroupCommit._give_back

    def forgetting(writer: GroupCommit, batch: list[Any], error: Any, *, final: bool) -> None:
        real(writer, [each for each in batch if isinstance(each[0], Start) or final], error, final=final)

    monkeypatch.setattr(GroupCommit, "_give_back", forgetting)
    assert found().startswith("P1 it ends or is stuck")


# -- worker


def test_sending_before_the_append_is_found(monkeypatch: Patch) -> None:
    real = Worker._entry

    def hasty(worker: Worker, driven: Any, record: Any, events: Any, owing: Any, *rest: Any, **named: Any) -> Append:
        entry = real(worker, driven, record, events, owing, *rest, **named)
        worker._pay(driven, owing)
        return entry

    monkeypatch.setattr(Worker, "_entry", hasty)
    assert found().startswith("P1 nothing leaves before the log knows")


def test_going_on_though_somebody_else_owns_the_run_is_found(monkeypatch: Patch) -> None:
    real: Any = Worker._written

    def stubborn(worker: Worker, *decided: Any) -> None:
        *same, verdict = decided
        real(worker, *same, Written.ACCEPTED if verdict is Written.NOT_YOURS else verdict)

    monkeypatch.setattr(Worker, "_written", stubborn)
    assert found().startswith(("P1", "P6", "P7"))


def test_a_retry_with_other_bytes_is_found(monkeypatch: Patch) -> None:
    real = network.SimulatedTransport.send

    async def altering(wire: network.SimulatedTransport, call: Outgoing) -> Came:
        return await real(wire, call if call.attempt == 1 else replace(call, body=call.body + b" "))

    monkeypatch.setattr(network.SimulatedTransport, "send", altering)
    assert found().startswith("P6 same key, same bytes")


# -- claims


def test_runs_that_nobody_takes_over_are_found(monkeypatch: Patch) -> None:
    async def never(taker: Claims) -> bool:
        return False

    monkeypatch.setattr(Claims, "sweep", never)
    assert found().startswith("P1 it ends or is stuck")


def test_adopting_under_an_old_epoch_is_found(monkeypatch: Patch) -> None:
    real = Worker.adopt

    def late(worker: Worker, definition: Any, record: Any, epoch: int, urged: Any = ()) -> None:
        real(worker, definition, record, epoch - 1, urged)

    monkeypatch.setattr(Worker, "adopt", late)
    assert found().startswith(("P1", "P7"))


# -- alarm


def test_an_alarm_that_never_rings_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Alarm, "_aim", lambda alarm: None)
    assert found().startswith("P1 it ends or is stuck")


def test_an_alarm_that_rings_only_for_the_first_is_found(monkeypatch: Patch) -> None:
    real = Alarm._fire

    def once(alarm: Alarm) -> None:
        real(alarm)
        alarm._heap.clear()

    monkeypatch.setattr(Alarm, "_fire", once)
    assert found().startswith("P1 it ends or is stuck")


# -- lanes


def test_a_place_that_is_never_given_back_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Lane, "leave", lambda lane, call: None)
    assert found().startswith("P1 it ends or is stuck")


def test_a_call_that_is_lost_in_the_queue_is_found(monkeypatch: Patch) -> None:
    real = Lane.enter

    def losing(lane: Any, call: Any) -> bool:
        may = real(lane, call)
        lane._others.clear()
        return may

    monkeypatch.setattr(Lane, "enter", losing)
    assert found().startswith("P1 it ends or is stuck")


# -- projection and reading


def row_as(change: Callable[[RunRow], RunRow]) -> Callable[..., RunRow]:
    real = Projector.row
    return lambda projector, *given: change(real(projector, *given))


def test_a_row_that_says_something_else_than_the_history_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Projector, "row", row_as(lambda row: replace(row, state="running")))
    assert found().startswith("the row is the history's")


def test_a_row_that_is_never_due_is_found(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Projector, "row", row_as(lambda row: replace(row, due_at=None)))
    assert found().startswith("P1 it ends or is stuck")


def test_an_adopter_that_misses_the_last_fact_is_found(monkeypatch: Patch) -> None:
    real = record_of

    def hasty(stored: StoredRun, codec: Any) -> RunRecord:
        record = real(replace(stored, events=stored.events[:-1], version=stored.version - 1), codec)
        record.length += 1
        return record

    monkeypatch.setattr(claims, "record_of", hasty)
    assert found().startswith(("no fact twice", "P6 same key, same bytes"))


# -- engine


def test_a_start_that_is_acknowledged_whatever_the_log_says_is_found(monkeypatch: Patch) -> None:
    async def careless(engine: Engine, entry: Start | Append, follow: Callable[[Any], None]) -> Written:
        engine._writer.put(entry, follow)
        return Written.ACCEPTED

    monkeypatch.setattr(Engine, "_write", careless)
    assert found().startswith("P1")


def test_a_start_of_unknown_outcome_that_is_left_alone_is_found(monkeypatch: Patch) -> None:
    async def nothing(engine: Engine, row: Any) -> None:
        return

    monkeypatch.setattr(Engine, "_take_up", nothing)
    assert found().startswith("P1 it ends or is stuck")


# -- logs


def test_a_log_that_takes_what_a_former_owner_writes_is_found(monkeypatch: Patch) -> None:
    real = MemoryLog._append

    def careless(log: MemoryLog, entry: Append) -> Written:
        kept = log.store.runs.get(entry.run)
        return real(log, entry if kept is None or kept.row.owner is None else replace(entry, epoch=None))

    monkeypatch.setattr(MemoryLog, "_append", careless)
    assert found().startswith(("P7", "P1", "an end is final", "one direction", "no fact twice"))


def test_a_log_that_forgets_what_it_took_is_found(monkeypatch: Patch) -> None:
    real = MemoryLog.append
    numbers = itertools.count(1)

    async def forgetful(log: MemoryLog, batch: Sequence[Start | Append]) -> Sequence[Written]:
        if next(numbers) % 7:
            return await real(log, batch)
        return [Written.ACCEPTED for _ in batch]

    monkeypatch.setattr(MemoryLog, "append", forgetful)
    assert found().startswith(("the log is gapless", "P1"))


def test_a_claim_that_keeps_the_epoch_is_found_on_sqlite(monkeypatch: Patch) -> None:
    claim = SQL["claim"]
    assert "epoch + 1" in claim
    monkeypatch.setitem(SQL, "claim", claim.replace("epoch + 1", "epoch"))
    assert found("sqlite").startswith("P7 one owner at a time")


def test_a_commit_that_is_left_out_is_found_on_sqlite(monkeypatch: Patch) -> None:
    real = sqlite_writer.SqliteWriter.append
    numbers = itertools.count(1)

    def forgetful(
        writer: sqlite_writer.SqliteWriter, batch: Sequence[Start | Append], **named: Any
    ) -> Sequence[Written]:
        if next(numbers) % 7:
            return real(writer, batch, **named)
        return [Written.ACCEPTED for _ in batch]

    monkeypatch.setattr(sqlite_writer.SqliteWriter, "append", forgetful)
    assert found("sqlite").startswith(("the log is gapless", "P1"))


# -- codecs


def test_a_codec_that_changes_a_payload_is_found(monkeypatch: Patch) -> None:
    real = JsonEventCodec.encode

    def altering(codec: JsonEventCodec, event: Event, run: str, version: int) -> tuple[str, bytes]:
        if isinstance(event, CompensationRequested):
            event = replace(event, body=event.body.replace(b'"reply_known":true', b'"reply_known":false'))
        return real(codec, event)

    monkeypatch.setattr(JsonEventCodec, "encode", altering)
    assert found().startswith("P6 same key, same bytes")


def test_a_codec_that_loses_the_time_is_found(monkeypatch: Patch) -> None:
    real = JsonEventCodec.decode

    def losing(codec: JsonEventCodec, kind: str, body: bytes, at: int, epoch: int, *_: object) -> Event:
        return real(codec, kind, body, 0 if kind == "RunEnded" else at, epoch)

    monkeypatch.setattr(JsonEventCodec, "decode", losing)
    assert found().startswith("the log is gapless")


def test_an_input_that_is_never_the_same_twice_is_found(monkeypatch: Patch) -> None:
    numbers = itertools.count()
    monkeypatch.setattr(world, "canonical", lambda body: body + str(next(numbers)).encode())
    assert found().startswith("RunExists")


def test_events_of_another_epoch_are_found(monkeypatch: Patch) -> None:
    real = stored

    def backdated(codec: Any, run: str, after: int, events: Any) -> list[StoredEvent]:
        return [replace(each, epoch=1) if each.kind == "RunEnded" else each for each in real(codec, run, after, events)]

    monkeypatch.setattr(worker, "stored", backdated)
    assert found().startswith("P7 one owner at a time")
