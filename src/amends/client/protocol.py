"""One request to a server and what came back, as values; and what a refusal means, as the exceptions of `Orchestrator`.

A client's method is a generator: it yields an `Ask`, receives a `ServerResponse`, and returns its result. It is written
once and driven by two loops, one that awaits and one that blocks.
"""

import ssl
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, Final, TypeAlias, TypeVar, cast
from urllib.parse import quote, urlencode

import msgspec

from amends.core.words.errors import (
    AmendsError,
    Changed,
    DefinitionNotHere,
    InputInvalid,
    LogUnavailable,
    NoSuchRun,
    NoSuchSaga,
    NotAllowed,
    Overloaded,
    PastPivot,
    Refused,
    RunExists,
    ServerUnavailable,
    TooLarge,
)
from amends.core.words.urls import BadUrl, http_url, shown_url

T = TypeVar("T")

ANSWER_SECONDS: Final = 15.0
"""How long an answer may take, beside the time it was asked to wait for a run."""

RETRY_AFTER_DEFAULT: Final = 1.0
TEXT_SHOWN_MAX: Final = 200


class Again(Enum):
    """Whether a request that may have arrived can be sent once more."""

    FINE = "fine"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `path` begins with `/`; `waits` is how long the server was asked to wait, in seconds."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    waits: float = 0.0
    again: Again = Again.NEVER

    @property
    def target(self) -> str:
        """Path and query, as they are sent."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    @property
    def seconds(self) -> float:
        """How long to wait for the whole answer."""
        return self.waits + ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class ServerResponse:
    """One answer. Names of headers are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Asking: TypeAlias = Generator[Ask, ServerResponse, T]


class Address:
    """Where a server is, and the headers that every request to it carries."""

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | None = None) -> None:
        shown = shown_url(url)
        try:
            address = http_url(url)
        except BadUrl as error:
            msg = f"{shown!r} is no address of a server: {error}. Expected http://host:port or https://..."
            raise AmendsError(msg) from None
        if address.has_login or address.has_query:
            what = "a user or password" if address.has_login else "a query"
            msg = f"{shown!r}: {what} in a server's address isn't used. Give a token: --token, AMENDS_TOKEN or token=."
            raise AmendsError(msg)
        self.url = shown.rstrip("/")
        self.is_tls = address.is_tls
        if tls is not None and not self.is_tls:
            msg = f"{shown!r} has no TLS, so certificates towards it have no use: https://..."
            raise AmendsError(msg)
        self.tls = ssl.create_default_context() if tls is None and self.is_tls else tls
        """`None` for http://."""
        self.host = address.host
        self.port = address.port
        self.base = address.path
        self.headers = {"accept": "application/json"}
        if token is not None:
            self.headers["authorization"] = f"Bearer {token}"

    def headers_of(self, ask: Ask) -> dict[str, str]:
        """All headers of one request."""
        typed = {} if ask.body is None else {"content-type": "application/json"}
        return {**self.headers, **typed, **ask.headers}

    def unreached(self, error: Exception) -> ServerUnavailable:
        """What a caller is told when there was no connection."""
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        remedy = _remedy(reason) or "Is a server running there?"
        return ServerUnavailable(f"{self.url} can't be reached: {reason}. {remedy}")

    def unanswered(self, error: Exception) -> ServerUnavailable:
        """What a caller is told when nothing came back."""
        why = str(error) or type(error).__name__
        remedy = _remedy(why)
        if remedy is not None:
            return ServerUnavailable(f"{self.url} refused the connection: {why}. {remedy}")
        return ServerUnavailable(
            f"no answer from {self.url}: {why}. Whether the request arrived isn't known; a start with the same id "
            "may be repeated."
        )


_GUESSES: Final[Mapping[str, str]] = {
    "WRONG_VERSION_NUMBER": "Is it http://, without TLS?",
    "CERTIFICATE_VERIFY_FAILED": "The authority of its certificate is given by --ca (AMENDS_CA), in code by tls=.",
    "CERTIFICATE_REQUIRED": "A client certificate is needed: --cert and --key (AMENDS_CERT, AMENDS_KEY), in code tls=.",
    "UNKNOWN_CA": "It doesn't know the authority of the client certificate.",
}
"""What TLS says, and the remedy."""


def _remedy(reason: str) -> str | None:
    return next((remedy for name, remedy in _GUESSES.items() if name in reason.upper().replace(" ", "_")), None)


def segment(text: str) -> str:
    """An id or a name as one part of a path."""
    return quote(text, safe="")


def succeeded(said: ServerResponse) -> ServerResponse:
    """The answer, unless it says no."""
    if said.status < 400:
        return said
    raise refusal(said)


def refusal(said: ServerResponse) -> AmendsError:
    """A problem as the exception that an `Orchestrator` raises for it."""
    problem = _problem(said)
    name = str(problem.get("type", "")).rpartition(":")[2]
    detail = str(problem.get("detail") or problem.get("title") or f"the server answered {said.status}")
    remedy = problem.get("remedy")
    told = f"{detail} {remedy}" if isinstance(remedy, str) and remedy else detail
    known = _KNOWN.get(name)
    if known is not None:
        return known(told if name in _WITH_REMEDY else detail, problem, said)
    if said.status in {401, 403}:
        return NotAllowed(told)
    if said.status in {429, 503}:
        return _overloaded(told, problem, said)
    if said.status >= 500:
        return ServerUnavailable(told)
    return Refused(name or "refused", detail, status=said.status)


def foreign(said: ServerResponse) -> str:
    """What a caller is told of an answer that no amends server gives: a proxy's page, another program's reply."""
    kind = said.headers.get("content-type", "no content type").partition(";")[0]
    shown = " ".join(said.body[:TEXT_SHOWN_MAX].decode(errors="replace").split())
    return (
        f"this isn't an answer of an amends server: status {said.status}, {kind}: {shown!r}. "
        "Check the address: scheme, host, port and path."
    )


def _problem(said: ServerResponse) -> dict[str, Any]:
    try:
        found: object = msgspec.json.decode(said.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if isinstance(found, dict):
        problem = cast("dict[str, Any]", found)
        if str(problem.get("type", "")).startswith("urn:amends:"):
            return problem
    return {"detail": foreign(said)}


def _overloaded(detail: str, _: Mapping[str, Any], said: ServerResponse) -> AmendsError:
    given = said.headers.get("retry-after", "")
    seconds = float(given) if given.isdecimal() and len(given) < 6 else RETRY_AFTER_DEFAULT
    return Overloaded(detail, retry_after=timedelta(seconds=seconds))


def _input_invalid(detail: str, problem: Mapping[str, Any], _: ServerResponse) -> AmendsError:
    return InputInvalid(detail, path=str(problem.get("where") or "$"))


def _plain(kind: Callable[[str], AmendsError]) -> Callable[[str, Mapping[str, Any], ServerResponse], AmendsError]:
    return lambda detail, _, __: kind(detail)


_KNOWN: Final[Mapping[str, Callable[[str, Mapping[str, Any], ServerResponse], AmendsError]]] = {
    "run-exists": _plain(RunExists),
    "input-invalid": _input_invalid,
    "too-large": _plain(TooLarge),
    "no-such-run": _plain(NoSuchRun),
    "no-such-saga": _plain(NoSuchSaga),
    "overloaded": _overloaded,
    "log-unavailable": _plain(LogUnavailable),
    "definition-not-here": _plain(DefinitionNotHere),
    "past-pivot": _plain(PastPivot),
    "changed": _plain(Changed),
}
_WITH_REMEDY: Final = frozenset({"overloaded", "log-unavailable", "too-large"})
