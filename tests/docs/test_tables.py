"""The reference says what the code does: tables are read off it, names in prose are those of the enums."""

from pathlib import Path

import pytest

from amends.core.run.record import RunState, StepState
from tests.docs.collect import PROJECT, pages
from tests.docs.tables import COMMAND, SECTION, TABLES, renewed


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_tables_are_as_the_code_has_them(page: Path) -> None:
    text = page.read_text("utf-8")
    assert renewed(text) == text, f"{page.relative_to(PROJECT)} is stale: {COMMAND}"


def test_every_table_is_in_a_page() -> None:
    used = {found["name"] for page in pages() for found in SECTION.finditer(page.read_text("utf-8"))}
    assert used == set(TABLES)


def test_every_state_is_in_the_page_about_states() -> None:
    text = (PROJECT / "docs/reference/states.md").read_text("utf-8")
    for state in (*RunState, *StepState):
        assert f"`{state.value}`" in text
