"""Alerts: by cause, once per mark, in the words that were written for that hour; and what a server sends of them."""

# ruff: noqa: E501 - the texts are as wide as they are sent

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from amends import Abandoned, CircuitLimits, Compensated, Stuck
from amends.core.run.record import RunRecord
from amends.observers.alerts import Alert, AlertBook, AlertLinks, StuckMark, WaitingRuns, down_alert, waiting_for
from amends.observers.deliveries import Webhook
from amends.observers.signing import is_genuine, new_secret
from amends.server import notifications as observing
from amends.server.listen import listen_on, url_of
from amends.server.notifications import Observing
from tests.fast.cli.place_order import CANNOT, DECLINED, DOWN, Says, Stage, order, place_order, reserve, stage
from tests.fast.cli.screens import aside, expected
from tests.fast.server.processes import until

NOON = 1_700_000_000_000_000
SECRET = new_secret()


def mark(run: str, *, since: int = NOON, step: str = "reserve") -> StuckMark:
    return StuckMark(
        saga="place-order",
        run=run,
        step=step,
        phase="compensation",
        reason="cannot-compensate",
        code="already-picked",
        detail="r-8812 left the shelf",
        since=since,
        participant="inventory",
        took_effect=True,
        else_open=False,
        held=("reserve (id=r-8812)",),
        unknown=("hold",),
    )


def test_marks_of_one_cause_are_one_message_and_each_is_told_once() -> None:
    told: list[Alert] = []
    book = AlertBook(told.append)
    assert book.take([mark("order-43", since=NOON + 5), mark("order-42")])
    assert not book.take([mark("order-42")])
    assert not told, "what comes together is told together"
    book.flush()
    book.flush()
    (alert,) = told
    assert alert.fields["count"] == 2
    assert alert.fields["runs"] == ["order-42", "order-43"]
    assert alert.id == f"stuck:order-42:reserve:{NOON}"
    assert book.take([mark("order-44", step="hold")])
    book.flush()
    assert [each.fields["step"] for each in told[1:]] == ["hold"]


def test_a_cause_that_is_open_is_told_again_only_when_it_grew_tenfold_or_an_hour_is_over() -> None:
    told: list[Alert] = []
    book = AlertBook(told.append)
    minute = 60_000_000
    for number in range(9):
        book.take([mark(f"order-{number}", since=NOON + number)])
        book.flush(NOON + number * minute)
    assert [each.fields["count"] for each in told] == [1], "nine runs of one cause, one after the other, are one alert"
    book.take([mark("order-9")])
    book.flush(NOON + 9 * minute)
    assert [each.fields["count"] for each in told] == [1, 10]
    assert told[1].fields["first"] == "order-0"
    assert len({each.id for each in told}) == 2, "a receiver doesn't take it for the first one, sent again"
    for minutes in (68, 69):
        book.take([mark(f"late-{minutes}")])
        book.flush(NOON + minutes * minute)
    assert [each.fields["count"] for each in told] == [1, 10, 12], "an hour is over"


async def test_a_cause_is_over_once_no_run_is_stuck_by_it(tmp_path: Path) -> None:
    told: list[Alert] = []
    book = AlertBook(told.append)
    async with stage(tmp_path) as on:
        on.participants.tell("hold", DECLINED)
        on.participants.tell("release", CANNOT)
        for id in ("order-1", "order-2", "order-3"):
            await on.runs.start(place_order, order(id), id=id)
            definition, record = await on.runs.engine.settled(id, 20)
            assert book.changed(definition, record) == bool(record.marks)
            book.flush(NOON)
            if id == "order-2":
                for each in ("order-1", "order-2"):
                    await on.runs.abandon(each, reason="enough")
                    assert not book.changed(*await on.runs.engine.settled(each, 20))
    assert [each.fields["runs"] for each in told] == [["order-1"], ["order-3"]]
    assert told[0].fields["held"] == ["reserve"], "without what shows replies none is shown"


