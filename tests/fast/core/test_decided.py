"""What is decided, folded and owed in some hundred situations is what stands in `decided/`, line by line.

Each file holds stories of one saga: what was asked, what else might have been asked, and what followed. Their facts and
what is owed were read against the rules once; what was written since says what was decided then. Where a rule changes
on purpose, `uv run python -m tests.method.decided` writes the files anew, and the difference says what else it touches.
"""

import difflib

import pytest

from tests.method.decided.sagas import SAGAS
from tests.method.decided.stories import FOLDER, played, read


@pytest.mark.parametrize("name", SAGAS)
def test_what_is_decided_is_what_is_written_down(name: str) -> None:
    path = FOLDER / f"{name}.txt"
    written = path.read_text("utf-8").splitlines()
    now = list(played(name, read(path)))
    if now != written:
        changes = "\n".join(difflib.unified_diff(written, now, "written down", "decided now", lineterm="", n=6))
        raise AssertionError(
            f"{path.name}: other decisions than were written down.\n{changes}\n"
            "If each of these is meant, and right by the rules: uv run python -m tests.method.decided"
        )


def test_every_file_is_of_a_saga_and_every_saga_has_stories() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(SAGAS)
    assert all(read(FOLDER / f"{name}.txt") for name in SAGAS)
