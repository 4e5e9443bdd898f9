"""Events are kept so that they come back as they were, whatever was added or taken away in the meantime."""

import json
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from types import NoneType
from typing import Any, TypeAlias, cast, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amends.codecs.events import JsonEventCodec
from amends.core.run.events import EVENT_TYPES, ActionSucceeded, Event, RunEnded, StepSkipped
from amends.core.words.codec import Undecodable

CODEC = JsonEventCodec()
Annotation: TypeAlias = Any

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
FEW = settings(max_examples=20)  # times 35 kinds
PAYLOADS = st.sampled_from([b"null", b'{"a": [1, 2.50, "\\u00e9"],\n "b":1e3}', "\u00e9".join('""').encode(), b"[]"])


def values(hint: Annotation) -> st.SearchStrategy[Any]:
    origin: object = get_origin(hint)
    if hint is bytes:
        return PAYLOADS
    if is_dataclass(hint):
        return instances(cast("type[Any]", hint))
    if origin is tuple:
        return st.lists(values(get_args(hint)[0]), max_size=3).map(tuple)
    if get_args(hint):
        return st.one_of(*(values(each) for each in get_args(hint)))
    if hint is int:
        return st.integers(0, 2**63)
    if hint is str:
        return TEXTS
    if hint is bool:
        return st.booleans()
    if hint is NoneType:
        return st.none()
    return st.sampled_from(list(cast("type[StrEnum]", hint)))


INSTANCES: dict[type[Any], st.SearchStrategy[Any]] = {}


def instances(cls: type[Any]) -> st.SearchStrategy[Any]:
    if cls not in INSTANCES:
        hints = get_type_hints(cls)
        INSTANCES[cls] = st.builds(cls, **{each.name: values(hints[each.name]) for each in fields(cls)})
    return INSTANCES[cls]


@pytest.mark.parametrize("cls", EVENT_TYPES, ids=lambda cls: cls.__name__)
@FEW
@given(data=st.data())
def test_every_event_comes_back_as_it_was(cls: type[Event], data: st.DataObject) -> None:
    event: Event = data.draw(instances(cls))
    kind, body = CODEC.encode(event)
    assert kind == cls.__name__
    parsed = json.loads(body)
    assert set(parsed) == {each.name for each in fields(cls)} - {"at", "epoch"}
    assert CODEC.decode(kind, body, event.at, event.epoch) == event


@pytest.mark.parametrize("cls", EVENT_TYPES, ids=lambda cls: cls.__name__)
@FEW
@given(data=st.data())
def test_a_new_field_is_ignored_and_a_missing_one_gets_its_default(cls: type[Event], data: st.DataObject) -> None:
    event: Event = data.draw(instances(cls))
    kind, body = CODEC.encode(event)
    parsed = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    defaults = {each.name: each.default for each in fields(cls) if each.default is not MISSING}
    kept = {name: value for name, value in parsed.items() if name not in defaults}
    again = CODEC.decode(kind, msgspec.json.encode({**kept, "added_later": {"x": 1}}), event.at, event.epoch)
    for each in fields(cls):
        assert getattr(again, each.name) == defaults.get(each.name, getattr(event, each.name))


def test_kinds_have_names_of_their_own() -> None:
    assert len({each.__name__ for each in EVENT_TYPES}) == len(EVENT_TYPES)


def test_a_payload_stands_as_it_came() -> None:
    _, body = CODEC.encode(ActionSucceeded(1, 2, "reserve", "", b'{ "cents" : 1.10 }'))
    assert b'{ "cents" : 1.10 }' in body


def test_an_empty_payload_is_refused_before_it_spoils_the_log() -> None:
    with pytest.raises(Undecodable, match="ActionSucceeded"):
        CODEC.encode(ActionSucceeded(1, 2, "reserve", "", b""))


def test_a_text_that_is_no_unicode_is_refused_before_it_spoils_the_log() -> None:
    with pytest.raises(Undecodable, match="RunEnded"):
        CODEC.encode(RunEnded(1, 2, "\ud800"))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("NeverHeardOf", b"{}"),
        ("", b"{}"),
        ("StepSkipped", b""),
        ("StepSkipped", b"{}"),
        ("StepSkipped", b'{"step":1}'),
        ("StepSkipped", b'{"step":"\xff"}'),
        ("StepSkipped", b"[" * 100_000),
        ("AttemptFailed", b'{"phase":"never"}'),
    ],
)
def test_what_cannot_be_read_says_so(kind: str, body: bytes) -> None:
    with pytest.raises(Undecodable):
        CODEC.decode(kind, body, 1, 2)


def test_columns_are_not_written_twice() -> None:
    assert CODEC.encode(StepSkipped(1, 2, "ship")) == ("StepSkipped", b'{"step":"ship"}')
