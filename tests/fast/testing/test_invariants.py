"""Every name that a broken promise is called by is in the reference, and every name in the reference is used."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from amends.testing import invariants

SOURCES = Path(invariants.__file__).parent
NAME = re.compile(r"(P\d [a-z, ]+|(?:a|an|no|nothing|once|one|the) [a-z' -]+): ")
WATCHERS = ("drive.py", "world.py", "books.py", "calm.py")
"""Those that look on, besides the functions of the module itself."""

NOT_ABOUT_PROMISES = ("no such move",)
KNOWN = {*invariants.PROMISES, invariants.ENDS_OR_IS_STUCK, *invariants.ON_THE_WAY}


def said() -> Iterator[tuple[str, Path]]:
    """What every text that begins like a broken promise calls it."""
    for file in (file for file in SOURCES.rglob("*.py") if file.name in WATCHERS):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            head = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
            if isinstance(head, ast.Constant) and isinstance(head.value, str):
                found = NAME.match(head.value)
                if found is not None and found[1] not in NOT_ABOUT_PROMISES:
                    yield found[1], file


def test_whatever_a_broken_promise_is_called_is_in_the_reference() -> None:
    names = dict(said())
    assert len(names) > 10, "the texts aren't found any more"
    assert {name: file.name for name, file in names.items() if name not in KNOWN} == {}


def test_whatever_is_asked_on_the_way_is_asked_somewhere() -> None:
    assert set(invariants.ON_THE_WAY) - {name for name, _ in said()} == set()


def test_every_promise_has_a_check_of_its_own() -> None:
    checked = {name.partition(" ")[0] for name in KNOWN}
    assert checked >= set(invariants.WORDING)


def test_what_was_found_of_a_log_that_breaks_nothing_is_nothing() -> None:
    assert len(invariants.WELL) >= 8
    assert set(invariants.WELL.values()) == {None}
