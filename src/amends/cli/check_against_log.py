"""`amends check --against LOG`: what live runs need, against what is about to be deployed. Only reads."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from amends.core.run.definition import Definition
    from amends.core.saga.graph_diff import Change
    from amends.ports.log import LogReader, SagaKey, StoredRun

RUNS_SHOWN_MAX: Final = 10
NOTE_COLUMN: Final = 79
NAME_WIDTH: Final = 13
GAP: Final = 3

UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Needed:
    """A graph that live runs need and that isn't given: how many, the first of them, and how it differs from the
    newest version that is given (`None` where that saga isn't given at all).
    """

    key: "SagaKey"
    count: int
    runs: "Sequence[StoredRun]"
    newest: int | None
    changes: "Sequence[Change]"
    loaded_elsewhere: bool

    @property
    def title(self) -> str:
        """`place-order v1`."""
        return f"{self.key.name} v{self.key.version}"


@dataclass(frozen=True, slots=True)
class DeployFindings:
    """What a log says to sagas that are about to be deployed. `refusals`: versions whose graph is another there.
    `strange`: live runs of sagas of which no version is given, by whether a worker of another deployment has their
    graph; without those that may be left without a worker.
    """

    runs: "Mapping[SagaKey, int]"
    known: "frozenset[SagaKey]"
    needed: Sequence[Needed]
    refusals: Sequence[str]
    strange: "Mapping[SagaKey, tuple[int, bool]]"

    @property
    def is_fine(self) -> bool:
        """No live run would be left without a worker, were this all there is. Workers that have the old graph now don't
        count: before a deploy they are those that it is going to replace.
        """
        return not self.refusals and not self.needed and all(loaded for _, loaded in self.strange.values())


async def findings(
    log: "LogReader", definitions: "Sequence[Definition]", leave: "Collection[str]" = ()
) -> DeployFindings:
    """Hold definitions against a log. `leave`: sagas whose live runs may be left without a worker."""
    from amends.core.saga.graph_diff import differences
    from amends.core.saga.readable import unfit_types
    from amends.engine.loaded_graphs import another_graph_text, loaded_by_workers, needed, unreadable_text
    from amends.ports.log import Find, SagaKey

    given = {SagaKey(each.saga, each.version, each.digest): each for each in definitions}
    names = {each.saga for each in definitions}
    wanted = {key: count for key, count in (await needed(log)).items() if key.name not in leave or key in given}
    elsewhere = await loaded_by_workers(log)
    # A worker that has some version of what is given is one that the deploy replaces: it will lack what is missing.
    others = await loaded_by_workers(log, without=names)
    missing: list[Needed] = []
    refusals: list[str] = []
    in_order = sorted(wanted.items(), key=lambda item: (item[0].name, -item[0].version))
    for key, count in in_order:
        if key in given or key.name not in names:
            continue
        kept = await log.graph(key) or b'{"steps":[],"input":{}}'
        newest = max((each for each in definitions if each.saga == key.name), key=lambda each: each.version)
        same = next((each for each in given if (each.name, each.version) == (key.name, key.version)), None)
        if same is not None:
            refusals.append(another_graph_text(key, kept, given[same].graph(), wanted))
            continue
        live = Find(states=("running", "compensating", "stuck"), saga=key.name, saga_version=key.version)
        runs = [run for run in await log.find(live) if run.digest == key.digest]
        changes = differences(kept, newest.graph())
        missing.append(Needed(key, count, runs[::-1], newest.version, changes, key in elsewhere))
    for key, definition in given.items():
        kept_now = await log.graph(key) if key in wanted else None
        unfit = () if kept_now is None else unfit_types(kept_now, definition.graph())
        if unfit:
            refusals.append(unreadable_text(key, unfit, wanted[key]))
    known = frozenset([key for key in given if await log.graph(key) is not None])
    strange = {key: (count, key in others) for key, count in in_order if key.name not in names}
    return DeployFindings({key: wanted.get(key, 0) for key in given}, known, missing, refusals, strange)


def verdict_line(title: str, verdict: str, note: str, width: int) -> str:
    """`place-order v2   5 steps, fine        new, 0 runs`, with notes under each other."""
    return f"{title:<{width}}{verdict:<{NOTE_COLUMN - width}}{note}".rstrip()


def note_of(name: str, version: int, found: DeployFindings) -> str:
    """What the log knows of a saga that is given."""
    key = next(each for each in found.runs if (each.name, each.version) == (name, version))
    count = found.runs[key]
    return f"{'' if key in found.known else 'new, '}{count} {'live ' if count else ''}run{'' if count == 1 else 's'}"


def story(needed: Needed, modules: Sequence[str], now: int) -> Iterator[str]:
    """What changed, the runs that need the old graph, and what there is to choose from."""
    key = needed.key
    if needed.changes:
        yield ""
        yield f"  changed from v{key.version} to v{needed.newest}"
        for change in needed.changes:
            line = f"    {change.sign} {change.what:<6} {change.name:<{NAME_WIDTH - 1}} {change.detail}"
            note = f"v{key.version} {change.note}" if change.note else ""
            yield f"{line:<{NOTE_COLUMN}}{note}".rstrip()
    yield ""
    yield f"  the {needed.count} runs" if needed.count != 1 else "  the one run"
    width = max((len(run.run) for run in needed.runs[:RUNS_SHOWN_MAX]), default=0) + GAP
    for run in needed.runs[:RUNS_SHOWN_MAX]:
        yield f"    {run.run:<{width}}{run.state:<15}{age(now - since(run)):<8}{trouble(run)}".rstrip()
    if needed.count > RUNS_SHOWN_MAX:
        yield f"    and {needed.count - RUNS_SHOWN_MAX} more"
    yield ""
    yield from choices(key, modules, loaded_elsewhere=needed.loaded_elsewhere)


def strange_notes(found: DeployFindings, modules: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`note` for sagas of another deployment, `error` for those that were forgotten here; and the sentence."""
    from amends.engine.loaded_graphs import runs

    for key, (count, is_loaded) in found.strange.items():
        told = f"{runs(count)} {key.name} v{key.version}, a saga that isn't in {', '.join(modules)}"
        if is_loaded:
            yield "note", f"{told}: a live worker has it."
        else:
            choice = f"Load it too, or let these runs stand still: --leave {key.name}, here and for serve."
            yield "error", f"{told}: no live worker of another deployment has it either. {choice}"


def choices(key: "SagaKey", modules: Sequence[str], *, loaded_elsewhere: bool) -> Iterator[str]:
    """What to do about runs of a version that isn't given."""
    version = f"v{key.version}"
    old = [_old_module(each, version) for each in modules]
    both = f"amends serve {' '.join([*modules, *old])}"
    if loaded_elsewhere:
        yield f"  A live worker has {version} now. When the last one stops nobody drives these runs. Choose:"
    else:
        yield f"  A process without {version} will not start while no other live worker has it. Choose:"
    yield f"    load both      {both:<45} then delete {version} when this list is empty"
    yield f"    wait           amends ls --saga {key.name} --version {key.version} --live --watch"
    yield f"    end them       amends compensate --where 'saga={key.name} version={key.version}' --dry-run"


def _old_module(module: str, version: str) -> str:
    """Where a copy of the old file would be: `shop.sagas` in `shop.v1.sagas`."""
    package, dot, name = module.partition(":")[0].rpartition(".")
    return f"{package}{dot}{version}.{name}"


def since(run: "StoredRun") -> int:
    """When it came to stand as it stands."""
    from amends.ports.rows import facts_of

    return min((mark.since for mark in facts_of(run).marks), default=run.updated_at)


def age(micros: int) -> str:
    """`2 s`, `6 h`: the largest unit that there is one of."""
    seconds = max(0, micros // 1_000_000)
    size, unit = next((each for each in UNITS if seconds >= each[0]), UNITS[-1])
    return f"{seconds // size} {unit}"


def trouble(run: "StoredRun") -> str:
    """Why it is stuck: the step, and what went wrong there last."""
    from amends.ports.rows import facts_of

    facts = facts_of(run)
    errors = {step.name: step.error for step in facts.steps}
    return ", ".join(f"{mark.step or 'the run'}: {errors.get(mark.step) or mark.reason}" for mark in facts.marks)


def as_told(found: DeployFindings) -> dict[str, object]:
    """The same for programs."""
    return {
        "needed": [
            {
                "saga": each.key.name,
                "version": each.key.version,
                "digest": each.key.digest,
                "live_runs": each.count,
                "loaded_by_another_worker": each.loaded_elsewhere,
                "changes": [
                    {"sign": one.sign, "what": one.what, "name": one.name, "detail": one.detail, "note": one.note}
                    for one in each.changes
                ],
                "runs": [run.run for run in each.runs],
            }
            for each in found.needed
        ],
        "refused": list(found.refusals),
        "not_given": [
            {
                "saga": key.name,
                "version": key.version,
                "digest": key.digest,
                "live_runs": count,
                "loaded_by_another_worker": is_loaded,
            }
            for key, (count, is_loaded) in found.strange.items()
        ],
    }
