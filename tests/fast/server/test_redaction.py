"""What must not be shown isn't, wherever it stands in a type."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest

from amends import Redacted
from amends.codecs.json import JsonCodec
from amends.core.words.codec import TypeForm
from amends.views.redaction import Redaction

Secret = Annotated[str, Redacted]


@dataclass(frozen=True, slots=True)
class Card:
    number: Secret
    owner: str


@dataclass(frozen=True, slots=True)
class Tree:
    card: Card | None
    children: "list[Tree]"


@dataclass(frozen=True, slots=True)
class Everything:
    one: Card
    many: list[Card]
    named: dict[str, Card]
    pair: tuple[str, Card]
    tokens: list[Secret]
    perhaps: Secret | None = None


CARD = {"number": "4000", "owner": "ann"}
SHOWN = {"number": "***", "owner": "ann"}


CASES: list[tuple[Any, Any, Any]] = [
    (Card, CARD, SHOWN),
    (list[Card], [CARD, CARD], [SHOWN, SHOWN]),
    (dict[str, Card], {"a": CARD}, {"a": SHOWN}),
    (Card | None, CARD, SHOWN),
    (Card | None, None, None),
    (Tree, {"card": CARD, "children": [{"card": CARD, "children": []}]}, None),
    (
        Everything,
        {"one": CARD, "many": [CARD], "named": {"x": CARD}, "pair": ["y", CARD], "tokens": ["a"], "perhaps": "z"},
        {
            "one": SHOWN,
            "many": [SHOWN],
            "named": {"x": SHOWN},
            "pair": ["y", SHOWN],
            "tokens": "***",
            "perhaps": "***",
        },
    ),
    (Secret, "a", "***"),
]


@pytest.mark.parametrize(("type_", "value", "shown"), CASES)
def test_marked_fields_are_hidden(type_: TypeForm, value: object, shown: object) -> None:
    JsonCodec().decoder(type_)(msgspec.json.encode(value))
    found = Redaction(JsonCodec().schema(type_)).shown(msgspec.json.encode(value))
    assert b"4000" not in found
    if shown is not None or value is None:
        assert msgspec.json.decode(found) == shown


def test_without_a_mark_the_bytes_are_shown_as_they_are() -> None:
    body = b'{"a":1.10, "b":[]}'
    redaction = Redaction(JsonCodec().schema(dict[str, float | list[int]]))
    assert not redaction.hides
    assert redaction.shown(body) is body
