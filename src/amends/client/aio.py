"""`AsyncClient`: runs over HTTP, for code that awaits."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from amends.client.events import BREAKS_MAX, EventsRead
from amends.client.protocol import Address, Asking, ServerResponse, refusal
from amends.client.requests import ClientRequests
from amends.core.saga.outcomes import Outcome
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step
from amends.core.words.errors import AmendsError, ServerUnavailable
from amends.ports.runs import Run

if TYPE_CHECKING:
    from amends.client.session import Session

I = TypeVar("I")  # noqa: E741 - the field's letter for a saga's input
R = TypeVar("R")
T = TypeVar("T")


class AsyncClient:
    """Runs of a server, with the words of `Orchestrator`: code that takes `Runs` doesn't care which it is given.

    ```python
    async with AsyncClient("http://amends:8700", token=os.environ["AMENDS_TOKEN"]) as runs:
        run = await runs.start(place_order, order, id=order.id)
    ```

    `tls` checks the server's certificate and shows the client's, where the system's authorities aren't enough:
    `ssl.create_default_context(cafile=...)` and its `load_cert_chain(cert, key)`.

    Sagas are needed for their names and types only; nothing is run here. Errors are those of `Orchestrator`, and
    `ServerUnavailable` and `NotAllowed`.
    """

    def __init__(self, url: str, *, token: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._address = Address(url, token, tls)
        self._asks = ClientRequests()
        self._session: Session | None = None

    async def __aenter__(self) -> Self:
        from amends.client.session import Session  # noqa: PLC0415 - what it brings along isn't needed to import amends

        self._session = Session(self._address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def start(
        self,
        saga: Saga[I],
        input: I,
        *,
        id: str | None = None,
        deadline: timedelta | datetime | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Begin a run; once this returns it survives any crash. The same id with the same input again is the same run.

        The server runs it under the highest version it has loaded. Raises `InputInvalid`, `RunExists`, `NoSuchSaga`,
        `Overloaded`, `ServerUnavailable` (then start again with the same id: it is one run).
        """
        run, is_new = await self.do(self._asks.start(saga, input, id, deadline, tags))
        return ClientRun(self, run.id, run.version, is_new=is_new)

    def get(self, id: str) -> Run:
        """A run by its id; `NoSuchRun` when its outcome is asked for and there is none."""
        return ClientRun(self, id)

    async def outcome(self, id: str, *, wait: timedelta | None = None) -> Outcome:
        """How it ended, or why it is stuck; with `wait`, as it stands when that is over."""
        return await self.do(self._asks.outcome(id, wait))

    async def cancel(self, id: str, *, reason: str) -> None:
        """Turn a run back; `PastPivot` where that is no longer possible."""
        await self.do(self._asks.steer(id, "cancel", reason))

    async def compensate(self, id: str, *, reason: str) -> None:
        """Turn a run back, and stop waiting for a person where a barrier lets us undo without knowing."""
        await self.do(self._asks.steer(id, "compensate", reason))

    async def retry(self, id: str, *, reason: str, step: Step[Any, Any] | None = None, item: str | None = None) -> None:
        """Try a step again, or everything that is stuck."""
        await self.do(self._asks.steer(id, "retry", reason, step=None if step is None else step.name, item=item))

    async def resolve(
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
        await self.do(self._asks.resolve(id, step, outcome, reason=reason, reply=reply, item=item))

    async def skip(self, id: str, step: Step[Any, Any], *, reason: str, item: str | None = None) -> None:
        """Leave a step as it is."""
        await self.do(self._asks.steer(id, "skip", reason, step=step.name, item=item))

    async def abandon(self, id: str, *, reason: str) -> None:
        """End a stuck run as it is."""
        await self.do(self._asks.steer(id, "abandon", reason))

    async def answer(self, id: str, step: Step[Any, R], reply: R) -> None:
        """Answer a question that a step asked; the same answer again is fine."""
        await self.do(self._asks.answer(id, step, reply))

    async def decline(self, id: str, step: Step[Any, Any], reason: str) -> None:
        """Decline a question that a step asked: the step is rejected."""
        await self.do(self._asks.decline(id, step, reason))

    async def events(self, id: str) -> AsyncIterator[Mapping[str, Any]]:
        """The run's facts from its beginning, in order, as they happen; ends when the run has ended.

        A connection that breaks is taken up where it broke. Raises `NoSuchRun`, `ServerUnavailable`.
        """
        reading = EventsRead(id)
        while not reading.is_over:
            try:
                async with aclosing(self._opened.lines(reading.ask())) as lines:
                    async for line in lines:
                        if isinstance(line, ServerResponse):
                            raise refusal(line)
                        for event in reading.line(line):
                            yield event
            except ServerUnavailable:
                if reading.gives_up():
                    raise
            if reading.gives_up():
                msg = f"the stream of {id} ended {BREAKS_MAX} times with nothing new in it. Is the server well?"
                raise ServerUnavailable(msg)
            await asyncio.sleep(reading.pause_seconds)

    async def do(self, asking: Asking[T]) -> T:
        """Drive one asking to its result; for tools built on this client."""
        try:
            ask = next(asking)
            while True:
                ask = asking.send(await self._opened.ask(ask))
        except StopIteration as done:
            result: T = done.value
            return result

    @property
    def _opened(self) -> "Session":
        if self._session is None:
            msg = "the client isn't open: use it as `async with AsyncClient(...) as runs:`"
            raise AmendsError(msg)
        return self._session


class ClientRun:
    """One run of a server."""

    def __init__(self, client: AsyncClient, id: str, version: int | None = None, *, is_new: bool = False) -> None:
        self._client = client
        self._version = version
        self.id = id
        self.is_new = is_new

    @property
    def version(self) -> int:
        """The version of the saga it runs under; known where this client started it."""
        if self._version is None:
            msg = f"{self.id} was not started here: its version is known from its outcome"
            raise AmendsError(msg)
        return self._version

    async def outcome(self, *, wait: timedelta | None = None) -> Outcome:
        """How it ended, or why it is stuck; with `wait`, as it stands when that is over."""
        return await self._client.outcome(self.id, wait=wait)
