"""What must not be shown, found by a type's JSON Schema: fields marked `x-redacted` become `***`.

The schema stands in the stored graph, so a run is shown redacted with the log alone. A schema without a
mark costs nothing: then the JSON is shown byte for byte.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from amends.codecs.json_schema import REDACTED
from amends.views.masking import HIDDEN

Json: TypeAlias = Any
"""Decoded JSON: dicts, lists, text, numbers, booleans, None."""

_BRANCHES: Final = ("anyOf", "oneOf", "allOf")
_ALL_HIDDEN: Final[Mapping[str, Json]] = {REDACTED: True}


class Redaction:
    """How values of one type are shown."""

    def __init__(self, schema: Mapping[str, Json]) -> None:
        self._schema = schema
        self._definitions: Mapping[str, Json] = schema.get("$defs", {})
        self.hides = _has_mark(schema)

    def shown(self, body: bytes) -> bytes:
        """The JSON as it may be shown."""
        if not self.hides:
            return body
        return msgspec.json.encode(self._masked(msgspec.json.decode(body), [self._schema]))

    def secrets(self, body: bytes) -> frozenset[str]:
        """The texts in this JSON that must not be shown, for looking for them elsewhere."""
        if not self.hides:
            return frozenset()
        found: set[str] = set()
        self._collect(msgspec.json.decode(body), [self._schema], found)
        return frozenset(found)

    def _collect(self, value: Json, schemas: Sequence[Mapping[str, Json]], found: set[str]) -> None:
        schemas = self._resolved(schemas)
        hidden = any(each.get(REDACTED) for each in schemas)
        if isinstance(value, dict):
            named = cast("dict[str, Json]", value)
            for name, each in named.items():
                if hidden:
                    found.add(name)
                self._collect(each, [_ALL_HIDDEN] if hidden else _of_property(schemas, name), found)
        elif isinstance(value, list):
            listed: list[Json] = [*value]
            for index, each in enumerate(listed):
                self._collect(each, [_ALL_HIDDEN] if hidden else _of_item(schemas, index), found)
        elif hidden and isinstance(value, float):
            found.update((repr(value), f"{value:g}", f"{value:.2f}", msgspec.json.encode(value).decode()))
        elif hidden and value is not None and not isinstance(value, bool):  # which of two a flag is can't be hidden so
            found.add(str(value))

    def _masked(self, value: Json, schemas: Sequence[Mapping[str, Json]]) -> Json:
        """The value without what any of the schemas hides: of a union it isn't known which one it is of."""
        schemas = self._resolved(schemas)
        if any(each.get(REDACTED) for each in schemas) and value is not None:
            return HIDDEN
        if isinstance(value, dict):
            named = cast("dict[str, Json]", value)
            return {name: self._masked(each, _of_property(schemas, name)) for name, each in named.items()}
        if isinstance(value, list):
            listed: list[Json] = [*value]
            return [self._masked(each, _of_item(schemas, index)) for index, each in enumerate(listed)]
        return value

    def _resolved(self, schemas: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
        """The schemas with their references followed and their unions opened."""
        found: list[Mapping[str, Json]] = []
        left = list(schemas)
        while left:
            schema = left.pop()
            if any(schema is each for each in found):
                continue
            found.append(schema)
            reference: str = schema.get("$ref", "")
            if reference:
                left.append(self._definitions.get(reference.rpartition("/")[2], {}))
            for word in _BRANCHES:
                left.extend(schema.get(word, ()))
        return found


def _of_property(schemas: Sequence[Mapping[str, Json]], name: str) -> list[Mapping[str, Json]]:
    found: list[Mapping[str, Json]] = []
    for each in schemas:
        properties: Mapping[str, Json] = each.get("properties", {})
        other = each.get("additionalProperties")
        if name in properties:
            found.append(properties[name])
        elif isinstance(other, dict):
            found.append(cast("dict[str, Json]", other))
    return found


def _of_item(schemas: Sequence[Mapping[str, Json]], index: int) -> list[Mapping[str, Json]]:
    found: list[Mapping[str, Json]] = []
    for each in schemas:
        first: Sequence[Mapping[str, Json]] = each.get("prefixItems", ())
        rest = each.get("items")
        if index < len(first):
            found.append(first[index])
        elif isinstance(rest, dict):
            found.append(cast("dict[str, Json]", rest))
    return found


def _has_mark(schema: Json) -> bool:
    if isinstance(schema, dict):
        named = cast("dict[str, Json]", schema)
        return bool(named.get(REDACTED)) or any(_has_mark(each) for each in named.values())
    if isinstance(schema, list):
        listed: list[Json] = [*schema]
        return any(_has_mark(each) for each in listed)
    return False


SHOWS_ALL: Final = Redaction({})
"""For values of which nothing is hidden."""
