"""What each service says yes and no to, and that its undo leaves nothing behind."""

from pathlib import Path

import pytest

from amends import Call
from amends.shop.catalogue import ISLAND, NOWHERE, PENNILESS, SCARCE, STRANGER
from amends.shop.contract import Inventory, Payment, Shipping
from tests.fast.shop.services import open_shop, serving

RESERVE = Inventory.reserve(sku="sku-1", quantity=3)
CHARGE = Payment.charge(customer="ann", cents=4_200)
HOLD = Payment.hold(customer="ann", cents=4_200)
SEND = Shipping.schedule(address="1 Mill Lane, Easton", reservations=[1])


async def test_a_reservation_takes_units_off_the_shelf_and_its_release_puts_them_back(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path) as inventory:
        made = await inventory.act(RESERVE, "run-1:reserve/sku-1")
        assert (made.status, made.outcome) == (200, "succeeded")
        assert made.json == {"reservation": 1, "sku": "sku-1", "quantity": 3}
        assert (await inventory.rows("stock", sku="sku-1"))[0] == {"sku": "sku-1", "opening": 10, "free": 7}
        row = (await inventory.rows("reservations"))[0]
        assert (row["run"], row["key"], row["state"]) == ("run-1", "run-1:reserve/sku-1:action", "active")
        assert row["at"].endswith("+00:00")

        undone = await inventory.undo(RESERVE, "run-1:reserve/sku-1", made.json)
        assert (undone.status, undone.outcome) == (200, "succeeded")
        assert (await inventory.rows("stock", sku="sku-1"))[0]["free"] == 10
        row = (await inventory.rows("reservations"))[0]
        assert (row["state"], row["undone"], row["undo_key"]) == ("released", 1, "run-1:reserve/sku-1:compensation")


async def test_a_charge_moves_money_and_its_refund_gives_it_back(tmp_path: Path) -> None:
    async with serving("payment", tmp_path) as payment:
        made = await payment.act(CHARGE, "run-1:charge")
        assert (await payment.rows("accounts", customer="ann"))[0]["balance"] == 95_800
        assert (await payment.undo(CHARGE, "run-1:charge", made.json)).outcome == "succeeded"
        assert (await payment.rows("accounts", customer="ann"))[0]["balance"] == 100_000
        assert [row["state"] for row in await payment.rows("charges")] == ["refunded"]
        ledger = [(row["what"], row["amount"]) for row in await payment.rows("journal")]
        assert ledger == [("refund", 4_200), ("charge", -4_200)]


async def test_a_hold_is_out_of_reach_until_it_is_let_go(tmp_path: Path) -> None:
    async with serving("payment", tmp_path) as payment:
        made = await payment.act(HOLD, "run-1:hold")
        rest = await payment.act(Payment.charge(customer="ann", cents=100_000), "run-2:charge")
        assert rest.code == "insufficient-funds"
        await payment.undo(HOLD, "run-1:hold", made.json)
        again = await payment.act(Payment.charge(customer="ann", cents=100_000), "run-3:charge")
        assert again.outcome == "succeeded"


async def test_a_captured_hold_is_a_charge_and_cannot_be_let_go(tmp_path: Path) -> None:
    async with serving("payment", tmp_path) as payment:
        held = (await payment.act(HOLD, "run-1:hold")).json
        capture = Payment.capture(hold=held["hold"])
        captured = await payment.act(capture, "run-1:capture", kind="pivot")
        assert captured.json == {"charge": 1, "cents": 4_200}
        assert (await payment.rows("holds"))[0]["state"] == "captured"
        assert (await payment.rows("charges"))[0]["hold"] == held["hold"]
        assert (await payment.rows("accounts", customer="ann"))[0]["balance"] == 95_800
        assert (await payment.undo(HOLD, "run-1:hold", held)).outcome == "cannot-compensate"
        assert (await payment.act(capture, "run-2:capture", kind="pivot")).code == "not-held"


async def test_a_parcel_takes_the_first_day_with_room_and_its_cancel_gives_the_place_back(tmp_path: Path) -> None:
    async with serving("shipping", tmp_path) as shipping:
        made = [(await shipping.act(SEND, f"run-{n}:schedule")).json for n in range(3)]
        first, second = sorted(row["day"] for row in await shipping.rows("days", carrier="oxcart"))
        assert [each["day"] for each in made] == [first, first, second]
        await shipping.undo(SEND, "run-0:schedule", made[0])
        assert (await shipping.act(SEND, "run-9:schedule")).json["day"] == first


