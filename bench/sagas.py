"""What is measured: three calls that are accepted, three of which the last is refused, and three local steps that do
nothing. The steps of each read one another, so they go one after the other.
"""

from dataclasses import dataclass

from amends import Call, Participant, Saga, operation


@dataclass(frozen=True, slots=True)
class Trip:
    """The input of every run, and near enough the body of every request."""

    traveller: str
    days: int


@dataclass(frozen=True, slots=True)
class Booked:
    """The reply of every operation."""

    number: int


TRIP = Trip("Ada Lovelace", 3)


class Agency(Participant):
    """The operations that `bench.participant` answers."""

    flight = operation(Trip, Booked, name="book-flight", compensation="undo-flight")
    hotel = operation(Trip, Booked, name="book-hotel", compensation="undo-hotel")
    car = operation(Trip, Booked, name="book-car", compensation="undo-car")
    last_car = operation(Trip, Booked, name="book-last-car", compensation="undo-car")


# -- three calls

trip = Saga("trip", Trip)


@trip.compensable()
def flight(trip: Trip) -> Call[Booked]:
    return Agency.flight(trip.traveller, trip.days)


@trip.compensable(flight)
def hotel(trip: Trip, _flight: Booked) -> Call[Booked]:
    return Agency.hotel(trip.traveller, trip.days)


@trip.compensable(hotel)
def car(trip: Trip, _hotel: Booked) -> Call[Booked]:
    return Agency.car(trip.traveller, trip.days)


# -- the third refused, the other two undone

full_trip = Saga("full-trip", Trip)


@full_trip.compensable()
def first_flight(trip: Trip) -> Call[Booked]:
    return Agency.flight(trip.traveller, trip.days)


@full_trip.compensable(first_flight)
def first_hotel(trip: Trip, _flight: Booked) -> Call[Booked]:
    return Agency.hotel(trip.traveller, trip.days)


@full_trip.compensable(first_hotel)
def last_car(trip: Trip, _hotel: Booked) -> Call[Booked]:
    return Agency.last_car(trip.traveller, trip.days)


# -- nothing, three times

nothing = Saga("nothing", Trip)


@nothing.compensable()
async def one(_trip: Trip) -> int:
    return 1


@one.compensation
async def undo_one(_trip: Trip, _reply: int | None) -> None:
    """Never called: nothing is refused here."""


@nothing.compensable(one)
async def two(_trip: Trip, before: int) -> int:
    return before + 1


@two.compensation
async def undo_two(_trip: Trip, _reply: int | None) -> None:
    """As above."""


@nothing.compensable(two)
async def three(_trip: Trip, before: int) -> int:
    return before + 1


@three.compensation
async def undo_three(_trip: Trip, _reply: int | None) -> None:
    """As above."""
