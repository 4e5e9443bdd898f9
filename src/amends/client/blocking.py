"""`Client`: runs over HTTP, for code that can't await: Flask, Django views, Celery tasks, scripts.

Connections are made when they are needed and kept for the next request, so a client may be made at import, shared by
threads, and carried into processes that are forked.
"""

import http.client
import os
import ssl
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

from amends.client.protocol import Address, Again, Ask, Asking, ServerResponse
from amends.client.requests import ClientRequests
from amends.core.saga.outcomes import Outcome
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step

I = TypeVar("I")  # noqa: E741 - the field's letter for a saga's input
R = TypeVar("R")
T = TypeVar("T")

_BROKEN: Final = (OSError, http.client.HTTPException)


class Client:
    """Runs of a server, for code that can't await.

    ```python
    client = Client("http://amends:8700")
    id = client.start(place_order, order, id=order.id)
    ```

    Errors are those of `AsyncClient`. Closing it is optional: `close`, or `with Client(...) as client`.
    """

    def __init__(self, url: str, *, token: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._address = Address(url, token, tls)
        self._asks = ClientRequests()
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections that are idle; used again, the client opens others."""
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def start(
        self,
        saga: Saga[I],
        input: I,
        *,
        id: str | None = None,
        deadline: timedelta | datetime | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Begin a run and give its id; once this returns it survives any crash."""
        run, _ = self.do(self._asks.start(saga, input, id, deadline, tags))
        return run.id

    def outcome(self, id: str, *, wait: timedelta | None = None) -> Outcome:
        """How it ended, or why it is stuck; with `wait`, as it stands when that is over."""
        return self.do(self._asks.outcome(id, wait))

    def cancel(self, id: str, *, reason: str) -> None:
        """Turn a run back; `PastPivot` where that is no longer possible."""
        self.do(self._asks.steer(id, "cancel", reason))

    def compensate(self, id: str, *, reason: str) -> None:
        """Turn a run back, and stop waiting for a person where a barrier lets us undo without knowing."""
        self.do(self._asks.steer(id, "compensate", reason))

    def retry(self, id: str, *, reason: str, step: Step[Any, Any] | None = None, item: str | None = None) -> None:
        """Try a step again, or everything that is stuck."""
        self.do(self._asks.steer(id, "retry", reason, step=None if step is None else step.name, item=item))

    def resolve(
        self,
        id: str,
        step: Step[Any, R],
        outcome: Literal["succeeded", "rejected", "undone"],
        *,
        reason: str,
        reply: R | None = None,
        item: str | None = None,
    ) -> None:
        """Vouch for what became of a step: `succeeded` (with its reply), `rejected` or `undone`."""
        self.do(self._asks.resolve(id, step, outcome, reason=reason, reply=reply, item=item))

    def skip(self, id: str, step: Step[Any, Any], *, reason: str, item: str | None = None) -> None:
        """Leave a step as it is."""
        self.do(self._asks.steer(id, "skip", reason, step=step.name, item=item))

    def abandon(self, id: str, *, reason: str) -> None:
        """End a stuck run as it is."""
        self.do(self._asks.steer(id, "abandon", reason))

    def answer(self, id: str, step: Step[Any, R], reply: R) -> None:
        """Answer a question that a step asked; the same answer again is fine."""
        self.do(self._asks.answer(id, step, reply))

    def decline(self, id: str, step: Step[Any, Any], reason: str) -> None:
        """Decline a question that a step asked: the step is rejected."""
        self.do(self._asks.decline(id, step, reason))

    def do(self, asking: Asking[T]) -> T:
        """Drive one asking to its result; for tools built on this client."""
        try:
            ask = next(asking)
            while True:
                ask = asking.send(self._ask(ask))
        except StopIteration as done:
            result: T = done.value
            return result

    def _ask(self, ask: Ask) -> ServerResponse:
        tries = 2 if ask.again is Again.FINE else 1
        while True:
            tries -= 1
            connection = self._connected(ask)
            try:
                said = self._exchange(connection, ask)
            except _BROKEN as error:
                connection.close()
                if not tries:
                    raise self._address.unanswered(error) from error
                continue
            except BaseException:  # a signal in the middle of an answer: the next request would read its rest
                connection.close()
                raise
            with self._lock:
                self._idle.append(connection)
            return said

    def _connected(self, ask: Ask) -> http.client.HTTPConnection:
        """A connection in exclusive use; a new one for what must not be sent twice, since one that was kept may be
        dead.
        """
        kept = self._kept() if ask.again is Again.FINE else None
        connection = kept or self._made()
        connection.timeout = ask.seconds
        if connection.sock is not None:
            connection.sock.settimeout(ask.seconds)
            return connection
        try:
            connection.connect()
        except _BROKEN as error:
            connection.close()
            raise self._address.unreached(error) from error
        return connection

    def _kept(self) -> http.client.HTTPConnection | None:
        """One that was kept by this process: a forked one must not write into its parent's."""
        if self._process != os.getpid():
            self.close()
            self._process = os.getpid()
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _exchange(self, connection: http.client.HTTPConnection, ask: Ask) -> ServerResponse:
        connection.request(ask.method, self._address.base + ask.target, ask.body, self._address.headers_of(ask))
        answer = connection.getresponse()
        body = answer.read()
        return ServerResponse(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)

    def _made(self) -> http.client.HTTPConnection:
        if self._address.tls is not None:
            return http.client.HTTPSConnection(self._address.host, self._address.port, context=self._address.tls)
        return http.client.HTTPConnection(self._address.host, self._address.port)
