"""Walks through the barrier's programs, on rows as they may be found."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from amends.core.words.errors import Rejected
from amends.core.words.keys import Key, Phase
from amends.core.words.retry import Kind
from amends.participant.barrier import BarrierCall, answer_pending, program
from amends.participant.effects import Asking, Ended, Verdict
from amends.participant.request import Incoming
from amends.participant.response import Answer
from amends.ports.inbox import (
    Delete,
    Insert,
    Lock,
    Read,
    ReadPurgedThrough,
    Release,
    RollBack,
    Row,
    RowState,
    Savepoint,
    Step,
    Update,
    Work,
)

PRINT, OTHER = b"p" * 32, b"o" * 32
REPLY = b'{"id":"1"}'
NO = Rejected("sold out", code="sold-out")
SINCE = 10_000_000_000

LOCK, PURGED = Lock("run-1", "reserve"), ReadPurgedThrough()

NEW = Row("run-1", "reserve", RowState.ACTING, kind=Kind.COMPENSABLE, operation="reserve", request_print=PRINT, epoch=5)
TOMBSTONE = Row("run-1", "reserve", RowState.BLOCKED, kind=Kind.COMPENSABLE, epoch=5)
PENDING = replace(NEW, state=RowState.PENDING, epoch=7)
SUCCEEDED = replace(
    PENDING, state=RowState.SUCCEEDED, reply_status=201, reply_type="application/stored", reply=REPLY, epoch=7
)
REJECTED = replace(SUCCEEDED, state=RowState.REJECTED, reply_status=409)
COMPENSATING = replace(SUCCEEDED, state=RowState.COMPENSATING, compensation_print=PRINT)
COMPENSATED = replace(COMPENSATING, state=RowState.COMPENSATED, compensation_reply=b'"undone"')
BY_HAND = replace(SUCCEEDED, state=RowState.COMPENSATED)


def call(
    phase: str, *, kind: Kind = Kind.COMPENSABLE, seal: str | None = None, epoch: int = 5, since: int = SINCE
) -> BarrierCall:
    incoming = Incoming(
        key=Key("run-1", "reserve", "", Phase(phase)),
        operation="reserve",
        kind=kind,
        since=since,
        epoch=epoch,
        seal="undone" if seal == "undone" else "rejected" if seal == "rejected" else None,
        attempt=1,
        deadline=None,
        callback=None,
    )
    return BarrierCall(incoming, PRINT)


@dataclass
class Database:
    """Answers the steps of one program and writes them down."""

    row: Row | None = None
    ended: Ended | None = None
    keeps: bool = True
    """Whether the savepoint is still there after the handler."""
    purged_through: int = 0

    def perform(self, step: Step) -> object:
        match step:
            case Insert():
                return self.row is None
            case Lock() | Read():
                return self.row
            case ReadPurgedThrough():
                return self.purged_through
            case Work():
                assert self.ended is not None, "no business code may run"
                return self.ended
            case Release() | RollBack():
                return self.keeps
            case Update() | Delete() | Savepoint():
                return None

    def walk(self, asking: Asking[Verdict] | Asking[Answer]) -> tuple[Verdict | Answer, list[Step]]:
        steps: list[Step] = []
        given: object = None
        while True:
            try:
                step = asking.send(given)
            except StopIteration as end:
                return end.value, steps
            steps.append(step)
            given = self.perform(step)


def judged(database: Database, asked: BarrierCall) -> tuple[Verdict, list[Step]]:
    verdict, steps = database.walk(program(asked))
    assert isinstance(verdict, Verdict)
    return verdict, steps


def answered(
    database: Database, said: Callable[[Row], bytes] | Rejected, phase: Phase = Phase.ACTION
) -> tuple[Answer, list[Step]]:
    answer, steps = database.walk(answer_pending(Key("run-1", "reserve", "", phase), said))
    assert isinstance(answer, Answer)
    return answer, steps


def said_of(answer: Answer) -> tuple[int, str, str | None]:
    """Status, type of the problem, its code; for a plain answer what is in it."""
    if answer.headers["content-type"] != "application/problem+json":
        return answer.status, answer.body.decode(), None
    body = json.loads(answer.body)
    assert body["status"] == answer.status
    return answer.status, str(body["type"]).removeprefix("urn:amends:"), body.get("code")


def detail(answer: Answer) -> str:
    return str(json.loads(answer.body)["detail"])


BLOCKED = (410, "blocked", "blocked")
REUSED = (422, "key-reused", "key-reused")
COMMITTED = (500, "handler-committed", "handler-committed")
STORED = (201, REPLY.decode(), None)
STORED_NO = (409, REPLY.decode(), None)
NOTHING = (200, "null", None)
WAITS = (202, "null", None)
