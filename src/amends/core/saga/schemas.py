"""JSON schemas, as far as the core reads them: what values they allow, without references and unions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeGuard

Json: TypeAlias = Any
"""Parsed JSON: a graph, a schema, a value."""

Schema: TypeAlias = dict[str, Any]

_WORDS: Final[Mapping[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}
_HOPS_MAX: Final = 32
"""References that are followed in a row: a schema that refers to itself without end says nothing."""


def reference_of(schema: Json) -> str:
    """What it refers to; empty where it says what it is itself."""
    return str(schema.get("$ref", "")) if is_schema(schema) else ""


def alternatives(given: Json, root: Json) -> Iterator[Schema]:
    """The schemas of which one holds, without unions and references."""
    schema = _resolved(given, root)
    union = schema.get("anyOf") or schema.get("oneOf")
    if union:
        for each in union:
            yield from alternatives(each, root)
    elif isinstance(schema.get("type"), list):
        yield from ({**schema, "type": each} for each in schema["type"])
    else:
        yield schema


def _resolved(given: Json, root: Json) -> Schema:
    """The schema that is meant, where this one only refers to it; one that can't be found allows anything."""
    schema: Json = given
    for _ in range(_HOPS_MAX):
        if not is_schema(schema):
            return {}
        whole: Json = schema.get("allOf", ())
        if "$ref" in schema:
            schema = root.get("$defs", {}).get(reference_of(schema).rpartition("/")[2])
        elif len(whole) == 1:
            schema = whole[0]
        else:
            return schema
    return {}


def is_schema(value: Json) -> TypeGuard[Schema]:
    """Whether it is one that says something."""
    return isinstance(value, dict)


def kind_of(schema: Schema) -> str | None:
    """The JSON type of its values; `None` where that isn't said."""
    if schema.get("type"):
        return str(schema["type"])
    values = values_of(schema)
    if values:
        kinds = {_WORDS.get(type(each)) for each in values}
        return kinds.pop() if len(kinds) == 1 else None
    return "object" if "properties" in schema else None


def values_of(schema: Schema) -> Sequence[object] | None:
    """The only values that are allowed; `None` where they aren't listed."""
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")
