"""`amends new` writes what runs as it is, and never over something."""

import json
from pathlib import Path

import pytest

from amends.cli.new import SAGA
from tests.fast.cli.commands import amends, python
from tests.support.plain_pytest import WITHOUT_OURS

TRIP = """\
completed    hotel, flight
cancelled: room in Atlantis
compensated  flight said no: no flights there; undone: hotel
"""


def test_the_first_saga_and_its_test_run_as_they_are(tmp_path: Path) -> None:
    told = amends(tmp_path, "new", "book-trip")
    assert told.code == 0
    assert "python book_trip.py" in told.out
    saga = (tmp_path / "book_trip.py").read_text()
    assert 'book_trip = Saga("book-trip", str)' in saga
    assert len(saga.splitlines()) == len(SAGA.splitlines()) == 25
    assert python(tmp_path, "book_trip.py").out == TRIP
    tested = python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", *WITHOUT_OURS)
    assert tested.code == 0, tested
    assert "2 passed" in tested.out
    assert amends(tmp_path, "check", "book_trip").code == 0


@pytest.mark.parametrize("there", ["trip.py", "test_trip.py"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    told = amends(tmp_path, "new", "trip")
    assert (told.code, told.out) == (1, "")
    assert told.err == f"error   {there} is there already. Nothing was written.\n"
    assert [each.name for each in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["my trip", "1trip", "../trip", "class", "json", "amends", "run", "_trip", "trip.py", ""]
)
def test_a_name_that_python_could_not_import_is_wrong_usage(tmp_path: Path, name: str) -> None:
    told = amends(tmp_path, "new", name)
    assert told.code == 2
    assert told.err.startswith("error   ")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_said_plainly() -> None:
    told = amends(Path("/proc/self"), "new", "trip")
    assert told.code == 1
    assert told.err.startswith("error   trip.py can't be written")


def test_programs_are_told_what_was_written(tmp_path: Path) -> None:
    assert json.loads(amends(tmp_path, "new", "trip", "--json").out) == {"written": ["trip.py", "test_trip.py"]}
    told = amends(tmp_path, "new", "trip", "--json")
    assert json.loads(told.err)["errors"] == ["trip.py and test_trip.py are there already. Nothing was written."]
