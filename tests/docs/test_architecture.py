"""The page for people who change amends names what there is."""

import re

import pytest

from tests.docs.collect import PROJECT

PAGES = ("docs/ARCHITECTURE.md", "CONTRIBUTING.md")
PACKAGE = PROJECT / "src" / "amends"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_on_the_page_is_there(page: str) -> None:
    text = (PROJECT / page).read_text("utf-8")
    paths = set(re.findall(r"`((?:src|tests|docs)/[\w./-]+)`", text))
    paths |= {f"src/amends/{each}" for each in re.findall(r"`((?:engine|core|server)/[\w/]+\.py)`", text)}
    paths |= {f"src/amends/{each}" for each in re.findall(r"as ((?:engine|core|server|transports)/[\w/]+\.py)", text)}
    assert paths, "the page names files"
    assert [each for each in sorted(paths) if not (PROJECT / each).exists()] == []


def test_every_room_is_named() -> None:
    text = (PROJECT / "docs/ARCHITECTURE.md").read_text("utf-8")
    rooms = {each.name for each in PACKAGE.iterdir() if (each / "__init__.py").is_file()}
    rooms |= {f"core/{each.name}" for each in (PACKAGE / "core").iterdir() if (each / "__init__.py").is_file()}
    named = set(re.findall(r"`([\w/]+)`", text))
    assert rooms - {"core"} - named == set()
