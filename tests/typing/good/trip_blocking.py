"""Work that blocks says so, and is idempotent by its key."""

import sqlite3

from amends import Rejected, Saga, Step, blocking, this_call

trip = Saga("trip", str)


@trip.compensable()
@blocking
def hotel(city: str) -> str:
    with sqlite3.connect("rooms.db") as db:
        key = this_call().key
        db.execute("insert or ignore into room (key, city) values (?, ?)", (key, city))
        if db.execute("select count(*) from room where city = ?", (city,)).fetchone()[0] > 100:
            raise Rejected("fully booked", code="full")
    return key


@hotel.compensation
@blocking
def cancel_hotel(city: str, room: str | None) -> None:
    with sqlite3.connect("rooms.db") as db:
        db.execute("delete from room where key = ?", (this_call().action_key,))


@trip.neutral(hotel)
@blocking
def look_up(city: str, room: str) -> int:
    return len(room)


@trip.retriable(look_up, hotel)
@blocking
def tell(city: str, characters: int, room: str) -> None:
    assert characters == len(room)


known: Step[str, int] = look_up
