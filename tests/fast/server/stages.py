"""One saga whose runs can be brought to any stage and held there: what each step does is said by the run's input."""

import asyncio
from dataclasses import dataclass, field

from amends import CannotCompensate, Rejected, Saga, this_call
from tests.fast.server.asgi import Caller
from tests.fast.server.processes import until


@dataclass(frozen=True, slots=True)
class Told:
    """Steps that wait until they are let go (`hold`), say no (`refuse`), or can't be undone (`keep`)."""

    hold: list[str] = field(default_factory=list[str])
    refuse: list[str] = field(default_factory=list[str])
    keep: list[str] = field(default_factory=list[str])


GATES: dict[str, asyncio.Event] = {}
"""By key: set, the step that waits there goes on."""


async def work(told: Told, step: str) -> str:
    key = this_call().key
    if step in told.hold:
        gate = GATES[key] = asyncio.Event()
        await gate.wait()
    if step in told.refuse:
        raise Rejected(f"no {step} today", code="closed")
    return f"{step} done"


async def undo(told: Told, step: str) -> None:
    if f"undo {step}" in told.hold:
        gate = GATES[this_call().key] = asyncio.Event()
        await gate.wait()
    if step in told.keep:
        raise CannotCompensate(f"{step} left the shelf", code="gone")


staged = Saga("staged", Told)


@staged.compensable()
async def reserve(told: Told) -> str:
    return await work(told, "reserve")


@reserve.compensation
async def release(told: Told, made: str | None) -> None:
    await undo(told, "reserve")


@staged.pivot(after=[reserve])
async def pay(told: Told) -> str:
    return await work(told, "pay")


@staged.retriable(after=[pay])
async def ship(told: Told) -> str:
    return await work(told, "ship")


STAGES: dict[str, tuple[dict[str, list[str]], str | None]] = {
    "running": ({"hold": ["reserve"]}, "reserve:action"),
    "pivot open": ({"hold": ["pay"]}, "pay:action"),
    "past the pivot": ({"hold": ["ship"]}, "ship:action"),
    "compensating": ({"refuse": ["pay"], "hold": ["undo reserve"]}, "reserve:compensation"),
    "stuck undoing": ({"refuse": ["pay"], "keep": ["reserve"]}, None),
    "completed": ({}, None),
    "compensated": ({"refuse": ["pay"]}, None),
    "abandoned": ({"refuse": ["pay"], "keep": ["reserve"]}, None),
}
"""What brings a run there, and the call that it is then held at; without one it is settled."""


async def bring(caller: Caller, stage: str, run: str, *, deadline: float | None = None) -> None:
    """Start a run and see it to its stage."""
    told, held = STAGES[stage]
    answer = await caller.start(
        {"saga": "staged", "input": told, "id": run, "deadline": deadline}, "?wait=20" if held is None else ""
    )
    assert answer.status == 201, answer
    if held is not None:
        await until(lambda: f"{run}:{held}" in GATES)
    if stage == "abandoned":
        answer = await caller.ask(f"/v1/runs/{run}/abandon", {"reason": "it is lost"})
        assert answer.status == 200, answer


def let_go(run: str) -> None:
    """Whatever of this run is held goes on."""
    for key, gate in GATES.items():
        if key.startswith(f"{run}:"):
            gate.set()
