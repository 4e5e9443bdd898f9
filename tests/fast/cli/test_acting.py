"""Verbs on the command line: what they would do, what they did, one run or many, by a server or by the log itself."""

# ruff: noqa: E501 - the texts are as wide as they are shown

import asyncio
import json
from datetime import timedelta
from pathlib import Path

from amends import Abandoned, Compensated, Completed, Orchestrator, Stuck
from amends.logs.sqlite.log import SqliteLog
from tests.fast.cli.commands import Told, amends
from tests.fast.cli.place_order import CANNOT, DECLINED, LOST, Approval, Says, Stage, basket, order, place_order, stage
from tests.fast.cli.screens import aside, expected, told
from tests.fast.server.processes import until


async def stuck_run(on: Stage, id: str = "order-42") -> None:
    on.participants.tell("hold", DECLINED)
    on.participants.tell("release", CANNOT)
    await on.runs.start(place_order, order(id), id=id, tags={"customer": "ann"})
    assert isinstance(await on.runs.get(id).outcome(), Stuck)


WHY = ("--reason", "put back by hand, INC-2231", "--by", "ann")
RESOLVE = ("resolve", "order-42", "--step", "reserve", "--undone", *WHY)


async def test_a_dry_run_says_what_would_follow_and_does_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await stuck_run(on)
        before = (await told(on, tmp_path, "show", "order-42", "--events")).out
        preview = await told(on, tmp_path, *RESOLVE, "--dry-run")
        assert aside(preview.out) == expected(
            """
order-42   reserve   STUCK -> compensated, by hand (ann)
           run       STUCK -> compensated, by hand
Sent: one seal to inventory, so that a reserve or release still on its way does nothing. Refused while an attempt is in flight.
Where the service finds the effect in place, it is yours to undo: say resolve --undone once more.
Do it: the same line without --dry-run.
"""
        )
        assert preview.code == 0
        assert (await told(on, tmp_path, "show", "order-42", "--events")).out == before
        assert "seal" not in " ".join(on.participants.calls)
        assert json.loads((await told(on, tmp_path, *RESOLVE, "--dry-run", "--json")).out)["version"] == 8


