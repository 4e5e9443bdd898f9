"""Fields of a JSON value that its type doesn't have, and the field that was probably meant.

Readers ignore such fields, so that services and clients can be deployed one after the other. In the input of a start an
unknown field is more often a typing error, and what was meant gets its default: one night instead of three.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Final, cast

from amends.core.saga.schemas import Json, Schema, alternatives, is_schema, kind_of, values_of
from amends.core.words.values import value

UNKNOWN_MAX: Final = 10
"""Fields that are told of one value."""

LOOKED_AT_MAX: Final = 10_000
"""Values that are looked at in one input: what is larger is checked as far as that."""


@value
class UnknownField:
    """`path` is `$.stay.nigths`; `nearest` the field that was probably meant, empty where none is near."""

    path: str
    name: str
    nearest: str

    @property
    def told(self) -> str:
        """The sentence for people."""
        meant = f" Did you mean {self.nearest}?" if self.nearest else ""
        return f"There is no field {self.name} here.{meant}"


def unknown_fields(schema: Schema, given: Json) -> Sequence[UnknownField]:
    """Those of a value that was read as the schema's type; the first `UNKNOWN_MAX` of them."""
    looking = _Looking(schema)
    return tuple(islice(looking.at(schema, given, "$"), UNKNOWN_MAX))


class _Looking:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = LOOKED_AT_MAX

    def at(self, schema: Schema, given: Json, path: str) -> Iterator[UnknownField]:
        self._left -= 1
        if self._left < 0 or not isinstance(given, (dict, list)):
            return
        possible = list(alternatives(schema, self._root))
        if any(kind_of(each) is None for each in possible):
            return  # it may be anything
        if isinstance(given, dict):
            objects = [each for each in possible if kind_of(each) == "object"]
            yield from self._fields(objects, cast("Mapping[str, Json]", given), path)
        else:
            arrays = [each for each in possible if kind_of(each) == "array"]
            if len(arrays) == 1:
                yield from self._items(arrays[0], cast("Sequence[Json]", given), path)

    def _fields(self, objects: Sequence[Schema], given: Mapping[str, Json], path: str) -> Iterator[UnknownField]:
        meant = [each for each in objects if _tags_fit(each, given)] or objects
        known: dict[str, list[Schema]] = {}
        is_open = not meant
        for each in meant:
            more = each.get("additionalProperties", not each.get("properties"))
            is_open = is_open or more is not False
            for name, inner in each.get("properties", {}).items():
                known.setdefault(name, []).append(inner)
        for name, inside in given.items():
            there = f"{path}.{name}"
            if name in known:
                yield from self.at({"anyOf": known[name]}, inside, there)
            elif not is_open:
                free = [each for each in known if each not in given]
                yield UnknownField(there, name, next(iter(get_close_matches(name, free, n=1)), ""))
            elif len(meant) == 1 and is_schema(more := meant[0].get("additionalProperties")):
                yield from self.at(more, inside, there)

    def _items(self, schema: Schema, given: Sequence[Json], path: str) -> Iterator[UnknownField]:
        first: Sequence[Json] = schema.get("prefixItems", ())
        rest: Json = schema.get("items")
        for number, inside in enumerate(given):
            each = first[number] if number < len(first) else rest
            if is_schema(each):
                yield from self.at(each, inside, f"{path}[{number}]")


def _tags_fit(schema: Schema, given: Mapping[str, Json]) -> bool:
    """Whether every field that allows only some values has one of these: that is how tagged unions are told apart."""
    for name, each in schema.get("properties", {}).items():
        allowed = values_of(each) if is_schema(each) else None
        if allowed is not None and name in given and given[name] not in allowed:
            return False
    return True
