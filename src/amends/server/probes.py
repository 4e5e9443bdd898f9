"""`probe`: ask a participant what it knows of a step's call. Changes nothing, there or here, and is not in the log."""

from typing import Any, Final, assert_never

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.run.answers import CallResponse, Came, Cause, Halt, Outcome, Pending, SaidNo, Succeeded, Unknown
from amends.engine.visits import Probed
from amends.server.access import Caller
from amends.server.context import Context
from amends.server.requests import decoded, decoder_of, read_body, run_id
from amends.server.runs import check_sees
from amends.server.verbs import step_name


class ProbeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which call is asked about. `reason` and `by` may be said as with every verb; nothing keeps them."""

    item: str | None = None
    reason: str | None = None
    by: str | None = None


class ProbeView(msgspec.Struct, frozen=True):
    """What the participant said. `answer`: succeeded, rejected, noop (nothing there *yet*), pending, blocked, or
    unknown where it can't be told; `status` is HTTP's, where an answer came.
    """

    run: str
    step: str
    key: str
    participant: str
    answer: str
    detail: str | None
    code: str | None
    status: int | None
    reply: Any


_PROBE: Final = decoder_of(ProbeRequest)


async def probe(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs/{id}/steps/{step}/probe`: ask the participant what it knows of the call; changes nothing."""
    run, step = run_id(request), step_name(request)
    body = await read_body(request, context.limits)
    asked = decoded(body, _PROBE, "It may take item.") if body.strip() else ProbeRequest()
    await check_sees(context, caller, run)
    found = await context.engine.visits.probe(run, step, asked.item)
    return Response(msgspec.json.encode(_view(context, found, run, step)), 200, media_type="application/json")


def _view(context: Context, found: Probed, run: str, step: str) -> ProbeView:
    graph = context.graphs.known(found.definition)
    answer, detail, code, reply = _read(found.outcome)
    mask = graph.mask(found.record)
    shown = None if reply is None else graph.reply(step, found.participant, found.operation).shown(reply)
    return ProbeView(
        run=run,
        step=step,
        key=found.key,
        participant=found.participant,
        answer=answer,
        detail=mask.said(detail),
        code=mask.maybe(code),
        status=_status(found.came),
        reply=None if shown is None else msgspec.Raw(shown),
    )


def _read(outcome: Outcome) -> tuple[str, str | None, str | None, bytes | None]:
    match outcome:
        case Succeeded(reply=reply, word=word):
            return word, None, None, reply
        case SaidNo(code=code, detail=detail, word=word):
            return word, detail, code, None
        case Pending():
            return "pending", None, None, None
        case Unknown(cause=Cause.ABSENT, detail=detail):
            return "noop", detail, None, None
        case Unknown(detail=detail):
            return "unknown", detail, None, None
        case Halt(reason=reason, detail=detail, code=code):
            return reason, detail, code, None
        case _:
            assert_never(outcome)


def _status(came: Came) -> int | None:
    return came.status if isinstance(came, CallResponse) else None
