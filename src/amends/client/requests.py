"""What a client asks, in the words of `Orchestrator`: each a generator of requests that ends in a result."""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeVar

import msgspec

from amends.client.outcome import SEEN, SeenRun, outcome_of
from amends.client.protocol import TEXT_SHOWN_MAX, Again, Ask, Asking, ServerResponse, foreign, segment, succeeded
from amends.codecs.json import JsonCodec
from amends.core.saga.outcomes import Outcome
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step
from amends.core.words.codec import Undecodable
from amends.core.words.errors import InputInvalid, NoSuchRun, ServerUnavailable
from amends.core.words.keys import RUN_ID

R = TypeVar("R")

_LOGGER = logging.getLogger("amends.client")

WAIT_SECONDS_MAX: Final = 30.0
"""How long one request waits for a run: below what servers and the proxies in between allow."""


class ClientRequests:
    """Every request of a client. `now` is monotonic, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._codec = JsonCodec()

    def start(
        self,
        saga: Saga[Any],
        input: object,
        id: str | None,
        deadline: timedelta | datetime | None,
        tags: Mapping[str, str] | None,
    ) -> Asking[tuple[SeenRun, bool]]:
        """The run, and whether this started it. Without an id one is made here, so that it can be sent again."""
        body = self._start_body(saga, input, id or new_id(), deadline, tags)
        said = succeeded((yield Ask("POST", "/v1/runs", body=body, again=Again.FINE)))
        run = seen(said)
        for each in run.warnings:
            _LOGGER.warning("%s: input, at %s: %s It is ignored.", run.id, each.path, each.text)
        return run, said.status == 201

    def _start_body(
        self,
        saga: Saga[Any],
        input: object,
        id: str,
        deadline: timedelta | datetime | None,
        tags: Mapping[str, str] | None,
    ) -> bytes:
        asked: dict[str, Any] = {"saga": saga.name, "input": msgspec.Raw(self._encoded(input)), "id": id}
        if deadline is not None:
            asked["deadline"] = _deadline(deadline)
        if tags:
            asked["tags"] = dict(tags)
        return msgspec.json.encode(asked)

    def look(self, id: str) -> Asking[SeenRun]:
        """A run as it stands."""
        said = succeeded((yield Ask("GET", f"/v1/runs/{place(id)}", again=Again.FINE)))
        return seen(said)

    def outcome(self, id: str, wait: timedelta | None) -> Asking[Outcome]:
        """How it ended, or why it is stuck; as it stands once `wait` is over."""
        until = None if wait is None else self._now() + wait.total_seconds()
        while True:
            left = WAIT_SECONDS_MAX if until is None else min(WAIT_SECONDS_MAX, max(0.0, until - self._now()))
            query = {"wait": f"{left:g}"} if left else {}
            ask = Ask("GET", f"/v1/runs/{place(id)}", query, waits=left, again=Again.FINE)
            run = seen(succeeded((yield ask)))
            if run.is_settled or (until is not None and self._now() >= until):
                return outcome_of(run, self._codec)

    def steer(
        self,
        id: str,
        verb: str,
        reason: str,
        *,
        step: str | None = None,
        item: str | None = None,
        more: Mapping[str, object] | None = None,
    ) -> Asking[None]:
        """Ask something of a run, or of a step."""
        given = {"reason": reason, "item": item, **(more or {})}
        body = msgspec.json.encode({name: value for name, value in given.items() if value is not None})
        at = f"/v1/runs/{place(id)}" if step is None else f"/v1/runs/{place(id)}/steps/{segment(step)}"
        succeeded((yield Ask("POST", f"{at}/{verb}", body=body)))

    def resolve(
        self,
        id: str,
        step: Step[Any, R],
        outcome: Literal["succeeded", "rejected", "undone"],
        *,
        reason: str,
        reply: R | None,
        item: str | None,
    ) -> Asking[None]:
        """Vouch for what became of a step."""
        more: dict[str, object] = {"outcome": outcome}
        if reply is not None:
            more["reply"] = msgspec.Raw(self._encoded(reply))
        yield from self.steer(id, "resolve", reason, step=step.name, item=item, more=more)

    def answer(self, id: str, step: Step[Any, R], reply: R) -> Asking[None]:
        """Answer a question."""
        more = {"reply": msgspec.Raw(self._encoded(reply))}
        yield from self.steer(id, "answer", "answered", step=step.name, more=more)

    def decline(self, id: str, step: Step[Any, Any], reason: str) -> Asking[None]:
        """Decline one."""
        yield from self.steer(id, "answer", reason, step=step.name, more={"outcome": "rejected"})

    def _encoded(self, value: object) -> bytes:
        try:
            return self._codec.encode(value)
        except Undecodable as error:
            raise InputInvalid(error.detail, path=error.path) from error


def place(run: str) -> str:
    """A run's id as part of a path; `NoSuchRun` of what can't be one."""
    if RUN_ID.fullmatch(run) is None:
        msg = f"there is no run {run[:TEXT_SHOWN_MAX]!r}: an id is {RUN_ID.pattern}"
        raise NoSuchRun(msg)
    return run


def seen(said: ServerResponse) -> SeenRun:
    """The run in an answer; `ServerUnavailable` where something else than a server of amends gave it."""
    try:
        return SEEN.decode(said.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServerUnavailable(foreign(said)) from error


def new_id() -> str:
    """A run id that sorts by time: milliseconds since 1970, then randomness."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def _deadline(deadline: timedelta | datetime) -> float | str:
    if isinstance(deadline, timedelta):
        return deadline.total_seconds()
    if deadline.tzinfo is None:
        msg = "a deadline needs a time zone: datetime(..., tzinfo=UTC)"
        raise ValueError(msg)
    return deadline.astimezone(UTC).isoformat().replace("+00:00", "Z")
