"""Where adapters are chosen: logs by URL, routes by what they point at; and the orchestrator that lives in your own
process.

Adapters are imported when they are asked for, so `import amends` needs next to nothing, and a missing extra is an
error that names it.
"""

import asyncio
import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

from amends.adapters import Lanes
from amends.codecs.events import JsonEventCodec as PlainEvents
from amends.codecs.json import JsonCodec, canonical
from amends.config.loading import load as load_settings
from amends.config.routes import defaults_of, routes_of
from amends.config.settings import Settings
from amends.config.values import looked_up
from amends.core.run.commands import Abandon, AnswerQuestion, Cancel, Resolve, RetryStep, Skip, Verb
from amends.core.run.definition import EPOCH_START, DefaultsOf, Definition, define
from amends.core.run.events import Who
from amends.core.run.record import RunRecord
from amends.core.run.summary import outcome
from amends.core.saga.check import check_sagas
from amends.core.saga.operation import Route
from amends.core.saga.outcomes import Outcome
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step
from amends.core.words.codec import Undecodable
from amends.core.words.errors import AmendsError, DefinitionInvalid, InputInvalid, NoRoute, NoSuchSaga
from amends.core.words.retry import DEFAULTS, micros
from amends.core.words.urls import shown_url
from amends.engine.active_run import Driven, Ready
from amends.engine.engine import GRACE_SECONDS, Engine, Started
from amends.engine.lanes import Lane
from amends.ports.clock import LOOP_TIMERS, SystemClock, Timers, TimeSource
from amends.ports.events import EventCodec
from amends.ports.log import LogReader, TransactionLog
from amends.ports.runs import Run
from amends.ports.transport import Transport
from amends.system.interrupts import is_key_press

I = TypeVar("I")  # noqa: E741 - the field's letter for a saga's input
R = TypeVar("R")


def open_log(url: str, *, lease_seconds: float | None = None) -> TransactionLog:
    """The log that a URL names, not opened yet: `memory:`, `sqlite:///path` (`sqlite:////absolute/path`) or
    `postgresql://user@host/database`.

    `lease_seconds`: how long this process may be silent before others take its runs, where there can be others and the
    URL doesn't say it.
    """
    scheme, _, rest = url.partition(":")
    match scheme:
        case "memory":
            from amends.logs.memory import MemoryLog

            return MemoryLog()
        case "sqlite":
            from amends.logs.sqlite.log import SqliteLog

            path = rest.removeprefix("///")
            if not rest.startswith("///") or not path:
                msg = f"{shown_url(url)}: expected sqlite:///file.db, or sqlite:////absolute/file.db."
                raise AmendsError(msg)
            return SqliteLog(path)
        case "postgresql" | "postgres":
            opened, _ = _postgres()
            return opened(url, lease_seconds=lease_seconds)
        case _:
            msg = (
                f"{shown_url(url)}: no log is known by {scheme or 'this'}:. "
                "Known are memory:, sqlite:///file.db and postgresql://host/database."
            )
            raise AmendsError(msg)


def open_reader(url: str) -> AbstractAsyncContextManager[LogReader]:
    """A look into the log that a URL names, for as long as it is entered; its workers aren't disturbed."""
    scheme, _, rest = url.partition(":")
    path = rest.removeprefix("///")
    if scheme in {"postgresql", "postgres"}:
        _, looked_into = _postgres()
        return looked_into(url)
    if scheme == "memory":
        msg = "a memory: log is in the process that runs it, and nowhere else. Ask its server."
        raise AmendsError(msg)
    if scheme != "sqlite" or not rest.startswith("///") or not path:
        msg = (
            f"{shown_url(url)}: expected sqlite:///file.db, sqlite:////absolute/file.db or postgresql://host/database."
        )
        raise AmendsError(msg)
    from amends.logs.sqlite.log import open_readonly

    return open_readonly(path)


def _postgres() -> tuple[Callable[..., TransactionLog], Callable[[str], AbstractAsyncContextManager[LogReader]]]:
    """How a log on PostgreSQL is opened, and how it is looked into."""
    try:
        from amends.logs.postgres.log import PostgresLog
        from amends.logs.postgres.reader import open_readonly
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        msg = "A log on PostgreSQL requires the 'postgres' extra: pip install \"amends[postgres]\""
        raise AmendsError(msg) from error
    return PostgresLog, open_readonly


