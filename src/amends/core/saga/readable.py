"""Whether types of a saga still read what earlier code wrote with the types of the same name, told from JSON schemas.

Types aren't covered by a graph's digest, so that one may gain a field with a default under the same version. Every
other change of a type can make live runs stuck: their input, requests and replies are in the log as they were written.
What can't be proved from the schemas (limits of numbers, patterns, code of validators) is taken for readable: a run
that meets such a change becomes stuck with the cause, and loses nothing.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Final

from amends.core.saga.graph_diff import CHANGED, UNREADABLE, Change, schemas_of_both
from amends.core.saga.schemas import Json, Schema, alternatives, is_schema, kind_of, reference_of, values_of

LOST: Final = "earlier code can't read it without the field"


def unfit_types(old: bytes, new: bytes) -> Sequence[Change]:
    """Changes of types that need a new version; those with the note `UNREADABLE` break runs that began before."""
    told: dict[tuple[str, str], Change] = {}
    if old == new:
        return ()
    for what, name, before, after in schemas_of_both(json.loads(old), json.loads(new)):
        place = _Place(what, name, before, after, set())
        for change in _unread(before, after, place):
            told.setdefault((change.name, change.detail), change)
    return tuple(told.values())


@dataclass(frozen=True, slots=True)
class _Place:
    """Where two schemas stand: in what, in which type, in which of its fields; and what their references refer to.

    `seen`: pairs of references that were compared, or are being compared.
    """

    what: str
    owner: str
    old_root: Json
    new_root: Json
    seen: set[tuple[str, str]]
    field: str = ""

    def change(self, detail: str, note: str = UNREADABLE) -> Change:
        return Change(CHANGED, self.what, self.owner, detail, note)

    def other_type(self) -> Change:
        return self.change(f"{self.named} has another type")

    @property
    def named(self) -> str:
        return f"~ {self.field}".rstrip()


def _unread(old: Json, new: Json, at: _Place) -> Sequence[Change]:
    """What of the values that `old` describes `new` doesn't read."""
    pair = (reference_of(old), reference_of(new))
    if all(pair):
        if pair in at.seen:
            return ()
        at.seen.add(pair)
    news = list(alternatives(new, at.new_root))
    found: list[Change] = []
    for each in alternatives(old, at.old_root):
        ways = [(kind_of(each) == kind_of(other), _unread_by(each, other, at)) for other in news]
        if all(changes for _, changes in ways):
            found += min(ways, key=lambda way: (not way[0], len(way[1])), default=(False, [at.other_type()]))[1]
    return found


def _unread_by(old: Schema, new: Schema, at: _Place) -> list[Change]:
    """The same for two schemas that are no unions."""
    was, now = kind_of(old), kind_of(new)
    if was is None or now is None:
        return []  # anything at all: nothing is known of the values, or everything is read
    if was != now and (was, now) != ("integer", "number"):
        return [at.other_type()]
    allowed = values_of(new)
    if allowed is not None:
        before = values_of(old)
        if before is None:
            return [at.other_type()]
        left = [each for each in before if each not in allowed]
        return [at.change(f"{at.named} no longer takes {json.dumps(each, ensure_ascii=False)}") for each in left]
    match now:
        case "string":
            other = any(new.get(key) and new.get(key) != old.get(key) for key in ("format", "contentEncoding"))
            return [at.other_type()] if other and values_of(old) is None else []
        case "object":
            return list(_unread_fields(old, new, at))
        case "array":
            return list(_unread_items(old, new, at))
        case _:
            return []


def _unread_fields(old: Schema, new: Schema, at: _Place) -> Iterator[Change]:
    had: Schema = old.get("properties", {})
    if "properties" not in new:
        others: Json = new.get("additionalProperties")
        for each in (*had.values(), old.get("additionalProperties")):
            if is_schema(each) and is_schema(others):
                yield from _unread(each, others, at)
        return
    has: Schema = new["properties"]
    needed: Json = new.get("required", ())
    inside = replace(at, owner=new.get("title") or at.owner)
    for name, schema in has.items():
        if name in had:
            yield from _unread(had[name], schema, replace(inside, field=name))
        elif name in needed:
            yield inside.change(f"+ {name}")
    for name in had:
        if name not in has:
            yield inside.change(f"- {name}", LOST)


def _unread_items(old: Schema, new: Schema, at: _Place) -> Iterator[Change]:
    had: list[Json] = old.get("prefixItems", [])
    has: list[Json] = new.get("prefixItems", [])
    if had and len(had) < new.get("minItems", 0):
        yield at.other_type()
        return
    rest, rest_now = old.get("items"), new.get("items")
    for one, other in zip_longest(had, has):
        before, now = (rest if one is None else one), (rest_now if other is None else other)
        if is_schema(before) and is_schema(now):
            yield from _unread(before, now, at)
    if is_schema(rest) and is_schema(rest_now):
        yield from _unread(rest, rest_now, at)
