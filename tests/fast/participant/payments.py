"""A participant, its calls and a service, for the tests beside this file."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from typing_extensions import override

from amends.core.saga.operation import Participant, Undo, operation
from amends.inboxes.memory import MemoryData, MemoryInbox
from amends.participant.response import Answer
from amends.participant.service import Service
from amends.wire.this_call import this_call


@dataclass(frozen=True, slots=True)
class Hold:
    cents: int


@dataclass(frozen=True, slots=True)
class Held:
    id: str


class Payments(Participant):
    hold = operation(Hold, Held, compensation="unhold")
    capture = operation(Hold)
    refund = operation(Hold, Held)


BODY = b'{"cents":4200}'
UNDO = b'{"request":{"cents":4200},"reply":{"id":"told"},"reply_known":true,"reason":"no"}'


def headers(phase: str = "action", *, run: str = "order-42", **more: str) -> dict[str, str]:
    return {
        "Idempotency-Key": f'"{run}:hold:{phase}"',
        "Saga-Kind": "compensable",
        "Saga-Since": datetime.now(UTC).isoformat(),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


def problem(answer: Answer) -> str:
    return str(json.loads(answer.body)["type"]).removeprefix("urn:amends:")


def word(answer: Answer) -> str | None:
    return answer.headers.get("saga-outcome")


def paying(inbox: MemoryInbox | None = None) -> Service[MemoryData]:
    service: Service[MemoryData] = Service(Payments, inbox or MemoryInbox())

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        tx["held"] = request.cents
        return Held(this_call().key)

    @service.compensation(Payments.hold)
    async def unhold(undo: Undo[Hold, Held], tx: MemoryData) -> None:
        del tx["held"]

    assert callable(hold)
    assert callable(unhold)
    return service


class Untouched(MemoryInbox):
    @override
    def open_async(self) -> NoReturn:
        raise AssertionError("the database was touched")
