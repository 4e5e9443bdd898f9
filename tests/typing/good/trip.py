"""The smallest saga: work done in this process, undone beside it."""

from amends import Rejected, Saga, run

trip = Saga("trip", str)


@trip.compensable()
async def hotel(city: str) -> str:
    return f"room in {city}"


@hotel.compensation
async def cancel_hotel(city: str, room: str | None) -> None:
    print("cancelled:", room or f"whatever was booked in {city}")  # noqa: T201 - as the tutorial has it


@trip.pivot(hotel)
async def flight(city: str, room: str) -> str:
    if city == "Atlantis":
        raise Rejected("no flights there")
    return f"seat to {city}"


if __name__ == "__main__":
    print(run(trip, "Lisbon"))  # noqa: T201 - as above
    print(run(trip, "Lisbon", log="sqlite:///trips.db", id="trip-1"))  # noqa: T201 - as above
