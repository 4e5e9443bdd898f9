"""Which changes of types need a new version, and that what is said of them is what the codec does."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import pydantic
import pytest

from amends.codecs.json import JsonCodec
from amends.core.saga.graph_diff import UNREADABLE, Change
from amends.core.saga.readable import LOST, unfit_types
from amends.core.words.codec import Undecodable

CODEC = JsonCodec()

Annotation: TypeAlias = Any
"""A type as annotations write it: a class, a generic alias, a union; Python has no type for these."""


def graph(type_: Annotation) -> bytes:
    return json.dumps({"saga": "s", "steps": [], "input": CODEC.schema(type_)}).encode()


def between(old: Annotation, new: Annotation) -> list[Change]:
    return list(unfit_types(graph(old), graph(new)))


class Old:
    @dataclass
    class Room:
        number: int

    @dataclass
    class Order:
        id: str
        rooms: list["Old.Room"] = field(default_factory=lambda: [Old.Room(7)])

    @dataclass
    class Tree:
        below: list["Old.Tree"]
        name: str = "x"

    class Model(pydantic.BaseModel):
        n: int = 1
        when: datetime = datetime(2026, 1, 1)  # noqa: DTZ001 - any

    class Hit(msgspec.Struct, tag="hit"):
        n: int = 1


class New:
    @dataclass
    class Room:
        number: int
        floor: int = 0

    @dataclass
    class Order:
        id: str
        rooms: list["New.Room"]
        note: str | None = None

    @dataclass
    class Tree:
        below: list["New.Tree"]
        name: str = "x"
        colour: str = "green"

    class Model(pydantic.BaseModel):
        n: int | None = 1
        when: datetime | str = ""

    class Hit(msgspec.Struct, tag="hit"):
        n: int = 1
        m: int = 2


class Bad:
    @dataclass
    class Room:
        name: str

    @dataclass
    class Order:
        id: str
        rooms: list["Bad.Room"]

    @dataclass
    class Tree:
        below: list["Bad.Tree"]
        name: int

    class Model(pydantic.BaseModel):
        n: int
        then: datetime

    class Hit(msgspec.Struct, tag="HIT"):
        n: int = 1


class Pair(NamedTuple):
    a: int
    b: str


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


FINE: list[tuple[Annotation, object, Annotation]] = [
    (Old.Order, Old.Order("x"), New.Order),
    (Old.Tree, Old.Tree([Old.Tree([])]), New.Tree),
    (Old.Model, Old.Model(), New.Model),
    (Old.Hit, Old.Hit(), New.Hit),
    (Old.Hit | None, Old.Hit(), New.Hit | Bad.Hit | None),
    (int, 7, float),
    (int, 7, int | str),
    (int | str, "x", str | int | None),
    (Old.Room, Old.Room(7), dict[str, int]),
    (dict[str, int], {"a": 1}, dict[str, int | None]),
    (list[Old.Room], [Old.Room(7)], list[New.Room]),
    (tuple[int, str], (1, "x"), list[int | str]),
    (list[int], [1, 2], tuple[int, ...]),
    (Pair, Pair(1, "x"), tuple[int, str]),
    (Colour, Colour.RED, str),
    (Colour, Colour.RED, Literal["red", "blue", "green"]),
    (datetime, datetime(2026, 1, 1), str),  # noqa: DTZ001 - any
    (Any, {"a": 1}, Any),
    (None, None, int | None),
    (Old.Room, Old.Room(7), Any),
]

BROKEN: list[tuple[Annotation, object, Annotation]] = [
    (Old.Order, Old.Order("x"), Bad.Order),
    (Old.Tree, Old.Tree([Old.Tree([])]), Bad.Tree),
    (Old.Model, Old.Model(), Bad.Model),
    (Old.Hit, Old.Hit(), Bad.Hit),
    (Old.Hit | None, Old.Hit(), Bad.Hit | None),
    (int, 7, str),
    (int | str, "x", int),
    (int | None, None, int),
    (Old.Room, Old.Room(7), int),
    (dict[str, int], {"a": 1}, dict[str, str]),
    (Old.Room, Old.Room(7), dict[str, str]),
    (list[Old.Room], [Old.Room(7)], list[Bad.Room]),
    (tuple[int, str], (1, "x"), tuple[int, int]),
    (tuple[int, str], (1, "x"), tuple[int, str, int]),
    (tuple[int, str], (1, "x"), list[int]),
    (Colour, Colour.BLUE, Literal["red"]),
    (str, "x", Colour),
    (Old.Room | None, Old.Room(7), Bad.Room | None),
    (Mapping[str, Old.Room], {"a": Old.Room(7)}, Mapping[str, Bad.Room]),
]


def name_of(each: object) -> str:
    return getattr(each, "__qualname__", str(each)) if isinstance(each, (type, UnionType)) else str(each)


@pytest.mark.parametrize(("old", "value", "new"), FINE, ids=name_of)
def test_what_can_still_be_read_needs_no_new_version(old: Annotation, value: object, new: Annotation) -> None:
    assert between(old, new) == []
    CODEC.decoder(new)(CODEC.encode(value))


@pytest.mark.parametrize(("old", "value", "new"), BROKEN, ids=name_of)
def test_what_cannot_be_read_any_more_is_told(old: Annotation, value: object, new: Annotation) -> None:
    assert any(change.note == UNREADABLE for change in between(old, new))
    with pytest.raises(Undecodable):
        CODEC.decoder(new)(CODEC.encode(value))
    assert between(old, old) == between(new, new) == []


def test_a_change_is_told_once_with_its_type_and_field() -> None:
    assert between(Old.Order, Bad.Order) == [
        Change("~", "input", "Room", "+ name", UNREADABLE),
        Change("~", "input", "Room", "- number", LOST),
    ]
    assert between(int, str) == [Change("~", "input", "s", "~ has another type", UNREADABLE)]
    assert between(Old.Tree, Bad.Tree) == [Change("~", "input", "Tree", "~ name has another type", UNREADABLE)]
    assert between(Colour, Literal["red"]) == [Change("~", "input", "s", '~ no longer takes "blue"', UNREADABLE)]


def test_a_lost_field_needs_a_new_version_though_runs_that_began_before_go_on() -> None:
    assert between(New.Room, Old.Room) == [Change("~", "input", "Room", "- floor", LOST)]


def test_a_schema_that_says_nothing_or_runs_in_circles_proves_nothing() -> None:
    circle = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    odds: list[Any] = [circle, {"$ref": "#/$defs/gone"}, True, {"allOf": [{}, {}]}, {"enum": ["a", 1]}]
    for odd in odds:
        text = json.dumps({"saga": "s", "steps": [], "input": odd}).encode()
        assert unfit_types(text, graph(int)) == unfit_types(graph(int), text) == ()
