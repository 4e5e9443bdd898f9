"""A campaign goes on where it stopped, tries again what failed, and never takes one commit's findings for another's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.method.campaign.__main__ import main
from tests.method.campaign.keeping import Folder, OfAnotherCommit, go_through
from tests.method.campaign.parts import PARTS, PROJECT, Size, Unit
from tests.support.plain_pytest import WITHOUT_OURS


def unit(name: str, code: str, seconds_max: float = 60) -> Unit:
    return Unit(name, (sys.executable, "-c", code), seconds_max)


def writes(file: Path, then: str = "") -> str:
    return f"open({str(file)!r}, 'a').write('x'); {then}"


def test_it_goes_on_where_it_stopped_and_tries_again_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    units = [unit("good one", writes(good)), unit("bad one", writes(bad, "print('why'); raise SystemExit(1)"))]
    state = tmp_path / "state"
    assert go_through(units, Folder(state, "c1")) == 1
    assert (state / "bad-one.log").read_text() == "why\n"
    assert "2/2 bad one ... failed" in capsys.readouterr().out
    assert go_through(units, Folder(state, "c1")) == 1
    units[1] = unit("bad one", writes(bad))
    assert go_through(units, Folder(state, "c1")) == 0
    assert (good.read_text(), bad.read_text()) == ("x", "xxx")
    assert not list(state.glob("*.log"))
    assert go_through(units, Folder(state, "c1")) == 0
    assert "2 pieces, 2 done before" in capsys.readouterr().out


def test_what_takes_too_long_has_failed(tmp_path: Path) -> None:
    hangs = unit("hangs", "import signal; signal.pause()", seconds_max=0.2)
    assert go_through([hangs], Folder(tmp_path, "c1")) == 1
    assert "not done after 0.2 s" in (tmp_path / "hangs.log").read_text()


def test_it_begins_nothing_new_when_its_time_is_over(tmp_path: Path) -> None:
    done = tmp_path / "done"
    assert go_through([unit("one", writes(done))], Folder(tmp_path / "state", "c1"), minutes=-1) == 3
    assert not done.exists()


def test_findings_about_one_commit_are_not_taken_for_anothers(tmp_path: Path) -> None:
    go_through([unit("one", "")], Folder(tmp_path, "c1"))
    with pytest.raises(OfAnotherCommit, match="is about c1, and this is c2"):
        Folder(tmp_path, "c2")
    assert not Folder(tmp_path, "c2", anew=True).fates


LONG = """
import threading

import pytest

from tests.conftest import long_searches_take_their_time

def outlasts_the_limit():
    assert not threading.Event().wait(0.8)

@pytest.mark.campaign
def test_long():
    outlasts_the_limit()

def test_hangs():
    outlasts_the_limit()
"""


@pytest.mark.parametrize(("name", "lives"), [("test_long", True), ("test_hangs", False)])
def test_only_what_is_marked_for_a_campaign_may_take_longer_than_a_test_that_hangs(
    tmp_path: Path, name: str, *, lives: bool
) -> None:
    (tmp_path / "test_it.py").write_text(LONG)
    limit = ("-o", "addopts=", "-o", "faulthandler_timeout=0.2", "-o", "faulthandler_exit_on_timeout=true")
    marks = ("-o", "markers=campaign", "-p", "no:cacheprovider", *WITHOUT_OURS)
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, *limit, *marks, f"{tmp_path}/test_it.py::{name}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) == lives, done.stdout + done.stderr
    assert ("Timeout" in done.stderr) != lives


def test_seeds_are_cut_into_pieces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    units = list(PARTS["simulation"](Size(tmp_path, 5_000)))
    assert [each.name for each in units][:3] == [f"simulate memory {first}" for first in (1000000, 1002000, 1004000)]
    assert units[2].command[-1] == "1000"
    assert main(["--state", str(tmp_path / "s"), "--only", "simulation", "--seeds", "10"]) == 0
    assert "2/2 simulate sqlite 1000000 ... passed" in capsys.readouterr().out