def open_events(settings: Settings) -> EventCodec:
    """How events are written and read: encrypted where the settings say with which key, else plainly."""
    privacy = settings.privacy
    if privacy.encrypt is None:
        return PlainEvents()
    try:
        from amends.codecs.encrypted import EncryptedEvents
    except ModuleNotFoundError as error:
        msg = "privacy.encrypt requires the 'crypto' extra: pip install \"amends[crypto]\""
        raise AmendsError(msg) from error
    return EncryptedEvents(PlainEvents(), [each.look_up() for each in (privacy.encrypt, *privacy.decrypt)])


def open_route(route: Route) -> Transport:
    """The way to where a route points: a URL, `python:module:name`, a `Service`, or an ASGI application."""
    way = _way(route)
    if route.per_second is None:
        return way
    from amends.transports.paced import Paced

    return Paced(way, route.per_second)


def _way(route: Route) -> Transport:
    where = route.where
    if isinstance(where, str):
        scheme, _, rest = where.partition(":")
        match scheme:
            case "http" | "https":
                from amends.transports.http import HttpTransport

                return HttpTransport(where, route.headers, tls=route.tls)
            case "python":
                where = load(rest)
            case _:
                known = "Known are http://..., https://... and python:module:name."
                msg = f"{route.participant}: no way to {shown_url(where)}. {known}"
                raise NoRoute(msg)
    if hasattr(where, "send"):
        return cast("Transport", where)  # opened by its maker, as a workshop does
    if hasattr(where, "handle"):
        from amends.transports.in_process import ServiceTransport

        return ServiceTransport(cast("Any", where), route.headers)
    if callable(where):
        from amends.transports.asgi import AsgiTransport

        return AsgiTransport(cast("Any", where), headers=route.headers)
    msg = f"{route.participant}: {where!r} is no place for calls: expected a URL, a Service or an ASGI application."
    raise NoRoute(msg)


def load(name: str) -> object:
    """What `module:name` means, as on a command line; a clear error where it means nothing."""
    module_name, _, attribute = name.partition(":")
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            msg = f"there is no module {module_name}. Is it installed, or is this its folder?"
            raise AmendsError(msg) from error
        raise
    for part in attribute.split(".") if attribute else ():
        if not hasattr(found, part):
            msg = f"{module_name} has no {attribute}."
            raise AmendsError(msg)
        found = getattr(found, part)
    return found


def load_definitions(sagas: Iterable[Saga[Any]], defaults_of: DefaultsOf = lambda _: DEFAULTS) -> list[Definition]:
    """Check and load sagas together; `DefinitionInvalid` lists every mistake of all of them."""
    listed = list(sagas)
    mistakes = check_sagas(listed)
    if mistakes:
        raise DefinitionInvalid(mistakes)
    codec = JsonCodec()
    return [define(each, codec, defaults_of, is_key_press) for each in listed]


class EmbeddedRun:
    """One run of an `Orchestrator`."""

    def __init__(self, engine: Engine, run: str, started: Started | None = None) -> None:
        self._engine = engine
        self._driven: Driven | None = None if started is None else started.driven
        self._started = started
        self.id = run

    @property
    def version(self) -> int:
        """The version of the saga it runs under; known once this process has started it."""
        if self._started is None:
            msg = f"{self.id} was not started here: its version is known from its outcome"
            raise AmendsError(msg)
        return self._started.definition.version

    @property
    def is_new(self) -> bool:
        """Whether this call started it."""
        return self._started is not None and self._started.is_new

    async def outcome(self, *, wait: timedelta | None = None) -> Outcome:
        """How it ended, or why it is stuck; with `wait`, as it stands when that is over."""
        seconds = None if wait is None else wait.total_seconds()
        definition, record = await self._engine.settled(self.id, seconds, self._driven)
        return outcome(definition, record)


