"""State of the called participants: in flight, waiting, down since when."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from datetime import datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.run.record import ItemRecord, RunRecord, StepState
from amends.engine.engine import Engine
from amends.server.access import Caller
from amends.server.context import Context
from amends.views.run import moment


class ParticipantView(msgspec.Struct, frozen=True):
    """One participant. `runs`: those in this process's memory that need an answer of it; `waiting`: calls that wait
    for a slot, or for it to be back. `down_since` is set while nothing is sent to it but a call every `probe_seconds`;
    `detail` says how the last call without an answer went.
    """

    name: str
    where: str
    runs: int
    in_flight: int
    waiting: int
    at_once: int
    down_since: datetime | None
    detail: str | None
    probe_seconds: float


class ParticipantsView(msgspec.Struct, frozen=True):
    """Every participant this process has a route to."""

    participants: list[ParticipantView]


async def participants(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /v1/participants`: participants called from this process, how many calls wait, which are down since when."""
    return Response(msgspec.json.encode(participants_view(context.engine, caller)), 200, media_type="application/json")


def called_by(engine: Engine, caller: Caller) -> Container[str] | None:
    """The participants of the sagas that a caller sees; `None` for all."""
    if caller.sagas is None:
        return None
    return {name for each in engine.definitions.values() if caller.sees(each.saga) for name in each.participants}


def participants_view(engine: Engine, caller: Caller) -> ParticipantsView:
    """How things stand in this process, as far as the caller's sagas call it."""
    records = (driven.record for driven in engine.worker.runs.values())
    needed = _needed(each for each in records if caller.sees(each.saga))
    meant = called_by(engine, caller)
    return ParticipantsView(
        [
            ParticipantView(
                name=each.participant,
                where=each.where,
                runs=needed[each.participant],
                in_flight=each.in_flight,
                waiting=each.waiting,
                at_once=each.at_once,
                down_since=None if each.down_since is None else moment(each.down_since),
                detail=each.detail or None,
                probe_seconds=each.probe_seconds,
            )
            for each in engine.participants()
            if meant is None or each.participant in meant
        ]
    )


def _needed(records: Iterable[RunRecord]) -> Counter[str]:
    """How many runs need each participant now."""
    found: Counter[str] = Counter()
    for record in records:
        if record.ended is None:
            found.update({name for item in record.items() for name in _called(item)})
    return found


def _called(item: ItemRecord) -> Iterator[str]:
    match item.state:
        case StepState.ACTING | StepState.UNKNOWN if item.action is not None:
            yield item.action.participant
        case StepState.COMPENSATING if item.undo is not None:
            yield item.undo.participant
        case _:
            return
