"""Every snippet in README.md and docs/ holds: it runs and prints what is said, and its Python type-checks strictly."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.collect import PROJECT, blocks, pages
from tests.docs.playing import play
from tests.typing.harness import CHECKERS, Finding, difference, run_mypy

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
PAGES = {page.relative_to(PROJECT).as_posix(): page for page in pages()}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_what_it_says(name: str, tmp_path: Path) -> None:
    page = PAGES[name]
    for block in blocks(page.relative_to(PROJECT), page.read_text("utf-8")):
        play(block, tmp_path)


def slug(name: str) -> str:
    """A folder per page, named so that no two pages' modules meet."""
    return re.sub(r"\W+", "_", name)


def written(folder: Path) -> list[Path]:
    """Every page's Python files, each page's in a folder of its own; gives the folders that have any."""
    found: list[Path] = []
    for name, page in PAGES.items():
        own = folder / slug(name)
        for block in blocks(page, page.read_text("utf-8")):
            if block.how == "file":
                play(block, own)
        if own.exists():
            found.append(own)
    assert found, "no page has Python: this test would protect nothing"
    return found


def test_python_in_the_pages_holds_under_mypy(tmp_path: Path) -> None:
    for own in written(tmp_path.resolve()):
        report = run_mypy(own)
        if said := difference(frozenset[Finding](), report):
            pytest.fail(f"{own.name}\n{said}", pytrace=False)


def test_python_in_the_pages_holds_under_pyright(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    roots = [{"root": each.name} for each in written(folder)]
    settings = {
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "include": ["."],
        "executionEnvironments": roots,
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    if said := difference(frozenset[Finding](), CHECKERS["pyright"](folder)):
        pytest.fail(said, pytrace=False)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = PAGES[name]
    prose = re.sub(r"^ *(`{3,}).*?^ *\1$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for found in LINK.finditer(prose):
        target, _, anchor = unquote(found["target"]).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{name}: there is no {target}"
        assert not anchor or anchor in anchors(there), f"{name}: {there.name} has no heading for #{anchor}"


def anchors(page: Path) -> set[str]:
    """Headings as links to them are written."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
