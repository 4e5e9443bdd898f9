"""Builders are tried with made-up values before anything runs, and can do no harm while they are."""

import random
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import uuid4

import pydantic
import pytest

from amends import Call, Participant, Rejected, Rest, Saga, ask, operation, sleep, sleep_until
from amends.testing.no_effects import OutsideEffect, no_effects
from amends.testing.rehearsal import Remark, rehearse


@dataclass(frozen=True)
class Stay:
    city: str
    nights: int = 1
    note: str | None = None


class Paying(pydantic.BaseModel):
    cents: int


class Size(Enum):
    S = "s"


class Hotel(Participant):
    book = operation(Stay, str, compensation="unbook")
    unbook = operation(Stay)
    pay = operation(Paying, str, compensation="unbook")
    tell = operation(Stay, rest=Rest("POST /tell"))


BOOK: Any = Hotel.book
PAY: Any = Hotel.pay
HIDDEN: dict[str, Any] = {"tell": Hotel.tell}
"""Untyped: what a type checker would refuse."""


def found(build: Callable[[Any], Any], of: Any = Stay) -> list[Remark]:  # noqa: ANN401 - any input type
    saga: Saga[Any] = Saga("trip", of)
    build.__name__ = "hotel"
    saga.compensable()(build)
    return rehearse(saga)


def mistake(build: Callable[[Any], Any], of: Any = Stay) -> str:  # noqa: ANN401 - as above
    (remark,) = found(build, of)
    assert remark.is_mistake, remark
    return remark.text


def note(build: Callable[[Any], Any], of: Any = Stay) -> str:  # noqa: ANN401 - as above
    (remark,) = found(build, of)
    assert not remark.is_mistake, remark
    return remark.text


# -- mistakes


def test_work_in_a_plain_def() -> None:
    told = mistake(lambda stay: f"room in {stay.city}")
    assert told.startswith("trip v1, step hotel returned a str, expected a Call. A plain def only builds the request.")


