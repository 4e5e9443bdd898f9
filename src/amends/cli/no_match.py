"""Why no run was found: an unknown name is more often a typo than a saga without runs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from amends.cli.source import PAGE_MAX, Source, get, pages
from amends.core.words.keys import NOTICE

if TYPE_CHECKING:
    from amends.views.run_filter import Where

NAMES_MAX: Final = 12
"""Names that are listed; a longer list would help less."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What there is: versions and steps by saga, participants, names of tags. `whole`: every run was looked at."""

    versions: Mapping[str, Collection[int]]
    steps: Mapping[str, Collection[str]]
    participants: Collection[str]
    tags: Collection[str]
    whole: bool


async def why_nothing(source: Source, where: str, waiting_for: str | None = None) -> str:
    """`: ` and what is asked for but isn't known here; empty where it is known, and there is just no such run."""
    from amends.views.run_filter import parse

    asked = parse(where)
    find = asked.find
    named = find.saga or find.saga_version is not None or find.step or find.tags or asked.reason or waiting_for
    if not named:
        return ""
    known = await _known(source, find.saga)
    said = _saga(asked, known) or _step(asked, known) or _tag(asked, known)
    if not said and asked.reason is not None:
        said = await _reason(source, asked.reason)
    if not said and waiting_for is not None and known.participants and waiting_for not in known.participants:
        said = f"nothing here calls {waiting_for}; called are {_listed(known.participants)}"
    return said and f": {said}."


def _saga(asked: "Where", known: _Known) -> str:
    saga, version = asked.find.saga, asked.find.saga_version
    if saga is not None and saga not in known.versions:
        if not known.versions:
            return f"no saga {saga} is known here, nor any other"
        newest = "" if known.whole else f", by what is loaded and by the newest {PAGE_MAX} runs"
        return f"no saga {saga} is known here, only {_listed(known.versions)}{newest}"
    versions = known.versions[saga] if saga is not None else {each for all_ in known.versions.values() for each in all_}
    if version is None or version in versions or not known.whole:
        return ""
    return f"there is no version {version} of {saga or 'any saga'} here, only {_listed(map(str, sorted(versions)))}"


def _step(asked: "Where", known: _Known) -> str:
    if asked.find.step is None:
        return ""
    step, saga = asked.find.step.partition("/")[0], asked.find.saga
    steps = {each for name, names in known.steps.items() if saga in {None, name} for each in names}
    if not steps or step in {*steps, NOTICE}:
        return ""
    return f"{'no saga here has a' if saga is None else f'{saga} has no'} step {step}, only {_listed(steps)}"


def _tag(asked: "Where", known: _Known) -> str:
    missing = [each for each in asked.find.tags if each not in known.tags]
    if not missing or not known.whole:
        return ""
    return f"no run here has a tag {missing[0]}, {f'only {_listed(known.tags)}' if known.tags else 'nor any other'}"


async def _reason(source: Source, reason: str) -> str:
    from amends.server.stuck import CausesView

    reasons = {each.reason for each in (await get(source, "/v1/stuck", CausesView)).causes}
    if reason in reasons:
        return ""
    others = f"only for {_listed(reasons)}" if reasons else "nor for anything else"
    return f"nothing is stuck for {reason}, {others}"


async def _known(source: Source, saga: str | None) -> _Known:
    """By what is loaded and by the newest runs: a log has runs of sagas that are not loaded any more."""
    import msgspec

    from amends.cli.texts.story import units
    from amends.client.requests import place
    from amends.server.participants import ParticipantsView
    from amends.server.sagas import SagasView
    from amends.views.run import RowView, RunView

    versions: dict[str, set[int]] = {}
    steps: dict[str, set[str]] = {}
    participants = {each.name for each in (await get(source, "/v1/participants", ParticipantsView)).participants}
    for loaded in (await get(source, "/v1/sagas", SagasView)).sagas:
        versions.setdefault(loaded.name, set()).add(loaded.version)
        steps.setdefault(loaded.name, set()).update(each.name for each in loaded.steps)
        participants.update(loaded.participants)
    newest: dict[tuple[str, int], str] = {}
    tags: set[str] = set()
    rows = [msgspec.json.decode(each, type=RowView) async for each in pages(source, {}, PAGE_MAX)]
    for row in rows:
        versions.setdefault(row.saga, set()).add(row.version)
        newest.setdefault((row.saga, row.version), row.id)
        tags.update(row.tags)
    looked_at = [run for (name, _), run in newest.items() if saga in {None, name}][:NAMES_MAX]
    for run in looked_at:
        view = await get(source, f"/v1/runs/{place(run)}", RunView)
        steps.setdefault(view.saga, set()).update(each.name for each in view.steps)
        calls = [call for step in view.steps for _, unit in units(step) for call in (unit.action, unit.undo)]
        participants.update(call.participant for call in calls if call is not None)
    return _Known(versions, steps, participants, tags, whole=len(rows) < PAGE_MAX)


def _listed(names: "Collection[str] | map[str]") -> str:
    found = sorted(names)
    more = f" and {len(found) - NAMES_MAX} more" if len(found) > NAMES_MAX else ""
    return f"{', '.join(found[:NAMES_MAX])}{more}"
