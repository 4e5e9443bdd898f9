"""Runs read from a log and made views, whether or not their sagas are loaded: the graph is in the log."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from amends.codecs.events import JsonEventCodec as PlainEvents
from amends.core.run.definition import Definition
from amends.core.run.offers import Offer
from amends.core.run.record import RunRecord
from amends.core.words.errors import LogDamaged, NoSuchRun
from amends.engine.load import is_purged, record_of
from amends.ports.events import EventCodec
from amends.ports.log import LogReader, SagaKey, StoredRun
from amends.views.graph import NO_GRAPH, Graph
from amends.views.run import RunView, offer_views, owner_of, row_only_view, run_view


class Graphs:
    """What views need of each saga, worked out once; and what reads events, which may be encrypted."""

    def __init__(self, log: LogReader, events: EventCodec | None = None) -> None:
        self.events = events or PLAIN_EVENTS
        self._log = log
        self._known: dict[SagaKey, Graph] = {}

    async def of(self, key: SagaKey) -> Graph:
        """The graph that the log keeps under this key; `LogDamaged` if it can't be read."""
        known = self._known.get(key)
        if known is None:
            kept = await self._log.graph(key) or NO_GRAPH
            try:
                known = self._known[key] = Graph(kept)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:  # what must not be shown isn't known then
                msg = f"the graph of {key.name} v{key.version} can't be read: {error}"
                raise LogDamaged(msg) from error
        return known

    async def of_run(self, row: StoredRun) -> Graph:
        """The graph that a run began with."""
        return await self.of(SagaKey(row.saga, row.saga_version, row.digest))

    def known(self, definition: Definition) -> Graph:
        """The graph of a saga that is loaded here."""
        key = SagaKey(definition.saga, definition.version, definition.digest)
        known = self._known.get(key)
        if known is None:
            policies = {name: step.policy for name, step in definition.steps.items()}
            known = self._known[key] = Graph(definition.graph(), policies)
        return known


async def stored_view(
    log: LogReader,
    run: str,
    graphs: Graphs | None = None,
    *,
    whole: bool = False,
    offers: Callable[[StoredRun, RunRecord], Iterable[Offer] | None] = lambda _row, _record: None,
) -> tuple[StoredRun, RunView]:
    """A run as the log has it; as its row has it where its history was purged or can't be read. `NoSuchRun`.

    `offers`: the verbs that would be accepted of it, where that is known.
    """
    row = await log.read(run)
    if row is None:
        raise no_such_run(run)
    if is_purged(row):
        return row, row_only_view(row)
    graphs = graphs or Graphs(log)
    try:
        graph = await graphs.of_run(row)
        record = record_of(row, graphs.events)
    except LogDamaged as error:
        return row, row_only_view(row, str(error))
    view = run_view(graph, record, row.tags, owner_of(row), whole=whole)
    offered = offers(row, record) if view.stuck else None
    return row, view if offered is None else msgspec.structs.replace(view, offers=offer_views(offered))


def no_such_run(run: str) -> NoSuchRun:
    """The error of every place that looks for a run."""
    return NoSuchRun(f"there is no run {run}")


PLAIN_EVENTS: Final = PlainEvents()
"""Reads events that aren't encrypted."""
