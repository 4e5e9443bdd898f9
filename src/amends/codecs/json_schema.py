"""A type as JSON Schema, with the fields marked that must not be shown.

msgspec and pydantic write the schemas; neither knows `Redacted`. The mark `x-redacted` is put at every property whose
annotation holds it anywhere, so that a view can hide a field of a stored run without having the type.
"""

import sys
from collections.abc import Iterator
from typing import Annotated, Any, Final, TypeAlias, cast, get_args, get_origin, get_type_hints

import msgspec

from amends.core.saga.saga import Redacted
from amends.core.words.errors import DefinitionInvalid

REDACTED: Final = "x-redacted"

Annotation: TypeAlias = Any
"""A type as annotations write it: a class, a generic alias, a union; Python has no type for these."""


def schema_of(type_: Annotation) -> dict[str, Any]:
    """The type as JSON Schema (2020-12)."""
    made = getattr(type_, "model_json_schema", None)
    if made is not None:
        schema = cast("dict[str, Any]", made())
        _mark(type_, schema)
        _mark_definitions(schema, {each.__name__: each for each in _classes(type_, {})})
        return schema
    classes = [each for each in _classes(type_, {}) if not hasattr(each, "model_json_schema")]
    foreign: dict[str, Any] = {}
    try:
        # All classes in one call: only then do the names of their definitions agree.
        (schema, *references), definitions = msgspec.json.schema_components(
            [type_, *classes], schema_hook=lambda cls: _foreign(cls, foreign), ref_template="#/$defs/{name}"
        )
    except TypeError as error:
        adapter = pydantic_adapter(type_)
        if adapter is None:
            msg = f"{type_!r} has no JSON schema: {error}"
            raise DefinitionInvalid([msg]) from error
        schema = cast("dict[str, Any]", adapter.json_schema())
        _mark_definitions(schema, {each.__name__: each for each in _classes(type_, {})})
        return schema
    definitions = {**definitions, **foreign}
    names = (reference.get("$ref", "").rpartition("/")[2] for reference in references)
    named = {name: cls for name, cls in zip(names, classes, strict=True) if name}
    schema = {**schema, "$defs": definitions} if definitions else schema
    _mark_definitions(schema, named)
    if _is_redacted(type_):
        schema[REDACTED] = True
    return schema


def pydantic_adapter(type_: Annotation) -> Any | None:  # noqa: ANN401 - pydantic's `TypeAdapter`, which may be missing
    """Pydantic's view of a type with models in it that is beyond msgspec, as a union of two models is."""
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is None or not any(hasattr(each, "model_validate_json") for each in _classes(type_, {})):
        return None
    try:
        return pydantic.TypeAdapter(type_)
    except pydantic.errors.PydanticUserError:
        return None


def _foreign(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """A pydantic model inside of another type: its definitions move up to the others."""
    made = getattr(cls, "model_json_schema", None)
    if made is None:
        raise NotImplementedError
    schema = cast("dict[str, Any]", made())
    _mark(cls, schema)
    inner = schema.pop("$defs", {})
    _mark_definitions({"$defs": inner}, {each.__name__: each for each in _classes(cls, {})})
    definitions.update(inner)
    definitions[cls.__name__] = schema
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _mark_definitions(schema: dict[str, Any], classes: dict[str, type]) -> None:
    for name, definition in schema.get("$defs", {}).items():
        if name in classes:
            _mark(classes[name], definition)


def _mark(cls: type, schema: dict[str, Any]) -> None:
    properties: dict[str, Any] = schema.get("properties", {})
    for name, hint in _hints(cls).items():
        shown = _encoded_name(cls, name)
        if shown in properties and _is_redacted(hint):
            properties[shown] = {**properties[shown], REDACTED: True}


def _encoded_name(cls: type, name: str) -> str:
    """The field's name in JSON: structs and models may rename."""
    fields: dict[str, Any] = getattr(cls, "model_fields", {})
    alias = getattr(fields.get(name), "alias", None)
    if issubclass(cls, msgspec.Struct):
        alias = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)).get(name)
    return name if alias is None else str(alias)


def _is_redacted(hint: Annotation) -> bool:
    origin: object = get_origin(hint)
    if origin is Annotated:
        inner, *marks = get_args(hint)
        return any(each is Redacted or isinstance(each, Redacted) for each in marks) or _is_redacted(inner)
    return any(_is_redacted(each) for each in get_args(hint))


def _classes(type_: Annotation, seen: dict[type, None]) -> Iterator[type]:
    """The classes with fields that a type is made of, each once."""
    if isinstance(type_, type) and not get_args(type_):
        if type_ in seen or type_.__module__ == "builtins":
            return
        hints = _hints(type_)
        if not hints:
            return
        seen[type_] = None
        yield type_
        for each in hints.values():
            yield from _classes(each, seen)
    else:
        origin: object = get_origin(type_)
        if isinstance(origin, type):
            yield from _classes(origin, seen)
        for each in get_args(type_):
            yield from _classes(each, seen)


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}
