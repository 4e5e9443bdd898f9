"""Payment: customers' balances, money held back and money taken.

Laws of its books, at every moment and for every customer: balance at the start = balance + active holds + active
charges, and no balance is below zero. A captured hold has become a charge of the same amount.
"""

from collections.abc import Iterable

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from amends import CannotCompensate, Rejected, Undo, this_call
from amends.inboxes.sqlalchemy import SqlAlchemyInbox, barrier_table
from amends.participant import Service
from amends.shop.catalogue import PENNILESS, PENNILESS_CENTS, Catalogue
from amends.shop.contract import CaptureHold, Charged, Held, Payment, TakeMoney
from amends.shop.database import Database
from amends.shop.records import ACTIVE, CallRecord, EffectRecord, FaultRecord, JournalLine, stamp


class PaymentBase(DeclarativeBase):
    """The tables of this service."""


class Account(PaymentBase):
    """One customer: what they had at the start, and what they can spend now."""

    __tablename__ = "accounts"
    customer: Mapped[str] = mapped_column(primary_key=True)
    opening: Mapped[int]
    balance: Mapped[int]


class Charge(EffectRecord, PaymentBase):
    """Money taken: `active` or `refunded`. `hold`: the hold it was captured from."""

    __tablename__ = "charges"
    customer: Mapped[str]
    cents: Mapped[int]
    hold: Mapped[int | None] = mapped_column(default=None)


class Hold(EffectRecord, PaymentBase):
    """Money held back: `active`, `released` or `captured`."""

    __tablename__ = "holds"
    customer: Mapped[str]
    cents: Mapped[int]


class PaymentJournal(JournalLine, PaymentBase):
    """The ledger: `charge`, `refund`, `hold`, `unhold`, `capture`; the subject is the customer, the amount is cents."""

    __tablename__ = "journal"


class PaymentFault(FaultRecord, PaymentBase):
    """See `FaultRecord`."""

    __tablename__ = "faults"


class PaymentCall(CallRecord, PaymentBase):
    """See `CallRecord`."""

    __tablename__ = "calls"


barrier_table(PaymentBase.metadata)


async def charge(request: TakeMoney, db: AsyncSession) -> Charged:
    """Take the money."""
    await _debit(request, db)
    call = this_call()
    made = Charge(run=call.run, key=call.key, customer=request.customer, cents=request.cents)
    db.add_all([made, _entry("charge", request.customer, -request.cents)])
    await db.flush()
    return Charged(made.id, made.cents)


async def refund(undo: Undo[TakeMoney, Charged], db: AsyncSession) -> None:
    """Give it back."""
    undone = await db.execute(
        update(Charge)
        .where(Charge.id == undo.made.charge)
        .values(state="refunded", undone=Charge.undone + 1, undo_key=this_call().key, undone_at=stamp())
        .returning(Charge.customer, Charge.cents)
    )
    row = undone.one_or_none()
    if row is None:
        raise CannotCompensate(f"there is no charge {undo.made.charge}", code="no-such-charge")
    customer, cents = row
    await _credit("refund", customer, cents, db)


async def hold(request: TakeMoney, db: AsyncSession) -> Held:
    """Put the money out of the customer's reach."""
    await _debit(request, db)
    call = this_call()
    made = Hold(run=call.run, key=call.key, customer=request.customer, cents=request.cents)
    db.add_all([made, _entry("hold", request.customer, -request.cents)])
    await db.flush()
    return Held(made.id, made.cents)


async def unhold(undo: Undo[TakeMoney, Held], db: AsyncSession) -> None:
    """Let go of it, unless it was captured: then a refund is due, which is for a person to decide."""
    undone = await db.execute(
        update(Hold)
        .where(Hold.id == undo.made.hold, Hold.state != "captured")
        .values(state="released", undone=Hold.undone + 1, undo_key=this_call().key, undone_at=stamp())
        .returning(Hold.customer, Hold.cents)
    )
    row = undone.one_or_none()
    if row is None:
        raise CannotCompensate(f"hold {undo.made.hold} was captured or never made", code="not-held")
    customer, cents = row
    await _credit("unhold", customer, cents, db)


async def capture(request: CaptureHold, db: AsyncSession) -> Charged:
    """Turn held money into a charge. The balance was lowered when it was held."""
    captured = await db.execute(
        update(Hold)
        .where(Hold.id == request.hold, Hold.state == ACTIVE)
        .values(state="captured")
        .returning(Hold.customer, Hold.cents)
    )
    row = captured.one_or_none()
    if row is None:
        if await db.get(Hold, request.hold) is None:
            raise Rejected(f"there is no hold {request.hold}", code="no-such-hold")
        raise Rejected(f"hold {request.hold} holds nothing any more", code="not-held")
    customer, cents = row
    call = this_call()
    made = Charge(run=call.run, key=call.key, customer=customer, cents=cents, hold=request.hold)
    db.add_all([made, _entry("capture", customer, 0)])
    await db.flush()
    return Charged(made.id, cents)


async def _debit(request: TakeMoney, db: AsyncSession) -> None:
    customer, cents = request.customer, request.cents
    if cents < 1:
        raise Rejected(f"{cents} cents can't be taken", code="bad-amount")
    taken = await db.execute(
        update(Account)
        .where(Account.customer == customer, Account.balance >= cents)
        .values(balance=Account.balance - cents)
        .returning(Account.balance)
    )
    if taken.scalar_one_or_none() is None:
        if await db.get(Account, customer) is None:
            raise Rejected(f"there is no customer {customer}", code="unknown-customer")
        raise Rejected(f"{customer} hasn't got {cents / 100:.2f}", code="insufficient-funds")


async def _credit(what: str, customer: str, cents: int, db: AsyncSession) -> None:
    await db.execute(update(Account).where(Account.customer == customer).values(balance=Account.balance + cents))
    db.add(_entry(what, customer, cents))


def _entry(what: str, customer: str, cents: int) -> PaymentJournal:
    call = this_call()
    return PaymentJournal(run=call.run, key=call.key, what=what, subject=customer, amount=cents)


def opening(catalogue: Catalogue) -> Iterable[PaymentBase]:
    """The accounts at the start."""
    cents = dict.fromkeys(catalogue.people(), catalogue.balance) | {PENNILESS: PENNILESS_CENTS}
    return [Account(customer=customer, opening=amount, balance=amount) for customer, amount in cents.items()]


def service(database: Database) -> Service[AsyncSession]:
    """The saga operations over this database."""
    made = Service(Payment, SqlAlchemyInbox(database.sessions))
    made.action(Payment.charge)(charge)
    made.compensation(Payment.charge)(refund)
    made.action(Payment.hold)(hold)
    made.compensation(Payment.hold)(unhold)
    made.action(Payment.capture)(capture)
    return made
