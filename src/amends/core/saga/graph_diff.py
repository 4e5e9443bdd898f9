"""What changed between two graphs of a saga, as they are kept in a log (`Definition.graph`), for people who deploy.

What the digest covers (steps, kinds, edges, operations, compensations, guards) needs a new version where live runs
began with the old graph. Schemas aren't covered: a type may gain what has a default, and runs begun before can read it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from amends.core.words.values import value

Json: TypeAlias = Any
"""Parsed JSON: a graph, a step of it, a schema."""

ADDED: Final = "+"
GONE: Final = "-"
CHANGED: Final = "~"

READABLE: Final = "runs can read it"
UNREADABLE: Final = "runs can't read it"


@value
class Change:
    """`sign` is `+`, `-` or `~`; `what` is what kind of thing (`step`, `edge`, `reply`); `note` says what it means for
    runs that began with the old graph, where that isn't a new version.
    """

    sign: str
    what: str
    name: str
    detail: str
    note: str = ""


def differences(old: bytes, new: bytes) -> Sequence[Change]:
    """Everything that changed, steps first, then edges, then what steps call, then types."""
    before, after = json.loads(old), json.loads(new)
    old_steps = {step["name"]: step for step in before["steps"]}
    new_steps = {step["name"]: step for step in after["steps"]}
    both = [(old_steps[name], step) for name, step in new_steps.items() if name in old_steps]
    return [
        *(Change(ADDED, "step", name, _place(new_steps[name], after)) for name in new_steps if name not in old_steps),
        *(Change(GONE, "step", name, old_steps[name]["kind"]) for name in old_steps if name not in new_steps),
        *(change for pair in both for change in _of_kind(*pair)),
        *(change for pair in both for change in _of_edges(*pair)),
        *(change for pair in both for change in _of_calls(*pair)),
        *_of_types(before, after),
    ]


def _place(step: Json, graph: Json) -> str:
    """Its kind, and what it comes before."""
    name = step["name"]
    followers = [each["name"] for each in graph["steps"] if name in each["reads"] or name in each["after"]]
    return ", ".join([step["kind"], *([f"before {' and '.join(followers)}"] if followers else [])])


def _of_kind(old: Json, new: Json) -> Iterator[Change]:
    if old["kind"] != new["kind"]:
        yield Change(CHANGED, "kind", new["name"], f"was {old['kind']}, is {new['kind']}")


def _of_edges(old: Json, new: Json) -> Iterator[Change]:
    told = [
        *_gained_and_lost(old["reads"], new["reads"], "now reads", "no longer reads"),
        *_gained_and_lost(old["after"], new["after"], "now waits for", "no longer waits for"),
    ]
    if not told and old["reads"] != new["reads"]:
        told = [f"reads {', '.join(new['reads'])} in this order"]
    if told:
        yield Change(CHANGED, "edge", new["name"], ", ".join(told))


def _of_calls(old: Json, new: Json) -> Iterator[Change]:
    for field, what, gained, lost in (
        ("operations", "call", "now calls", "no longer calls"),
        ("compensations", "undo", "now undone by", "no longer undone by"),
        ("guard", "guard", "now", "no longer"),
    ):
        told = list(_gained_and_lost(_texts(old[field]), _texts(new[field]), gained, lost))
        if told:
            yield Change(CHANGED, what, new["name"], ", ".join(told))


def _texts(values: Iterable[object]) -> list[str]:
    return [each if isinstance(each, str) else json.dumps(each) for each in values]


def _gained_and_lost(old: Sequence[str], new: Sequence[str], gained: str, lost: str) -> Iterator[str]:
    more = [each for each in new if each not in old]
    less = [each for each in old if each not in new]
    if more:
        yield f"{gained} {', '.join(more)}"
    if less:
        yield f"{lost} {', '.join(less)}"


def _of_types(before: Json, after: Json) -> Iterator[Change]:
    told: set[tuple[str, str]] = set()
    for what, _, old, new in schemas_of_both(before, after):
        old_types, new_types = _objects(old), _objects(new)
        for name in new_types:
            if name in old_types and (what, name) not in told:
                told.add((what, name))
                yield from _of_fields(what, name, old_types[name], new_types[name])


def schemas_of_both(before: Json, after: Json) -> Iterator[tuple[str, str, Json, Json]]:
    """Every schema that is in both: what it is of (the input, a request or reply), the step, and both schemas."""
    yield "input", after.get("saga", "input"), before["input"], after["input"]
    old_steps = {step["name"]: step["schemas"] for step in before["steps"]}
    for step in after["steps"]:
        for call, schemas in step["schemas"].items():
            known: Json = old_steps.get(step["name"], {}).get(call, {})
            for what in ("request", "reply"):
                if what in schemas and what in known:
                    yield what, step["name"], known[what], schemas[what]


def _objects(schema: Json) -> Mapping[str, Json]:
    """The types with fields in a schema, by name."""
    if not schema:
        return {}
    found: dict[str, Json] = dict(schema.get("$defs", {}))
    if "properties" in schema:
        found[schema.get("title", "object")] = schema
    return {name: each for name, each in found.items() if "properties" in each}


def _of_fields(what: str, name: str, old: Json, new: Json) -> Iterator[Change]:
    had, has = old["properties"], new["properties"]
    for field, schema in has.items():
        if field not in had:
            needed = field in new.get("required", ())
            default = "" if needed else f" (default {json.dumps(schema.get('default'), ensure_ascii=False)})"
            yield Change(CHANGED, what, name, f"+ {field}{default}", UNREADABLE if needed else READABLE)
        elif _plain(had[field]) != _plain(schema):
            yield Change(CHANGED, what, name, f"~ {field} has another type", UNREADABLE)
    for field in had:
        if field not in has:
            yield Change(CHANGED, what, name, f"- {field}", UNREADABLE)


def _plain(schema: Json) -> Json:
    """What of a field's schema says how it is read."""
    return {key: each for key, each in schema.items() if key not in {"default", "title", "description", "x-redacted"}}
