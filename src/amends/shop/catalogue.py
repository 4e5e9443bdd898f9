"""What the shop has at the start, and the orders: everything a function of numbers, so that a run can be repeated.

Of every 20 orders 15 are plain and can be delivered; the other five are one each of:

| kind | what it wants | what becomes of it |
|---|---|---|
| scarce | the last units of `sku-scarce` | about half of these: `out-of-stock` |
| penniless | goods for a customer with next to nothing | `insufficient-funds` |
| stranger | goods for an unknown customer | `unknown-customer` |
| nowhere | a parcel to a town no carrier serves | `undeliverable` |
| island | a parcel by the one small ferry | about half of these: `no-capacity` |
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Final

from amends.shop.saga import Line, Order

SCARCE: Final = "sku-scarce"
PENNILESS: Final = "poor-pia"
STRANGER: Final = "mallory"
PENNILESS_CENTS: Final = 100
"""Less than anything here costs."""

TOWNS: Final = {
    "Northfield": "swift",
    "Southgate": "swift",
    "Easton": "oxcart",
    "Westbury": "oxcart",
    "Skerry": "ferry",
}
"""Town to carrier."""

MAINLAND: Final = ("Northfield", "Southgate", "Easton", "Westbury")
ISLAND: Final = "Skerry"
NOWHERE: Final = "Atlantis"
FERRY: Final = "ferry"

BLOCK: Final = 20
MIX: Final = (*("plain",) * 15, "scarce", "penniless", "stranger", "nowhere", "island")
"""Every block of 20 orders holds these, in an order drawn by the seed."""

FIRST_NAMES: Final = ("ann", "bo", "cem", "dee", "eli", "fay", "gus", "hal", "ida", "jon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """How much there is at the start. Stock in units per product, money in cents per customer.

    `capacity`: parcels per mainland carrier and day; `ferry`: parcels on the ferry's only day; `days`: days on sale.
    """

    skus: int = 12
    stock: int = 120
    scarce: int = 2
    customers: int = 20
    balance: int = 2_000_000
    capacity: int = 60
    ferry: int = 2
    days: int = 3

    def products(self) -> list[str]:
        """The ordinary ones."""
        return [f"sku-{number + 1}" for number in range(self.skus)]

    def people(self) -> list[str]:
        """Customers with money: `ann`, ..., `jon`, `ann-2`, ..."""
        return [
            FIRST_NAMES[number % len(FIRST_NAMES)]
            + (f"-{number // len(FIRST_NAMES) + 1}" if number >= len(FIRST_NAMES) else "")
            for number in range(self.customers)
        ]


def catalogue_for(orders: int) -> Catalogue:
    """Enough for so many orders of the usual mix: no plain one is turned back, half of the scarce and island ones
    are.
    """
    blocks = orders // BLOCK
    return Catalogue(
        stock=3 * orders + 20,
        scarce=blocks // 2,
        customers=max(5, orders // 5),
        balance=10_000_000,
        capacity=orders // 2 + 10,
        ferry=blocks // 2,
    )


def price(sku: str) -> int:
    """Cents for one unit: 500 to 5,000, the same for all."""
    return 500 + sum(sku.encode()) * 37 % 4_501


def orders(seed: int, count: int, catalogue: Catalogue, *, prefix: str = "order") -> list[Order]:
    """So many orders of the mix above, named `order-0001` and so on."""
    draw = Random(seed)
    return [
        _order(f"{prefix}-{number + 1:04}", kind, draw, catalogue)
        for number, kind in enumerate(islice(_kinds(draw), count))
    ]


def _kinds(draw: Random) -> Iterator[str]:
    while True:
        yield from draw.sample(MIX, BLOCK)


def _order(id: str, kind: str, draw: Random, catalogue: Catalogue) -> Order:
    skus = draw.sample(catalogue.products(), draw.randint(1, min(3, catalogue.skus)))
    lines = [Line(sku, draw.randint(1, 3), price(sku)) for sku in skus]
    customer = draw.choice(catalogue.people())
    town = draw.choice(MAINLAND)
    street = f"{draw.randint(1, 99)} Mill Lane"
    match kind:
        case "scarce":
            lines = [*lines[:1], Line(SCARCE, 1, price(SCARCE))]
        case "penniless":
            customer = PENNILESS
        case "stranger":
            customer = STRANGER
        case "nowhere":
            town = NOWHERE
        case "island":
            town = ISLAND
        case _:
            assert kind == "plain"
    return Order(id=id, customer=customer, address=f"{street}, {town}", lines=lines)