async def test_a_dry_run_needs_no_reason_and_says_that_the_deed_does(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await stuck_run(on)
        one = await told(on, tmp_path, "abandon", "order-42", "--dry-run")
        assert one.out.splitlines()[-1] == 'Do it: the same line, with --reason "..." instead of --dry-run.'
        assert "What may remain: reserve." in one.out.splitlines()
        many = await told(on, tmp_path, "abandon", "--where", "saga=place-order version=1", "--dry-run")
        line = 'Do it: the same line, with --expected 1 and --reason "..." instead of --dry-run.'
        assert many.out.splitlines()[-1] == line
        assert (one.code, many.code) == (0, 0)
        for command in (["abandon", "order-42"], ["abandon", "--where", "state=stuck", "--expected", "1"]):
            refused = await told(on, tmp_path, *command)
            assert (refused.code, refused.err[:19]) == (2, "error   say why: --")
        assert isinstance(await on.runs.get("order-42").outcome(), Stuck), "nothing was done"


async def test_resolve_seals_and_ends_by_hand(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await stuck_run(on)
        on.participants.tell("reserve:seal", Says(200, "noop"))
        done = await told(on, tmp_path, *RESOLVE)
        assert aside(done.out).startswith("order-42  reserve  STUCK -> sealing\n")
        assert done.code == 0
        outcome = await on.runs.get("order-42").outcome()
        assert isinstance(outcome, Compensated)
        assert outcome.by_hand
        assert (await told(on, tmp_path, "show", "order-42")).out.startswith(
            "order-42   place-order v1   compensated, by hand   "
        )
        events = aside((await told(on, tmp_path, "show", "order-42", "--events")).out)
        assert 'TIME  reserve  resolved sealing  by ann: "put back by hand, INC-2231"' in events
        assert events.splitlines()[-1].endswith("ended  compensated, by hand")


async def test_skip_ends_abandoned_and_says_who_left_what(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await stuck_run(on)
        done = await told(on, tmp_path, "skip", "order-42", "--step", "reserve", *WHY)
        assert aside(done.out) == (
            "order-42  reserve  STUCK -> skipped\n  run  STUCK -> abandoned\nWhat may remain: reserve."
        )
        assert isinstance(await on.runs.get("order-42").outcome(), Abandoned)
        shown = aside((await told(on, tmp_path, "show", "order-42")).out)
        assert '  left  abandoned by ann: "put back by hand, INC-2231"\n  what may remain: reserve' in shown


async def test_abandon_lists_what_remains_and_an_open_pivot_keeps_a_wish_to_turn_back(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await stuck_run(on)
        done = await told(on, tmp_path, "abandon", "order-42", *WHY)
        assert done.out.splitlines()[-1] == "What may remain: reserve."
        on.participants.tell("capture", LOST)
        on.participants.tell("hold", Says())
        await on.runs.start(place_order, order("order-43"), id="order-43")

        await until(lambda: any("capture" in each for each in on.participants.calls))
        for more in (["--dry-run"], []):
            said = await told(on, tmp_path, "cancel", "order-43", *WHY, *more)
            wish = "The wish to turn back is recorded; the pivot is open, and its outcome decides."
            assert wish in said.out.splitlines(), said


async def test_many_are_retried_by_what_they_have_in_common(tmp_path: Path) -> None:
    where = "saga=place-order step=ship phase=action"
    async with stage(tmp_path) as on:
        on.participants.tell("schedule", LOST)
        for id in ("order-51", "order-52"):
            await on.runs.start(place_order, order(id), id=id)
            assert isinstance(await on.runs.get(id).outcome(), Stuck)
        on.participants.tell("schedule", Says())
        retry = ("retry", "--where", where, "--reason", "route fixed, INC-2232")
        counted = await told(on, tmp_path, *retry, "--dry-run")
        assert counted.out.splitlines()[0] == (
            "2 runs match, 2 are past their pivot: they can only go forward. At most 64 calls at once."
        )
        unasked = await told(on, tmp_path, *retry)
        assert (unasked.code, unasked.out) == (2, "")
        assert "Say --expected 2" in unasked.err
        wrong = await told(on, tmp_path, *retry, "--expected", "41")
        assert wrong.code == 1
        assert "Nothing was done" in wrong.err
        assert isinstance(await on.runs.get("order-51").outcome(wait=timedelta(0)), Stuck)
        done = await told(on, tmp_path, *retry, "--expected", "2")
        assert done.out == f"2 asked. Follow: amends ls --where '{where}' --watch\n"
        assert [type(await on.runs.get(id).outcome()) for id in ("order-51", "order-52")] == [Completed, Completed]


async def test_many_are_abandoned_one_by_one_and_whoever_is_refused_says_so(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await stuck_run(on, "order-42")
        await stuck_run(on, "order-43")
        await on.runs.start(basket, 10, id="order-48")
        done = await told(on, tmp_path, "abandon", "--where", "state=stuck,running", *WHY, "--expected", "3")
        assert done.code == 1
        assert done.out.splitlines() == [
            "2 asked. Follow: amends ls --where 'state=stuck,running' --watch",
            "1 refused: 1 not-stuck.",
            "  order-48   only a stuck run is abandoned; cancel it instead",
        ]
        assert isinstance(await on.runs.get("order-42").outcome(), Abandoned)


async def test_a_question_is_answered_or_declined(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        for id in ("order-47", "order-49"):
            await on.runs.start(basket, 1_000, id=id)
        answered = await told(on, tmp_path, "answer", "order-47", "approve", '{"by":"bo"}')
        assert aside(answered.out).startswith("order-47  approve  acting -> done\n")
        again = await told(on, tmp_path, "answer", "order-47", "approve", '{"by":"cy"}')
        assert again.code == 1
        declined = await told(on, tmp_path, "answer", "order-49", "approve", "--decline", "too much")
        assert declined.code == 0
        outcome = await on.runs.get("order-49").outcome()
        assert isinstance(outcome, Compensated)
        assert outcome.step == "approve"
        assert (await told(on, tmp_path, "answer", "order-47", "approve", "{")).code == 2
        assert (await told(on, tmp_path, "answer", "order-47", "approve")).code == 2
        assert Approval("bo").by == "bo"


async def test_a_probe_asks_and_changes_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await stuck_run(on)
        before = (await told(on, tmp_path, "show", "order-42", "--events")).out
        on.participants.tell("reserve:probe", Says(200, "succeeded", {"id": "r-8812"}))
        probed = await told(on, tmp_path, "probe", "order-42", "--step", "reserve")
        assert probed.out == ("order-42   reserve   inventory says succeeded, reply id=r-8812 (200). It took effect.\n")
        assert on.participants.calls[-1] == "reserve:probe"
        assert (await told(on, tmp_path, "show", "order-42", "--events")).out == before
        assert json.loads((await told(on, tmp_path, "probe", "order-42", "--step", "reserve", "--json")).out)["key"]


async def test_what_cannot_be_done_is_refused_with_its_reason(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.runs.start(place_order, order("order-40"), id="order-40")
        await on.runs.get("order-40").outcome()
        for arguments, code, said in (
            (["cancel", "order-40", *WHY], 1, "past its pivot"),
            (["retry", "order-40", *WHY], 1, "ended"),
            (["retry", "nobody", *WHY], 1, "there is no run nobody"),
            (["skip", "order-40", *WHY], 2, "say which step"),
            (["resolve", "order-40", "--step", "ship", *WHY], 2, "--happened, --never-happened, --undone"),
            (["retry", *WHY], 2, "name one run"),
            (["retry", "order-40", "--where", "state=stuck", *WHY], 2, "name one run"),
            (["cancel", "order-40"], 2, "--reason"),
            (["cancel", "order-40", "--reason", "x" * 1_001], 1, "1 to 1000 characters"),
            (["retry", "--where", "colour=red", *WHY], 2, "colour"),
        ):
            refused = await told(on, tmp_path, *arguments)
            assert (refused.code, said in refused.err, refused.out) == (code, True, ""), (arguments, refused)


async def test_start_begins_a_run_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        start = ("start", "basket", "10", "--id", "basket-1", "--tag", "customer=ann")
        first = await told(on, tmp_path, *start)
        assert first.out == "basket-1   running      cooling_off\n"
        assert "(had been started before)" in (await told(on, tmp_path, *start)).out
        other = await told(on, tmp_path, "start", "basket", "11", "--id", "basket-1")
        assert other.code == 1
        assert "differs at $: 10, 11" in other.err
        on.participants.tell("hold", DECLINED)
        (tmp_path / "order.json").write_text(json.dumps(json.loads(_order_json())))
        no = await told(on, tmp_path, "start", "place-order", "@order.json", "--id", "order-1", "--wait", "20")
        assert no.code == 1
        assert no.out.startswith("order-1   compensated  hold said no: card-declined")
        misspelt = json.dumps({**json.loads(_order_json()), "quantitiy": 3})
        typo = await told(on, tmp_path, "start", "place-order", misspelt, "--id", "order-2")
        assert (typo.code, typo.out) == (1, "")
        assert "at $.quantitiy: There is no field quantitiy here." in typo.err
        ignored = await told(on, tmp_path, "start", "place-order", misspelt, "--id", "order-2", "--ignore-unknown")
        assert ignored.out.startswith("order-2   ")
        for arguments, code in ((["basket", "{"], 2), (["basket", "@gone.json"], 2), (["nothing", "1"], 1)):
            assert (await told(on, tmp_path, "start", *arguments)).code == code
        assert (await told(on, tmp_path, "start", "basket", '"x"')).code == 1


def _order_json() -> str:
    asked = order("order-1")
    return json.dumps({name: getattr(asked, name) for name in asked.__slots__})


# -- a log without its server

MODULE = "tests.fast.cli.place_order"


async def test_a_log_that_nobody_has_open_takes_verbs_directly(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await stuck_run(on)
        log = on.log
        told_off = await asyncio.to_thread(amends, tmp_path, "cancel", "order-42", *WHY, "--log", log, "--load", MODULE)
        assert told_off.code == 1
        assert "is in use by process" in told_off.err
        assert "--server http://127.0.0.1:8700" in told_off.err

    async def by_log(*arguments: str) -> Told:
        return await asyncio.to_thread(amends, tmp_path, *arguments, "--log", log)

    unknown = await by_log(*RESOLVE)
    assert unknown.code == 1
    assert "--load MODULE[:NAME]" in unknown.err
    preview = await by_log(*RESOLVE, "--dry-run", "--load", MODULE)
    assert "STUCK -> compensated, by hand (ann)" in preview.out
    assert "STUCK -> skipped" in (await by_log("skip", "order-42", "--step", "reserve", *WHY, "--load", MODULE)).out
    started = await by_log("start", "basket", "10", "--id", "basket-1", "--load", f"{MODULE}:basket")
    assert (started.code, started.out) == (0, "basket-1   running      cooling_off\n")
    assert (await by_log("probe", "order-42", "--step", "reserve")).code == 2

    async with Orchestrator([basket], log=SqliteLog(tmp_path / "shop.db")) as runs:  # whoever opens it goes on with it
        await until(lambda: "basket-1" in runs.engine.worker.runs or runs.engine.worker.expected == 0)
        await runs.cancel("basket-1", reason="enough")
        assert isinstance(await runs.get("basket-1").outcome(), Compensated)
