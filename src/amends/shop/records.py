"""How every service of the shop keeps its books, each in its own database.

An *effect* is a row that an action made: a reservation, a charge, a hold, a shipment. Its undo is noted in the same
row and counted. A *journal* line is written by every action and every undo, with the key of its call, and never
changed.

Nothing here is unique by key, and no undo looks whether it was done before: that calls are carried out once is the
barrier's promise, and books that quietly put right what it lets through could not be audited.
"""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy.orm import Mapped, mapped_column

ACTIVE: Final = "active"


def stamp() -> str:
    """Now, UTC, as ISO 8601 text with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class EffectRecord:
    """What an action did. `undone` counts its undos: 0 or 1, or something is wrong."""

    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[str] = mapped_column(index=True)
    key: Mapped[str]
    state: Mapped[str] = mapped_column(default=ACTIVE)
    at: Mapped[str] = mapped_column(default=stamp)
    undone: Mapped[int] = mapped_column(default=0)
    undo_key: Mapped[str | None] = mapped_column(default=None)
    undone_at: Mapped[str | None] = mapped_column(default=None)


class JournalLine:
    """One thing that happened. `amount` is what it added to the subject's free stock, balance or free room."""

    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[str] = mapped_column(index=True)
    key: Mapped[str]
    what: Mapped[str]
    subject: Mapped[str]
    amount: Mapped[int]
    at: Mapped[str] = mapped_column(default=stamp)


class FaultRecord:
    """One fault that was fired at a call."""

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    key: Mapped[str]
    attempt: Mapped[int]
    at: Mapped[str] = mapped_column(default=stamp)


class CallRecord:
    """How long one call was worked on, where the service is asked to take its time."""

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(index=True)
    attempt: Mapped[int]
    began_at: Mapped[str]
    milliseconds: Mapped[int]
