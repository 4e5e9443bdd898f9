"""What every endpoint is given: the engine, the clock, the limits, and what was worked out once."""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from amends.config.settings import SagaSettings
from amends.core.run.offers import offers
from amends.core.words.limits import REQUEST_BYTES_MAX
from amends.engine.active_run import Driven, Ready
from amends.engine.engine import Engine
from amends.engine.lanes import Lane
from amends.ports.clock import TimeSource
from amends.ports.log import StoredRun, WorkerState
from amends.server.access import Access, Caller
from amends.server.callback_tokens import CallbackTokens
from amends.server.connections import CONNECTIONS_MAX
from amends.server.protocol import BODY_SECONDS, HEAD_BYTES_MAX, HEAD_SECONDS, WRITE_SECONDS
from amends.server.rate_limit import GUESS_FORGIVEN_SECONDS, GUESSES_MAX, Buckets, Shares, WrongTokens
from amends.server.request_metrics import Metrics
from amends.views.run import RunView, WorkerView, moment, offer_views, run_view
from amends.views.stored import Graphs, stored_view

BODY_BYTES_MAX: Final = REQUEST_BYTES_MAX + (64 << 10)
"""A run's input, which has its own limit, and what is said around it."""

REQUESTS_MAX: Final = 4_096
"""Requests that are being answered at a time, those that wait for a run included; more are told to come again."""

STREAMS_MAX: Final = 1_024
"""Live streams of events at a time."""

SHARE: Final = 4
"""One token may have a quarter of all streams, and three quarters of all requests, at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What the server takes. `per_second`: requests of one token on average, `None` for any number."""

    body_bytes: int = BODY_BYTES_MAX
    body_seconds: float = BODY_SECONDS
    requests: int = REQUESTS_MAX
    streams: int = STREAMS_MAX
    per_second: float | None = None
    head_bytes: int = HEAD_BYTES_MAX
    head_seconds: float = HEAD_SECONDS
    write_seconds: float = WRITE_SECONDS
    connections: int = CONNECTIONS_MAX


@dataclass(slots=True)
class Context:
    """`stopping` is set when the server is asked to stop: callers that wait for a run are then told how it stands."""

    engine: Engine
    access: Access = field(default_factory=Access)
    limits: ServerLimits = field(default_factory=ServerLimits)
    callbacks: CallbackTokens = field(default_factory=CallbackTokens)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    metrics: Metrics = field(default_factory=Metrics)
    sagas: Mapping[str, SagaSettings] = field(default_factory=dict[str, SagaSettings])
    lanes: Mapping[str, Lane[Ready]] = field(default_factory=dict[str, Lane[Ready]])
    failures: WrongTokens = field(default_factory=WrongTokens)
    guesses: Buckets = field(default_factory=lambda: Buckets(1 / GUESS_FORGIVEN_SECONDS, GUESSES_MAX))
    clock: TimeSource = field(init=False)
    """The log's, by which deadlines hold."""

    graphs: Graphs = field(init=False)
    buckets: Buckets | None = field(init=False)
    streams_of: Shares = field(init=False)
    requests_of: Shares = field(init=False)
    certificates: int = 0
    """How often the server's certificates were read again: connections and streams from before come to an end."""

    document: Callable[[], bytes] = bytes
    requests: int = 0
    streams: int = 0
    not_ready: str = ""
    """What was logged last of why this process isn't ready."""

    def __post_init__(self) -> None:
        self.clock = self.engine.clock
        self.graphs = Graphs(self.engine.log, self.engine.events)
        for each in self.engine.definitions.values():
            self.graphs.known(each)
        per_second = self.limits.per_second
        self.buckets = None if per_second is None else Buckets(per_second, max(1.0, per_second))
        # Without tokens there is one caller, whose everything is.
        is_open = self.access.is_open
        self.streams_of = Shares(None if is_open else max(1, self.limits.streams // SHARE))
        self.requests_of = Shares(None if is_open else max(1, self.limits.requests - self.limits.requests // SHARE))

    async def stored(self, run: str, *, whole: bool = False) -> tuple[StoredRun, RunView]:
        """A run as the log has it, whether or not its saga is loaded here."""
        return await stored_view(self.engine.log, run, self.graphs, whole=whole, offers=self.engine.offers)

    async def workers(self, caller: Caller) -> list[WorkerView]:
        """The workers of this log, with the sagas that the caller sees; gone ones while they have runs."""
        here = (socket.gethostname(), os.getpid())
        return [
            WorkerView(
                id=each.id,
                state=each.state.value,
                host=each.host,
                here=(each.host, each.pid) == here,
                runs=each.runs,
                expires_at=None if each.expires_at is None else moment(each.expires_at),
                sagas=[f"{saga.name} v{saga.version}" for saga in each.sagas if caller.sees(saga.name)],
                digests=[saga.digest for saga in each.sagas if caller.sees(saga.name)],
            )
            for each in await self.engine.log.workers()
            if each.state is WorkerState.LIVE or each.runs
        ]

    def driven(self, driven: Driven, tags: Mapping[str, str], *, whole: bool = False) -> tuple[int, RunView]:
        """A run that this process drives, as it durably stands, and its history's version; the log isn't asked."""
        record, definition = driven.record, driven.definition
        view = run_view(self.graphs.known(definition), record, tags, whole=whole)
        if view.stuck:
            offered = offers(definition, record, self.clock.now(), 0, driven.held)
            view = msgspec.structs.replace(view, offers=offer_views(offered))
        return record.length, view
