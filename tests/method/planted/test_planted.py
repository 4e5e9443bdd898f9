"""Bugs are found by name in every module of the core, the engine, the logs, the participant's side, the transports."""

import subprocess
import sys

import pytest

from tests.method.planted.__main__ import ARGUED, EACH_MIN, PARTS, PLANTED, bugs, in_module, modules_of, name_of


@pytest.mark.campaign
def test_every_planted_bug_is_found_by_the_test_that_is_named_for_it() -> None:
    command = [sys.executable, "-m", "tests.method.planted"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " planted bugs in " in done.stdout


def test_planted_bugs_are_found() -> None:
    """A campaign that plants nothing finds nothing, and one that fails for another reason finds everything."""
    command = [sys.executable, "-m", "tests.method.planted", "--only", "core/words/keys"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 planted bugs in 1 modules were found" in done.stdout


def test_every_bug_is_about_a_line_that_there_is() -> None:
    modules = {name_of(module): module for part in PARTS.values() for module in modules_of(part)}
    gone = [bug.row for bug in bugs() if in_module(modules[bug.module], bug) is None]
    assert not gone, "uv run python -m tests.method.planted --renew PART --only MODULE:\n" + "\n".join(gone)


def test_every_module_has_bugs_written_down() -> None:
    planted = [bug.module for bug in bugs()]
    modules = {name_of(module) for part in PARTS.values() for module in modules_of(part)}
    few = {name for name in modules if planted.count(name) < EACH_MIN}
    assert few <= set(ARGUED)
    assert set(planted) <= modules, f"{PLANTED.name} speaks of modules that aren't there"
