"""Compare the graphs that live runs need with the graphs that live workers have loaded."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from amends.core.saga.graph_diff import CHANGED, Change, differences
from amends.ports.log import LiveRuns, LogReader, SagaKey, WorkerState


async def loaded_by_workers(log: LogReader, *, without: Collection[str] = ()) -> frozenset[SagaKey]:
    """Every graph that some live worker says it has loaded; of those workers only that have none of `without`."""
    return frozenset(
        saga
        for worker in await log.workers()
        if worker.state is WorkerState.LIVE and not any(each.name in without for each in worker.sagas)
        for saga in worker.sagas
    )


async def needed(log: LogReader) -> Mapping[SagaKey, int]:
    """The graphs that runs which haven't ended began with, and how many each."""
    return by_graph(await log.live())


def by_graph(live: Iterable[LiveRuns]) -> Mapping[SagaKey, int]:
    """How many live runs began with each graph."""
    counts: Counter[SagaKey] = Counter()
    for each in live:
        counts[each.saga] += each.count
    return counts


async def unclaimable(log: LogReader, here: Collection[SagaKey] = ()) -> Mapping[SagaKey, int]:
    """Graphs that live runs need and no live worker has, nor this process (`here`); and how many runs each."""
    return without_worker(await needed(log), await loaded_by_workers(log), here)


def without_worker(
    needed: Mapping[SagaKey, int], loaded: Collection[SagaKey], here: Collection[SagaKey]
) -> Mapping[SagaKey, int]:
    """Those of the needed graphs that no live worker has loaded."""
    return {key: count for key, count in needed.items() if key not in loaded and key not in here}


def missing_text(missing: Mapping[SagaKey, int], ours: Collection[str]) -> Sequence[str]:
    """Why a process won't start: what it lacks, and what to do. `ours`: the sagas of which it has some version."""
    return [
        f"{key.name} v{key.version} isn't loaded, and {runs(count)} it. "
        + (
            f"A process without v{key.version} will not start while no other live worker has it.\n"
            if key.name in ours
            else "Nothing would drive them.\n"
        )
        + "Load it too, or see what there is to choose from: amends check MODULE --against LOG\n"
        f"To start all the same and let these runs stand still: {leave_text(key.name)}"
        for key, count in missing.items()
    ]


def leave_text(saga: str) -> str:
    """How an operator says that live runs of a saga may be left without a worker."""
    return f'amends serve --leave {saga}, or Orchestrator(..., leave=["{saga}"])'


def left_text(key: SagaKey, count: int) -> str:
    """What is logged of live runs that no worker drives."""
    return (
        f"{runs(count)} {key.name} v{key.version}, which neither this process nor another live worker has loaded: "
        "they stand still until one does. See amends ls --unclaimable."
    )


def another_graph_text(key: SagaKey, kept: bytes, given: bytes, needed: Mapping[SagaKey, int]) -> str:
    """Why a graph is refused that isn't the one its version began with, what changed, and what to do."""
    count = sum(n for other, n in needed.items() if (other.name, other.version) == (key.name, key.version))
    began = f"{count} live {'run' if count == 1 else 'runs'}" if count else "runs in this log"
    changes = sorted(differences(kept, given), key=lambda change: change.sign != CHANGED)
    return "\n".join(
        [
            f"{key.name} v{key.version} is not the {key.name} v{key.version} that {began} began with.",
            *(_line(change) for change in changes if is_graphs(change)),
            f"Set version={key.version + 1} on this one and keep the old file loaded, or take the change back.",
        ]
    )


def unreadable_text(key: SagaKey, changes: Sequence[Change], count: int) -> str:
    """Why a graph is refused whose types aren't those that live runs were written with, what changed, what to do."""
    began = f"{count} live {'run' if count == 1 else 'runs'}"
    return "\n".join(
        [
            f"{key.name} v{key.version} has other types than the {key.name} v{key.version} that {began} began with.",
            *(f"{_line(change)}: {change.note}" for change in changes),
            f"Set version={key.version + 1} on this one and keep the old file loaded, or take the change back.",
            "A new field that has a default needs no new version.",
        ]
    )


def _line(change: Change) -> str:
    """Of a step that came or went its name says enough: it must not be there, or not be gone."""
    detail = "" if change.what == "step" else f" {change.detail}"
    return f"  {change.sign} {change.what:<6} {change.name}{detail}"


def is_graphs(change: Change) -> bool:
    """Whether a change is one that the digest covers: all but types, which may gain fields."""
    return change.what not in {"input", "request", "reply"}


def runs(count: int) -> str:
    """`1 live run needs`, `3 live runs need`."""
    return "1 live run needs" if count == 1 else f"{count} live runs need"