MISTAKES: dict[str, Callable[[Any], Any]] = {
    "misspelt": lambda stay: BOOK(city=stay.city, nigths=stay.nights),
    "missing": lambda stay: BOOK(nights=stay.nights),
    "model": lambda _: PAY(cent=3),
    "input": lambda stay: BOOK(city=stay.town),
    "rest": lambda stay: HIDDEN["tell"](city=stay.city),
    "no call": lambda stay: {"a": stay.city},
    "unwritable": lambda _: BOOK(city={1: object()}),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_no_other_value_could_mend(name: str) -> None:
    assert mistake(MISTAKES[name]).startswith("trip v1, step hotel")


RANDOM: dict[str, Callable[[Any], Any]] = {
    "nights": lambda stay: BOOK(city=stay.city, nights=random.randrange(10**9)),
    "city": lambda _: {str(n): BOOK(city=str(uuid4())) for n in range(2)},
    "note": lambda stay: BOOK(city=stay.city, note=str(datetime.now(UTC))),
    "other calls": lambda stay: {str(uuid4()): BOOK(city=stay.city)},
}


@pytest.mark.parametrize("place", RANDOM)
def test_two_different_requests_for_one_input(place: str) -> None:
    told = mistake(RANDOM[place])
    assert f"builds two different requests for one input: {place}" in told
    assert told.endswith("Randomness and clocks belong in the input.")


def test_an_undo_and_a_notice_are_tried_too() -> None:
    saga = Saga("trip", Stay)

    @saga.compensable()
    def hotel(stay: Stay) -> Call[str]:
        return Hotel.book(city=stay.city)

    def unbook(_stay: Stay, _room: str | None) -> Any:  # noqa: ANN401 - the mistake
        return "done"

    hotel.compensation(unbook)

    @saga.notice
    def tell(stay: Stay, end: object) -> Any:  # noqa: ANN401 - the mistake
        return f"{stay.city} {end}"

    assert [(each.is_mistake, each.text.partition(", ")[2]) for each in rehearse(saga)] == [
        (True, "step hotel: its compensation returned str, expected a Call of hotel."),
        (True, "the notice returned str, expected a Call or None"),
    ]


# -- no mistakes


FINE: dict[str, Callable[[Any], Any]] = {
    "one": lambda stay: BOOK(city=stay.city),
    "many": lambda stay: [BOOK(city=stay.city), BOOK(city="x")],
    "none": lambda _: None,
}


@pytest.mark.parametrize("name", FINE)
def test_a_builder_that_only_builds_is_fine(name: str) -> None:
    assert found(FINE[name]) == []


def test_every_kind_of_step_gets_replies_of_its_type_to_go_on_with() -> None:
    saga = Saga("trip", Stay)
    seen: list[object] = []

    @saga.compensable()
    def hotel(stay: Stay) -> dict[str, Call[str]]:
        return {each: Hotel.book(city=each) for each in (stay.city, "x")}

    @saga.neutral(hotel)
    def wait(_stay: Stay, rooms: dict[str, str]) -> Call[None]:
        seen.append(len(rooms))
        return sleep(timedelta(days=1))

    @saga.neutral(after=[wait])
    def until(_stay: Stay) -> Call[None]:
        return sleep_until(datetime(2031, 1, 1, tzinfo=UTC))

    @saga.neutral(after=[until])
    def sure(_stay: Stay) -> Call[bool]:
        return ask(bool, "sure?", within=timedelta(days=1))

    @saga.neutral(after=[sure])
    async def local(_stay: Stay) -> Paying:
        raise AssertionError("work is never done")

    @saga.compensable()
    def gift(_stay: Stay) -> Call[str] | None:
        return None

    @saga.compensable(sure, local, gift)
    def last(_stay: Stay, answer: bool, paying: Paying, given: str | None) -> Call[str]:
        seen.append((answer, type(paying).__name__, given))
        return Hotel.book(city="x")

    assert rehearse(saga) == []
    assert last.name == "last"
    assert seen == [2, 2, (True, "Paying", None), (True, "Paying", None)]


# -- not tried


UNTRIED: dict[str, Callable[[Any], Any]] = {
    "parses": lambda stay: BOOK(city=str(int(stay.city))),
    "looks up": lambda stay: BOOK(city={"Lisbon": "LIS"}[stay.city]),
    "index": lambda stay: BOOK(city=stay.note[100]),
}


@pytest.mark.parametrize("name", UNTRIED)
def test_a_builder_that_cannot_work_with_made_up_values_is_noted(name: str) -> None:
    assert note(UNTRIED[name]).startswith("trip v1, step hotel: not tried with made-up values: the builder raised ")


def test_names_that_made_up_values_share_are_no_mistake() -> None:
    told = note(lambda sizes: {size.value: BOOK(city=size.value) for size in sizes}, list[Size])
    assert "so a call got lost" in told


def test_a_no_to_made_up_values_is_an_answer() -> None:
    def build(_stay: Stay) -> Call[str]:
        raise Rejected("no")

    assert found(build) == []


def test_an_input_that_cannot_be_made_up_is_noted() -> None:
    class Picky(pydantic.BaseModel):
        code: str = pydantic.Field(pattern="^[A-Z]{3}$")

    assert "trip v1: not tried with made-up values" in note(lambda picky: BOOK(city=picky.code), Picky)


# -- no harm


def doing(work: Callable[[], object]) -> Callable[[Any], Any]:
    """A builder that does this."""
    return lambda _: work()


def test_work_is_stopped_before_it_reaches_outside(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("x")
    works: dict[str, Callable[[], object]] = {
        "socket.": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        "sqlite3.connect": lambda: sqlite3.connect(tmp_path / "made.db"),
        "subprocess.Popen": lambda: subprocess.run(["touch", tmp_path / "made"], check=False),
        "open": lambda: (tmp_path / "made").write_text("x"),
        "os.remove": kept.unlink,
        "threading.Thread.start": lambda: threading.Thread(target=kept.unlink).start(),
    }
    for event, work in works.items():
        told = mistake(doing(work))
        assert f"step hotel does work ({event}" in told
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


def test_an_effect_that_the_code_hides_is_told_all_the_same(tmp_path: Path) -> None:
    def build(stay: Stay) -> Call[str]:
        with suppress(BaseException):
            (tmp_path / "made").write_text("x")
        return Hotel.book(city=stay.city)

    assert "does work (open)" in mistake(build)


def test_only_writing_is_stopped_and_only_while_it_is_watched(tmp_path: Path) -> None:
    with no_effects() as tripped:
        with pytest.raises(OutsideEffect):
            (tmp_path / "a").touch()
        assert tripped.events == ["open"]
        Path(__file__).read_text()
    (tmp_path / "a").touch()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_a_builder_may_raise_anything(error: BaseException) -> None:
    def build(_stay: Stay) -> Call[str]:
        raise error

    assert len(found(build)) == 1


def test_a_builder_that_never_returns_is_left() -> None:
    over = threading.Event()

    def hotel(_stay: Stay) -> Call[str]:
        over.wait()
        raise Rejected("over")

    saga = Saga("trip", Stay)
    saga.neutral()(hotel)
    (remark,) = rehearse(saga, seconds_max=0.05)
    assert remark.is_mistake
    assert remark.text == "trip v1, step hotel did not return within 0.05 s. Builders must not wait."
    over.set()
