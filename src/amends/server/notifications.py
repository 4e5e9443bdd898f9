"""Notifications of what happens to runs: webhooks for how they ended and that they are stuck, alerts by cause.

A record that became durable here is looked at once; everything that takes time happens beside it. Runs that are stuck
already when the process starts are told again, since it isn't known what the process before managed to send: ids are
the same, so a receiver knows them.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from amends.core.run.definition import Definition
from amends.core.run.record import ItemRecord, RunRecord, RunState
from amends.core.words.errors import LogDamaged
from amends.core.words.reasons import StuckReason
from amends.engine.engine import Engine
from amends.engine.lanes import Standing
from amends.engine.load import bare_record, record_of
from amends.observers.alerts import GATHER_SECONDS, Alert, AlertBook, AlertLinks, log_line, waiting_for
from amends.observers.deliveries import Deliveries, Webhook, body_of
from amends.observers.posting import Poster
from amends.ports.clock import SystemClock, TimeSource
from amends.ports.log import Find, SagaKey, StoredRun
from amends.views.stored import Graphs, stored_view

LOOK_SECONDS: Final = 1.0
"""How often participants are looked at."""

TOLD_MAX: Final = 50_000
STUCK_MAX: Final = 1_000
"""Runs that are stuck already at a start and are told again."""

_ENDED: Final = {RunState.COMPLETED: "completed", RunState.COMPENSATED: "compensated", RunState.ABANDONED: "abandoned"}
_LOGGER = logging.getLogger("amends.server")


class Observing:
    """Watches one engine. Enter it once the engine is open; leaving it gives what is on its way a moment."""

    def __init__(
        self,
        engine: Engine,
        webhooks: Sequence[Webhook] = (),
        links: AlertLinks | None = None,
        clock: TimeSource | None = None,
    ) -> None:
        self._engine = engine
        self._graphs = Graphs(engine.log, engine.events)
        self._poster = Poster()
        self._deliveries = Deliveries(webhooks, self._poster.post, clock or SystemClock())
        self._book = AlertBook(self._tell, links, self._shown, self._reply)
        self._told: OrderedDict[str, None] = OrderedDict()
        self._flush: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._poster.__aenter__()
        self._engine.audience.observe(self.changed)
        self._spawn(self._look())
        self._spawn(self._catch_up())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._flush is not None:
            self._flush.cancel()
        self._book.flush(self._engine.clock.now())
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._deliveries.close()
        await self._poster.__aexit__(kind, error, trace)

    def renew(self, webhooks: Sequence[Webhook]) -> None:
        """Receivers and their secrets, as the settings have them now."""
        self._deliveries.renew(webhooks)

    def changed(self, definition: Definition, record: RunRecord) -> None:
        """A record became durable."""
        if record.ended is not None:
            event = _ENDED[record.ended]
            if any(event in hook.on for hook in self._deliveries.hooks):
                self._of_run(event, record, f"{record.run}:{event}")
        if self._book.changed(definition, record):
            since = max((mark.since for mark in record.marks.values()), default=record.at)
            self._of_run("stuck", record, f"{record.run}:stuck:{since}")
            self._gather()

    def _of_run(self, event: str, record: RunRecord, id: str) -> None:
        """A run as it stands, to the receivers of such news; once."""
        if id in self._told or not any(hook.wants(event, record.saga) for hook in self._deliveries.hooks):
            return
        self._told[id] = None
        if len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        self._spawn(self._send_run(event, record.saga, record.run, id))

    async def _send_run(self, event: str, saga: str, run: str, id: str) -> None:
        try:
            _, view = await stored_view(self._engine.log, run, self._graphs)
        except Exception:
            _LOGGER.exception("%s can't be told: the run can't be read", id)
            return
        body = b'{"type":"run.' + event.encode() + b'","run":' + msgspec.json.encode(view) + b"}"
        self._deliveries.put(event, saga, id, lambda: body)

    def _gather(self) -> None:
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._flush = None
        self._book.flush(self._engine.clock.now())

    def _tell(self, alert: Alert) -> None:
        log_line(alert)
        self._deliveries.put("alert", alert.saga, alert.id, lambda: body_of(alert.body()))

    def _shown(self, definition: Definition, record: RunRecord, text: str) -> str:
        return self._graphs.known(definition).mask(record).said(text) or ""

    def _reply(self, definition: Definition, record: RunRecord, item: ItemRecord) -> bytes | None:
        if item.request is None or item.reply is None:
            return None
        graph = self._graphs.known(definition)
        return graph.reply(item.step, item.request.participant, item.request.operation).shown(item.reply)

    async def _look(self) -> None:
        while True:
            for each in self._engine.participants():
                try:
                    self._stands(each)
                except Exception:  # a bug here must cost this look at one participant, not all later alerts
                    _LOGGER.exception("%s: its state can't be told", each.participant)
            await asyncio.sleep(LOOK_SECONDS)

    def _stands(self, each: Standing) -> None:
        now = self._engine.clock.now()  # by which it is known since when it is down
        records = (driven.record for driven in self._engine.worker.runs.values())
        self._book.stands(
            each.participant,
            each.down_since,
            now,
            lambda: waiting_for(each.participant, records, now, each.detail, each.probe_seconds),
        )

    async def _catch_up(self) -> None:
        """Tell again what was stuck before."""
        try:
            rows = await self._engine.log.find(Find(states=(RunState.STUCK.value,), limit=STUCK_MAX))
        except Exception:
            _LOGGER.exception("what was stuck already can't be told")
            return
        for row in rows:
            try:
                definition = self._engine.definitions.get(SagaKey(row.saga, row.saga_version, row.digest))
                stored = None if definition is None else await self._engine.log.read(row.run)
                if definition is not None and stored is not None:
                    self.changed(definition, self._record(stored))
            except Exception:  # one run must not keep the others from being told
                _LOGGER.exception("%s was stuck already, which can't be told", row.run)

    def _record(self, stored: StoredRun) -> RunRecord:
        """Of a run whose history can't be read: that it is set aside. It is told as the others are."""
        try:
            return record_of(stored, self._engine.events)
        except LogDamaged:
            record = bare_record(stored)
            record.quarantined = StuckReason.UNREADABLE
            return record

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
