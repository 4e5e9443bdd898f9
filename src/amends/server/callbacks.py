"""Answers that come later: posted by a participant to the URL it was given with the call.

The token in the path is the only authority and good for that one call. What is posted is read as any answer of the
contract: by `Saga-Outcome`. Nothing but 200 and 410 says that it was taken in; until then it is posted again. An answer
that names its call (`Idempotency-Key`) is refused where the token is of another call.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.run.answers import OUTCOME_HEADER, CallResponse
from amends.core.run.callback import Heard
from amends.core.words.errors import NoSuchRun
from amends.core.words.keys import Phase
from amends.core.words.limits import REPLY_BYTES_MAX
from amends.server.access import Caller
from amends.server.context import Context
from amends.server.problems import Problem, ProblemRaised, bad_request
from amends.server.requests import read_bytes

WORDS: Final[Mapping[Phase, Mapping[str, int]]] = {
    Phase.ACTION: {"succeeded": 200, "rejected": 409},
    Phase.COMPENSATION: {"succeeded": 200, "cannot-compensate": 409},
}
"""What may be answered later, and the status that such an answer has where it comes at once."""


class CallbackView(msgspec.Struct, frozen=True):
    """The answer is in the log."""

    run: str
    step: str
    phase: str
    state: str = "recorded"


async def callback(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/callbacks/{token}`: the answer of a pending call: `Saga-Outcome`, and the reply as body."""
    key = context.callbacks.key(request.path_params["token"])
    if key is None:
        raise ProblemRaised(_no_such_token())
    words = WORDS.get(key.phase, {})
    given = request.headers.getlist(OUTCOME_HEADER)
    if len(given) != 1 or given[0] not in words:
        raise bad_request(
            f"Saga-Outcome is {', '.join(given)[:100] or 'missing'}.",
            where="Saga-Outcome",
            remedy=f"It is {' or '.join(words)}: once.",
        )
    body = await read_bytes(request, context.limits)
    if len(body) > REPLY_BYTES_MAX:
        raise ProblemRaised(
            Problem(413, "too-large", "More than the limit", f"A reply has {REPLY_BYTES_MAX} bytes at most.")
        )
    headers = {OUTCOME_HEADER: given[0]}
    named = request.headers.get("idempotency-key")
    if named is not None:
        headers["idempotency-key"] = named
    came = CallResponse(words[given[0]], headers, body)
    try:
        heard = await context.engine.visits.hear(key, came)
    except NoSuchRun:
        heard = None
    match heard:
        case None:
            raise ProblemRaised(_no_such_token())
        case Heard.RECORDED:
            view = CallbackView(key.run, key.vertex, key.phase.value)
            return Response(msgspec.json.encode(view), 200, media_type="application/json")
        case Heard.SETTLED | Heard.OVER | Heard.TOO_EARLY:
            raise ProblemRaised(_REFUSED[heard])


def _no_such_token() -> Problem:
    return Problem(404, "no-such-callback", "There is no such callback", "The token isn't one of this log's.")


_REFUSED: Final[Mapping[Heard, Problem]] = {
    Heard.SETTLED: Problem(
        409,
        "settled",
        "It is settled otherwise",
        "Another answer to this call is in the log; this one changes nothing.",
    ),
    Heard.OVER: Problem(
        410,
        "over",
        "It comes too late",
        "The run has ended, or the step was compensated. What was done for it may have to be undone by hand.",
    ),
    Heard.TOO_EARLY: Problem(
        503,
        "too-early",
        "It isn't waited for yet",
        "The log doesn't know yet that this work was taken on.",
        remedy="Post the same answer again in a second.",
        headers={"Retry-After": "1"},
    ),
}
