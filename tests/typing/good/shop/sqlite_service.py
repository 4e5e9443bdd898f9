"""A service on sqlite: plain functions, and work that is answered later."""

from datetime import timedelta
from sqlite3 import Connection

from amends import CannotCompensate, Later, Rejected, Undo, this_call
from amends.inboxes.sqlite import SqliteInbox
from amends.participant import Answer, Service

from .contract import Hold, Payments, PlaceHold, Schedule, Shipment, Shipping

inbox = SqliteInbox("shipping.db")
service = Service(Shipping, inbox, threads=4)
payments = Service(Payments, SqliteInbox("payments.db"))


@service.action(Shipping.schedule)
def schedule(request: Schedule, db: Connection) -> Shipment:
    call = this_call()
    db.execute(
        "insert into label (call, address, callback) values (?, ?, ?)", (call.key, request.address, call.callback)
    )
    raise Later


@service.compensation(Shipping.cancel)
def cancel(undo: Undo[Schedule, None], db: Connection) -> None:
    if not undo.reply_known:
        raise CannotCompensate("already printed", code="printed")


@payments.action(Payments.hold)
def hold(request: PlaceHold, db: Connection) -> Hold:
    taken = db.execute("update account set held = held + ? where customer = ?", (request.cents, request.customer))
    if taken.rowcount == 0:
        raise Rejected("insufficient funds", code="insufficient-funds")
    return Hold(this_call().key)


def printed(call: str, tracking: str) -> Answer:
    with inbox.transaction() as db:
        db.execute("update label set tracking = ? where call = ?", (tracking, call))
        return service.answer(db, call, Shipment(tracking))


def nightly() -> int:
    return service.purge(older_than=timedelta(days=120))


application = service.wsgi()