def test_the_text_says_what_who_since_when_and_where_to_look() -> None:
    told: list[Alert] = []
    links = AlertLinks("https://amends.example", (("place-order", "https://wiki.example/amends"),))
    book = AlertBook(told.append, links)
    book.take([mark("order-42"), mark("order-43")])
    book.flush()
    assert aside(told[0].text) == expected(
        """
amends: 2 place-order runs are STUCK undoing reserve
inventory says it can't: cannot-compensate already-picked "r-8812 left the shelf" (order-42) and one more. First 03:16 UTC.
Held by order-42: reserve (id=r-8812). Unknown of order-42: whether hold took effect. Nothing of these runs goes on until it is settled.
Look:   amends stuck                                         https://amends.example/stuck?saga=place-order&step=reserve
Book:   https://wiki.example/amends#reserve-compensation
"""
    )


def test_an_outage_is_told_once_after_a_while_and_its_end_too() -> None:
    told: list[Alert] = []
    book = AlertBook(told.append, AlertLinks("https://amends.example"))
    waiting = WaitingRuns("503 from x", 5.0, 29, (("reserve", 12),), (("hold", 6),), 0, NOON + 1_800_000_000)

    def at(minutes: int, down: int | None = NOON) -> None:
        book.stands("inventory", down, NOON + minutes * 60_000_000, lambda: waiting)

    at(0, None)
    at(1)
    assert not told, "a hiccup is nobody's business"
    at(2)
    at(3)
    assert [each.kind for each in told] == ["participant-down"]
    assert aside(told[0].text) == expected(
        """
amends: inventory is down, 41 runs wait for it
503 since 22:13 UTC (circuit open, probed every 5 s). 29 are being undone, 12 wait to reserve; 6 of them have done hold.
Nobody needs to act in amends: the runs go on when inventory answers. 0 are past their deadline; the first will be at 22:43.
Look:   amends ls --waiting-for inventory                    https://amends.example/participants/inventory
"""
    )
    at(9, None)
    at(10, None)
    assert [each.kind for each in told] == ["participant-down", "participant-back"]
    at(11, NOON + 600_000_000)
    at(10, None)
    assert len(told) == 2, "back before anybody heard of it"
    assert down_alert("x", NOON, WaitingRuns("", 5.0, 0, (), (), 0, None), AlertLinks()).fields["count"] == 0


# -- in a server


@asynccontextmanager
async def receiver() -> AsyncGenerator[tuple[str, list[tuple[dict[str, str], dict[str, Any]]]]]:
    got: list[tuple[dict[str, str], dict[str, Any]]] = []

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert is_genuine(headers, body, SECRET, now=int(headers["webhook-timestamp"]))
        got.append((headers, msgspec.json.decode(body)))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = listen_on("127.0.0.1", 0)
    await web.SockSite(runner, listening).start()
    try:
        yield url_of(listening), got
    finally:
        await runner.cleanup()


async def test_a_server_tells_how_runs_end_and_what_is_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(observing, "GATHER_SECONDS", 0.05)
    everything = ("completed", "compensated", "abandoned", "stuck", "alert")
    async with receiver() as (url, got), stage(tmp_path) as on:
        hooks = [Webhook(url, everything, SECRET)]
        with caplog.at_level(logging.WARNING, "amends.alerts"):
            async with Observing(on.runs.engine, hooks):
                await on.runs.start(place_order, order("order-40"), id="order-40", tags={"customer": "ann"})
                await on.runs.get("order-40").outcome()
                on.participants.tell("hold", DECLINED)
                await on.runs.start(place_order, order("order-41"), id="order-41")
                assert isinstance(await on.runs.get("order-41").outcome(), Compensated)
                on.participants.tell("release", CANNOT)
                for id in ("order-42", "order-43"):
                    await on.runs.start(place_order, order(id), id=id)
                    assert isinstance(await on.runs.get(id).outcome(), Stuck)
                await on.runs.abandon("order-43", reason="enough")
                await until(lambda: len(got) == 6)
        types = sorted(body["type"] for _, body in got)
        assert types == sorted(["run.completed", "run.compensated", "run.stuck", "run.stuck", "run.abandoned", "alert"])
        by_id = {headers["webhook-id"]: body for headers, body in got}
        assert by_id["order-40:completed"]["run"]["tags"] == {"customer": "ann"}
        assert by_id["order-40:completed"]["run"]["input"]["card"] == "***"
        (alert,) = (body for body in by_id.values() if body["type"] == "alert")
        assert alert["runs"] == ["order-42", "order-43"]
        assert (alert["first"], alert["held"], alert["unknown"]) == ("order-42", ["reserve (id=r-8812)"], [])
        assert alert["text"].startswith("amends: 2 place-order runs are STUCK undoing reserve\n")
        lines = [json.loads(each.getMessage()) for each in caplog.records if each.name == "amends.alerts"]
        assert lines == [alert]

        got.clear()
        async with Observing(on.runs.engine, hooks):  # as after a restart: what is stuck is told again, under one id
            await until(lambda: len(got) == 2)
        again = {headers["webhook-id"]: body["type"] for headers, body in got}
        assert sorted(again.values()) == ["alert", "run.stuck"]
        assert set(again) <= set(by_id)