class Orchestrator:
    """Runs sagas in this process.

    ```python
    async with Orchestrator([place_order], log="sqlite:///orders.db", routes=[...]) as runs:
        run = await runs.start(place_order, order, id=order.id)
    ```

    Entering it opens the log and resumes every unfinished run of the sagas it has loaded. Leaving it sends nothing
    more, gives calls in flight ten seconds, and closes the log; what is unfinished goes on at the next start. Errors at
    entering: `DefinitionInvalid`, `NoRoute`, `LogInUse`, `LogDamaged`, `LogUnavailable`.
    """

    def __init__(
        self,
        sagas: Iterable[Saga[Any]],
        *,
        log: str | TransactionLog | None = None,
        routes: Iterable[Route] = (),
        settings: str | Settings | None = None,
        runs_max: int | None = None,
        leave: Iterable[str] | None = None,
        grace: float = GRACE_SECONDS,
        clock: TimeSource | None = None,
        timers: Timers = LOOP_TIMERS,
        poll_seconds: float | None = None,
        around: Callable[[Transport], Transport] | None = None,
    ) -> None:
        """`settings` is the path of an `amends.toml`, whose log, participants and engine hold where nothing is said
        here; without one `log` is `memory:`.

        `leave` names sagas whose live runs this process may leave without a worker. Where the log has live runs of a
        saga, or of a version, that neither this process nor another live worker has loaded, entering is
        `DefinitionInvalid` unless the saga is named here. (A log on PostgreSQL may serve other deployments too: live
        runs of sagas of which this process has no version are only logged there.)

        `clock`, `timers`, `poll_seconds` and `around` (put around every way to a participant) are for tests.
        """
        self._sagas = list(sagas)
        known = (
            Settings()
            if settings is None
            else load_settings(file=settings).settings
            if isinstance(settings, str)
            else settings
        )
        self._settings = known
        self._log = log if log is not None else "memory:" if settings is None else looked_up(known.log)
        given = list(routes)
        said = {each.participant for each in given}
        self._configured = routes_of(known)
        self._routes = [*given, *(each for each in self._configured.routes if each.participant not in said)]
        self._grace = grace
        self._runs_max = known.engine.runs_max if runs_max is None else runs_max
        self._leave = tuple(known.engine.leave if leave is None else leave)
        self._clock = clock or SystemClock()
        self._timers = timers
        self._lease_seconds = known.engine.lease
        self._poll_seconds = known.engine.poll if poll_seconds is None else poll_seconds
        self._around = around
        self._codec = JsonCodec()
        self._definitions: dict[int, Definition] = {}
        self._engine: Engine | None = None
        self._lanes: Lanes | None = None
        self.outlasted: list[str] = []
        """Keys of calls whose code was at work still when this was closed."""

    async def __aenter__(self) -> Self:
        if self._engine is not None:
            msg = "the orchestrator is open already"
            raise AmendsError(msg)
        definitions = load_definitions(self._sagas, partial(defaults_of, self._settings))
        log = open_log(self._log, lease_seconds=self._lease_seconds) if isinstance(self._log, str) else self._log
        self._definitions = {id(saga): each for saga, each in zip(self._sagas, definitions, strict=True)}
        self._lanes = Lanes(definitions, self._routes, open_route, self._around)
        engine = Engine(
            definitions,
            log=log,
            lane_of=self._lanes.lane_of,
            events=open_events(self._settings),
            canonical=canonical,
            clock=self._clock,
            runs_max=self._runs_max,
            timers=self._timers,
            poll_seconds=self._poll_seconds,
            participants=self._lanes.standing,
            leave=self._leave,
            at_work=self._lanes.at_work,
        )
        try:
            await engine.open()
        except BaseException:
            await self._lanes.close()
            raise
        self._engine = engine
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(self._grace)

    async def close(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """What leaving does, with another time for calls in flight."""
        engine, self._engine = self._engine, None
        try:
            if engine is not None:
                try:
                    await engine.close(grace_seconds)
                finally:
                    self.outlasted = engine.outlasted
        finally:
            if self._lanes is not None:
                await self._lanes.close()

    @property
    def engine(self) -> Engine:
        """The engine inside, for servers and tools built on it."""
        if self._engine is None:
            msg = "the orchestrator isn't open: use it as `async with Orchestrator(...) as runs:`"
            raise AmendsError(msg)
        return self._engine

    @property
    def lanes(self) -> Mapping[str, Lane[Ready]]:
        """The queue in front of each participant, for servers and tools built on it."""
        return {} if self._lanes is None else self._lanes.by_participant

    def reload(self, settings: Settings | None = None) -> list[str]:
        """Look up again what settings only refer to: secrets in headers, certificates. With `settings`, the headers
        are those that they name.

        Says what went wrong, if anything; that then stays as it was.
        """
        return [*self._configured.reload(settings), *(() if self._lanes is None else self._lanes.reload())]

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

        Raises `InputInvalid` (with the path), `RunExists` (same id, other input), `Overloaded`, `LogUnavailable`, and
        whatever a builder of the first steps raises; none of these leaves a run behind.
        """
        definition = self._definition_of(saga)
        body = self._encoded(input)
        until = None if deadline is None else self._moment(deadline)
        started = await self.engine.start(definition, body, run=id, deadline=until, tags=tags)
        return EmbeddedRun(self.engine, started.run, started)

    def get(self, id: str) -> Run:
        """A run by its id; `NoSuchRun` when its outcome is asked for and there is none."""
        return EmbeddedRun(self.engine, id)

    async def cancel(self, id: str, *, reason: str) -> None:
        """Turn a run back; `PastPivot` where that is no longer possible."""
        await self._steer(id, reason, Cancel)

    async def compensate(self, id: str, *, reason: str) -> None:
        """Turn a run back, and stop waiting for a person where a barrier lets us undo without knowing."""
        await self._steer(id, reason, lambda at, epoch, who: Cancel(at, epoch, who, "compensate"))

    async def retry(self, id: str, *, reason: str, step: Step[Any, Any] | None = None, item: str | None = None) -> None:
        """Try a step again, or everything that is stuck."""
        name = None if step is None else step.name
        await self._steer(id, reason, lambda at, epoch, who: RetryStep(at, epoch, who, name, item))

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
        if outcome not in {"succeeded", "rejected", "undone"}:
            msg = f"outcome {outcome!r}: expected succeeded, rejected or undone"
            raise ValueError(msg)
        body = self._encoded(reply) if reply is not None else None
        await self._steer(id, reason, lambda at, epoch, who: Resolve(at, epoch, who, step.name, outcome, body, item))

    async def skip(self, id: str, step: Step[Any, Any], *, reason: str, item: str | None = None) -> None:
        """Leave a step as it is."""
        await self._steer(id, reason, lambda at, epoch, who: Skip(at, epoch, who, step.name, item))

    async def abandon(self, id: str, *, reason: str) -> None:
        """End a stuck run as it is."""
        await self._steer(id, reason, Abandon)

    async def answer(self, id: str, step: Step[Any, R], reply: R) -> None:
        """Answer a question that a step asked; the same answer again is fine."""
        body = self._encoded(reply)
        await self._steer(id, "answered", lambda at, epoch, who: AnswerQuestion(at, epoch, who, step.name, body))

    async def decline(self, id: str, step: Step[Any, Any], reason: str) -> None:
        """Decline a question that a step asked: the step is rejected."""
        await self._steer(id, reason, lambda at, epoch, who: AnswerQuestion(at, epoch, who, step.name, None))

    async def _steer(self, run: str, reason: str, verb: Callable[[int, int, Who], Verb]) -> RunRecord:
        who = Who(by="embedded", reason=reason)
        return await self.engine.steer(run, lambda at, epoch: verb(at, epoch, who))

    def _encoded(self, value: object) -> bytes:
        try:
            return self._codec.encode(value)
        except Undecodable as error:
            raise InputInvalid(error.detail, path=error.path) from error

    def _definition_of(self, saga: Saga[Any]) -> Definition:
        known = self._definitions.get(id(saga))
        if known is None:
            names = ", ".join(f"{each.name} v{each.version}" for each in self._sagas)
            msg = f"{saga.name} v{saga.version} isn't loaded here, only {names}. Give it to Orchestrator([...])."
            raise NoSuchSaga(msg)
        return known

    def _moment(self, deadline: timedelta | datetime) -> int:
        if isinstance(deadline, timedelta):
            return self.engine.clock.now() + micros(deadline)
        if deadline.tzinfo is None:
            msg = "a deadline needs a time zone: datetime(..., tzinfo=UTC)"
            raise ValueError(msg)
        return micros(deadline.astimezone(UTC) - EPOCH_START)


def run(
    saga: Saga[I],
    input: I,
    /,
    *,
    log: str = "memory:",
    id: str | None = None,
    routes: Iterable[Route] = (),
) -> Outcome:
    """Run one saga to its end (or until a person is needed) and say how it went. For scripts; elsewhere use
    `Orchestrator`.

    With a durable log and an id, the same line run again after a crash goes on where it stopped.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        msg = "run() can't be used inside a running event loop. Use `async with Orchestrator([saga]) as runs:` there."
        raise AmendsError(msg)

    async def main() -> Outcome:
        async with Orchestrator([saga], log=log, routes=routes) as runs:
            return await (await runs.start(saga, input, id=id)).outcome()

    return asyncio.run(main())
