"""What an author's mistakes look like to whoever is woken up by them: what, where, what to do."""

import re
from pathlib import Path

from amends import Rejected, Stuck
from amends.core.saga.operation import Call
from amends.core.saga.saga import Saga
from tests.fast.cli.place_order import Inventory, Reservation, Schedule, Shipment, Shipping, Stage, stage
from tests.fast.cli.screens import aside, told
from tests.fast.server.processes import until

trip = Saga("trip", str)


@trip.compensable()
async def hotel(city: str) -> str:
    raise ValueError("bad date")


@hotel.compensation
async def cancel_hotel(city: str, room: str | None) -> None:
    return None


parcels = Saga("parcels", str)


@parcels.compensable()
def reserve(sku: str) -> Call[Reservation]:
    return Inventory.reserve(sku=sku, quantity=1)


@parcels.retriable(reserve)
def ship(sku: str, reservation: Reservation) -> Call[Shipment]:
    return Shipping.schedule.of(Schedule(address={"street": "x"}[sku], reservation=reservation.id))


drawn = Saga("drawn", str)


@drawn.retriable()
async def draw(_: str) -> float:
    return float("nan")


empty = Saga("empty", list[str])


@empty.compensable()
def reserve_all(skus: list[str]) -> dict[str, Call[Reservation]]:
    if not skus:
        raise Rejected("the basket is empty", code="empty")
    return {sku: Inventory.reserve(sku=sku, quantity=1) for sku in skus}


async def test_an_exception_of_a_local_step_says_how_to_say_no(tmp_path: Path) -> None:
    async with stage(tmp_path, [trip]) as on:
        await on.runs.start(trip, "Lisbon", id="trip-1")
        await until(lambda: _tried(on))
        shown = aside((await told(on, tmp_path, "show", "trip-1")).out)
        (line,) = [line for line in shown.splitlines() if line.startswith("  now")]
        assert re.fullmatch(
            r"  now  hotel: attempt [23] of 8 at TIME, in N s, after ValueError: bad date \(test_mistakes\.py:\d+\)\. "
            r"It may have happened, so it is tried again\. If it is a definite no, raise amends\.Rejected\.",
            line,
        )


def _tried(on: Stage) -> bool:
    driven = on.runs.engine.worker.runs.get("trip-1")
    item = None if driven is None else driven.record.item("hotel", "")
    tries = None if item is None else item.action
    return tries is not None and tries.sends >= 1 and not tries.is_open


async def test_a_builders_bug_is_stuck_at_once_with_its_place_and_the_remedy(tmp_path: Path) -> None:
    async with stage(tmp_path, [parcels]) as on:
        await on.runs.start(parcels, "zip", id="order-42")
        assert isinstance(await on.runs.get("order-42").outcome(), Stuck)
        shown = (await told(on, tmp_path, "show", "order-42")).out
        lines = shown.splitlines()
        (stuck,) = [number for number, line in enumerate(lines) if line.startswith("  stuck")]
        assert re.fullmatch(
            r"  stuck      ship, action: the builder raised KeyError: 'zip' \(.*test_mistakes\.py:\d+\)", lines[stuck]
        )
        assert lines[stuck + 2].strip() == "Deploy a fix under the same version, then retry."
        assert "amends retry order-42 --step ship" in " ".join(shown.split())
        assert "ship was never asked for: nothing of it happened." in shown


async def test_a_reply_that_cannot_be_written_is_stuck_at_once_and_says_that_the_work_was_done(tmp_path: Path) -> None:
    async with stage(tmp_path, [drawn]) as on:
        await on.runs.start(drawn, "x", id="order-42")
        assert isinstance(await on.runs.get("order-42").outcome(), Stuck)
        shown = (await told(on, tmp_path, "show", "order-42")).out
        assert "draw, action, attempt 1: the work was done, but its reply can't be written: " in shown
        assert "Deploy a fix under the same version, then retry." in shown
        assert "amends retry order-42 --step draw" in " ".join(shown.split())
        assert "amends resolve order-42 --step draw --happened" in shown


async def test_a_builder_that_says_no_turns_the_run_back_before_anything_is_sent(tmp_path: Path) -> None:
    async with stage(tmp_path, [empty]) as on:
        await on.runs.start(empty, [], id="order-42")
        shown = aside((await told(on, tmp_path, "show", "order-42")).out)
        assert shown.splitlines()[0] == "order-42  empty v1  compensated  TIME UTC, took N s"
        assert "because  reserve_all said no" in shown
        assert not on.participants.calls
