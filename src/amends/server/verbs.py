"""What a person, or a program, asks of a run: the verbs, for real or as a preview.

`reason` says why and is kept for good; `by` is the name that a caller claims, kept beside the caller's own name. With
`If-Match` a verb holds for that version of the history alone, which is what a preview says it was worked out for.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.run import commands as c
from amends.core.run.events import Who
from amends.core.run.record import RunRecord
from amends.core.words.errors import InputInvalid
from amends.core.words.keys import STEP_NAME
from amends.engine.visits import Ask, Preview
from amends.server.access import Caller
from amends.server.context import Context
from amends.server.problems import Problem, ProblemRaised
from amends.server.requests import decoded, decoder_of, flag, if_match, read_body, run_id
from amends.server.runs import check_sees, shown
from amends.views.event import EventViews, PreviewView, send_view
from amends.views.run import row_only_view, run_view

T = TypeVar("T", bound="Signed")

CLAIM_CHARACTERS_MAX: Final = 200

_ENCODER: Final = msgspec.json.Encoder()


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why it is asked, and the name that the caller claims."""

    reason: str
    by: str | None = None


class StepRequest(Signed, frozen=True, forbid_unknown_fields=True):
    """A verb on a step. `item` names one call of a step that makes many."""

    item: str | None = None


