"""The graph of a saga: which step waits for which, with the edges that the kinds of steps imply.

Three stages follow from the kinds: what can be undone, the pivot alone, what must succeed in the end. So the pivot
waits for every compensable step and every neutral one that isn't after it, and a retriable waits for the pivot and
every compensable. Where there is no pivot, a retriable also waits for the neutral steps that aren't after a
retriable: they could still turn the run back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amends.core.saga.steps import Step
from amends.core.words.retry import Kind


@dataclass(frozen=True, slots=True)
class Vertex:
    """A step's place in the graph. `requires` are its direct edges; the closures are transitive."""

    name: str
    kind: Kind
    requires: tuple[str, ...]
    ancestors: frozenset[str]
    descendants: frozenset[str]
    forward_only: bool
    """It can only run once there is no way back: a retriable, or a neutral step after the pivot or a retriable."""


def stated_edges(steps: Sequence[Step[Any, Any]]) -> dict[str, tuple[str, ...]]:
    """The edges as the author wrote them, without repeats: reads first, then waits."""
    return {
        step.name: tuple(dict.fromkeys([*(each.name for each in step.reads), *(each.name for each in step.after)]))
        for step in steps
    }


def closure(edges: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    """Everything reachable along the edges, for edges that point at names that come earlier."""
    reached: dict[str, frozenset[str]] = {}
    for name, nexts in edges.items():
        reached[name] = frozenset(nexts).union(*(reached[each] for each in nexts))
    return reached


def arrange(steps: Sequence[Step[Any, Any]]) -> dict[str, Vertex]:
    """The graph in the order of writing, which is a topological one: a step can only name steps above it.

    Implied edges may point downwards (a retriable written above the pivot), so closures are taken over the arranged
    order.
    """
    stated = stated_edges(steps)
    above = closure(stated)
    kinds = {step.name: step.kind for step in steps}
    pivots = [name for name, kind in kinds.items() if kind is Kind.PIVOT]
    turning = frozenset(pivots) | {name for name, kind in kinds.items() if kind is Kind.RETRIABLE}
    forward_only = {
        name: kind is Kind.RETRIABLE or (kind is Kind.NEUTRAL and bool(above[name] & turning))
        for name, kind in kinds.items()
    }
    before = [
        name
        for name, kind in kinds.items()
        if kind is Kind.COMPENSABLE or (kind is Kind.NEUTRAL and not forward_only[name])
    ]
    edges: dict[str, tuple[str, ...]] = {}
    for name, kind in kinds.items():
        implied: list[str] = []
        if kind is Kind.PIVOT:
            implied = before
        elif kind is Kind.RETRIABLE:
            implied = [*before, *pivots]
        edges[name] = tuple(dict.fromkeys([*stated[name], *(each for each in implied if each != name)]))
    ordered = _topological(edges)
    ancestors = closure({name: edges[name] for name in ordered})
    return {
        name: Vertex(
            name=name,
            kind=kinds[name],
            requires=edges[name],
            ancestors=ancestors[name],
            descendants=frozenset(other for other in edges if name in ancestors[other]),
            forward_only=forward_only[name],
        )
        for name in edges
    }


def _topological(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """The names so that each comes after all it requires, keeping the order of writing where it can."""
    ordered: dict[str, None] = {}
    left = list(edges)
    while left:
        free = [name for name in left if all(each in ordered for each in edges[name])]
        if not free:
            msg = f"steps that wait for each other: {', '.join(left)}"
            raise ValueError(msg)
        ordered.update(dict.fromkeys(free))
        left = [name for name in left if name not in ordered]
    return list(ordered)