async def test_a_stuck_run_whose_history_cannot_be_read_is_told_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "GATHER_SECONDS", 0.05)
    async with receiver() as (url, got), stage(tmp_path) as on:
        on.participants.tell("hold", DECLINED)
        on.participants.tell("release", CANNOT)
        for id in ("order-1", "order-2", "order-3"):
            await on.runs.start(place_order, order(id), id=id)
            assert isinstance(await on.runs.get(id).outcome(), Stuck)
        with closing(sqlite3.connect(tmp_path / "shop.db")) as file, file:
            file.execute("UPDATE events SET body = '{' WHERE run = 'order-2' AND version = 2")
        async with Observing(on.runs.engine, [Webhook(url, ("stuck", "alert"), SECRET)]):
            await until(lambda: len(got) == 5)
        alerts = {(body["reason"], body["step"], body["phase"]): body["runs"] for _, body in got if "reason" in body}
        assert alerts == {
            ("unreadable", "", "run"): ["order-2"],
            ("cannot-compensate", "reserve", "compensation"): ["order-1", "order-3"],
        }
        told = {body["run"]["id"]: body["run"] for _, body in got if "run" in body}
        assert set(told) == {"order-1", "order-2", "order-3"}
        assert told["order-2"]["history"] == "unreadable"


async def test_who_waits_for_a_participant_that_is_down_is_counted(tmp_path: Path) -> None:
    limits = CircuitLimits(failures=3, within=timedelta(seconds=30), probe_every=timedelta(seconds=30))
    async with stage(tmp_path, circuit=limits) as on:
        on.participants.tell("reserve", DOWN)
        for number in range(3):
            id = f"order-{number}"
            await on.runs.start(place_order, order(id), id=id, deadline=timedelta(hours=number + 1))
        engine = on.runs.engine
        await until(lambda: any(each.down_since for each in engine.participants()))
        await until(lambda: all(record.step_state("hold") == "done" for record in _records(on)))
        found = waiting_for("inventory", _records(on), NOON, "503", 5.0)
        assert (found.runs, found.forward, found.done, found.undone) == (3, (("reserve", 3),), (("hold", 3),), 0)
        assert found.next_deadline is not None
        on.participants.tell("unhold", Says())
        await on.runs.cancel("order-0", reason="x")
        assert waiting_for("inventory", _records(on), NOON, "503", 5.0).undone == 1
        assert reserve.name == "reserve"
        assert Abandoned("x", "y", "z").by == "y"


def _records(on: Stage) -> list[RunRecord]:
    return [driven.record for driven in on.runs.engine.worker.runs.values()]


async def test_without_webhooks_nothing_is_read_or_sent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with stage(tmp_path) as on:
        on.participants.tell("hold", DECLINED)
        on.participants.tell("release", CANNOT)
        with caplog.at_level(logging.WARNING, "amends.alerts"):
            async with Observing(on.runs.engine):
                await on.runs.start(place_order, order("order-42"), id="order-42")
                assert isinstance(await on.runs.get("order-42").outcome(), Stuck)
                await asyncio.sleep(0)
        assert [json.loads(each.getMessage())["alert"] for each in caplog.records if each.name == "amends.alerts"] == [
            "stuck"
        ], "told at the latest when the process ends"
