"""`amends check` finds every mistake, says where, and answers by its exit code."""

import json
from pathlib import Path

from tests.fast.cli.commands import amends

FINE = """\
from amends import Saga, blocking

trip = Saga("trip", str)


@trip.compensable()
@blocking
def hotel(city: str) -> str:
    return city


@hotel.compensation
@blocking
def cancel_hotel(city: str, room: str | None) -> None:
    print(city)
"""

WRONG = """\
from fine import trip
from amends import Call, Participant, Saga, operation


class Payments(Participant):
    hold = operation(dict, dict)


pay = Saga("pay", str)


@pay.compensable()
def hold(order: str) -> Call[dict]:
    return Payments.hold({"order": order})


@pay.compensable()
async def note(order: str) -> None:
    return None


again = Saga("trip", str)


@again.neutral()
async def nothing(order: str) -> None:
    return None
"""


def test_a_saga_without_mistakes_is_fine_and_what_it_cannot_promise_is_noted(tmp_path: Path) -> None:
    (tmp_path / "trip_blocking.py").write_text(FINE)
    told = amends(tmp_path, "check", "trip_blocking")
    assert told.code == 0
    assert told.out == (
        "trip v1      1 step, fine\n"
        "  note   hotel works in this process without a barrier: it is done at least once, and a late action is not\n"
        "         refused after its compensation. If its effect is in a database, make it an operation of a Service\n"
        "         (exactly once, same process).\n"
    )


BUILDS = """\
from dataclasses import dataclass
from amends import Call, Participant, Saga, operation


@dataclass
class Stay:
    city: str


class Hotel(Participant):
    book = operation(Stay, str, compensation="unbook")


trip = Saga("trip", Stay)


@trip.compensable()
def room(stay: Stay) -> Call[str]:
    print("building")
    return Hotel.book(town=stay.city)


@trip.compensable()
def work(stay):
    with open("made", "w") as made:
        made.write(stay.city)


@trip.compensable()
def parse(stay: Stay) -> Call[str]:
    return Hotel.book(city=str(int(stay.city)))
"""


def test_builders_are_tried_and_work_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "trip_built.py").write_text(BUILDS)
    told = amends(tmp_path, "check", "trip_built", "--json")
    assert told.code == 1
    (saga,) = json.loads(told.out)["sagas"]
    assert [each.partition(", step ")[2].split(" (")[0] for each in saga["mistakes"]] == [
        "room: the builder raised TypeError: Stay.__init__() got an unexpected keyword argument 'town'",
        "work does work",
    ]
    assert saga["notes"] == []
    assert [each.name for each in tmp_path.glob("made")] == []
    assert "building" in told.err
    told = amends(tmp_path, "check", "trip_built", "--no-build")
    assert told.code == 0
    assert "building" not in told.err


def test_a_builder_that_cannot_be_tried_is_noted(tmp_path: Path) -> None:
    (tmp_path / "trip_parsed.py").write_text(
        BUILDS.replace("town=", "city=").replace(
            '    with open("made", "w") as made:\n        made.write(stay.city)', "    return None"
        )
    )
    told = amends(tmp_path, "check", "trip_parsed")
    assert told.code == 0
    assert "note   trip v1, step parse: not tried with made-up values: the builder raised ValueError" in told.out


def test_every_mistake_of_every_saga_is_listed(tmp_path: Path) -> None:
    (tmp_path / "fine.py").write_text(FINE)
    (tmp_path / "wrong.py").write_text(WRONG)
    told = amends(tmp_path, "check", "wrong", "fine")
    assert told.code == 1
    lines = told.out.splitlines()
    assert [each for each in lines if each[0] != " "] == [
        "trip v1      1 step, fine",
        "pay v1       2 steps, 2 mistakes",
        "trip v1      1 step, fine",
    ]
    assert "  error  pay v1, step hold: compensable, but Payments.hold has no compensation." in told.out
    assert "  error  pay v1, step note: compensable, but nothing undoes it." in told.out
    assert "  error  trip v1 is defined twice." in told.out
    found = json.loads(amends(tmp_path, "check", "wrong", "--json").out)
    assert [len(each["mistakes"]) for each in found["sagas"]] == [0, 2, 0]
    assert len(found["mistakes"]) == 1


def test_one_saga_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "fine.py").write_text(FINE)
    (tmp_path / "wrong.py").write_text(WRONG)
    assert amends(tmp_path, "check", "wrong:trip").code == 0
    assert amends(tmp_path, "check", "wrong:pay").code == 1
    told = amends(tmp_path, "check", "wrong:Payments")
    assert (told.code, told.err) == (2, "error   wrong has no saga Payments. Its sagas: trip, pay, again.\n")


def test_a_module_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    for name, word in {
        "nowhere": "there is no module nowhere",
        "empty": "there is no saga in empty",
        "empty.py": "Name the module instead: empty",
        "./a/b.py:c": "Name the module instead: a.b:c",
        "no module": "is no MODULE",
    }.items():
        told = amends(tmp_path, "check", name)
        assert (told.code, told.out) == (2, "")
        assert word in told.err
    assert amends(tmp_path, "check").code == 2


def test_a_module_that_breaks_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "slip.py").write_text("from amends import Saga\n\ntrip = Saga(nme, str)\n")
    (tmp_path / "typo.py").write_text("trip = = 1\n")
    (tmp_path / "lacks.py").write_text("import not_installed\n")
    told = amends(tmp_path, "check", "slip")
    assert (told.code, "NameError: name 'nme' is not defined" in told.err) == (1, True)
    assert "slip.py:3)" in told.err
    assert "typo.py:1)" in amends(tmp_path, "check", "typo").err
    told = amends(tmp_path, "check", "lacks")
    assert told.code == 1
    assert "lacks can't be imported: No module named 'not_installed'" in told.err
