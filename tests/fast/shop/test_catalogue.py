"""Orders are a function of the seed, and hold every reason to be turned back."""

from collections import Counter

from amends.shop.catalogue import (
    FERRY,
    ISLAND,
    NOWHERE,
    PENNILESS,
    PENNILESS_CENTS,
    SCARCE,
    STRANGER,
    TOWNS,
    Catalogue,
    catalogue_for,
    orders,
)
from amends.shop.saga import Order


def kind_of(order: Order) -> str:
    if order.customer in {PENNILESS, STRANGER}:
        return order.customer
    town = order.address.rpartition(", ")[2]
    if town in {ISLAND, NOWHERE}:
        return town
    return SCARCE if any(line.sku == SCARCE for line in order.lines) else "plain"


def test_the_same_seed_gives_the_same_orders() -> None:
    assert orders(1, 50, Catalogue()) == orders(1, 50, Catalogue())
    assert orders(1, 50, Catalogue()) != orders(2, 50, Catalogue())
    assert orders(1, 50, Catalogue())[:30] == orders(1, 30, Catalogue())


def test_each_twenty_orders_hold_one_of_every_reason_to_be_turned_back() -> None:
    made = orders(5, 60, catalogue_for(60))
    for block in (made[:20], made[20:40], made[40:]):
        mix = {"plain": 15, SCARCE: 1, PENNILESS: 1, STRANGER: 1, NOWHERE: 1, ISLAND: 1}
        assert Counter(map(kind_of, block)) == mix


def test_plain_orders_never_run_out_of_anything() -> None:
    catalogue = catalogue_for(200)
    plain = [order for order in orders(5, 200, catalogue) if kind_of(order) == "plain"]
    units: Counter[str] = Counter()
    cents: Counter[str] = Counter()
    parcels: Counter[str] = Counter()
    for order in orders(5, 200, catalogue):  # everybody's, so that the others can't take it from them
        cents[order.customer] += order.cents
        parcels[TOWNS.get(order.address.rpartition(", ")[2], "nobody")] += 1
        for line in order.lines:
            units[line.sku] += line.quantity
    assert len(plain) == 150
    assert max(units[sku] for sku in catalogue.products()) <= catalogue.stock
    assert max(cents[customer] for customer in catalogue.people()) <= catalogue.balance
    assert (
        max(count for carrier, count in parcels.items() if carrier not in {FERRY, "nobody"}) <= 3 * catalogue.capacity
    )
    assert units[SCARCE] == 2 * catalogue.scarce
    assert parcels[FERRY] == 2 * catalogue.ferry


def test_nobody_without_money_can_buy_anything() -> None:
    assert min(line.cents for order in orders(5, 200, Catalogue()) for line in order.lines) > PENNILESS_CENTS


def test_an_order_names_each_product_once_and_has_the_name_of_its_run() -> None:
    for number, order in enumerate(orders(9, 100, Catalogue(), prefix="web")):
        assert order.id == f"web-{number + 1:04}"
        assert len({line.sku for line in order.lines}) == len(order.lines) >= 1
