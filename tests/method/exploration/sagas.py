"""Small sagas of every shape, for walking through everything that can go wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from amends.codecs.json import JsonCodec
from amends.core.run.definition import Definition, define
from amends.core.saga.operation import Call, Operation, Participant, Rest, ask, operation, sleep
from amends.core.saga.saga import Saga
from amends.core.words.retry import Guard, Policy, Retry
from amends.testing.explore.given import Given
from amends.testing.explore.moment import WorldSetup
from amends.testing.explore.moves import EVERY_FAULT, Budget, FaultKind
from amends.testing.explore.small import with_little_patience

TWICE = Retry(attempts_max=2, first=timedelta(seconds=1), cap=timedelta(seconds=4))


@dataclass(frozen=True)
class Thing:
    name: str = "x"


@dataclass(frozen=True)
class Made:
    id: str


PROBE = Rest("GET /things/{key}")


class Shop(Participant):
    make = operation(Thing, Made, compensation="unmake")
    look = operation(Thing, Made)
    pay = operation(Thing, Made)
    tell = operation(Thing, Made)


class Old(Participant):
    put = operation(Thing, Made, rest=Rest("PUT /things/{key}"), compensation="undo")
    put_probed = operation(Thing, Made, rest=Rest("PUT /things/{key}"), probe=PROBE, compensation="undo")
    post = operation(Thing, Made, rest=Rest("POST /things"), compensation="undo")
    post_probed = operation(Thing, Made, rest=Rest("POST /things"), probe=PROBE, compensation="undo")


POLICY = Policy(retry=TWICE)
STUCK = Policy(retry=TWICE, on_unknown="stuck")
SETTLE = Policy(retry=TWICE, on_unknown="settle")


def chain() -> Saga[Any]:
    saga = Saga("chain", Thing)

    @saga.compensable(policy=POLICY)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.compensable(a, policy=POLICY)
    def b(thing: Thing, made: Made) -> Call[Made]:
        return Shop.make(made.id)

    return saga


def chain_pivot() -> Saga[Any]:
    saga = Saga("chain-pivot", Thing)

    @saga.compensable(policy=POLICY)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.pivot(a, policy=POLICY)
    def p(thing: Thing, made: Made) -> Call[Made]:
        return Shop.pay(made.id)

    return saga


def whole() -> Saga[Any]:
    saga = Saga("whole", Thing)

    @saga.compensable(policy=POLICY)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.pivot(a, policy=POLICY)
    def p(thing: Thing, made: Made) -> Call[Made]:
        return Shop.pay(made.id)

    @saga.retriable(p, policy=POLICY)
    def r(thing: Thing, made: Made) -> Call[Made]:
        return Shop.tell(made.id)

    return saga


def parallel() -> Saga[Any]:
    saga = Saga("parallel", Thing)

    @saga.compensable(policy=POLICY)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.compensable(policy=STUCK)
    def b(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    return saga


def fork() -> Saga[Any]:
    saga = Saga("fork", Thing)

    @saga.compensable(policy=POLICY)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.compensable(policy=POLICY)
    def b(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.pivot(a, b, policy=POLICY)
    def p(thing: Thing, one: Made, two: Made) -> Call[Made]:
        return Shop.pay(one.id + two.id)

    return saga


def settled() -> Saga[Any]:
    saga = Saga("settled", Thing)

    @saga.compensable(policy=SETTLE)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.compensable(a, policy=SETTLE)
    def b(thing: Thing, made: Made) -> Call[Made]:
        return Shop.make(made.id)

    return saga


def diamond() -> Saga[Any]:
    saga = Saga("diamond", Thing)

    @saga.compensable(policy=POLICY)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.compensable(a, policy=POLICY)
    def b(thing: Thing, made: Made) -> Call[Made]:
        return Shop.make(made.id)

    @saga.compensable(a, policy=POLICY)
    def c(thing: Thing, made: Made) -> Call[Made]:
        return Shop.make(made.id)

    @saga.pivot(b, c, policy=POLICY)
    def p(thing: Thing, one: Made, two: Made) -> Call[Made]:
        return Shop.pay(one.id + two.id)

    return saga


def pivot_first() -> Saga[Any]:
    saga = Saga("pivot-first", Thing)

    @saga.pivot(policy=POLICY)
    def p(thing: Thing) -> Call[Made]:
        return Shop.pay(thing.name)

    @saga.retriable(p, policy=POLICY)
    def r(thing: Thing, made: Made) -> Call[Made]:
        return Shop.tell(made.id)

    @saga.retriable(p, policy=POLICY)
    def q(thing: Thing, made: Made) -> Call[Made]:
        return Shop.tell(made.id)

    return saga


def only_retriables() -> Saga[Any]:
    saga = Saga("only-retriables", Thing)

    @saga.retriable(policy=POLICY)
    def r(thing: Thing) -> Call[Made]:
        return Shop.tell(thing.name)

    @saga.retriable(r, policy=POLICY)
    def q(thing: Thing, made: Made) -> Call[Made]:
        return Shop.tell(made.id)

    return saga


def many() -> Saga[Any]:
    saga = Saga("many", Thing)

    @saga.compensable(policy=POLICY)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.compensable(after=[a], policy=POLICY)
    def m(thing: Thing) -> dict[str, Call[Made]]:
        return {name: Shop.make(name) for name in ("sku-1", "sku-2")}

    @saga.pivot(m, policy=POLICY)
    def p(thing: Thing, made: dict[str, Made]) -> Call[Made]:
        return Shop.pay("+".join(sorted(made)))

    return saga


def asking() -> Saga[Any]:
    saga = Saga("asking", Thing)

    @saga.compensable(policy=POLICY)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.neutral(a)
    def n(thing: Thing, made: Made) -> Call[Made]:
        return ask(Made, "really?", within=timedelta(hours=1))

    @saga.neutral()
    def z(thing: Thing) -> Call[None]:
        return sleep(timedelta(minutes=5))

    @saga.neutral(policy=POLICY)
    def k(thing: Thing) -> Call[Made]:
        return Shop.look(thing.name)

    @saga.pivot(n, after=[z], policy=POLICY)
    def p(thing: Thing, made: Made) -> Call[Made]:
        return Shop.pay(made.id)

    @saga.neutral(after=[p])
    def y(thing: Thing) -> Call[None]:
        return sleep(timedelta(minutes=5))

    @saga.retriable(after=[y], policy=POLICY)
    def r(thing: Thing) -> Call[Made]:
        return Shop.tell(thing.name)

    return saga


def perhaps() -> Saga[Any]:
    saga = Saga("perhaps", Thing)

    @saga.compensable(policy=POLICY)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.compensable(a, policy=POLICY)
    def b(thing: Thing, made: Made) -> Call[Made] | None:
        return None if made.id.startswith("id-") else Shop.make(thing.name)

    @saga.compensable(b, policy=POLICY)
    def c(thing: Thing, made: Made | None) -> Call[Made]:
        return Shop.make("nothing" if made is None else made.id)

    return saga


def local() -> Saga[Any]:
    saga = Saga("local", Thing)

    @saga.compensable(policy=POLICY)
    async def a(thing: Thing) -> Made:
        return Made(thing.name)

    @a.compensation
    async def undo_a(thing: Thing, made: Made | None) -> None: ...

    @saga.compensable(a, policy=POLICY)
    def b(thing: Thing, made: Made) -> Call[Made]:
        return Shop.make(made.id)

    @saga.pivot(b, policy=POLICY)
    async def p(thing: Thing, made: Made) -> Made:
        return made

    return saga


def old(op: str) -> Callable[[], Saga[Any]]:
    def make() -> Saga[Any]:
        put: Operation[..., Thing, Made] = getattr(Old, op)
        saga = Saga(f"old-{op.replace('_', '-')}", Thing)

        @saga.compensable(policy=POLICY)
        def a(thing: Thing) -> Call[Made]:
            return put(thing.name)

        @saga.compensable(a, policy=POLICY)
        def b(thing: Thing, made: Made) -> Call[Made]:
            return Shop.make(made.id)

        return saga

    return make


def old_pivot(op: str) -> Callable[[], Saga[Any]]:
    def make() -> Saga[Any]:
        put: Operation[..., Thing, Made] = getattr(Old, op)
        saga = Saga(f"old-pivot-{op.replace('_', '-')}", Thing)

        @saga.compensable(policy=POLICY)
        def a(thing: Thing) -> Call[Made]:
            return Shop.make(thing.name)

        @saga.pivot(a, policy=POLICY)
        def p(thing: Thing, made: Made) -> Call[Made]:
            return put(made.id)

        return saga

    return make


def telling() -> Saga[Any]:
    saga = Saga("telling", Thing)

    @saga.compensable(policy=POLICY)
    def a(thing: Thing) -> Call[Made]:
        return Shop.make(thing.name)

    @saga.notice
    def told(thing: Thing, ended: object) -> Call[None]:
        return Shop.tell(thing.name)  # type: ignore[return-value]

    return saga


ALL: dict[str, Callable[[], Saga[Any]]] = {
    "chain": chain,
    "chain-pivot": chain_pivot,
    "whole": whole,
    "parallel": parallel,
    "fork": fork,
    "settled": settled,
    "diamond": diamond,
    "pivot-first": pivot_first,
    "only-retriables": only_retriables,
    "many": many,
    "asking": asking,
    "perhaps": perhaps,
    "local": local,
    "old-put": old("put"),
    "old-put-probed": old("put_probed"),
    "old-post": old("post"),
    "old-post-probed": old("post_probed"),
    "old-pivot-put": old_pivot("put"),
    "old-pivot-post": old_pivot("post"),
    "old-pivot-put-probed": old_pivot("put_probed"),
    "telling": telling,
}


INPUT = b'{"name":"x"}'


def definition_of(name: str) -> Definition:
    saga = ALL[name]()
    if name.startswith("old"):
        return Definition(saga, JsonCodec())  # unchecked: what a service without a barrier needs, on paper only
    return define(saga, JsonCodec())


def setup(
    name: str,
    budget: Budget,
    kinds: frozenset[FaultKind] = EVERY_FAULT,
    *,
    services: Guard = Guard.BARRIER,
) -> WorldSetup:
    """A world's setting: everything that happens in it is in `kinds` and in `budget`."""
    return WorldSetup(Given(with_little_patience(definition_of(name)), INPUT), budget, kinds, services)
