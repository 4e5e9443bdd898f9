"""What changed between two graphs, as a person who deploys is told."""

import json
from typing import Any

from amends.core.saga.graph_diff import READABLE, UNREADABLE, Change, differences
from tests.support.stories import Barrier, Plain, Spec, c, definition_of, gives, p, r


def between(old: tuple[Spec, ...], new: tuple[Spec, ...]) -> list[Change]:
    return list(differences(definition_of(*old).graph(), definition_of(*new).graph()))


def test_the_same_graph_has_no_difference() -> None:
    assert between((c("a"), p()), (c("a"), p())) == []


def test_steps_that_came_and_went_are_told_with_their_place() -> None:
    old, new = (c("a"), c("gone"), p()), (c("a"), c("b"), p("p", reads="b"), r("r", after="b"), r("alone"))
    told = [each for each in between(old, new) if each.what == "step"]
    assert told == [
        Change("+", "step", "b", "compensable, before p and r"),
        Change("+", "step", "r", "retriable"),
        Change("+", "step", "alone", "retriable"),
        Change("-", "step", "gone", "compensable"),
    ]


def test_another_kind_is_told() -> None:
    assert Change("~", "kind", "a", "was compensable, is pivot") in between((c("a"),), (p("a", Barrier.act),))


def test_edges_are_told_by_what_is_read_and_waited_for() -> None:
    base = (c("a"), c("b"))
    assert between((*base, p("p", reads="a")), (*base, p("p", reads="a b"))) == [
        Change("~", "edge", "p", "now reads b")
    ]
    assert between((*base, p("p", reads="a", after="b")), (*base, p("p", after="a"))) == [
        Change("~", "edge", "p", "no longer reads a, now waits for a, no longer waits for b")
    ]
    assert between((*base, p("p", reads="a b")), (*base, p("p", reads="b a"))) == [
        Change("~", "edge", "p", "reads b, a in this order")
    ]


def test_another_call_another_undo_and_another_guard_are_told() -> None:
    told = between((c("a"),), (c("a", Plain.act, undo=gives(None)),))
    assert [(each.what, each.detail) for each in told] == [
        ("call", "now calls plain.act, no longer calls barrier.act"),
        ("undo", "no longer undone by undo"),
        ("guard", "now idempotent, no longer barrier"),
    ]


# -- types, on graphs written by hand: schemas are the codec's, and what is said of them is said here


def graph(input: Any = None, **steps: Any) -> bytes:  # noqa: ANN401 - JSON
    fields: dict[str, Any] = {
        "kind": "pivot",
        "reads": [],
        "after": [],
        "operations": [],
        "compensations": [],
        "guard": [],
    }
    return json.dumps(
        {"input": input, "steps": [{**fields, "name": name, "schemas": schemas} for name, schemas in steps.items()]}
    ).encode()


def of(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"title": "Order", "properties": properties, "required": list(required)}


def test_fields_are_told_with_what_runs_can_read() -> None:
    old = graph(of({"id": {"type": "string"}, "cents": {"type": "integer"}, "gone": {}}, "id"))
    new = graph(
        of({"id": {"type": "string"}, "cents": {"type": "number"}, "note": {"default": "?"}, "must": {}}, "id", "must")
    )
    assert differences(old, new) == [
        Change("~", "input", "Order", "~ cents has another type", UNREADABLE),
        Change("~", "input", "Order", '+ note (default "?")', READABLE),
        Change("~", "input", "Order", "+ must", UNREADABLE),
        Change("~", "input", "Order", "- gone", UNREADABLE),
    ]


def test_what_is_said_for_people_is_no_change_of_a_type() -> None:
    old = of({"id": {"type": "string", "description": "before", "x-redacted": True, "default": "", "title": "a"}})
    assert differences(graph(old), graph(of({"id": {"type": "string"}}))) == []


def test_types_inside_of_types_are_told_once_for_requests_and_once_for_replies() -> None:
    def schemas(*fields: str) -> dict[str, Any]:
        line: dict[str, Any] = {"Line": {"properties": {field: {} for field in fields}}, "Word": {"enum": ["a"]}}
        return {"request": {"$defs": line}, "reply": {"$defs": line}}

    old = graph(a={"x.act": schemas("sku", "count")}, b={"x.act": schemas("sku", "count")})
    new = graph(a={"x.act": schemas("sku")}, b={"x.act": schemas("sku")})
    assert differences(old, new) == [
        Change("~", "request", "Line", "- count", UNREADABLE),
        Change("~", "reply", "Line", "- count", UNREADABLE),
    ]


def test_types_of_new_calls_and_calls_without_a_reply_are_not_compared() -> None:
    old = graph(a={"x.act": {"request": of({"id": {}})}})
    new = graph(
        a={"x.act": {"request": of({"id": {}}), "reply": of({"id": {}})}, "x.other": {"request": of({"more": {}})}},
        b={"x.act": {"request": of({"more": {}})}},
    )
    told = [each for each in differences(old, new) if each.what != "step"]
    assert told == []
    untitled: dict[str, Any] = {"properties": {"id": {}}}
    (change,) = differences(graph(untitled), graph({"properties": {}}))
    assert (change.name, change.detail) == ("object", "- id")
