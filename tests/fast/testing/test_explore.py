"""Exploring a user's own saga: what holds is counted, what breaks is told as a smallest story, again and again."""

import os
import subprocess
import sys

import pytest

from amends import Call, Policy, Retry, Saga
from amends.core.run.record import RunState
from amends.core.words.retry import Guard
from amends.testing import EVERY_FAULT, BadPath, BrokenPromise, FaultKind, Scenario, TooManyWorlds
from amends.testing.explore.moves import USUAL_FAULTS, Budget
from amends.testing.explore.paths import decode, encode
from amends.testing.explore.replaying import path_of, tell
from amends.testing.explore.wander import wander
from tests.fast.testing.scenario_shop import (
    Hold,
    Inventory,
    Order,
    Reservation,
    basket,
    first,
    hold,
    place_order,
    second,
    simple,
)
from tests.method.exploration.sagas import ALL, setup

ORDER = Order(id="order-1", customer="ann", sku="sku-1", quantity=2, cents=4200, address="here")


def test_every_fault_keeps_every_promise() -> None:
    report = Scenario(place_order, ORDER).replies(hold, Hold("h-1")).explore(faults_max=1, crashes_max=0)
    assert report.worlds > 200
    assert report.moves > 700
    assert set(report.ends) == {"completed", "compensated", "stuck"}
    assert set(report.faults) == USUAL_FAULTS, "every kind of fault was tried"
    assert all("protocol" in reason for reason in report.stuck), "only what can't be tried again is for a person"


def test_two_faults_and_a_second_owner_on_every_way_through_a_pivot() -> None:
    report = Scenario(simple, "x").explore(faults_max=1, crashes_max=1)
    assert report.crashes > 50
    assert set(report.ends) == {"completed", "compensated", "stuck"}


def test_people_who_give_up_leave_abandoned_runs() -> None:
    report = Scenario(simple, "x").explore(faults_max=2, crashes_max=0, kinds=EVERY_FAULT)
    assert report.ends[RunState.ABANDONED]


def test_only_the_kinds_that_were_asked_for_are_tried() -> None:
    report = Scenario(simple, "x").explore(faults_max=2, crashes_max=0, kinds=[FaultKind.NO])
    assert set(report.faults) == {FaultKind.NO}
    assert set(report.ends) == {"completed", "compensated", "stuck"}


def test_steps_of_every_shape_are_explored() -> None:
    report = Scenario(basket).explore(faults_max=1, crashes_max=0, kinds=[FaultKind.LOST, FaultKind.NO])
    assert report.ends[RunState.COMPLETED]
    assert report.ends[RunState.COMPENSATED]


def test_what_is_given_holds_in_every_world() -> None:
    report = Scenario(simple, "x").rejects(second).explore(faults_max=1, crashes_max=0)
    assert "completed" not in report.ends
    refused = Scenario(simple, "x").rejects(second).refuses_compensation(first).explore(faults_max=0)
    assert set(refused.ends) == {"stuck"}
    silent = Scenario(simple, "x").times_out(second, took_effect=True).explore(faults_max=0, crashes_max=0)
    assert set(silent.ends) == {"completed"}, "the pivot is asked what became of it"


# -- what breaks


@pytest.mark.parametrize(("services", "promise"), [(Guard.ONCE, "P2"), (Guard.IDEMPOTENT, "P")])
def test_services_without_a_barrier_break_promises(services: Guard, promise: str) -> None:
    with pytest.raises(BrokenPromise) as broken:
        Scenario(simple, "x").explore(services=services)
    assert broken.value.promise.startswith(promise)
    with pytest.raises(BrokenPromise) as again:
        Scenario(simple, "x").story(broken.value.path, services=services)
    assert str(again.value).split("\n")[1:] == str(broken.value).split("\n")[1:]


def test_the_same_story_is_told_whatever_the_hashes_are() -> None:
    code = (
        "from tests.fast.testing.scenario_shop import *\n"
        "from amends.testing import *\n"
        "from amends.core.words.retry import Guard\n"
        "try: Scenario(place_order).explore(services=Guard.IDEMPOTENT)\n"
        "except BrokenPromise as broken: print(broken)\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert "again: Scenario(place_order).story(" in told.pop()


def test_more_worlds_than_allowed_are_not_passed_off_as_all() -> None:
    with pytest.raises(
        TooManyWorlds, match="after 50 worlds there is still more to go through with 2 faults and 1 crash"
    ):
        Scenario(place_order, ORDER).explore(worlds_max=50)


@pytest.mark.parametrize(("faults", "crashes"), [(-1, 0), (0, -1)])
def test_less_than_nothing_is_refused(faults: int, crashes: int) -> None:
    with pytest.raises(ValueError, match="neither can be less than 0"):
        Scenario(simple, "x").explore(faults_max=faults, crashes_max=crashes)


def test_a_policy_stays_what_it_is() -> None:
    saga = Saga("patient", str)
    saga.compensable(policy=Policy(retry=Retry(attempts_max=5)))(reserve_x)
    scenario = Scenario(saga, "x")
    scenario.explore(faults_max=1, crashes_max=0)
    story = scenario.times_out(saga.steps[0], took_effect=False).play()
    assert story.text().count("reserve_x") >= 5


def reserve_x(name: str) -> Call[Reservation]:
    return Inventory.reserve(sku=name, quantity=1)


# -- paths


@pytest.mark.parametrize("name", ALL)
def test_a_path_leads_to_the_world_it_was_taken_from(name: str) -> None:
    for seed in range(15):
        walk = wander(setup(name, Budget(4, 2)), seed)
        path = path_of(setup(name, Budget()), walk.moves)
        told = tell(setup(name, Budget()), path)
        assert told.broken is None
        assert (told.world.events, told.world.ledger) == (walk.world.events, walk.world.ledger)
        assert path_of(setup(name, Budget()), told.moves) == path


def test_names_of_steps_are_cut_to_what_is_theirs_alone() -> None:
    steps = ("pay", "pay_out", "ship")
    words = ["pay>", "-pay_out#2@3<x", "=ship/sku-1!", "resolve(pay_out)h", "T"]
    path = encode(steps, words)
    assert path == "pay>.-pay_#2@3<x.=s/sku-1!.resolve(pay_)h.T"
    assert list(decode(steps, path)) == words
    assert list(decode((*steps, "shop"), "shi>")) == ["ship>"]
    with pytest.raises(BadPath, match="'s' may be ship, shop"):
        list(decode(("ship", "shop"), "s>"))
