"""Logs for worlds, by name."""

from collections.abc import Callable
from typing import Final

from amends.core.words.errors import AmendsError
from amends.testing.simulation.logs import Logs, MemoryLogs


def _sqlite() -> Logs:
    from amends.testing.simulation.sqlite_logs import SqliteLogs  # noqa: PLC0415 - an import of the package alone needs none

    return SqliteLogs()


KINDS: Final[dict[str, Callable[[], Logs]]] = {"memory": MemoryLogs, "sqlite": _sqlite}


def logs_by_name(name: str) -> Logs:
    """The logs that are called so: `memory` or `sqlite`."""
    made = KINDS.get(name.removesuffix(":"))
    if made is None:
        msg = f"a simulation on {name!r}: known are {', '.join(KINDS)}."
        raise AmendsError(msg)
    return made()
