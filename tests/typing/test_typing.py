"""The public API holds under both strict checkers: right uses are accepted, wrong ones are refused as stated.

`good/` holds programs that must be clean, `bad/` programs whose marked lines, and no others, must be refused;
`harness.py` says how to write a marker.
"""

from pathlib import Path

import pytest

from tests.typing.harness import CHECKERS, Finding, Report, difference, expected

SAMPLES = Path(__file__).parent


@pytest.mark.parametrize("checker", CHECKERS)
def test_right_uses_are_accepted(checker: str) -> None:
    folder = SAMPLES / "good"
    assert not expected(folder, checker), "a good sample expects no errors; move it to bad/"
    agree(frozenset(), CHECKERS[checker](folder))


@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong_uses_are_refused_as_stated(checker: str) -> None:
    folder = SAMPLES / "bad"
    stated = expected(folder, checker)
    assert stated, f"no sample expects anything of {checker}; this test would protect nothing"
    agree(stated, CHECKERS[checker](folder))


def agree(stated: frozenset[Finding], report: Report) -> None:
    """Fail with the difference alone: a traceback through this file would tell nobody anything."""
    if said := difference(stated, report):
        pytest.fail(said, pytrace=False)
