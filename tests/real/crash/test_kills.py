"""`kill -9` at every append and every message: whatever was acknowledged ends, once, as the databases tell it.

For each place where a process may die, the n-th passing is tried for n = 1, 2, ... until a life ends without having
died: so every append and every message of a run has been the last thing that a process did. After a death the next
life goes on from the files, as a process does that was started again.
"""

import random
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Final, Literal, TypeAlias

import pytest

from tests.real.crash.judge import effects, judge
from tests.real.crash.lives import Life, Mother, said
from tests.real.crash.mortal import APPENDS, PLACES, UPKEEP, Death
from tests.real.crash.sagas import CASES

KILLED: Final = -9
PASSINGS_MAX: Final = 60
"""More than any of these runs has; a count that never ends is a mistake here."""

Arrival = Literal["first", "meanwhile", "late"]
ARRIVALS: Final[tuple[Arrival, ...]] = ("first", "meanwhile", "late")
"""When a call that had left arrives: before its sender's successor starts, beside it, or when all is over."""

PAIRED: Final = (APPENDS, UPKEEP, ("before-send", "after-reply"), ("on-the-wire", "in-work"))
"""Two at a time, each in a thread of the test with a forking process of its own."""

LEAST: Final = {
    "before-append": 3,
    "after-append": 3,
    "before-upkeep": 3,
    "after-upkeep": 3,
    "before-send": 3,
    "on-the-wire": 2,
    "in-work": 1,
    "after-reply": 3,
}
"""How many kills each place is good for, in each of the cases: fewer, and the place isn't where it was."""


def bear(forks: Mother, life: Life) -> int:
    code = forks.bear(life)
    errors = Path(life.folder) / "errors"
    assert not errors.exists(), errors.read_text()
    assert code in {0, KILLED}
    return code


def succeed(forks: Mother, folder: Path, case: str, arrival: Arrival) -> None:
    """Start it again after a death, with what the dead process had on the wire arriving some time."""
    on_the_wire = (folder / "wire").exists()
    if on_the_wire and arrival == "first":
        assert bear(forks, Life(folder=str(folder), case=case, drive=False, deliver=True)) == 0
    meanwhile = on_the_wire and arrival == "meanwhile"
    assert bear(forks, Life(folder=str(folder), case=case, deliver=meanwhile)) == 0
    if on_the_wire and arrival == "late":
        judge(folder, case)  # before it arrives, and after
        assert bear(forks, Life(folder=str(folder), case=case, drive=False, deliver=True)) == 0
    assert sum(line.startswith("arrived") for line in said(folder)) == on_the_wire
    judge(folder, case)


def kills_at(
    forks: Mother, folders: Callable[[], Path], case: str, place: str, arrival: Callable[[int], Arrival]
) -> int:
    """Kill at each passing of a place in turn; how many there were."""
    for time in count(1):
        assert time <= PASSINGS_MAX
        folder = folders()
        if bear(forks, Life(folder=str(folder), case=case, place=place, time=time)) == 0:
            judge(folder, case)
            return time - 1
        succeed(forks, folder, case, arrival(time))
    raise AssertionError


@pytest.mark.parametrize("places", PAIRED, ids=" and ".join)
@pytest.mark.parametrize("case", CASES)
def test_whatever_was_the_last_thing_a_process_did_the_run_ends_as_promised(
    mothers: tuple[Mother, Mother], folders: Callable[[], Path], case: str, places: tuple[str, str]
) -> None:
    def kills(one: Mother, place: str) -> int:
        return kills_at(one, folders, case, place, lambda time: ARRIVALS[time % len(ARRIVALS)])

    with ThreadPoolExecutor(2) as both:
        for place, killed in zip(places, both.map(kills, mothers, places), strict=True):
            assert killed >= LEAST[place], f"{place}: it was killed, or this tests nothing"


TWICE: Final = 24
"""How many of the pairs of deaths are tried each time."""


