"""What is left on the disk when nobody runs any more, and whether it is as promised: the services' databases, what went
over the wire, and the log, each read on its own.
"""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

from amends.codecs.events import JsonEventCodec
from amends.core.run.definition import Definition
from amends.core.run.events import Event
from amends.core.run.record import RunState
from amends.core.words.keys import Phase
from amends.core.words.retry import Kind
from amends.orchestrator import load_definitions
from amends.ports.inbox import BARRIER_TABLE
from amends.testing.invariants import Effect, Evidence, check, p6_same_key_same_bytes
from tests.real.crash.lives import RUN, said
from tests.real.crash.sagas import CASES, Case

Happened: TypeAlias = tuple[int, str, str, str, str]
"""When, step, item, phase, key."""

EVENTS: Final = JsonEventCodec()
DEFINITIONS: Final[dict[str, Definition]] = {name: load_definitions([case.saga])[0] for name, case in CASES.items()}


def judge(folder: Path, name: str) -> None:
    """Everything that was promised to the caller of the case's run holds, or an assertion says what doesn't."""
    case, definition = CASES[name], DEFINITIONS[name]
    assert [line for line in said(folder) if line.startswith("ended")], "it was seen to its end"
    happened = effects(folder)
    judge_effects(case, definition, happened)
    judge_barriers(folder, case)
    assert p6_same_key_same_bytes((key, body.encode()) for key, body in sent(folder)) is None
    ledger = tuple(
        Effect(step, item, "acted" if phase == Phase.ACTION.value else "undone") for _, step, item, phase, _ in happened
    )
    evidence = Evidence(definition, judge_log(folder, case), ledger)
    assert evidence.record.ended is case.end
    check(evidence, quiet=True)


def effects(folder: Path) -> list[Happened]:
    """What really happened, of all services, in order."""
    found: list[Happened] = []
    for path in folder.glob("*.db"):
        if path.name != "log.db":
            with closing(sqlite3.connect(path)) as db:
                assert db.execute("pragma integrity_check").fetchone() == ("ok",)
                found += db.execute("select at, step, item, phase, key from effect where run = ?", (RUN,))
    return sorted(found)


def judge_effects(case: Case, definition: Definition, happened: list[Happened]) -> None:
    """Exactly once, or net zero."""
    keys = Counter(key for *_, key in happened)
    assert all(count == 1 for count in keys.values()), f"happened more than once: {keys}"
    acted = {(step, item) for _, step, item, phase, _ in happened if phase == Phase.ACTION.value}
    undone = {(step, item) for _, step, item, phase, _ in happened if phase == Phase.COMPENSATION.value}
    if case.end is RunState.COMPLETED:
        assert not undone
        assert {step for step, _ in acted} == {
            step.name for step in definition.steps.values() if step.kind is not Kind.NEUTRAL
        }
    else:
        assert acted == undone, f"acted: {acted}, undone: {undone}"
        assert case.lacks not in {step for step, _ in acted}


def judge_barriers(folder: Path, case: Case) -> None:
    """No row is left half-way, and none would let a late call act."""
    settled = {"succeeded"} if case.end is RunState.COMPLETED else {"rejected", "blocked", "compensated"}
    asked = f"select step, state from {BARRIER_TABLE} where run = ?"  # noqa: S608 - the name is ours
    for name in ("stock", "bank", "post"):
        with closing(sqlite3.connect(folder / f"{name}.db")) as db:
            states = dict(db.execute(asked, (RUN,)).fetchall())
        assert set(states.values()) <= settled, states


def judge_log(folder: Path, case: Case) -> tuple[Event, ...]:
    """One row, ended and nobody's; as many events as it says, without a gap. Gives them."""
    with closing(sqlite3.connect(folder / "log.db")) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        rows = db.execute("select id, state, owner, due_at, version, by_hand, stuck from runs").fetchall()
        kept = db.execute("select version, kind, cast(body as blob), at, epoch from events order by version").fetchall()
    assert rows == [(RUN, case.end.value, None, None, len(kept), 0, "[]")]
    assert [version for version, *_ in kept] == list(range(1, len(kept) + 1))
    return tuple(EVENTS.decode(kind, body, at, epoch) for _, kind, body, at, epoch in kept)


def sent(folder: Path) -> list[tuple[str, str]]:
    """Key and body of every call that was about to leave."""
    return [(key, body) for key, body in map(json.loads, (folder / "sent").read_text().splitlines())]
