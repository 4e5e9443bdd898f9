"""What whoever mistypes a name is told: that nobody here knows it, and what there is instead."""

from pathlib import Path

import pytest

from amends import Stuck
from amends.views.run_filter import BadWhere, parse
from tests.fast.cli.commands import amends
from tests.fast.cli.place_order import LOST, Stage, order, place_order, stage
from tests.fast.cli.screens import told, told_by_log

STEPS = "capture, hold, reserve, ship"


async def one_stuck(on: Stage) -> None:
    on.participants.tell("schedule", LOST)
    await on.runs.start(place_order, order(), id="order-42", tags={"customer": "ann"})
    assert isinstance(await on.runs.get("order-42").outcome(), Stuck)


LISTED = {
    "--saga typo": "no runs: no saga typo is known here, only place-order.",
    "--saga place-order --version 7": "no runs: there is no version 7 of place-order here, only 1.",
    "--version 7": "no runs: there is no version 7 of any saga here, only 1.",
    "--saga place-order --where step=shipp": f"no runs: place-order has no step shipp, only {STEPS}.",
    "--where step=shipp/1": f"no runs: no saga here has a step shipp, only {STEPS}.",
    "--where reason=spentt": "no runs: nothing is stuck for spentt, only for misrouted.",
    "--saga place-order --where step=reserve": "no runs",
    "--undelivered": "no runs",
    "--tag customer=bo": "no runs",
    "--tag custmer=ann": "no runs: no run here has a tag custmer, only customer.",
}


async def test_a_name_that_nobody_knows_is_told_with_those_there_are(tmp_path: Path) -> None:
    async with stage(tmp_path, [place_order]) as on:
        await one_stuck(on)
        for options, line in LISTED.items():
            for ask in (told, told_by_log):
                said = await ask(on, tmp_path, "ls", *options.split())
                assert (said.code, said.out, said.err) == (0, f"{line}\n", ""), (options, ask)
        # A log without the code knows those that were called; whom a notice calls isn't among them yet.
        for ask, called in ((told, "inventory, mail, payments"), (told_by_log, "inventory, payments")):
            said = await ask(on, tmp_path, "ls", "--waiting-for", "shiping")
            assert said.out == f"no runs: nothing here calls shiping; called are {called}, shipping.\n"
        assert (await told(on, tmp_path, "ls", "--saga", "typo", "--json")).out == '{"runs":[]}\n'


async def test_a_verb_for_runs_of_a_saga_that_nobody_knows_says_so_and_does_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path, [place_order]) as on:
        await one_stuck(on)
        for verb in ("retry", "abandon"):
            for more in ((), ("--dry-run",), ("--expected", "0")):
                said = await told(on, tmp_path, verb, "--where", "saga=typo", "--reason", "x", *more)
                assert (said.code, said.out) == (0, "no run matches: no saga typo is known here, only place-order.\n")
            wrong = await told(on, tmp_path, verb, "--where", "saga=typo", "--reason", "x", "--expected", "1")
            assert (wrong.code, wrong.out) == (1, "")
            assert "0 runs match, 1 expected. Nothing was done." in wrong.err
        plain = await told(on, tmp_path, "retry", "--where", "saga=place-order state=completed", "--reason", "x")
        assert plain.out == "no run matches.\n"


def test_a_log_without_runs_knows_no_saga(tmp_path: Path) -> None:
    log = f"sqlite:///{tmp_path / 'new.db'}"
    started = amends(tmp_path, "start", "trip", '"Lisbon"', "--log", log)
    assert started.code == 1
    assert "no saga trip is loaded here, nor any other." in started.err
    assert "--load MODULE[:NAME]" in started.err
    assert amends(tmp_path, "ls", "--log", log).out == "no runs\n"
    listed = amends(tmp_path, "ls", "--log", log, "--saga", "trip", "--version", "2")
    assert listed.out == "no runs: no saga trip is known here, nor any other.\n"


def test_a_phase_that_there_is_not_is_refused() -> None:
    with pytest.raises(BadWhere, match="'undo' is no phase"):
        parse("phase=undo")
    assert parse("phase=compensation").phase == "compensation"
