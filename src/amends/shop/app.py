"""One service of the shop as an application: its saga operations, and its books for people to read.

`POST /saga/...` is for sagas. `GET /stock`, `/reservations`, `/accounts` and so on answer rows as JSON, newest first;
any column is a filter (`/reservations?run=order-0007&state=active`), `limit` says how many.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic
from typing import Any, Final

import msgspec
from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from amends.participant import Service
from amends.shop import inventory, payment, shipping
from amends.shop.catalogue import Catalogue
from amends.shop.database import Database
from amends.shop.faults import Break, FaultMiddleware, Fired, Plan, call_of, cannot_break
from amends.shop.records import stamp

ROWS_DEFAULT: Final = 200
ROWS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class ServiceKind:
    """What distinguishes one service from another."""

    base: type[DeclarativeBase]
    opening: Callable[[Catalogue], Iterable[object]]
    service: Callable[[Database], Service[AsyncSession]]
    tables: tuple[str, ...]


KINDS: Final[Mapping[str, ServiceKind]] = {
    "inventory": ServiceKind(inventory.InventoryBase, inventory.opening, inventory.service, ("stock", "reservations")),
    "payment": ServiceKind(payment.PaymentBase, payment.opening, payment.service, ("accounts", "charges", "holds")),
    "shipping": ServiceKind(
        shipping.ShippingBase, shipping.opening, shipping.service, ("shipments", "carriers", "towns", "days")
    ),
}
"""The three services by name."""

BOOKKEEPING: Final = ("journal", "calls")


def application(
    name: str,
    database: Database,
    catalogue: Catalogue,
    *,
    plan: Plan | None = None,
    work_ms: int = 0,
    break_connection: Break = cannot_break,
) -> Starlette:
    """The service `name` over this database; `work_ms` is how long it takes for a call, more or less."""
    kind = KINDS[name]
    plan = plan or Plan()
    tables = kind.base.metadata.tables

    async def note_fault(fired: Fired) -> None:
        row = {"kind": fired.kind.value, "key": fired.key, "attempt": fired.attempt, "at": stamp()}
        async with database.sessions.begin() as session:
            await session.execute(tables["faults"].insert().values(row))

    async def note_work(row: dict[str, Any]) -> None:
        async with database.sessions.begin() as session:
            await session.execute(tables["calls"].insert().values(row))

    saga: ASGIApp = kind.service(database).asgi()
    if work_ms:
        saga = TakesTime(saga, work_ms, note_work)
    saga = FaultMiddleware(saga, plan, note_fault, break_connection)

    async def healthz(_: Request) -> Response:
        async with database.reading() as session:
            await session.execute(select(1))
        return _json({"service": name, "ok": True})

    async def faults(_: Request) -> Response:
        return _json(await fired_so_far(database, tables["faults"]))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        await prepare(name, database, catalogue)
        yield
        await database.close()

    readable = [*kind.tables, *BOOKKEEPING]
    routes = [Route(f"/{table}", _reader(database, tables[table])) for table in readable]
    return Starlette(
        routes=[Route("/healthz", healthz), Route("/faults", faults), *routes, Mount("/saga", saga)],
        lifespan=lifespan,
    )


async def prepare(name: str, database: Database, catalogue: Catalogue) -> None:
    """Make the tables of the service `name`, and stock up if they are new."""
    kind = KINDS[name]
    await database.prepare(kind.base, lambda: kind.opening(catalogue))


async def fired_so_far(database: Database, table: Table) -> dict[str, Any]:
    """How many faults have been fired, altogether and by kind."""
    async with database.reading() as session:
        counted = await session.execute(
            select(table.c.kind, func.count()).group_by(table.c.kind).order_by(table.c.kind)
        )
        by_kind: dict[str, int] = dict(counted.all())
    return {"fired": sum(by_kind.values()), "by_kind": by_kind}


class TakesTime:
    """Makes every call take a while before it is worked on, 0.5 to 1.5 times `work_ms` by its key, and notes how
    long.
    """

    def __init__(self, app: ASGIApp, work_ms: int, note: Callable[[dict[str, Any]], Any]) -> None:
        self.app = app
        self.work_ms = work_ms
        self.note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, work, note."""
        key, attempt = call_of(scope)
        began_at, began = stamp(), monotonic()
        await asyncio.sleep(work_seconds(key, self.work_ms))
        await self.app(scope, receive, send)
        spent = round((monotonic() - began) * 1000)
        await self.note({"key": key, "attempt": attempt, "began_at": began_at, "milliseconds": spent})


def work_seconds(key: str, work_ms: int) -> float:
    """How long a call takes: the same in every attempt."""
    return work_ms / 1000 * (0.5 + sha256(key.encode()).digest()[0] / 255)


def _reader(database: Database, table: Table) -> Callable[[Request], Any]:
    async def read(request: Request) -> Response:
        wanted = select(table)
        for name, value in request.query_params.items():
            if name == "limit":
                continue
            if name not in table.c:
                known = ", ".join(column.name for column in table.c)
                return _json({"detail": f"there is no column {name}; there are {known} and limit"}, status=422)
            column = table.c[name]
            wanted = wanted.where(column == _typed(column.type.python_type, value))
        asked = request.query_params.get("limit", "")
        limit = min(int(asked), ROWS_MAX) if asked.isdecimal() else ROWS_DEFAULT
        order = [table.c.id.desc()] if "id" in table.c else list(table.primary_key)
        async with database.reading() as session:
            rows = (await session.execute(wanted.order_by(*order).limit(limit))).mappings().all()
        return _json([dict(row) for row in rows])

    return read


def _json(value: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def _typed(kind: type, value: str) -> object:
    if kind is bool:
        return value in {"1", "true"}
    return int(value) if kind is int and value.isdecimal() else value
