"""How long orders took, against how long the services worked for them. All of it read from files.

The time of an order is from `created_at` to `ended_at` in the log: retries, restarts and queues included. A service
notes in its table `calls` how long it worked on each call. The *sum* of an order is what its calls would take one
after the other, the *critical path* what they take where steps that don't wait for one another run at the same time:
no orchestrator can be quicker than that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from sqlalchemy import select, text

from amends.core.saga.graph import arrange
from amends.core.saga.saga import Saga
from amends.core.words.keys import BadKey, Phase, parse_key
from amends.shop import inventory, payment, shipping
from amends.shop.books import snapshot
from amends.shop.records import CallRecord
from amends.shop.saga import place_held_order, place_order

SHOP_SAGAS: Final[Mapping[str, Saga[Any]]] = {each.name: each for each in (place_order, place_held_order)}
TABLES: Final[Mapping[str, type[CallRecord]]] = {
    "inventory": inventory.InventoryCall,
    "payment": payment.PaymentCall,
    "shipping": shipping.ShippingCall,
}


@dataclass(frozen=True, slots=True)
class RunTime:
    """One run as the log's row has it; milliseconds from its start to its end, `None` while it hasn't ended."""

    run: str
    saga: str
    state: str
    milliseconds: float | None


@dataclass(frozen=True, slots=True)
class WorkTime:
    """How long a service worked on one action of a run."""

    run: str
    step: str
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the slow end of some times, in milliseconds; zeros where there are none."""

    p50: float
    p99: float

    @classmethod
    def of(cls, times: Iterable[float]) -> "Spread":
        """By nearest rank: each is a time that was really seen."""
        ordered = sorted(times)
        if not ordered:
            return cls(0.0, 0.0)
        p50, p99 = (round(ordered[ceil(share * len(ordered)) - 1], 1) for share in (0.5, 0.99))
        return cls(p50, p99)


@dataclass(frozen=True, slots=True)
class Times:
    """`ended`: all orders that ended. The others are about the completed ones, so that they can be compared."""

    ended: Spread
    completed: Spread
    service_sum: Spread
    critical_path: Spread


async def read_run_times(log: str) -> list[RunTime]:
    """Every run, oldest first."""
    wanted = "select id, saga, state, cast(ended_at - created_at as float) / 1000 from runs order by created_at, id"
    async with snapshot(log) as db:
        return [RunTime(*row) for row in await db.execute(text(wanted))]


async def read_worked(databases: Mapping[str, str]) -> list[WorkTime]:
    """Every action of every run, by the services' databases.

    Only the first time that a call was worked on counts: repeats are answered from what was stored.
    """
    found: dict[str, WorkTime] = {}
    for service, url in databases.items():
        table = TABLES[service]
        async with snapshot(url) as db:
            rows = await db.execute(select(table.key, table.milliseconds).order_by(table.began_at, table.id))
            for key, milliseconds in rows:
                if key not in found and (call := _action(key)) is not None:
                    found[key] = WorkTime(*call, milliseconds)
    return list(found.values())


def critical_path(saga: Saga[Any], worked: Mapping[str, float]) -> float:
    """The longest way through the graph, given how long each step's slowest call was worked on."""
    vertices = arrange(saga.steps)
    ends: dict[str, float] = {}
    for name in sorted(vertices, key=lambda each: len(vertices[each].ancestors)):
        begins = max((ends[each] for each in vertices[name].requires), default=0.0)
        ends[name] = begins + worked.get(name, 0.0)
    return max(ends.values(), default=0.0)


def times_of(runs: Sequence[RunTime], calls: Iterable[WorkTime]) -> Times:
    """What was read, as the numbers that are shown."""
    sums: dict[str, float] = {}
    slowest: dict[str, dict[str, float]] = {}
    for call in calls:
        sums[call.run] = sums.get(call.run, 0.0) + call.milliseconds
        steps = slowest.setdefault(call.run, {})
        steps[call.step] = max(steps.get(call.step, 0.0), call.milliseconds)
    completed = [each for each in runs if each.state == "completed"]
    return Times(
        ended=Spread.of(each.milliseconds for each in runs if each.milliseconds is not None),
        completed=Spread.of(each.milliseconds for each in completed if each.milliseconds is not None),
        service_sum=Spread.of(sums[each.run] for each in completed if each.run in sums),
        critical_path=Spread.of(
            critical_path(SHOP_SAGAS[each.saga], slowest[each.run]) for each in completed if each.run in slowest
        ),
    )


def _action(text_of_key: str) -> tuple[str, str] | None:
    try:
        key = parse_key(text_of_key)
    except BadKey:
        return None  # a call outside of sagas
    return (key.run, key.step) if key.phase is Phase.ACTION else None
