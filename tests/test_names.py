"""Names in the package: a class name means one thing, wherever it is read."""

import ast
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent.parent / "src" / "amends"

TWICE: Final[Mapping[str, str]] = {
    "Abandoned": "the event's name is in stored logs, the outcome's name is public",
}
"""Class names that stand twice, and why neither can change."""


def classes() -> dict[str, list[str]]:
    """Every class of the package by its name, also classes inside functions and classes."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    return found


def test_no_class_name_stands_twice() -> None:
    twice = {name: places for name, places in classes().items() if len(places) > 1 and name not in TWICE}
    assert not twice, "a reader can't tell which is meant; name each for what it is:\n" + "\n".join(
        f"{name}: {', '.join(places)}" for name, places in sorted(twice.items())
    )


def test_every_exception_is_needed() -> None:
    found = classes()
    assert [name for name in TWICE if len(found[name]) < 2] == []
