"""What every endpoint is given: the engine, the clock, and what was worked out once."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from amends.engine.driven import Driven
from amends.engine.engine import Engine
from amends.ports.clock import Clock, SystemClock
from amends.ports.log import SagaKey, StoredRun
from amends.server.stored import Graphs, stored_view
from amends.server.views import RunView, run_view


@dataclass(slots=True)
class Context:
    """`stopping` is set when the server is asked to stop: whoever waits for a run is then told how it stands."""

    engine: Engine
    clock: Clock = field(default_factory=SystemClock)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    graphs: Graphs = field(init=False)

    def __post_init__(self) -> None:
        self.graphs = Graphs(self.engine.log)

    async def stored(self, run: str) -> tuple[StoredRun, RunView]:
        """A run as the log has it, whether or not its saga is loaded here."""
        return await stored_view(self.engine.log, run, self.graphs)

    async def driven(self, driven: Driven, tags: Mapping[str, str]) -> tuple[int, RunView]:
        """A run that this process drives, as it durably stands, and its history's version; the log isn't asked."""
        record, definition = driven.record, driven.definition
        graph = await self.graphs.of(SagaKey(definition.saga, definition.version, definition.digest))
        return record.length, run_view(graph, record, tags)
