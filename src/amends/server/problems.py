"""Everything that can go wrong for a caller, as RFC 9457 problem+json: what, where, and what to do.

A table from exceptions to problems, and one way to raise a problem without an exception of its own. What isn't in the
table is a bug of ours: 500, told in the process's log and not to the caller.
"""

import logging
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.run.decide import BuilderFailed
from amends.core.words.codec import Undecodable
from amends.core.words.errors import (
    Changed,
    DefinitionNotHere,
    InputInvalid,
    LogDamaged,
    LogTooSlow,
    LogUnavailable,
    NoSuchRun,
    NoSuchSaga,
    Overloaded,
    Refused,
    RunExists,
    TooLarge,
)

E = TypeVar("E", bound=Exception)

MEDIA_TYPE: Final = "application/problem+json"
BUILDER_NOTE: Final = "in the builder of "
"""How the core marks an exception that the code of a saga's author raised while a run was being started."""

LOG_RETRY_SECONDS: Final = 1
LIST_RETRY_SECONDS: Final = 5
FRAMES_LOGGED: Final = 3
"""Of an author's exception: the innermost are the author's."""

_LOGGER = logging.getLogger("amends.server")


@dataclass(frozen=True, slots=True)
class Problem:
    """`name` makes the type `urn:amends:<name>`; `where` is a path into the request; `remedy` says what to do."""

    status: int
    name: str
    title: str
    detail: str
    where: str | None = None
    remedy: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def response(self) -> Response:
        """As it is sent."""
        body: dict[str, Any] = {
            "type": f"urn:amends:{self.name}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.where is not None:
            body["where"] = self.where
        if self.remedy is not None:
            body["remedy"] = self.remedy
        return Response(msgspec.json.encode(body), self.status, self.headers, MEDIA_TYPE)


class ProblemRaised(Exception):
    """A request that is answered by this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def bad_request(detail: str, *, where: str | None = None, remedy: str | None = None) -> ProblemRaised:
    """A request that isn't one of this API."""
    return ProblemRaised(Problem(400, "bad-request", "The request isn't as this API takes it", detail, where, remedy))


def overloaded(detail: str) -> ProblemRaised:
    """Too much at once: nothing was done, and the same request may come again."""
    return ProblemRaised(_overloaded(Overloaded(detail, retry_after=timedelta(seconds=1))))


def problem_of(error: Exception) -> Problem:
    """What the caller is told of an exception."""
    if isinstance(error, ProblemRaised):
        return error.problem
    step = _step_of_builder(error)
    if step is not None:
        return _author_error(error, step)
    for kind, told in _TABLE:
        if isinstance(error, kind):
            return told(error)
    _LOGGER.error("a request failed", exc_info=error)
    return Problem(
        500,
        "internal",
        "This is a bug",
        "The request failed for a reason that is not the caller's.",
        remedy="The orchestrator's log says more. A start may be repeated with the same id: it is one run.",
    )


def not_found(request: Request) -> Problem:
    """A path that isn't served."""
    path = request.url.path
    return Problem(
        404, "not-found", "There is nothing at this path", f"{path} is no path of this API; /docs shows them all."
    )


def method_not_allowed(request: Request, headers: Mapping[str, str]) -> Problem:
    """A path that is served, by other methods."""
    allowed = ", ".join(sorted(headers.get("Allow", "").split(", ")))
    detail = f"{request.url.path} doesn't take {request.method}, only {allowed}."
    return Problem(405, "method-not-allowed", "This path takes other methods", detail, headers={"Allow": allowed})


def _step_of_builder(error: Exception) -> str | None:
    """`place-order v1, step ship`, where a builder of that step raised this."""
    notes: list[str] = getattr(error, "__notes__", [])
    return next((note.removeprefix(BUILDER_NOTE) for note in notes if note.startswith(BUILDER_NOTE)), None)


def _author_error(error: Exception, step: str) -> Problem:
    """The text of a foreign exception may hold what must not be shown: the log gets its place alone."""
    frames = "".join(traceback.format_tb(error.__traceback__)[-FRAMES_LOGGED:])
    _LOGGER.error("%s: the builder raised %s, nothing was stored\n%s", step, type(error).__name__, frames.rstrip())
    return Problem(
        422,
        "author-error",
        "The saga's own code failed",
        f"{step}: the builder raised {type(error).__name__}. Nothing was stored.",
        step,
        "The orchestrator's log has the place. Deploy a fix, then start the run again.",
    )


def _not_built(error: BuilderFailed) -> Problem:
    _LOGGER.error("%s", error)
    return Problem(
        422,
        "author-error",
        "The saga's own code failed",
        f"{error} Nothing was stored.",
        remedy="Deploy a fix, then start the run again.",
    )


def _input_invalid(error: InputInvalid | Undecodable) -> Problem:
    return Problem(422, "input-invalid", "The run can't be started with this", error.detail, error.path)


def _too_large(error: TooLarge) -> Problem:
    return Problem(413, "too-large", "More than the limit", str(error), remedy="Send a reference instead of the data.")


def _run_exists(error: RunExists) -> Problem:
    return Problem(409, "run-exists", "The id is taken by another run", str(error), "id")


def _no_such_run(error: NoSuchRun) -> Problem:
    return Problem(404, "no-such-run", "There is no such run", str(error))


def _no_such_saga(error: NoSuchSaga) -> Problem:
    return Problem(404, "no-such-saga", "There is no such saga here", str(error), "saga")


def _overloaded(error: Overloaded) -> Problem:
    seconds = max(1, math.ceil(error.retry_after.total_seconds()))
    return Problem(
        503,
        "overloaded",
        "Too much is waiting",
        str(error),
        remedy=f"Nothing was stored. Send the same request again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )


def too_much(detail: str, *, where: str) -> ProblemRaised:
    """A filter that asks for more than one may: nothing was looked for."""
    return ProblemRaised(
        Problem(422, "input-invalid", "The filter holds too much", detail, where, "Ask for less at a time.")
    )


def _too_slow(error: LogTooSlow) -> Problem:
    return Problem(
        503,
        "too-slow",
        "The list takes too long",
        str(error),
        remedy="Ask for less: name a saga, a state or a tag. Or ask again when the log is less busy.",
        headers={"Retry-After": str(LIST_RETRY_SECONDS)},
    )


def _log_unavailable(error: LogUnavailable) -> Problem:
    return Problem(
        503,
        "log-unavailable",
        "The log can't be used now",
        str(error),
        remedy="Nothing was acknowledged. Send the same request again, with the same id.",
        headers={"Retry-After": str(LOG_RETRY_SECONDS)},
    )


def _not_here(error: DefinitionNotHere) -> Problem:
    return Problem(
        503,
        "definition-not-here",
        "The run's saga isn't loaded here",
        str(error),
        remedy="Ask a process that has it, or load it here too.",
        headers={"Retry-After": str(LOG_RETRY_SECONDS)},
    )


def _unreadable(error: LogDamaged) -> Problem:
    return Problem(
        500,
        "unreadable",
        "The run's history can't be read",
        f"{error}.",
        remedy="Nothing was changed. Give the server what it takes to read it: its key, or a newer version.",
    )


def _changed(error: Changed) -> Problem:
    return Problem(412, "changed", "It has changed since", str(error), "If-Match")


def _refused(error: Refused) -> Problem:
    return Problem(error.status, error.problem, "Refused", error.detail)


def _row(kind: type[E], told: Callable[[E], Problem]) -> tuple[type[Exception], Callable[[Any], Problem]]:
    return kind, told


_TABLE: Final = (
    _row(InputInvalid, _input_invalid),
    _row(Undecodable, _input_invalid),
    _row(TooLarge, _too_large),
    _row(RunExists, _run_exists),
    _row(NoSuchRun, _no_such_run),
    _row(NoSuchSaga, _no_such_saga),
    _row(Overloaded, _overloaded),
    _row(LogTooSlow, _too_slow),
    _row(LogUnavailable, _log_unavailable),
    _row(DefinitionNotHere, _not_here),
    _row(BuilderFailed, _not_built),
    _row(Changed, _changed),
    _row(LogDamaged, _unreadable),
    _row(Refused, _refused),
)
