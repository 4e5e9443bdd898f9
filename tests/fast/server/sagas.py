"""Sagas that show one side each of the API."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from amends import Call, CannotCompensate, Participant, Redacted, Rejected, Saga, operation, sleep


@dataclass(frozen=True, slots=True)
class Line:
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Order:
    lines: list[Line]
    card: Annotated[str, Redacted] = "none"
    cents: float = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    id: str
    pin: Annotated[str, Redacted] = "1234"


class Inventory(Participant):
    reserve = operation(Line, Reservation, compensation="release")


orders = Saga("orders", Order)


@orders.compensable()
def reserve(order: Order) -> dict[str, Call[Reservation]]:
    return {line.sku: Inventory.reserve(line.sku, line.quantity) for line in order.lines}


quick = Saga("quick", str)


@quick.compensable()
async def first(word: str) -> str:
    return f"{word} was done"


@first.compensation
async def undo_first(word: str, done: str | None) -> None:
    if word == "keep":
        raise CannotCompensate("it left the shelf", code="gone")


@quick.pivot(first)
async def decide(word: str, done: str) -> str:
    if word in {"no", "keep"}:
        raise Rejected("not today", code="closed")
    return done


other = Saga("other", str)


@other.neutral()
async def nothing(_: str) -> None:
    return None


waits = Saga("waits", int)


@waits.neutral()
def cooling_off(hours: int) -> Call[None]:
    return sleep(timedelta(hours=hours))


broken = Saga("broken", str)


@broken.compensable()
def careless(word: str) -> Call[Reservation]:
    if word == "no":
        raise Rejected("not with us", code="never")
    if word == "type":
        return word  # type: ignore[return-value]  # an author's slip
    raise KeyError(f"secret {word}")


@careless.compensation
def undo_careless(word: str, made: Reservation | None) -> Call[None]:
    raise NotImplementedError


def versioned(version: int) -> Saga[str]:
    """One saga, loaded under several versions."""
    saga = Saga("versioned", str, version=version)

    @saga.neutral()
    def pause(_: str) -> Call[None]:
        return sleep(timedelta(hours=1))

    assert pause.name == "pause"
    return saga
