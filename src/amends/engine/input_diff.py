"""Where two inputs differ, for the caller that starts a run under an id that is taken."""

import json
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final, TypeAlias, cast

from amends.core.run.definition import Definition
from amends.core.run.events import RunStarted
from amends.ports.events import EventCodec
from amends.ports.log import StoredEvent

Json: TypeAlias = Any
"""Decoded JSON."""

SHOWN_MAX: Final = 60
_HIDDEN: Final = b'"x-redacted"'
_MISSING: Final = object()


def input_difference(definition: Definition, codec: EventCodec, run: str, first: StoredEvent, body: bytes) -> str:
    """` (differs at $.cents: 4200, 4300)`; of a saga that hides something nothing."""
    started = codec.decode(first.kind, first.body, first.at, first.epoch, run, 1)
    if not isinstance(started, RunStarted):
        return ""
    if _HIDDEN in definition.graph():
        return ""  # a place or a value would let what is hidden be guessed field by field
    found = difference(json.loads(started.input), json.loads(body))
    if found is None:
        return ""
    path, before, now = found
    return f" (differs at {path}: {_shown(before)}, {_shown(now)})"


def difference(before: Json, now: Json, path: str = "$") -> tuple[str, Json, Json] | None:
    """The first place where two JSON values differ, and both values there; `None` where they are the same."""
    for name, old, new in _pairs(before, now):
        found = difference(old, new, f"{path}{name}")
        if found is not None:
            return found
    alike = type(before) is type(now)
    return None if alike and (isinstance(before, (dict, list)) or before == now) else (path, before, now)


def _pairs(before: Json, now: Json) -> Iterator[tuple[str, Json, Json]]:
    """What stands at the same place in both, where both are objects or both are arrays."""
    if isinstance(before, dict) and isinstance(now, dict):
        olds, news = cast("dict[str, Json]", before), cast("dict[str, Json]", now)
        for name in dict.fromkeys([*olds, *news]):
            yield f".{name}", olds.get(name, _MISSING), news.get(name, _MISSING)
    elif isinstance(before, list) and isinstance(now, list):
        listed: list[Json] = [*before]
        others: list[Json] = [*now]
        for index, (old, new) in enumerate(zip_longest(listed, others, fillvalue=_MISSING)):
            yield f"[{index}]", old, new


def _shown(value: object) -> str:
    if value is _MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."