class ResolveRequest(Signed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An operator knows what became of a step. `reply` goes with `succeeded`."""

    outcome: Literal["succeeded", "rejected", "undone"]
    reply: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    item: str | None = None


class AnswerRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer to a question that a step asked: its `reply`, or `rejected` with a `reason`."""

    outcome: Literal["succeeded", "rejected"] = "succeeded"
    reply: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    reason: str | None = None
    by: str | None = None
    item: str | None = None


_SIGNED: Final = decoder_of(Signed)
_ON_STEP: Final = decoder_of(StepRequest)
_RESOLVE: Final = decoder_of(ResolveRequest)
_ANSWER: Final = decoder_of(AnswerRequest)
_TAKES: Final = "It takes reason, and may take by."
_STEP_TAKES: Final = "It takes reason, and may take by and item."


# -- on a run

RunVerb = Literal["cancel", "compensate", "retry", "abandon"]

RUN_VERBS: Final[Mapping[RunVerb, Callable[[Who], Ask]]] = {
    "cancel": lambda who: lambda at, epoch: c.Cancel(at, epoch, who),
    "compensate": lambda who: lambda at, epoch: c.Cancel(at, epoch, who, "compensate"),
    "retry": lambda who: lambda at, epoch: c.RetryStep(at, epoch, who),
    "abandon": lambda who: lambda at, epoch: c.Abandon(at, epoch, who),
}


async def cancel(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs/{id}/cancel`: turn a run back; 202 while its pivot is open, which then decides."""
    return await _on_run(context, request, caller, "cancel")


async def compensate(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs/{id}/compensate`: as `cancel`, and where a barrier allows it no person is waited for."""
    return await _on_run(context, request, caller, "compensate")


async def retry(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs/{id}/retry`: try everything again that is stuck."""
    return await _on_run(context, request, caller, "retry")


async def abandon(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs/{id}/abandon`: end a stuck run as it is; its effects that may remain are listed."""
    return await _on_run(context, request, caller, "abandon")


async def _on_run(context: Context, request: Request, caller: Caller, verb: RunVerb) -> Response:
    asked = decoded(await read_body(request, context.limits), _SIGNED, _TAKES)
    return await _done(context, request, caller, RUN_VERBS[verb](who(caller, asked.reason, asked.by)))


# -- on a step


async def retry_step(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs/{id}/steps/{step}/retry`: try a step again, now: the same key, the same bytes."""
    step = step_name(request)
    asked = decoded(await read_body(request, context.limits), _ON_STEP, _STEP_TAKES)
    signed = who(caller, asked.reason, asked.by)
    return await _done(context, request, caller, lambda at, epoch: c.RetryStep(at, epoch, signed, step, asked.item))


async def skip(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs/{id}/steps/{step}/skip`: leave a step as it is; a skipped undo ends `abandoned`."""
    step = step_name(request)
    asked = decoded(await read_body(request, context.limits), _ON_STEP, _STEP_TAKES)
    signed = who(caller, asked.reason, asked.by)
    return await _done(context, request, caller, lambda at, epoch: c.Skip(at, epoch, signed, step, asked.item))


async def resolve(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs/{id}/steps/{step}/resolve`: say what became of a step: `succeeded`, `rejected` or `undone`."""
    step = step_name(request)
    takes = "It takes outcome (succeeded, rejected, undone) and reason, and may take reply, by and item."
    asked = decoded(await read_body(request, context.limits), _RESOLVE, takes)
    reply = None if asked.reply is msgspec.UNSET else bytes(asked.reply)
    if reply is not None and asked.outcome == "rejected":
        msg = "a reply goes with succeeded: what was rejected has none"
        raise InputInvalid(msg, path="reply")
    signed = who(caller, asked.reason, asked.by)
    return await _done(
        context,
        request,
        caller,
        lambda at, epoch: c.Resolve(at, epoch, signed, step, asked.outcome, reply, asked.item),
    )


async def answer(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs/{id}/steps/{step}/answer`: answer a question with a `reply`, or decline it: `rejected`."""
    step = step_name(request)
    takes = "It takes reply, or outcome: rejected with a reason, and may take by and item."
    asked = decoded(await read_body(request, context.limits), _ANSWER, takes)
    declines = asked.outcome == "rejected"
    reply = None if asked.reply is msgspec.UNSET else bytes(asked.reply)
    if declines and asked.reason is None:
        msg = "who declines says why"
        raise InputInvalid(msg, path="reason")
    if declines != (reply is None):
        msg = "an answer has a reply, a refusal has none"
        raise InputInvalid(msg, path="reply")
    signed = who(caller, "answered" if asked.reason is None else asked.reason, asked.by)
    return await _done(
        context, request, caller, lambda at, epoch: c.AnswerQuestion(at, epoch, signed, step, reply, asked.item)
    )


def who(caller: Caller, reason: str, claimed: str | None) -> Who:
    """A signature: the caller's own name, and beside it the name that it claims."""
    if claimed is not None and not 1 <= len(claimed) <= CLAIM_CHARACTERS_MAX:
        msg = f"by has 1 to {CLAIM_CHARACTERS_MAX} characters; this one has {len(claimed)}"
        raise InputInvalid(msg, path="by")
    return Who(by=caller.name, reason=reason, claimed_by=claimed)


def step_name(request: Request) -> str:
    """The step in the path."""
    step: str = request.path_params["step"]
    if STEP_NAME.fullmatch(step) is None:
        raise ProblemRaised(
            Problem(
                404,
                "no-such-step",
                "There is no such step",
                f"{step[:80]!r} is no name of a step.",
                "step",
                "One call of a step that makes many is named by `item` in the body.",
            )
        )
    return step


async def _done(context: Context, request: Request, caller: Caller, verb: Ask) -> Response:
    """The run after the verb, or what would follow from it."""
    run = run_id(request)
    expected = if_match(request)
    await check_sees(context, caller, run)
    if flag(request, "dry_run"):
        preview = await context.engine.preview(run, verb, expected=expected)
        return await _previewed(context, preview)
    record = await context.engine.steer(run, verb, expected=expected)
    return await shown(context, run, 202 if _is_open(record) else 200)


def _is_open(record: RunRecord) -> bool:
    """Whether it was asked to turn back, and its pivot has yet to decide."""
    return record.ended is None and record.hurries_pivot


async def _previewed(context: Context, preview: Preview) -> Response:
    record, after = preview.before, preview.after
    row = await context.engine.log.read_row(record.run)
    graph = context.graphs.known(preview.definition)
    view = PreviewView(
        run=record.run,
        version=preview.version,
        state=record.state.value,
        events=EventViews(graph, after).views(preview.events, preview.version + 1),
        sends=[send_view(record.run, each) for each in preview.sends],
        after=row_only_view(row)
        if after.purged and row is not None
        else run_view(graph, after, {} if row is None else row.tags),
    )
    headers = {"ETag": f'"{preview.version}"'}
    return Response(_ENCODER.encode(view), 200, headers, "application/json")
