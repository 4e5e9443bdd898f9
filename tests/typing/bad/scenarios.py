"""A scenario is given the saga's input, its own steps, and replies of their types."""

# A marker stays on the line that it is about, however long that line gets.
# fmt: off

from amends import Call, Participant, Saga, operation
from amends.testing import Scenario


class Rooms(Participant):
    book = operation(str, int, compensation="cancel")


trip = Saga("trip", str)
other = Saga("other", int)


@trip.compensable()
def hotel(city: str) -> Call[int]:
    return Rooms.book(city)


@other.compensable()
def room(number: int) -> Call[int]:
    return Rooms.book(str(number))


Scenario(trip, 3)  # expect: mypy[misc] pyright[reportArgumentType]
Scenario(trip, "Lisbon").replies(hotel, "room 7")  # expect: mypy[misc] pyright[reportArgumentType]
Scenario(trip, "Lisbon").rejects(room)  # expect: mypy[arg-type] pyright[reportArgumentType]
Scenario(trip, "Lisbon").times_out(hotel)  # expect: mypy[call-arg] pyright[reportCallIssue]
Scenario(trip, "Lisbon").rejects(hotel, "full", "no-room")  # expect: mypy[call-arg] pyright[reportCallIssue]