async def test_a_parcel_that_must_go_opens_a_further_day(tmp_path: Path) -> None:
    ship = Shipping.ship(address=f"2 Mill Lane, {ISLAND}", reservations=[1])
    async with serving("shipping", tmp_path) as shipping:
        days = [(await shipping.act(ship, f"run-{n}:ship", kind="retriable")).json["day"] for n in range(3)]
        assert days == sorted(set(days)), "one parcel a day, each a day later"
        open_to_all = await shipping.rows("days", carrier="ferry", on_sale="true")
        assert [row["day"] for row in open_to_all] == days[:1]
        late = await shipping.act(
            Shipping.schedule(address=f"2 Mill Lane, {ISLAND}", reservations=[1]), "run-9:schedule"
        )
        assert late.code == "no-capacity"


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("inventory", Inventory.reserve(sku="sku-none", quantity=1), "unknown-sku"),
        ("inventory", Inventory.reserve(sku="sku-1", quantity=0), "bad-quantity"),
        ("inventory", Inventory.reserve(sku="sku-1", quantity=-5), "bad-quantity"),
        ("inventory", Inventory.reserve(sku=SCARCE, quantity=2), "out-of-stock"),
        ("payment", Payment.charge(customer=STRANGER, cents=100), "unknown-customer"),
        ("payment", Payment.charge(customer=PENNILESS, cents=101), "insufficient-funds"),
        ("payment", Payment.charge(customer="ann", cents=-1), "bad-amount"),
        ("payment", Payment.hold(customer=STRANGER, cents=100), "unknown-customer"),
        ("payment", Payment.hold(customer=PENNILESS, cents=101), "insufficient-funds"),
        ("payment", Payment.capture(hold=77), "no-such-hold"),
        ("shipping", Shipping.route(address=f"1 Mill Lane, {NOWHERE}"), "undeliverable"),
        ("shipping", Shipping.schedule(address=f"1 Mill Lane, {NOWHERE}", reservations=[]), "undeliverable"),
        ("shipping", Shipping.schedule(address="no town at all", reservations=[]), "undeliverable"),
    ],
)
async def test_a_no_has_its_code_and_leaves_no_trace(
    service: str, call: Call[object], code: str, tmp_path: Path
) -> None:
    async with serving(service, tmp_path) as opened:
        said = await opened.act(call, "run-1:step")
        assert (said.status, said.outcome, said.code) == (409, "rejected", code)
        assert await opened.rows("journal") == []
        again = await opened.act(call, "run-1:step", attempt=2)
        assert again.body == said.body


async def test_an_undo_of_what_never_happened_is_remembered_and_the_late_action_does_nothing(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        for service, call, table in (
            (shop.inventory, RESERVE, "reservations"),
            (shop.payment, CHARGE, "charges"),
            (shop.shipping, SEND, "shipments"),
        ):
            assert (await service.undo(call, "run-1:step")).outcome == "noop"
            late = await service.act(call, "run-1:step")
            assert (late.status, late.outcome) == (410, "blocked")
            assert await service.rows(table) == []


async def test_an_undo_finds_what_was_made_though_the_caller_never_heard_of_it(tmp_path: Path) -> None:
    async with serving("payment", tmp_path) as payment:
        await payment.act(CHARGE, "run-1:charge")
        assert (await payment.undo(CHARGE, "run-1:charge", None)).outcome == "succeeded"
        assert (await payment.rows("accounts", customer="ann"))[0]["balance"] == 100_000


async def test_books_can_be_read_by_any_column(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path) as inventory:
        for run in ("run-1", "run-2"):
            await inventory.act(RESERVE, f"{run}:reserve/sku-1")
        assert [row["run"] for row in await inventory.rows("reservations", run="run-2")] == ["run-2"]
        assert len(await inventory.rows("reservations", limit=1)) == 1
        async with inventory.http.get(f"{inventory.url}/reservations?colour=red") as answer:
            assert answer.status == 422
            assert "quantity" in await answer.text()


async def test_every_service_says_that_it_is_well(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        for name, service in (("inventory", shop.inventory), ("payment", shop.payment), ("shipping", shop.shipping)):
            assert await service.rows("healthz") == {"service": name, "ok": True}
        assert {row["name"]: row["carrier"] for row in await shop.shipping.rows("towns")}["Skerry"] == "ferry"
        assert {row["name"] for row in await shop.shipping.rows("carriers")} == {"swift", "oxcart", "ferry"}


async def test_a_database_that_was_open_before_keeps_what_it_has(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path) as inventory:
        await inventory.act(RESERVE, "run-1:reserve/sku-1")
    async with serving("inventory", tmp_path) as inventory:
        assert (await inventory.rows("stock", sku="sku-1"))[0]["free"] == 7
        assert len(await inventory.rows("stock")) == 3
