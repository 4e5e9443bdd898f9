"""A handler takes its operation's request (or `Undo`) and the inbox's transaction, and returns its operation's reply."""

# A marker stays on the line that it is about, however long that line gets.
# fmt: off

from sqlite3 import Connection

from amends import Undo
from amends.inboxes.sqlite import SqliteInbox
from amends.participant import Service
from contract import Capture, Hold, Inventory, Payments, Receipt, Reservation, ReserveItems
from sqlalchemy.orm import Session

service = Service(Inventory, SqliteInbox("stock.db"))


@service.action(Inventory.reserve)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def another_request(request: Capture, db: Connection) -> Reservation:
    return Reservation(request.hold)


@service.action(Inventory.reserve)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def another_reply(request: ReserveItems, db: Connection) -> Receipt:
    return Receipt(request.sku)


@service.action(Inventory.reserve)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def another_transaction(request: ReserveItems, db: Session) -> Reservation:
    return Reservation(request.sku)


@service.action(Inventory.reserve)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def no_transaction(request: ReserveItems) -> Reservation:
    return Reservation(request.sku)


@service.action(Inventory.reserve)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def no_reply(request: ReserveItems, db: Connection) -> None:
    return None


@service.compensation(Inventory.reserve)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def undoes_the_request(request: ReserveItems, db: Connection) -> None:
    return None


@service.compensation(Inventory.reserve)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def another_undo(undo: Undo[ReserveItems, Hold], db: Connection) -> None:
    return None


@service.compensation(Inventory.reserve)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def undo_with_a_reply(undo: Undo[ReserveItems, Reservation], db: Connection) -> Reservation:
    return undo.made


def reads_what_was_made(undo: Undo[ReserveItems, Reservation]) -> str:
    return undo.reply.id  # expect: mypy[union-attr] pyright[reportOptionalMemberAccess]


no_participant = Service("inventory", SqliteInbox("stock.db"))  # expect: mypy[arg-type] pyright[reportArgumentType]
no_inbox = Service(Inventory, "stock.db")  # expect: mypy[arg-type,var-annotated] pyright[reportArgumentType,reportUnknownVariableType]
at_an_instance = Payments.at("http://localhost", headers="Bearer x")  # expect: mypy[arg-type] pyright[reportArgumentType]
