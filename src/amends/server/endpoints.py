"""What an endpoint is, as data: from one table come the routes, the roles, and the OpenAPI document."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from amends.server.access import Caller, Role
from amends.server.context import Context
from amends.server.problems import bad_request, too_much
from amends.views.run_filter import WHERE_CHARACTERS_MAX

Handler = Callable[[Context, Request, Caller], Awaitable[Response]]

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
PLAIN_TEXT: Final = "text/plain"
HTML: Final = "text/html"
SCRIPT: Final = "text/javascript"
STYLE: Final = "text/css"


PARAMETERS_MAX: Final = 64
"""Parameters of one request: all states and tags that a filter may name, and some more."""

PARAMETER_CHARACTERS_MAX: Final = 1_000
"""Of one parameter: the longest names, values and cursors are shorter."""

SHOWN: Final = 80
"""Characters of an unknown name that an answer repeats."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query: what it means, and its JSON Schema. `many`: it may be said more than once. `longest`: how
    many characters it may have.
    """

    about: str
    schema: Mapping[str, Any]
    many: bool = False
    longest: int = PARAMETER_CHARACTERS_MAX


PARAMETERS: Final[Mapping[str, Parameter]] = {
    "wait": Parameter(
        "Seconds to wait until the run has ended or is stuck; it is then answered as it stands.",
        {"type": "number", "minimum": 0, "maximum": 60},
    ),
    "state": Parameter(
        "Only runs in this state.",
        {"enum": ["running", "compensating", "stuck", "completed", "compensated", "abandoned"]},
        many=True,
    ),
    "saga": Parameter("Only runs of this saga.", {"type": "string"}),
    "version": Parameter("Only runs of this version of their saga.", {"type": "integer", "minimum": 0}),
    "tag": Parameter("Only runs with this tag, as NAME=VALUE.", {"type": "string", "pattern": "^[^=]+=.+$"}, many=True),
    "step": Parameter("Only runs that are at this step, or stuck at it.", {"type": "string"}),
    "where": Parameter(
        "Conditions in one text, as `saga=place-order step=ship phase=action`; see the bulk verbs.",
        {"type": "string"},
        longest=WHERE_CHARACTERS_MAX,
    ),
    "limit": Parameter("How many at the most.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
    "cursor": Parameter("`next` of the page before.", {"type": "string"}),
    "after": Parameter(
        "Only events after this version; the header Last-Event-ID says the same.", {"type": "integer", "minimum": 0}
    ),
    "strict": Parameter(
        "Refuse an input with a field that its type doesn't have; else the field is ignored, with a warning.",
        {"type": "boolean", "default": False},
    ),
    "redacted": Parameter(
        "Hide also in `outcome.replies` what is redacted; for a viewer it is always hidden.",
        {"type": "boolean", "default": False},
    ),
    "dry_run": Parameter("Say what would follow, and do nothing.", {"type": "boolean", "default": False}),
}
"""Every parameter that an endpoint may take."""


HEADERS: Final[Mapping[str, str]] = {
    "If-Match": "The version of the history that the verb is meant for, as the ETag says it; 412 at any other.",
    "Idempotency-Key": "The run's id, for clients that send one with every request; instead of `id` in the body.",
    "Last-Event-ID": "The last event that was seen: the stream goes on after it.",
    "Saga-Outcome": "`succeeded` or `rejected`; of a compensation `succeeded` or `cannot-compensate`.",
}
"""Headers that some endpoints read, and what they mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path. `body` and `answers` are the types on the wire; what it does is said by the handler.

    `role` is what a caller needs, `None` for nothing. An answer of several types is one of them; of none it has no
    JSON body. `headers` are those that it reads beside those of all endpoints.
    """

    handler: Handler
    role: Role | None
    query: tuple[str, ...] = ()
    body: type | None = None
    answers: Mapping[int, tuple[type, ...]] = field(default_factory=dict[int, tuple[type, ...]])
    problems: tuple[int, ...] = ()
    media: str = JSON
    headers: tuple[str, ...] = ()

    def check_query(self, request: Request) -> None:
        """Refuse parameters that it doesn't take: a filter with a slip in its name would find everything."""
        if not request.scope["query_string"]:
            return
        given = request.query_params.multi_items()
        for number, (name, value) in enumerate(given):
            if name not in self.query:
                taken = ", ".join(f"?{each}=" for each in self.query) or "none"
                shown = name[:SHOWN]
                raise bad_request(f"{shown} is no parameter of this path.", where=shown, remedy=f"It takes {taken}.")
            if number == PARAMETERS_MAX:
                raise too_much(f"{len(given):,} parameters; the limit is {PARAMETERS_MAX}.", where=name)
            if len(value) > PARAMETERS[name].longest:
                longest = PARAMETERS[name].longest
                raise too_much(f"{name} has {len(value):,} characters; the limit is {longest:,}.", where=name)
            if not PARAMETERS[name].many and len(request.query_params.getlist(name)) > 1:
                raise bad_request(f"{name} is said more than once.", where=name)
