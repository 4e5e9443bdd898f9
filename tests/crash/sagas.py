"""The sagas that are killed, and the services they call: small, and every effect is a row in a real database.

Each service has a file of its own, with its barrier's rows beside its effects. An effect says when it happened on the
machine's one monotonic clock, so that effects of different files can be put in order. Local steps keep their effects
by key, as a step that may be repeated has to.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

from amends.core.errors import Rejected
from amends.core.operation import Call, Participant, Route, Undo, operation
from amends.core.retry import Policy, Retry
from amends.core.saga import Saga
from amends.inboxes.sqlite import SqliteInbox
from amends.participant.service import Service
from amends.ports.this_call import this_call

NOT_TO_BE_HAD: Final = "not to be had"

QUICK: Final = Policy(retry=Retry(attempts_max=None, first=timedelta(milliseconds=10), cap=timedelta(milliseconds=50)))

EFFECTS: Final = (
    "create table if not exists effect "
    "(key text not null, run text, step text, item text, phase text, at integer not null)"
)
NOTE: Final = "insert into effect values (?, ?, ?, ?, ?, ?)"

Passing = Callable[[str], None]
"""Told of every place that work passes, by name; a process may die there."""


@dataclass(frozen=True, slots=True)
class Ask:
    what: str


class Stock(Participant):
    take = operation(Ask, str, compensation="give-back")


class Bank(Participant):
    charge = operation(Ask, str, compensation="refund")
    capture = operation(Ask, str)


class Post(Participant):
    schedule = operation(Ask, str, compensation="cancel")
    tell = operation(Ask, str)


# -- services


def note(db: sqlite3.Connection) -> None:
    call = this_call()
    db.execute(NOTE, (call.key, call.run, call.step, call.item, call.phase, time.monotonic_ns()))


class Shop:
    """The three services in this process, on their files in `folder`."""

    def __init__(self, folder: Path, passing: Passing) -> None:
        self._inboxes: list[SqliteInbox] = []
        self.services: dict[str, Service[sqlite3.Connection]] = {}

        def act(request: Ask, db: sqlite3.Connection) -> str:
            passing("in-work")
            if request.what == NOT_TO_BE_HAD:
                raise Rejected(NOT_TO_BE_HAD)
            note(db)
            passing("in-work")
            return request.what

        def undo(undo: Undo[Ask, str], db: sqlite3.Connection) -> None:
            note(db)
            passing("in-work")

        for participant in (Stock, Bank, Post):
            inbox = SqliteInbox(folder / f"{participant.__name__.lower()}.db")
            with inbox.transaction() as db:
                db.execute(EFFECTS)
            service = Service(participant, inbox, threads=4)
            for operation in (each for each in vars(participant).values() if hasattr(each, "compensation_name")):
                service.action(operation)(act)
                if operation.compensation_name is not None:
                    service.compensation(operation)(undo)
            self._inboxes.append(inbox)
            self.services[service.name] = service

    def routes(self) -> list[Route]:
        return [each.at(self.services[each.__name__.lower()]) for each in (Stock, Bank, Post)]

    def close(self) -> None:
        for inbox in self._inboxes:
            inbox.close()


LOCAL_FILE: Final = "local.db"
