"""A clean shop is found clean, and whatever is wrong with it is found and named. All read from files."""

import asyncio
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from amends import Call, Undo
from amends.codecs.events import JsonEventCodec
from amends.core.run.events import Event, RunEnded, RunStarted
from amends.core.words.keys import Phase
from amends.logs.sqlite.log import SqliteLog
from amends.ports.log import RunRow, Start, StoredEvent, Written
from amends.shop.audit import AuditReport, audit
from amends.shop.books import NothingToAudit
from amends.shop.catalogue import NOWHERE
from amends.shop.contract import Charged, Inventory, Payment, Shipping, TakeMoney
from amends.shop.database import Database
from amends.shop.payment import charge, refund
from amends.shop.saga import Line, Order
from amends.wire.this_call import CURRENT_CALL, call_info
from tests.fast.shop.services import Json, Opened, Shop, open_shop, url_of

DONE = Order(
    id="done", customer="ann", address="1 Mill Lane, Easton", lines=[Line("sku-1", 2, 500), Line("sku-2", 1, 900)]
)
BACK = Order(id="back", customer="bo", address=f"1 Mill Lane, {NOWHERE}", lines=[Line("sku-1", 1, 500)])
HELD = Order(id="held", customer="bo", address="1 Mill Lane, Northfield", lines=[Line("sku-2", 3, 900)])
GAVE_UP = Order(id="gave-up", customer="ann", address="1 Mill Lane, Easton", lines=[Line("sku-1", 99, 500)])
OPEN = Order(id="open", customer="bo", address="1 Mill Lane, Easton", lines=[Line("sku-2", 1, 900)])


async def act(service: Opened, call: Call[Any], key: str, *, kind: str = "compensable") -> Json:
    said = await service.act(call, key, kind=kind)
    assert said.outcome == "succeeded", said
    return said.json


async def reserve(shop: Shop, order: Order, step: str) -> dict[str, Any]:
    return {
        line.sku: await act(
            shop.inventory, Inventory.reserve(sku=line.sku, quantity=line.quantity), f"{order.id}:{step}/{line.sku}"
        )
        for line in order.lines
    }


async def complete(shop: Shop, order: Order) -> None:
    await reserve(shop, order, "reserve")
    await act(shop.payment, Payment.charge(customer=order.customer, cents=order.cents), f"{order.id}:charge")
    await act(shop.shipping, Shipping.schedule(address=order.address, reservations=[1]), f"{order.id}:schedule")


async def turn_back(shop: Shop, order: Order) -> None:
    reserved = await reserve(shop, order, "reserve")
    charge = Payment.charge(customer=order.customer, cents=order.cents)
    charged = await act(shop.payment, charge, f"{order.id}:charge")
    no = await shop.shipping.act(Shipping.schedule(address=order.address, reservations=[1]), f"{order.id}:schedule")
    assert no.code == "undeliverable"
    for line in order.lines:
        call = Inventory.reserve(sku=line.sku, quantity=line.quantity)
        await shop.inventory.undo(call, f"{order.id}:reserve/{line.sku}", reserved[line.sku])
    await shop.payment.undo(charge, f"{order.id}:charge", charged)


async def complete_held(shop: Shop, order: Order) -> None:
    await act(shop.shipping, Shipping.route(address=order.address), f"{order.id}:find_route")
    await reserve(shop, order, "set_aside")
    held = await act(shop.payment, Payment.hold(customer=order.customer, cents=order.cents), f"{order.id}:hold")
    await act(shop.payment, Payment.capture(hold=held["hold"]), f"{order.id}:capture", kind="pivot")
    ship = Shipping.ship(address=order.address, reservations=[1])
    await act(shop.shipping, ship, f"{order.id}:ship", kind="retriable")


async def give_up_held(shop: Shop, order: Order) -> None:
    hold = Payment.hold(customer=order.customer, cents=order.cents)
    held = await act(shop.payment, hold, f"{order.id}:hold")
    line = order.lines[0]
    reserve = Inventory.reserve(sku=line.sku, quantity=line.quantity)
    assert (await shop.inventory.act(reserve, f"{order.id}:set_aside/{line.sku}")).code == "out-of-stock"
    await shop.payment.undo(hold, f"{order.id}:hold", held)


PLACE = ("reserve", "charge", "schedule")
HOLD = ("find_route", "set_aside", "hold", "capture", "ship")

RUNS: Sequence[tuple[Order, str, str, dict[str, str]]] = [
    (DONE, "place-order", "completed", dict.fromkeys(PLACE, "done")),
    (BACK, "place-order", "compensated", dict.fromkeys(PLACE, "compensated") | {"schedule": "rejected"}),
    (HELD, "hold-order", "completed", dict.fromkeys(HOLD, "done")),
    (
        GAVE_UP,
        "hold-order",
        "compensated",
        dict.fromkeys(HOLD, "waiting") | {"set_aside": "rejected", "hold": "compensated"},
    ),
    (OPEN, "place-order", "running", dict.fromkeys(PLACE, "acting")),
]


