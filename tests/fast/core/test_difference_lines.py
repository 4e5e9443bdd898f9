"""What changed between two graphs of a saga is told line by line, with what it means for runs that began before."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from amends.core.saga.graph_diff import READABLE, UNREADABLE, Change, differences

Json = dict[str, Any]


def thing(fields: Mapping[str, Json], *required: str, title: str = "Order") -> Json:
    return {"title": title, "type": "object", "properties": dict(fields), "required": list(required)}


TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "integer"}
ORDER = thing({"id": TEXT}, "id")


def step(name: str, kind: str = "compensable", **more: object) -> Json:
    return {
        "name": name,
        "kind": kind,
        "reads": [],
        "after": [],
        "guard": ["barrier"],
        "operations": ["shop.act"],
        "compensations": ["undo"],
        "schemas": {"shop.act": {"request": ORDER, "reply": None}},
        **more,
    }


def told(old: Sequence[Json], new: Sequence[Json], *inputs: Json) -> list[str]:
    before, after = inputs or ({}, {})
    found = differences(
        json.dumps({"steps": old, "input": before}).encode(), json.dumps({"steps": new, "input": after}).encode()
    )
    return [f"{each.sign} | {each.what} | {each.name} | {each.detail} | {each.note}" for each in found]


def test_the_same_graph_has_no_differences() -> None:
    assert told([step("a"), step("b", reads=["a"])], [step("a"), step("b", reads=["a"])], ORDER, ORDER) == []


def test_steps_come_and_go_and_it_is_told_what_a_new_one_comes_before() -> None:
    old = [step("a"), step("gone", "retriable")]
    new = [step("a", reads=["n"]), step("n", "neutral"), step("b", after=["n"]), step("last", "pivot")]
    assert told(old, new) == [
        "+ | step | n | neutral, before a and b | ",
        "+ | step | b | compensable | ",
        "+ | step | last | pivot | ",
        "- | step | gone | retriable | ",
        "~ | edge | a | now reads n | ",
    ]


def test_another_kind() -> None:
    assert told([step("a")], [step("a", "pivot")]) == ["~ | kind | a | was compensable, is pivot | "]


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        ({"reads": ["x"]}, {"reads": ["y", "z"]}, "now reads y, z, no longer reads x"),
        ({"after": ["x", "w"]}, {"after": ["y"]}, "now waits for y, no longer waits for x, w"),
        ({"reads": ["x"]}, {"after": ["x"]}, "no longer reads x, now waits for x"),
        ({"reads": ["x", "y"]}, {"reads": ["y", "x"]}, "reads y, x in this order"),
        ({"reads": ["x", "y"]}, {"reads": ["y", "x"], "after": ["z"]}, "now waits for z"),
    ],
)
def test_edges(before: Json, after: Json, detail: str) -> None:
    assert told([step("a", **before)], [step("a", **after)]) == [f"~ | edge | a | {detail} | "]
    assert told([step("a", after=["x", "y"])], [step("a", after=["y", "x"])]) == []


def test_what_steps_call_and_how_it_is_undone_and_guarded() -> None:
    new = step("a", operations=["shop.put", "shop.act"], compensations=[], guard=["once"])
    assert told([step("a")], [new]) == [
        "~ | call | a | now calls shop.put | ",
        "~ | undo | a | no longer undone by undo | ",
        "~ | guard | a | now once, no longer barrier | ",
    ]
    assert told([step("a")], [step("a", operations=[])]) == ["~ | call | a | no longer calls shop.act | "]
    rest = {"line": "DELETE /x"}
    assert told([step("a")], [step("a", compensations=["undo", rest])]) == [
        '~ | undo | a | now undone by {"line": "DELETE /x"} | '
    ]


def test_fields_that_are_gained_lost_or_changed_say_whether_runs_can_read_them() -> None:
    old = thing({"id": TEXT, "gone": TEXT, "same": {**TEXT, "title": "Same", "default": 1}, "other": TEXT})
    fields = {"id": TEXT, "needed": TEXT, "free": {**TEXT, "default": "ü"}, "same": TEXT, "other": NUMBER, "bare": TEXT}
    assert told([], [], old, thing(fields, "needed")) == [
        f"~ | input | Order | + needed | {UNREADABLE}",
        f'~ | input | Order | + free (default "ü") | {READABLE}',
        f"~ | input | Order | ~ other has another type | {UNREADABLE}",
        f"~ | input | Order | + bare (default null) | {READABLE}",
        f"~ | input | Order | - gone | {UNREADABLE}",
    ]


@pytest.mark.parametrize("word", ["default", "title", "description", "x-redacted"])
def test_what_doesnt_say_how_a_field_is_read_is_no_difference(word: str) -> None:
    assert told([], [], thing({"id": TEXT}), thing({"id": {**TEXT, word: "x"}})) == []
    assert told([], [], thing({"id": {**TEXT, "format": "date"}}), thing({"id": TEXT})) != []


def test_types_of_requests_and_replies_are_compared_where_both_have_them_and_told_once() -> None:
    more = thing({"id": TEXT, "size": NUMBER}, "id")
    reply = thing({"at": TEXT}, title="Made")
    old = [
        step("a", schemas={"shop.act": {"request": ORDER, "reply": reply}, "shop.old": {"request": ORDER}}),
        step("b"),
        step("d", schemas={"shop.act": {"reply": None}}),
    ]
    new = [
        step(
            "a",
            schemas={"shop.act": {"request": more, "reply": thing({}, title="Made")}, "shop.new": {"request": more}},
        ),
        step("b", schemas={"shop.act": {"request": more, "reply": reply}}),
        step("d", schemas={"shop.act": {"request": more}}),
        step("e", schemas={"shop.act": {"request": more}}),
    ]
    assert told(old, new)[1:] == [
        f"~ | request | Order | + size (default null) | {READABLE}",
        f"~ | reply | Made | - at | {UNREADABLE}",
    ]


def test_types_are_found_inside_others_and_those_without_fields_are_left_out() -> None:
    def nested(fields: Json) -> Json:
        return {"$ref": "#/$defs/Line", "$defs": {"Line": thing(fields), "Color": {"enum": ["red"]}}}

    assert told([], [], nested({"id": TEXT}), nested({"id": NUMBER})) == [
        f"~ | input | Line | ~ id has another type | {UNREADABLE}"
    ]
    untitled = {"properties": {"id": TEXT}}
    assert told([], [], untitled, {"properties": {"id": NUMBER}}) == [
        f"~ | input | object | ~ id has another type | {UNREADABLE}"
    ]
    assert told([], [], TEXT, NUMBER) == []


def test_a_change_without_a_note_has_an_empty_one() -> None:
    assert Change("+", "step", "a", "pivot").note == ""
