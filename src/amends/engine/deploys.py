"""What a process must have loaded before it drives anything: refused at the start, or never noticed.

A graph must be the one that its version began with, and its types must read what live runs have in the log. Live runs
must have a worker that can drive them. A log that one process owns has no other worker, so there it must be this one.
A log that several processes share may serve deployments with other sagas: those are their business, and only logged.
"""

import logging
from collections.abc import Collection, Mapping
from typing import Final

from amends.core.run.definition import Definition
from amends.core.saga.graph_diff import UNREADABLE
from amends.core.saga.readable import unfit_types
from amends.core.words.errors import DefinitionInvalid
from amends.engine.loaded_graphs import (
    another_graph_text,
    left_text,
    missing_text,
    needed,
    unclaimable,
    unreadable_text,
)
from amends.ports.clock import Timers, pause
from amends.ports.log import SagaKey, TransactionLog

LOOKS_FOR_OTHERS: Final = 12
LOOK_SECONDS: Final = 0.25
"""A process that lacks what live runs need looks for another worker that has it, so often and so far apart."""

_LOGGER = logging.getLogger("amends.engine")


async def define_all(log: TransactionLog, definitions: Mapping[SagaKey, Definition]) -> None:
    """Tell the log the graphs. `DefinitionInvalid`: one of them isn't the one that its version began with, or its types
    can't read what live runs have in the log.
    """
    mistakes: list[str] = []
    wanted = await needed(log)
    for key, definition in definitions.items():
        graph = definition.graph()
        other = await log.define(key, graph)
        if other is not None:
            mistakes.append(another_graph_text(key, other, graph, wanted))
        elif key in wanted and (kept := await log.graph(key)) is not None:
            unfit = [change for change in unfit_types(kept, graph) if change.note == UNREADABLE]
            if unfit:
                mistakes.append(unreadable_text(key, unfit, wanted[key]))
    if mistakes:
        raise DefinitionInvalid(mistakes)


async def ensure_drivable(
    log: TransactionLog, definitions: Collection[SagaKey], leave: Collection[str], *, timers: Timers
) -> None:
    """Refuse to start where that would leave live runs without a worker, unless their saga is in `leave`.

    Where there can be other workers they are given a moment: those that start together must see each other.
    """
    shared = log.lease is not None
    ours = {key.name for key in definitions}
    found: Mapping[SagaKey, int] = {}
    for looks_left in reversed(range(LOOKS_FOR_OTHERS + 1 if shared else 1)):
        found = await unclaimable(log, definitions)
        missing = {
            key: count for key, count in found.items() if key.name not in leave and (key.name in ours or not shared)
        }
        if not missing:
            break
        if not looks_left:
            raise DefinitionInvalid(missing_text(missing, ours))
        await pause(timers, LOOK_SECONDS)
    for key, count in found.items():
        _LOGGER.warning("%s", left_text(key, count))
