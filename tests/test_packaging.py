"""What a stranger gets who installs the package or clones the repository."""

import ast
import tomllib
from importlib import metadata, resources
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct, convert

import amends

PROJECT = Path(__file__).parent.parent


class Locked(Struct):
    """A package in `uv.lock`, as far as it says where things come from."""

    name: str
    source: dict[str, str]
    wheels: list[dict[str, object]] = []
    sdist: dict[str, object] = {}


class Lock(Struct):
    package: list[Locked]


def test_the_lock_takes_everything_from_one_public_index() -> None:
    lock = convert(tomllib.loads((PROJECT / "uv.lock").read_text("utf-8")), Lock)
    others = [each for each in lock.package if each.name != "amends"]
    assert len(others) > 20
    registries = {each.source.get("registry", f"{each.name} is from {each.source}") for each in others}
    assert len(registries) == 1, registries
    files = [str(file.get("url", file)) for each in others for file in [*each.wheels, each.sdist] if file]
    assert {urlsplit(url).scheme for url in [*files, *registries]} == {"https"}
    assert len({urlsplit(url).netloc for url in files}) == 1


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files("amends").joinpath("py.typed").is_file()


def test_the_license_and_the_command_come_along() -> None:
    found = metadata.metadata("amends")
    assert found["License-Expression"] == "Apache-2.0"
    assert [script.value for script in metadata.entry_points(group="console_scripts", name="amends")] == [
        "amends.cli.main:main"
    ]


def test_the_public_names_are_listed_and_all_are_there() -> None:
    listed = set(amends.__all__)
    assert len(listed) == len(amends.__all__)
    assert {name for name in listed if name.startswith("_")} == set()
    imported = {
        alias.asname or alias.name
        for node in ast.parse((PROJECT / "src/amends/__init__.py").read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert listed == imported
    assert {name for name in listed if not hasattr(amends, name)} == set()
