"""What the JSON codec promises: strict reading with the place of the mistake, and never another exception."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amends.codecs.json import NESTING_MAX, JsonCodec, canonical
from amends.codecs.json_schema import Annotation
from amends.core.saga.saga import Redacted
from amends.core.words.codec import Codec, Undecodable
from amends.core.words.errors import DefinitionInvalid

CODEC = JsonCodec()
AS_PORT: Codec = CODEC


class Size(StrEnum):
    SMALL = "small"


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int


@dataclass(frozen=True)
class Order:
    customer: str
    lines: list[Line]
    card: Annotated[str, Redacted] = ""
    note: str | None = None


@attrs.frozen
class Parcel:
    grams: int
    to: Annotated[str, Redacted]


class Address(TypedDict):
    street: str
    door: Annotated[str, Redacted()]


class Card(msgspec.Struct, frozen=True, tag="card", rename="camel"):
    last_four: Annotated[str, Redacted]


class Transfer(msgspec.Struct, frozen=True, tag="transfer"):
    iban: str


class Paid(pydantic.BaseModel):
    id: str
    at: datetime
    token: Annotated[str, Redacted] = "t"
    cents: int = pydantic.Field(default=0, alias="amountInCents")


class Declined(pydantic.BaseModel):
    declined: str


@dataclass(frozen=True)
class Receipt:
    paid: Paid
    others: list[Paid]
    by_name: dict[str, Paid]
    maybe: Paid | None = None


@dataclass(frozen=True)
class Tree:
    children: "list[Tree]" = field(default_factory=list["Tree"])


@dataclass(frozen=True)
class Breaks:
    how: str

    def __post_init__(self) -> None:
        match self.how:
            case "value":
                msg = "no such how"
                raise ValueError(msg)
            case "key":
                raise KeyError(self.how)
            case _:
                raise RecursionError


PAID = Paid(id="p-1", at=datetime(2026, 3, 1, tzinfo=UTC), amountInCents=12)


def refused(type_: Annotation, body: bytes) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        CODEC.decoder(type_)(body)
    return caught.value


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Order, Order("ann", [Line("sku-1", 2)], "4111", None)),
        (Parcel, Parcel(grams=12, to="Rome")),
        (Address, Address(street="High", door="3")),
        (Card | Transfer, Card("1234")),
        (Card | Transfer | None, None),
        (Annotated[Card, Redacted], Card("1234")),
        (list[Order] | None, [Order("ann", [])]),
        (dict[str, Line], {"a": Line("x", 1)}),
        (Size, Size.SMALL),
        (Literal["a", "b"], "b"),
        (Decimal, Decimal("1.10000000000000000000000000001")),
        (int, 10**40),
        (Tree, Tree([Tree(), Tree([Tree()])])),
        (Paid, PAID),
        (Receipt, Receipt(PAID, [PAID], {"x": PAID}, PAID)),
        (Paid | None, PAID),
        (Paid | Declined, Declined(declined="no")),
        (list[Paid | Declined], [PAID, Declined(declined="no")]),
        (None, None),
        (Any, {"a": [1, 2.5, "x", None, True]}),
    ],
    ids=str,
)
def test_what_was_written_is_read_back(type_: Annotation, value: object) -> None:
    encoded = CODEC.encode(value)
    assert CODEC.decoder(type_)(encoded) == value
    assert CODEC.decoder(type_) is CODEC.decoder(type_), "decoders are made once"
    json.dumps(CODEC.schema(type_))


@pytest.mark.parametrize(
    ("type_", "body", "path", "detail"),
    [
        (
            Order,
            b'{"customer":"a","lines":[{"sku":"a","quantity":1},{"sku":"b","quantity":"2"}]}',
            "$.lines[1].quantity",
            "int",
        ),
        (Order, b'{"customer":"a","lines":[{"sku":"a"}]}', "$.lines[0]", "quantity"),
        (Order, b"[]", "$", "object"),
        (int, b"1.0", "$", "int"),
        (int, b'"1"', "$", "int"),
        (None, b"0", "$", "null"),
        (float, b"1e400", "$", "range"),
        (float, b"NaN", "$", "malformed"),
        (Paid, b'{"id":1,"at":"2026-03-01T00:00:00Z"}', "$.id", "string"),
        (Receipt, b'{"paid":{"id":"1","at":"x"},"others":[],"by_name":{}}', "$.paid.at", "date"),
        (Breaks, b'{"how":"value"}', "$", "no such how"),
        (Breaks, b'{"how":"key"}', "$", "KeyError"),
        (Breaks, b'{"how":"deep"}', "$", "nested"),
        (Order, b"", "$", "truncated"),
        (Order, b'{"customer":', "$", "truncated"),
        (Order, b'{"customer":"a","lines":[]} x', "$", "trailing"),
        (Order, b'\xef\xbb\xbf{"customer":"a","lines":[]}', "$", "malformed"),
        (Order, b'{"customer":"a","lines":[],"unknown":"\xff"}', "$", "UTF-8"),
        (Paid | Declined, b"{}", "$.Paid.id", "required"),
    ],
)
def test_a_mistake_is_told_with_its_place(type_: Annotation, body: bytes, path: str, detail: str) -> None:
    error = refused(type_, body)
    assert error.path == path
    assert detail in error.detail
    assert "\x00" not in error.detail


def test_unknown_fields_are_ignored_and_the_last_of_twins_counts() -> None:
    body = b'{"customer":"a","lines":[],"new":{"x":1},"customer":"b"}'
    assert CODEC.decoder(Order)(body) == Order("b", [])


def test_a_refused_model_never_quotes_its_input() -> None:
    error = refused(Receipt, b'{"paid":{"id":4111111111111111,"at":"x"},"others":[],"by_name":{}}')
    assert "4111" not in str(error)


@pytest.mark.parametrize("type_", [Any, Order, Tree, Paid, None, msgspec.Raw])
@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"customer":"a","lines":[],"unknown":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"children":[' * 5_000 + b"]}" * 5_000,
    ],
    ids=["open", "objects", "closed", "in-an-unknown-field", "recursive-type"],
)
def test_a_nesting_bomb_is_undecodable_and_nothing_worse(type_: Annotation, bomb: bytes) -> None:
    assert "nested" in refused(type_, bomb).detail


def test_many_brackets_are_not_deep_ones() -> None:
    flat = b"[" + b",".join([b'["[[[[","\\"[["]'] * 1_000) + b"]"
    assert len(CODEC.decoder(Any)(flat)) == 1_000
    deepest = b"[" * NESTING_MAX + b"]" * NESTING_MAX
    CODEC.decoder(Any)(deepest)
    refused(Any, b"[" + deepest + b"]")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_and_not_made_null(value: float) -> None:
    for held in (value, [value], {"a": [value]}, (value, None)):
        with pytest.raises(Undecodable):
            CODEC.encode(held)


def _deep() -> object:
    inner: list[object] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


@pytest.mark.parametrize("make", [object, _deep, lambda: {(1, 2): 3}, lambda: "\ud800", lambda: 1j, lambda: ...])
def test_what_json_cannot_hold_is_undecodable(make: Callable[[], object]) -> None:
    with pytest.raises(Undecodable):
        CODEC.encode(make())


class Stranger:
    pass


@dataclass
class HoldsStranger:
    lines: list[Stranger]


@pytest.mark.parametrize("type_", [Stranger, HoldsStranger, dict[str, HoldsStranger | None], int | Line | Order])
def test_a_type_that_cannot_be_read_is_the_authors_mistake_at_load(type_: Annotation) -> None:
    with pytest.raises(DefinitionInvalid):
        CODEC.decoder(type_)


def test_annotations_without_a_hash_work() -> None:
    assert CODEC.decoder(Annotated[int, ["no hash"]])(b"1") == 1


def test_the_schema_marks_what_must_not_be_shown() -> None:
    def marked(type_: Annotation) -> set[str]:
        schema = CODEC.schema(type_)
        found: set[str] = {"$"} if schema.get("x-redacted") else set()
        for each in [schema, *schema.get("$defs", {}).values()]:
            found |= {name for name, prop in each.get("properties", {}).items() if prop.get("x-redacted")}
        return found

    assert marked(Order) == {"card"}
    assert marked(list[Order]) == {"card"}
    assert marked(Parcel) == {"to"}
    assert marked(Address) == {"door"}
    assert marked(Card | Transfer) == {"lastFour"}
    assert marked(Paid) == {"token"}
    assert marked(Receipt) == {"token"}
    assert marked(Annotated[str, Redacted]) == {"$"}
    assert marked(Line) == set()


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (b'{"b":1,"a":[1,2]}', b' { "a" : [1, 2] ,\n"b":1 } ', True),
        (b'{"a":"\\u00e9"}', '{"a":"é"}'.encode(), True),
        (b"1.10", b"1.1", True),
        (b"1e2", b"100.0", True),
        (b"0.12345678901234567890120", b"0.1234567890123456789012", True),
        (b"0.1234567890123456789012", b"0.1234567890123456789013", False),
        (b"1", b"1.0", False),
        (b"123456789012345678901", b"123456789012345678902", False),
        (b"[1,2]", b"[2,1]", False),
        (b"1e400", b"1e401", False),
        (b"null", b"false", False),
    ],
)
def test_the_canonical_form_is_equal_where_the_meaning_is(left: bytes, right: bytes, same: bool) -> None:
    assert (canonical(left) == canonical(right)) is same


def test_the_canonical_form_is_sorted_without_spaces_and_not_escaped() -> None:
    assert canonical(b'{"b": "\\u00e9", "a": {"d": 1, "c": 2}}') == '{"a":{"c":2,"d":1},"b":"é"}'.encode()


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 10_000, b"1e99999999999999999999", b'"\xff"', b"NaN"])
def test_what_is_no_json_has_no_canonical_form(body: bytes) -> None:
    with pytest.raises(Undecodable):
        canonical(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_the_canonical_form_changes_nothing_and_is_its_own(value: object) -> None:
    spaced = json.dumps(value, indent=1).encode()
    once = canonical(spaced)
    assert json.loads(once) == value
    assert canonical(once) == once == canonical(CODEC.encode(value))


@given(st.binary(max_size=60) | st.text('[]{}",:\\1e.-x', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_undecodable(body: bytes) -> None:
    for type_ in (Any, Order, Receipt, Paid, None, Tree):
        try:
            CODEC.decoder(type_)(body)
        except Undecodable as error:
            assert error.path.startswith("$")  # noqa: PT017 - both ways are right
