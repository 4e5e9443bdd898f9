"""Which module may import which: the rules that the import linter's contracts can't say.

The floors themselves are contracts in `pyproject.toml`. Here: nothing inside the package goes through a package's
`__init__` (they are the public surface, above all floors), the core is the standard library without its doors to
the outside, and the SDK's framework guards are imported by nobody below them.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
PACKAGE = SOURCE / "amends"

USER_LIKE = {"shop", "demo", "templates"}
"""Folders written as a user would write them: they import what users import."""

OUTSIDE_DOORS = {
    *("asyncio", "concurrent", "ftplib", "http", "logging", "mmap", "multiprocessing", "os", "queue", "random"),
    *("sched", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl"),
    *("subprocess", "tempfile", "threading", "time"),
}
"""Modules of the standard library that wait, look at a clock, throw dice, write logs or touch the machine."""

FRAMEWORK_GUARDS = {f"amends.participant.{name}" for name in ("django", "fastapi", "flask", "settle")}
COMPOSITION_ROOTS = {"server", "cli", "testing", "shop", "demo", "orchestrator", "adapters", "client", "config"}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `from module import name`, or `import module` (then `name` is None)."""

    line: int
    module: str
    name: str | None


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[Import]:
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return imports_in(path.read_text("utf-8"), package)


def imports_in(text: str, package: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, None)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(node.lineno, module, alias.name)


def is_package(module: str) -> bool:
    return SOURCE.joinpath(*module.split(".")).is_dir()


def is_module(module: str) -> bool:
    path = SOURCE.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def goes_through_a_package(found: Import) -> bool:
    """`from amends.core import Saga`, `import amends.core`; but not `from amends.core import saga`, a module."""
    if found.module.split(".")[0] != "amends" or not is_package(found.module):
        return False
    if found.name is None:
        return True
    # A sub-package that is imported by name and a star are both used through an `__init__`.
    target = f"{found.module}.{found.name}"
    return not is_module(target) or is_package(target)


def top_level(found: Import) -> str:
    return found.module.split(".")[0]


def targets(found: Import) -> set[str]:
    return {found.module, f"{found.module}.{found.name}"}


def sources(*, inside: Path = PACKAGE) -> list[Path]:
    return sorted(path for path in inside.rglob("*.py") if "__pycache__" not in path.parts)


def places(path: Path, found: list[Import]) -> list[str]:
    """Where to look, as an editor can jump to it."""
    return [
        f"{path.relative_to(SOURCE.parent)}:{each.line}: {each.module}" + (f" ({each.name})" if each.name else "")
        for each in found
    ]


def test_there_is_something_to_check() -> None:
    assert len(sources()) > 5


def test_nothing_inside_imports_from_a_package_init() -> None:
    broken = [
        place
        for path in sources()
        if path.name != "__init__.py" and not USER_LIKE & set(path.relative_to(PACKAGE).parts)
        for place in places(path, [each for each in imports_of(path) if goes_through_a_package(each)])
    ]
    assert not broken, "import the module that defines the name, not the package:\n" + "\n".join(broken)


def test_the_core_is_the_standard_library_without_its_doors_to_the_outside() -> None:
    allowed = (sys.stdlib_module_names - OUTSIDE_DOORS) | {"amends"}
    broken = [
        place
        for path in sources(inside=PACKAGE / "core")
        for place in places(path, [each for each in imports_of(path) if top_level(each) not in allowed])
    ]
    assert not broken, "the core is pure; pass this in from a floor above:\n" + "\n".join(broken)


def test_framework_guards_are_imported_by_nobody_below_them() -> None:
    above = FRAMEWORK_GUARDS | {f"amends.{name}" for name in COMPOSITION_ROOTS}
    broken = [
        place
        for path in sources()
        if path.name != "__init__.py" and not any(f"{module_name(path)}.".startswith(f"{one}.") for one in above)
        for place in places(path, [each for each in imports_of(path) if targets(each) & FRAMEWORK_GUARDS])
    ]
    assert not broken, "a framework guard is a composition root:\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("from amends import Saga", True),
        ("import amends", True),
        ("import amends.core", True),
        ("from amends.core import Saga", True),
        ("from amends import core", True),
        ("from amends.core import *", True),
        ("from . import Saga", True),
        ("from .keys import Key", False),
        ("from . import words", True),
        ("from amends.core.words import keys", False),
        ("from amends.core.words.keys import Key", False),
        ("import amends.core.words.keys", False),
        ("from collections import abc", False),
    ],
)
def test_the_rule_about_inits_knows_a_module_from_a_package(statement: str, refused: bool) -> None:
    found = list(imports_in(statement, "amends.core"))
    assert [goes_through_a_package(each) for each in found] == [refused]
