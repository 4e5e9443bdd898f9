"""`amends simulate` plays sagas through bad days, says what it saw, and how to see a failure again."""

import json
from pathlib import Path

import pytest

from amends.engine import calls
from tests.fast.cli.commands import amends
from tests.fast.cli.test_check import FINE, WRONG


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fine.py").write_text(FINE)
    (tmp_path / "wrong.py").write_text(WRONG)
    return tmp_path


def test_it_says_what_it_saw(folder: Path) -> None:
    told = amends(folder, "simulate", "fine", "--schedules", "20", "--runs", "2")
    assert told.code == 0, told.err
    assert told.out.startswith("20 schedules, every promise kept;")
    value = json.loads(amends(folder, "simulate", "fine:trip", "--schedules", "20", "--log", "sqlite", "--json").out)
    assert value["schedules"] == 20
    assert sum(value["ends"].values()) == 80
    assert value["fired"]


def test_a_failure_comes_with_the_command_that_shows_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "city.json").write_text('"Lisbon"')
    options = ("--log", "memory", "--runs", "4", "--input", "city.json")
    monkeypatch.setattr(calls.Calls, "_reply", None)
    told = amends(folder, "simulate", "fine", "--seed", "3", "--schedules", "5", *options)
    assert told.code == 1
    assert f"again: amends simulate fine --seed 3 --schedules 1 {' '.join(options)}" in told.err
    assert amends(folder, "simulate", "fine", "--seed", "3", "--schedules", "1", *options).err == told.err


def test_a_trace_shows_what_happens(folder: Path) -> None:
    (folder / "city.json").write_text('"Lisbon"\n')
    told = amends(folder, "simulate", "fine", "--schedules", "1", "--input", "city.json", "--trace")
    lines = told.out.splitlines()
    assert any('log  1  run-1  RunStarted  1  {"run":"run-1"' in line and '"input":"Lisbon"' in line for line in lines)
    assert any("effect  run-1  hotel" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("fine", "--log", "postgresql:"), 2, "--log postgresql:: known are memory, sqlite."),
        (("fine", "--input", "none.json"), 2, "--input none.json: No such file or directory."),
        (("fine", "--input", "number.json"), 2, "--input number.json is no input of trip: Expected `str`, got `int`"),
        (("fine", "two", "--input", "number.json"), 2, "--input is for one saga, and there are 2: trip, fly."),
        (("wrong:pay",), 1, "error   pay v1"),
    ],
)
def test_what_cant_be_played_is_said(folder: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    (folder / "number.json").write_text("3")
    (folder / "two.py").write_text(FINE.replace('"trip"', '"fly"'))
    told = amends(folder, "simulate", *arguments)
    assert told.code == code
    assert said in told.err
    assert not told.out