async def write_log(path: Path) -> None:
    """The log as an orchestrator would have left it."""
    log, events = SqliteLog(path), JsonEventCodec()
    await log.open()
    try:
        for number, (order, saga, state, steps) in enumerate(RUNS):
            body = msgspec.json.encode(order)
            facts: list[Event] = [
                RunStarted(number, 1, order.id, saga, 1, "digest", body, None, "a test"),
                RunEnded(number, 1, state),
            ]
            stored = [StoredEvent(*events.encode(fact), epoch=1, at=number) for fact in facts]
            listed = [{"name": name, "kind": "any", "state": is_} for name, is_ in steps.items()]
            row = RunRow(state, False, None, b"[]", msgspec.json.encode(listed), b"[]", number)
            start = Start(order.id, saga, 1, "digest", b"print", None, {}, number, b"%08d" % number, stored, row)
            assert await log.append([start]) == [Written.ACCEPTED]
    finally:
        await log.close()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs, carried out by the real services: two completed, two turned back, one on its way."""
    folder = tmp_path_factory.mktemp("clean")

    async def live() -> None:
        async with open_shop(folder) as shop:
            await complete(shop, DONE)
            await turn_back(shop, BACK)
            await complete_held(shop, HELD)
            await give_up_held(shop, GAVE_UP)
            await reserve(shop, OPEN, "reserve")
        await write_log(folder / "log.db")

    asyncio.run(live())
    return folder


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "shop"))


async def audited(folder: Path) -> AuditReport:
    log, inventory, payment, shipping = (url_of(name, folder) for name in ("log", "inventory", "payment", "shipping"))
    return await audit(log=log, inventory=inventory, payment=payment, shipping=shipping)


def plant(folder: Path, database: str, *statements: str) -> None:
    with closing(sqlite3.connect(folder / f"{database}.db")) as db, db:
        for statement in statements:
            assert db.execute(statement).rowcount == 1, f"nothing was planted by {statement}"


async def test_a_clean_shop_is_found_clean(folder: Path) -> None:
    report = await audited(folder)
    assert report.violations == ()
    assert report.clean
    assert report.runs == {"completed": 2, "compensated": 2, "running": 1}
    assert report.judged == 4
    assert report.effects == {"reservation": 5, "charge": 3, "hold": 2, "shipment": 2}
    assert report.undone == {"reservation": 1, "charge": 1, "hold": 1}
    assert "violations     0" in str(report)


COPY = "insert into {0} ({1}) select {1} from {0} where {2} limit 1"
JOURNAL = "run, key, what, subject, amount, at"
RESERVATION = "run, key, state, at, undone, sku, quantity"
CHARGE = "run, key, state, at, undone, customer, cents"

PLANTED: Sequence[tuple[str, Sequence[str], Sequence[str]]] = [
    (
        "inventory",
        ["update stock set free = free - 1 where sku = 'sku-1'"],
        [
            "inventory: sku-1 isn't conserved: 10 at the start, but 7 free and 2 taken.",
            "inventory: the journal of sku-1 doesn't add up: 10 at the start and -2 since, but 7 free.",
        ],
    ),
    (
        "payment",
        ["update accounts set balance = balance + 500 where customer = 'bo'"],
        [
            "payment: bo isn't conserved: 100000 at the start, but 97800 free and 2700 taken.",
            "payment: the journal of bo doesn't add up: 100000 at the start and -2700 since, but 97800 free.",
        ],
    ),
    (
        "shipping",
        ["update days set booked = 3 where carrier = 'oxcart' and day = (select min(day) from days)"],
        [
            "shipping: oxcart {day} is below zero: -1.",
            "shipping: oxcart {day} isn't conserved: 2 at the start, but -1 free and 1 taken.",
        ],
    ),
    (
        "inventory",
        [
            COPY.format("reservations", RESERVATION, "run = 'done' and sku = 'sku-1'"),
            COPY.format("journal", JOURNAL, "run = 'done' and subject = 'sku-1'"),
            "update stock set free = free - 2 where sku = 'sku-1'",
        ],
        [
            "inventory: done:reserve/sku-1:action was carried out 2 times.",
            "inventory: done:reserve/sku-1:action made 2 reservations.",
            "done is completed, but inventory has 2 active reservations of 2 of sku-1 for it, not 1.",
        ],
    ),
    (
        "payment",
        [
            "update charges set undone = 2 where run = 'back'",
            COPY.format("journal", JOURNAL, "key = 'back:charge:compensation'"),
            "update accounts set balance = balance + 500 where customer = 'bo'",
        ],
        [
            "payment: back:charge:compensation was carried out 2 times.",
            "payment: charge 2 (500 of bo) of back was undone 2 times.",
            "payment: bo isn't conserved: 100000 at the start, but 97800 free and 2700 taken.",
        ],
    ),
    (
        "payment",
        ["update charges set state = 'refunded', undone = 1 where run = 'done'"],
        [
            "done is completed, but charge 1 (1900 of ann) was undone in payment.",
            "done is completed, but payment has 0 active charges of 1900 of ann for it, not 1.",
        ],
    ),
    (
        "payment",
        ["update charges set cents = 1800 where run = 'done'"],
        ["done is completed, but payment has charge 1 (1800 of ann), which it didn't order."],
    ),
    (
        "payment",
        ["update holds set state = 'active' where run = 'held'"],
        [
            "held is completed, but hold 1 (2700 of bo) is active in payment, not captured.",
            "payment: bo isn't conserved: 100000 at the start, but 97300 free and 5400 taken.",
        ],
    ),
    (
        "shipping",
        ["delete from shipments where run = 'held'"],
        ["held is completed, but shipping has 0 active shipments for it, not 1."],
    ),
    (
        "inventory",
        ["update reservations set state = 'active', undone = 0 where run = 'back'"],
        ["back is compensated, but reservation 3 (1 of sku-1) is still active in inventory."],
    ),
    (
        "payment",
        ["update holds set state = 'captured', undone = 0 where run = 'gave-up'"],
        ["gave-up is compensated, but hold 2 (49500 of ann) is still captured in payment."],
    ),
    (
        "payment",
        ["update charges set state = 'active' where run = 'back'"],
        ["payment: charge 2 (500 of bo) of back is active, but was undone 1 times."],
    ),
    (
        "shipping",
        ["update shipments set run = 'stranger' where run = 'done'"],
        [
            "shipping: shipment 1 (1 of oxcart {day}) belongs to stranger, which the log doesn't know.",
            "done is completed, but shipping has 0 active shipments for it, not 1.",
        ],
    ),
    (
        "inventory",
        ["insert into journal values (99, 'ghost', 'ghost:x:action', 'x', 'sku-9', 0, '')"],
        [
            "inventory: something was taken from sku-9, which doesn't exist.",
            "inventory: the journal names ghost, which the log doesn't know.",
        ],
    ),
    (
        "log",
        ["update runs set state = 'compensated' where id = 'done'"],
        [
            "done is compensated, but charge 1 (1900 of ann) is still active in payment.",
            "done is compensated, but its step reserve is done.",
        ],
    ),
    (
        "log",
        ["update runs set state = 'completed', by_hand = 1 where id = 'back'"],
        [
            "back is completed by hand, but shipping has 0 active shipments for it, not 1.",
            "back is completed by hand, but its step schedule is rejected.",
        ],
    ),
    (
        "log",
        ["delete from runs where id = 'held'"],
        ["payment: charge 3 (2700 of bo) belongs to held, which the log doesn't know."],
    ),
]


@pytest.mark.parametrize(("database", "statements", "sentences"), PLANTED)
async def test_what_is_wrong_is_found_and_named(
    database: str, statements: Sequence[str], sentences: Sequence[str], folder: Path
) -> None:
    with closing(sqlite3.connect(folder / "shipping.db")) as db:
        (day,) = db.execute("select min(day) from days").fetchone()
    plant(folder, database, *statements)
    report = await audited(folder)
    assert not report.clean
    missing = {sentence.format(day=day) for sentence in sentences} - set(report.violations)
    assert not missing, report


async def test_what_happens_without_a_barrier_is_found(folder: Path) -> None:
    """The services do what they are told as often as they are told: only the barrier keeps calls from acting twice."""
    database = Database(url_of("payment", folder))
    request = TakeMoney(customer="ann", cents=1_000)
    for phase, undo in ((Phase.ACTION, None), (Phase.ACTION, None), (Phase.COMPENSATION, 1), (Phase.COMPENSATION, 1)):
        token = CURRENT_CALL.set(call_info("done", "charge", "", phase, attempt=1, epoch=1))
        async with database.sessions.begin() as session:
            if undo is None:
                await charge(request, session)
            else:
                await refund(Undo(request, Charged(undo, 1_900), reply_known=True, reason="a test"), session)
        CURRENT_CALL.reset(token)
    await database.close()
    found = (await audited(folder)).violations
    assert {
        "payment: done:charge:action was carried out 3 times.",
        "payment: done:charge:action made 3 charges.",
        "payment: done:charge:compensation was carried out 2 times.",
        "payment: charge 1 (1900 of ann) of done was undone 2 times.",
        "payment: ann isn't conserved: 100000 at the start, but 99900 free and 2000 taken.",
    } <= set(found), found


async def test_a_run_on_its_way_is_not_judged(folder: Path) -> None:
    plant(folder, "log", "update runs set state = 'stuck' where id = 'back'")
    plant(folder, "log", "update runs set state = 'abandoned' where id = 'done'")
    report = await audited(folder)
    assert report.clean
    assert report.judged == 2


async def test_a_saga_that_is_not_the_shops_is_known_and_not_judged(folder: Path) -> None:
    plant(folder, "log", "update runs set saga = 'other' where id = 'back'")
    assert (await audited(folder)).clean


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.db")}


async def test_an_audit_changes_nothing_and_makes_no_files(folder: Path) -> None:
    before = bytes_in(folder)
    await audited(folder)
    assert bytes_in(folder) == before
    (folder / "payment.db").unlink()
    with pytest.raises(NothingToAudit, match=r"payment\.db"):
        await audited(folder)
    assert not (folder / "payment.db").exists()
