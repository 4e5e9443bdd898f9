"""Fields of an input that its type doesn't have are found, with the field that was probably meant."""

from dataclasses import dataclass, field
from typing import Any, NotRequired, TypeAlias, TypedDict

import msgspec
import pydantic
import pytest

from amends.codecs.json import JsonCodec
from amends.core.saga.unknown_fields import LOOKED_AT_MAX, UNKNOWN_MAX, unknown_fields

CODEC = JsonCodec()

Annotation: TypeAlias = Any
"""A type as annotations write it: a class, a generic alias, a union; Python has no type for these."""


@dataclass
class Guest:
    name: str
    child: "Guest | None" = None


@dataclass
class Stay:
    city: str
    nights: int = 1
    guests: list[Guest] = field(default_factory=list[Guest])
    notes: dict[str, Guest] = field(default_factory=dict[str, Guest])
    pair: tuple[int, Guest] | None = None


class Card(msgspec.Struct, tag="card"):
    number: str


class Bill(msgspec.Struct, tag="bill"):
    address: str


class Order(TypedDict):
    sku: str
    count: NotRequired[int]


class Model(pydantic.BaseModel):
    sku_code: str = pydantic.Field(alias="skuCode")


class Open(pydantic.BaseModel, extra="allow"):
    sku: str


def found(type_: Annotation, given: object) -> list[tuple[str, str]]:
    return [(each.path, each.nearest) for each in unknown_fields(CODEC.schema(type_), given)]


UNKNOWN: list[tuple[Annotation, object, str, str]] = [
    (Stay, {"city": "x", "nigths": 3}, "$.nigths", "nights"),
    (Stay, {"city": "x", "zzz": 3}, "$.zzz", ""),
    (Stay, {"city": "x", "nights": 2, "nigths": 3}, "$.nigths", ""),
    (Stay, {"city": "x", "guests": [{"name": "a"}, {"name": "b", "chlid": None}]}, "$.guests[1].chlid", "child"),
    (Stay, {"city": "x", "guests": [{"name": "a", "child": {"name": "b", "nmae": "c"}}]}, "$.guests[0].child.nmae", ""),
    (Stay, {"city": "x", "notes": {"a": {"name": "a", "x": 1}}}, "$.notes.a.x", ""),
    (Stay, {"city": "x", "pair": [1, {"name": "a", "childs": None}]}, "$.pair[1].childs", "child"),
    (Card | Bill, {"type": "card", "number": "1", "adress": "x"}, "$.adress", ""),
    (Card | Bill | None, {"type": "bill", "adress": "x"}, "$.adress", "address"),
    (list[Order], [{"sku": "a", "cuont": 2}], "$[0].cuont", "count"),
    (Model, {"sku_code": "x"}, "$.sku_code", "skuCode"),
]


@pytest.mark.parametrize(("type_", "given", "path", "nearest"), UNKNOWN, ids=[each[2] for each in UNKNOWN])
def test_a_field_that_the_type_does_not_have_is_found(
    type_: Annotation, given: object, path: str, nearest: str
) -> None:
    assert found(type_, given) == [(path, nearest)]


@pytest.mark.parametrize(
    ("type_", "given"),
    [
        (
            Stay,
            {"city": "x", "guests": [{"name": "a", "child": None}], "pair": None, "notes": {"anything": {"name": "a"}}},
        ),
        (Any, {"a": 1}),
        (dict[str, int], {"a": 1}),
        (dict[str, Any], {"a": {"b": 1}}),
        (str, "x"),
        (Open, {"sku": "x", "more": 1}),
        (Card | Bill, {"type": "card", "number": "1"}),
        (Model, {"skuCode": "x"}),
        (int, {"a": 1}),
    ],
)
def test_nothing_else_is_told(type_: Annotation, given: object) -> None:
    assert found(type_, given) == []


def test_what_is_told_and_looked_at_has_a_limit() -> None:
    assert len(found(Stay, {"city": "x", **{f"f{n}": n for n in range(100)}})) == UNKNOWN_MAX
    many = [{"name": "a"}] * LOOKED_AT_MAX
    assert found(Stay, {"city": "x", "guests": [*many, {"nmae": "a"}]}) == []


def test_it_is_told_in_a_sentence() -> None:
    near, far = unknown_fields(CODEC.schema(Stay), {"nigths": 1, "zzz": 1})
    assert near.told == "There is no field nigths here. Did you mean nights?"
    assert far.told == "There is no field zzz here."
