"""`amends new`: a first saga and its test, in two files that run as they are."""

import keyword
import re
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json
from amends.core.words.errors import AmendsError
from amends.core.words.keys import PUBLIC_NAME

SAGA: Final = """\
from amends import Rejected, Saga, run

trip = Saga("TITLE", str)


@trip.compensable()
async def hotel(city: str) -> str:
    return f"room in {city}"


@hotel.compensation
async def cancel_hotel(city: str, room: str | None) -> None:
    print("cancelled:", room or f"whatever was booked in {city}")


@trip.pivot(hotel)
async def flight(city: str, room: str) -> str:
    if city == "Atlantis":
        raise Rejected("no flights there")
    return f"seat to {city}"


if __name__ == "__main__":
    print(run(trip, "Lisbon"))
    print(run(trip, "Atlantis"))
"""

TEST: Final = """\
from amends import Compensated, Completed, run
from trip import flight, hotel, trip


def test_a_city_with_flights_is_booked() -> None:
    match run(trip, "Lisbon"):
        case Completed() as done:
            assert done.reply(hotel) == "room in Lisbon"
            assert done.reply(flight) == "seat to Lisbon"
        case other:
            raise AssertionError(other)


def test_without_a_flight_the_room_is_given_back() -> None:
    match run(trip, "Atlantis"):
        case Compensated(reason=reason, undone=undone):
            assert reason == "flight said no: no flights there"
            assert undone == ("hotel",)
        case other:
            raise AssertionError(other)
"""

_WORD: Final = re.compile(r"\btrip\b")
_TAKEN: Final = frozenset(re.findall(r"[A-Za-z_]+", SAGA + TEST)) - {"trip"} | {"amends", "pytest", "TITLE"}
"""Words that the files use themselves, and modules that a file of this name would hide."""


def new(
    name: Annotated[str, typer.Argument(help="What the saga is called; the files are NAME.py and test_NAME.py.")],
    *,
    json: Json = False,
) -> None:
    """Write a first saga and its test."""
    word = name.replace("-", "_")
    if not word.isidentifier() or not PUBLIC_NAME.fullmatch(name):
        msg = (
            f"{name!r} is no name for a saga in a file of its own: expected letters, digits, - and _, as in book-trip."
        )
        raise BadUsage(msg)
    if keyword.iskeyword(word) or word in _TAKEN or word in sys.stdlib_module_names:
        msg = f"{name} is a word that Python or the files use already. Another one, as in book-{name}?"
        raise BadUsage(msg)
    files = {
        Path(f"{word}.py"): _WORD.sub(word, SAGA).replace("TITLE", name),
        Path(f"test_{word}.py"): _WORD.sub(word, TEST),
    }
    there = [str(each) for each in files if each.exists()]
    if there:
        msg = f"{' and '.join(there)} {'is' if len(there) == 1 else 'are'} there already. Nothing was written."
        raise AmendsError(msg)
    for path, text in files.items():
        _write(path, text)
    if json:
        as_json({"written": [str(each) for each in files]})
        return
    saga, test = files
    print(f"written: {saga}, {test}\n")
    print(f"  python {saga}".ljust(30) + "run it")
    print(f"  pytest {test}".ljust(30) + 'test it              (pip install "amends[testing]")')
    print(f"  amends check {word}".ljust(30) + "every mistake, before anything runs")
    print(f"  amends serve {word}".ljust(30) + "over HTTP, in amends.db")


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        msg = f"{path} can't be written: {error.strerror}."
        raise AmendsError(msg) from error
