"""What a person sees at 3 a.m.: every text of the operator's screens comes from a real run."""

# ruff: noqa: E501 - the texts are as wide as they are shown

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from amends import CircuitLimits, Stuck, Unfinished
from amends.core.run.record import StepState
from amends.core.words.keys import Phase
from tests.fast.cli.commands import amends
from tests.fast.cli.place_order import (
    CANNOT,
    DECLINED,
    DOWN,
    LOST,
    Says,
    Stage,
    basket,
    notified,
    order,
    place_order,
    stage,
)
from tests.fast.cli.screens import aside, expected, told, told_by_log
from tests.fast.server.processes import until

NOTHING_HELD = timedelta(0)


async def start(on: Stage, id: str, customer: str = "ann") -> None:
    await on.runs.start(place_order, order(id, customer), id=id, tags={"customer": customer})


async def stuck_at(on: Stage, id: str) -> None:
    assert isinstance(await on.runs.get(id).outcome(), Stuck)


async def test_show_of_a_run_that_completed(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.participants.tell("hold", DOWN, Says())
        await start(on, "order-40")
        await until(lambda: "hold:action" in on.participants.calls)
        await _hurry(on, "order-40", "hold")
        await on.runs.get("order-40").outcome()
        shown = await told(on, tmp_path, "show", "order-40")
        assert aside(shown.out) == expected(
            """
order-40   place-order v1   completed   03:02:11.204 UTC, took 0.31 s   customer=ann
  reserve    compensable   done     1 attempt     41 ms
  hold       compensable   done     2 attempts   180 ms
  capture    pivot         done     1 attempt     75 ms
  ship       retriable     done     1 attempt     22 ms
"""
        )
        lines = shown.out.splitlines()[1:]
        assert len({line.index("attempt") for line in lines}) == 1, "columns line up"
        assert len({len(line) for line in lines}) == 1, "durations end together"
        assert (await told_by_log(on, tmp_path, "show", "order-40")).out == shown.out


async def _hurry(on: Stage, id: str, step: str) -> None:
    """Don't wait for the next attempt of a step: a person says so."""
    steps = {each.name: each for each in place_order.steps}
    await until(lambda: _waits(on, id, step))
    await on.runs.retry(id, step=steps[step], reason="now")


def _is_done(on: Stage, id: str, step: str) -> bool:
    driven = on.runs.engine.worker.runs.get(id)
    return driven is not None and driven.record.step_state(step) is StepState.DONE


def _waits(on: Stage, id: str, step: str) -> bool:
    driven = on.runs.engine.worker.runs.get(id)
    item = None if driven is None else driven.record.item(step, "")
    tries = None if item is None else item.tries(Phase.COMPENSATION) or item.action
    return tries is not None and not tries.is_open and tries.due is not None


async def test_show_of_a_run_that_is_being_undone(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.participants.tell("hold", DECLINED)
        on.participants.tell("release", DOWN)
        await start(on, "order-44", "bo")
        await until(lambda: _waits(on, "order-44", "reserve"))
        shown = await told(on, tmp_path, "show", "order-44")
        assert aside(shown.out) == expected(
            """
order-44   place-order v1   compensating   started 03:02:11 UTC, 6 s ago   customer=bo
  because    hold said no at 03:02:12: card-declined "Your card was declined"
  now        undoing reserve: attempt 2 at 03:02:19, in 2 s, after 503 from http://127.0.0.1:1/inventory/release
  owner      WORKER, epoch 1

  step       kind          action                    undo
  reserve    compensable   done       1 attempt      waiting 2 s   1 attempt, gives up in 24 h
  hold       compensable   rejected   1 attempt      -
  capture    pivot         never started
  ship       retriable     never started

  left to undo: reserve. Nobody needs to act. Sooner: amends retry order-44 --step reserve
"""
        )
        listed = await told(on, tmp_path, "ls", "--live")
        assert aside(listed.out).splitlines()[1] == expected(
            "order-44   place-order v1   compensating  undo reserve, attempt 2               6 s      -"
        )


async def test_an_outage_is_waited_for_and_not_stuck(tmp_path: Path) -> None:
    limits = CircuitLimits(failures=3, within=timedelta(seconds=30), probe_every=timedelta(seconds=5))
    async with stage(tmp_path, circuit=limits) as on:
        on.participants.tell("reserve", DOWN)
        for number in range(3):
            await start(on, f"order-{number}")
        await until(lambda: any(each.down_since for each in on.runs.engine.participants()))
        await start(on, "order-45")
        shown = await told(on, tmp_path, "show", "order-45")
        assert (
            expected("  now        waiting for inventory, which is down since 03:02:20; probed every 5 s")
            in aside(shown.out).splitlines()
        )
        listed = aside((await told(on, tmp_path, "ls", "--waiting-for", "inventory")).out).splitlines()
        assert expected("order-45   place-order v1   running   reserve, waiting for inventory   N s   -") in listed
        assert len(listed) == 5
        stuck = await told(on, tmp_path, "stuck")
        assert aside(stuck.out) == expected(
            "nothing is stuck. 4 more wait for inventory (circuit open since 03:02:20): nobody needs to act."
        )
        assert stuck.code == 0
        assert isinstance(await on.runs.get("order-45").outcome(wait=NOTHING_HELD), Unfinished)


async def test_show_of_a_run_that_is_stuck(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.participants.tell("hold", DECLINED)
        on.participants.tell("release", CANNOT)
        released = on.participants.hold("hold")
        await start(on, "order-42")
        await until(lambda: _is_done(on, "order-42", "reserve"))  # one answer after the other
        released.set()
        await stuck_at(on, "order-42")
        await start(on, "order-43")
        await stuck_at(on, "order-43")
        shown = await told(on, tmp_path, "show", "order-42")
        assert aside(shown.out) == expected(
            """
order-42   place-order v1   STUCK undoing reserve   since 03:16:20 UTC, 10 min ago   customer=ann
  because    turned back: hold said no at 03:16:19: card-declined "Your card was declined"
  stuck      reserve, compensation, attempt 1: cannot-compensate already-picked "r-8812 left the shelf"
             from http://127.0.0.1:1/inventory/release. The service reported that it can't undo this.
             Undo it manually, then resolve the step as undone.
  known      reserve took effect (03:16:19, reply id=r-8812). It is not undone.
  open       nothing else. 1 more run is stuck for the same reason: amends stuck

  step       kind          action                    undo
  reserve    compensable   done       1 attempt      STUCK   1 attempt   key order-42:reserve:compensation
  hold       compensable   rejected   1 attempt      -
  capture    pivot         never started
  ship       retriable     never started

  you can
    amends probe   order-42 --step reserve               ask inventory what it knows about the key; changes nothing
    amends retry   order-42 --step reserve               send it again: same key, same bytes
    amends resolve order-42 --step reserve --undone      you undid it, or know it is undone     ends: compensated, by hand
    amends skip    order-42 --step reserve               leave r-8812 as it is, on purpose      ends: abandoned
  each but probe takes --reason "..." (required); --dry-run shows what would follow.
  book       https://wiki.example/amends#reserve-compensation
"""
        )
        events = await told(on, tmp_path, "show", "order-42", "--events")
        assert aside(events.out) == expected(
            """
 1  03:16:19.011  started                     by embedded, input 212 bytes, digest 9f3c
 2  03:16:19.011  reserve    action asked     key order-42:reserve:action
 3  03:16:19.011  hold       action asked     key order-42:hold:action
 4  03:16:19.052  reserve    action done      id=r-8812
 5  03:16:19.190  hold       action rejected  card-declined "Your card was declined"
 6  03:16:19.190  turned back                 hold said no: card-declined
 7  03:16:19.190  reserve    undo asked       key order-42:reserve:compensation
 8  03:16:20.004  reserve    STUCK            cannot-compensate already-picked "r-8812 left the shelf"
"""
        )


async def test_stuck_is_told_by_cause(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.participants.tell("schedule", LOST)
        for id in ("order-51", "order-52"):
            await start(on, id)
            await stuck_at(on, id)
        on.participants.tell("hold", DECLINED)
        on.participants.tell("release", CANNOT)
        await start(on, "order-42")
        await stuck_at(on, "order-42")
        stuck = await told(on, tmp_path, "stuck")
        assert aside(stuck.out) == expected(
            """
runs  saga         step     phase         reason                                                    oldest   first
   2  place-order  ship     action        not from the barrier: 404 http://127.0.0.1:1/shipping/schedule    22 min   order-51
   1  place-order  reserve  compensation  cannot-compensate: already-picked                         10 min   order-42
3 runs need a person, 2 causes.
"""
        )
        assert stuck.code == 1
        assert await told_by_log(on, tmp_path, "stuck") == stuck or stuck.code == 1
        causes = json.loads((await told(on, tmp_path, "stuck", "--json")).out)["causes"]
        assert [each["count"] for each in causes] == [2, 1]
        listed = aside((await told(on, tmp_path, "ls", "--live")).out).splitlines()
        assert listed[0] == "run  saga  state  at  age  needs"
        assert listed[1] == "order-42  place-order v1  STUCK  undo reserve: cannot-compensate  N s  a person"
        shown = aside((await told(on, tmp_path, "show", "order-51")).out)
        assert (
            "  stuck  ship, action, attempt 8: misrouted: 404 from http://HOST/shipping/schedule, without Saga-Outcome: "
            "not from the barrier\n  Answers came, but not from the participant's barrier; nothing was undone because of them.\n"
            "  Check the base URL and the token of the route, then retry."
        ) in shown


async def test_questions_and_sleeps_are_shown_as_what_they_wait_for(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.runs.start(basket, 1_000, id="order-47")
        await on.runs.start(basket, 10, id="order-48")
        listed = aside((await told(on, tmp_path, "ls")).out).splitlines()
        assert listed[1:] == [
            "order-48  basket v1  running  cooling_off until TIME  N s  -",
            "order-47  basket v1  running  approve, asked N s ago  N s  an answer",
        ]
        shown = (await told(on, tmp_path, "show", "order-47")).out
        assert '"somebody orders for 1000"' in shown
        assert "Somebody must answer: amends answer order-47 approve JSON" in shown


async def test_filters_find_what_they_say(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await start(on, "order-1", "ann")
        await start(on, "order-2", "bo")
        await on.runs.start(basket, 10, id="basket-1")
        for id in ("order-1", "order-2"):
            await on.runs.get(id).outcome()

        async def ids(*arguments: str) -> list[str]:
            rows = json.loads((await told(on, tmp_path, "ls", "--json", *arguments)).out)["runs"]
            return sorted(each["row"]["id"] if "row" in each else each["id"] for each in rows)

        assert await ids() == ["basket-1", "order-1", "order-2"]
        assert await ids("--live") == ["basket-1"]
        assert await ids("--saga", "place-order") == ["order-1", "order-2"]
        assert await ids("--tag", "customer=bo") == ["order-2"]
        assert await ids("--state", "completed", "--state", "running", "--limit", "2") == ["basket-1", "order-2"]
        assert await ids("--where", "saga=place-order tag.customer=ann") == ["order-1"]
        assert await ids("--version", "2") == []
        assert (await told(on, tmp_path, "ls", "--where", "colour=red")).code == 2
        assert "Names:" in (await told(on, tmp_path, "ls", "--where", "colour=red")).err
        assert (await told(on, tmp_path, "ls", "--live", "--state", "stuck")).code == 2


async def test_a_notice_that_was_not_delivered_is_listed(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.runs.start(notified, "ann", id="told-1")
        await until(lambda: not on.runs.engine.worker.runs)
        on.participants.tell("tell", CANNOT)
        await on.runs.start(notified, "bo", id="told-2")
        await until(lambda: on.participants.calls.count("tell:action") == 2 and not on.runs.engine.worker.runs)
        listed = aside((await told(on, tmp_path, "ls", "--undelivered")).out).splitlines()
        assert listed[1:] == ["told-2  notified v1  completed  notice not delivered  N s  a person"]
        assert "NOT DELIVERED to mail.tell" in (await told(on, tmp_path, "show", "told-2")).out
        assert "delivered to mail.tell" in (await told(on, tmp_path, "show", "told-1")).out


async def test_runs_whose_code_nobody_has_are_listed(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.runs.start(basket, 10, id="basket-1")
    async with stage(tmp_path, [place_order], leave=["basket"]) as on:
        listed = aside((await told(on, tmp_path, "ls", "--unclaimable")).out).splitlines()
        assert [line.split()[0] for line in listed] == ["run", "basket-1"]
        assert (await told_by_log(on, tmp_path, "ls", "--unclaimable")).code == 2


async def test_a_run_of_another_graph_of_the_same_version_is_one_whose_code_nobody_has(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        for id in ("basket-1", "basket-2"):
            await on.runs.start(basket, 10, id=id)
        await until(lambda: not on.runs.engine.worker.runs)
        assert "no runs" in (await told(on, tmp_path, "ls", "--unclaimable")).out
        with closing(sqlite3.connect(tmp_path / "shop.db")) as other, other:
            assert other.execute("UPDATE runs SET digest = 'another' WHERE id = 'basket-1'").rowcount == 1
        listed = aside((await told(on, tmp_path, "ls", "--unclaimable")).out).splitlines()
        assert [line.split()[0] for line in listed] == ["run", "basket-1"]


async def test_bodies_and_curl_keep_what_is_redacted(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.participants.tell("hold", DOWN)
        await start(on, "order-44")
        await until(lambda: _waits(on, "order-44", "hold"))
        for ask in (told, told_by_log):
            bodies = await ask(on, tmp_path, "show", "order-44", "--bodies")
            curl = await ask(on, tmp_path, "show", "order-44", "--curl")
            assert "tok_secret" not in bodies.out + curl.out
            assert '"card": "***"' in bodies.out
            assert "curl -sS -X POST" in curl.out
            assert 'Idempotency-Key: "order-44:hold:action"' in curl.out
            assert "What is redacted is *** here" in curl.out
        assert f"{on.places}/payments/hold" in (await told(on, tmp_path, "show", "order-44", "--curl")).out
        assert (await told(on, tmp_path, "show", "order-44", "--curl", "--bodies")).code == 2


async def test_export_has_the_run_and_its_history(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await start(on, "order-40")
        await on.runs.get("order-40").outcome()
        written = await told(on, tmp_path, "export", "order-40", "--out", "order-40.json")
        assert written.out == "written: order-40.json\n"
        exported = json.loads((tmp_path / "order-40.json").read_text())
        assert exported["run"]["state"] == "completed"
        assert [each["version"] for each in exported["events"]] == list(range(1, len(exported["events"]) + 1))
        assert exported == json.loads((await told_by_log(on, tmp_path, "export", "order-40")).out)
        assert (await told(on, tmp_path, "export", "order-40", "--out", "gone/x.json")).code == 2


async def test_watching_ends_with_the_run(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.participants.hold("capture")
        await start(on, "order-40")
        watching = asyncio.create_task(told(on, tmp_path, "show", "order-40", "--watch"))
        await until(lambda: "capture:action" in on.participants.calls)
        on.participants.held["capture"].set()
        shown = await asyncio.wait_for(watching, 30)
        assert shown.out.splitlines()[-5].startswith("order-40   place-order v1   completed")


async def test_a_server_that_is_not_there_is_one_clear_message(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        gone = on
    shown = await told(gone, tmp_path, "ls")
    assert shown.code == 1
    assert shown.err.startswith(f"error   {gone.url} can't be reached: ")
    assert (await told(gone, tmp_path, "show", "nobody")).code == 1
    assert "there is no run nobody" in (await told_by_log(gone, tmp_path, "show", "nobody")).err
    for id in ("../healthz", "a b", "%2e%2e", "x" * 500):
        refused = await told_by_log(gone, tmp_path, "show", id)
        assert (refused.code, refused.err.startswith("error   there is no run ")) == (1, True)
    nowhere = await asyncio.to_thread(amends, tmp_path, "ls", "--server", "localhost:8700")
    assert nowhere.code == 2
    assert "no address of a server" in nowhere.err