Pair: TypeAlias = tuple[str, Death, Death]


def pairs() -> list[Pair]:
    """Every case with every two deaths, as far as a run has so many passings."""
    return [
        (case, Death(first, n), Death(second, m))
        for case in CASES
        for first, second in product(PLACES, PLACES)
        for n, m in product(range(1, LEAST[first] + 1), range(1, LEAST[second] + 1))
    ]


def dies_twice(one: Mother, folder: Path, case: str, deaths: Sequence[Death], arrival: Arrival) -> int:
    """Die, and die again while the run is taken up; how many of these deaths were died."""
    kills = 0
    for death in deaths:
        kills += bear(one, Life(folder=str(folder), case=case, place=death.place, time=death.time)) == KILLED
    succeed(one, folder, case, arrival)
    return kills


def test_a_process_that_dies_again_while_it_takes_over_loses_nothing_either(
    mothers: tuple[Mother, Mother], folders: Callable[[], Path]
) -> None:
    drawn = random.Random(20_240_611).sample(pairs(), TWICE)
    assert tried(mothers, folders, drawn) > TWICE // 3


@pytest.mark.campaign
@pytest.mark.parametrize("first", PLACES)
@pytest.mark.parametrize("case", CASES)
def test_every_death_after_every_death(
    mothers: tuple[Mother, Mother], folders: Callable[[], Path], case: str, first: str
) -> None:
    deaths = 0
    for time in count(1):
        dead = folders()
        if bear(mothers[0], Life(folder=str(dead), case=case, place=first, time=time)) == 0:
            break
        half = partial(second_deaths, folders=folders, case=case, dead=dead)
        with ThreadPoolExecutor(2) as both:
            deaths += sum(both.map(half, mothers, (PLACES[::2], PLACES[1::2])))
        shutil.rmtree(dead)
    assert deaths >= LEAST[first] * 10


def second_deaths(one: Mother, places: Sequence[str], *, folders: Callable[[], Path], case: str, dead: Path) -> int:
    """From these remains on, kill the next life at each passing of each place; how many there were."""
    deaths = 0
    for place in places:
        for time in count(1):
            assert time <= PASSINGS_MAX
            folder = shutil.copytree(dead, folders(), dirs_exist_ok=True)
            code = bear(one, Life(folder=str(folder), case=case, place=place, time=time))
            succeed(one, folder, case, ARRIVALS[time % len(ARRIVALS)])
            shutil.rmtree(folder)
            if code == 0:
                break
            deaths += 1
    return deaths


@pytest.mark.campaign
@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("case", CASES)
def test_every_call_that_had_left_arrives_at_every_time(
    mothers: tuple[Mother, Mother], folders: Callable[[], Path], case: str, arrival: Arrival
) -> None:
    assert kills_at(mothers[0], folders, case, "on-the-wire", lambda _: arrival) >= LEAST["on-the-wire"]


def tried(mothers: tuple[Mother, Mother], folders: Callable[[], Path], deaths: Sequence[Pair]) -> int:
    """Try pairs of deaths on both cores; how many pairs were died in full."""

    def share(at: int) -> int:
        full = 0
        for index in range(at, len(deaths), len(mothers)):
            case, *both = deaths[index]
            kills = dies_twice(mothers[at], folders(), case, both, ARRIVALS[index % len(ARRIVALS)])
            assert kills, "the first death is died in any case"
            full += kills == 2
        return full

    with ThreadPoolExecutor(len(mothers)) as both:
        return sum(both.map(share, range(len(mothers))))


def test_a_process_that_is_not_killed_undoes_in_order(
    mothers: tuple[Mother, Mother], folders: Callable[[], Path]
) -> None:
    folder = folders()
    assert bear(mothers[0], Life(folder=str(folder), case="refused-at-the-third")) == 0
    judge(folder, "refused-at-the-third")
    assert [step for _, step, *_ in effects(folder)] == ["first", "second", "second", "first"]
