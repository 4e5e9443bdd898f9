"""The API opened in this process, with the test's sagas and whatever the test needs of it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from amends import Orchestrator, Saga
from amends.core.saga.operation import Route
from amends.inboxes.memory import MemoryInbox
from amends.participant.service import Service
from amends.ports.log import TransactionLog
from amends.server.access import Access
from amends.server.app import application
from amends.server.callback_tokens import CallbackTokens, calling_back
from amends.server.context import Context, ServerLimits
from tests.fast.server.asgi import Answer, Caller
from tests.fast.server.sagas import Inventory, Line, Reservation, broken, orders, other, quick, waits

PUBLIC_URL = "https://amends.example"


def inventory() -> Service[Any]:
    service = Service(Inventory, MemoryInbox())

    @service.action(Inventory.reserve)
    async def reserve(request: Line, transaction: object) -> Reservation:
        return Reservation(f"r-{request.sku}")

    @service.compensation(Inventory.reserve)
    async def release(undo: object, transaction: object) -> None:
        return None

    del reserve, release  # the service has them
    return service


@asynccontextmanager
async def api(
    *sagas: Saga[Any],
    log: str | TransactionLog = "memory:",
    service: Service[Any] | None = None,
    access: Access | None = None,
    limits: ServerLimits | None = None,
    routes: Sequence[Route] | None = None,
    leave: Sequence[str] = (),
) -> AsyncGenerator[tuple[Caller, Context]]:
    loaded = sagas or (orders, quick, other, waits, broken)
    routes = [Inventory.at(service or inventory())] if routes is None else routes
    callbacks = CallbackTokens()
    around = calling_back(callbacks, PUBLIC_URL)
    async with Orchestrator(loaded, log=log, routes=routes, around=around, leave=leave) as runs:
        await callbacks.open(runs.engine.log)
        context = Context(
            runs.engine,
            access=access or Access(),
            limits=limits or ServerLimits(),
            callbacks=callbacks,
            lanes=runs.lanes,
        )
        yield Caller(application(context)), context


def problem(answer: Answer, status: int, name: str) -> dict[str, Any]:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"urn:amends:{name}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert b"Traceback" not in answer.body
    return body
