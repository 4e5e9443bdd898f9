"""Settings as `amends config` prints them: each value, where it comes from, and of secrets only where they are."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from amends.config.keep import Keep
from amends.config.loading import Loaded
from amends.config.values import Seconds, Secret, Size
from amends.core.words.urls import shown_url


class SettingRow(msgspec.Struct, frozen=True):
    """One setting: its path, what it comes to, and where that was set."""

    name: str
    value: str
    origin: str


def rows(loaded: Loaded) -> list[SettingRow]:
    """Every setting in the order of the reference page."""
    return [SettingRow(path, text, loaded.origin(path)) for path, text in _shown("", loaded.settings)]


def _shown(path: str, value: object) -> Iterator[tuple[str, str]]:
    match value:
        case msgspec.Struct():
            for known in msgspec.structs.fields(type(value)):
                yield from _shown(_below(path, known.encode_name), getattr(value, known.name))
        case Keep():
            yield path, str(value)
        case dict():
            named = cast("Mapping[str, Any]", value)
            for name, each in named.items():
                yield from _shown(_below(path, name), each)
        case tuple() if value and isinstance(value[0], msgspec.Struct):
            for index, each in enumerate(cast("tuple[object, ...]", value)):
                yield from _shown(f"{path}[{index}]", each)
        case None:
            yield path, "-"
        case _:
            yield path, text_of(value)


def text_of(value: object) -> str:
    """A value as it may be shown."""
    match value:
        case Secret():
            return value.shown
        case Seconds() | Size():
            return str(value)
        case str():
            return shown_url(value) if "://" in value else value
        case tuple():
            listed = cast("tuple[object, ...]", value)
            return ", ".join(text_of(each) for each in listed) or "-"
        case _:
            return str(value)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
