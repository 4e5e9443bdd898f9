"""No row hides another: every kind of row that a log can hold is listed, counted and steered beside all others."""

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from amends.core.run.record import RunState
from amends.core.words.keys import Phase
from amends.core.words.reasons import StuckReason
from amends.logs.memory import KeptRun, MemoryLog
from amends.orchestrator import open_log
from amends.ports.log import TransactionLog
from amends.ports.rows import RUN_PHASE, facts_of
from amends.testing.contracts.log_entries import start, write
from tests.fast.cli.commands import Told, amends
from tests.fast.server.asgi import Answer, Caller
from tests.fast.server.opened import api
from tests.fast.server.stages import GATES, STAGES, bring, let_go, staged
from tests.support.postgres import Sql

STREAM = {"accept": "text/event-stream"}
WHY = {"reason": "it is repaired"}
ENDS = frozenset({RunState.COMPLETED, RunState.COMPENSATED, RunState.ABANDONED})
LOGS = ["memory", "sqlite", "postgres"]


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a row (`column`), with its first event's `kind` or `body`, or with its saga's graph."""

    column: str
    text: bytes

    @property
    def is_json(self) -> bool:
        """Whether a column of JSON could hold it."""
        try:
            json.loads(self.text)
        except (ValueError, RecursionError):
            return False
        return b"\xff" not in self.text

    @property
    def of_row(self) -> bool:
        return self.column in {"current", "steps", "stuck", "tags"}


NO_JSON = (b"", b'{"torn": ', b"\xff\xfe", b"[" * 5_000)
NO_LIST = (b"{}", b"null", b"7", b'"text"', b"[1]", b'[{"name":"a"}]')
DAMAGES: Mapping[str, Damage] = {
    **{
        f"{column}-{number}": Damage(column, text)
        for column in ("current", "steps", "stuck")
        for number, text in enumerate((*NO_JSON, *NO_LIST))
    },
    **{f"tags-{number}": Damage("tags", text) for number, text in enumerate((*NO_JSON, b"[]", b"null", b'{"a":1}'))},
    "kind": Damage("kind", b"OfTheFuture"),
    "body": Damage("body", b'{"torn": '),
    "middle": Damage("middle", b""),
    "saga": Damage("saga", b"unheard-of"),
    "saga-bytes": Damage("saga", b"\xff\xfe"),
    "digest-bytes": Damage("digest", b"\xff"),
    "kind-bytes": Damage("kind", b"\xff"),
}

EVERY_FORM = ("good", "body", "kind", "middle", "steps-1", "stuck-1")


@dataclass(slots=True)
class Opened:
    """A log of one kind, and how its rows are damaged behind its back."""

    kind: str
    log: TransactionLog
    path: Path
    sql: Sql | None

    def damage(self, run: str, damage: Damage) -> bool:
        """Whether this log can hold such a row."""
        if self.kind == "postgres" and (b"\xff" in damage.text or (damage.of_row and not damage.is_json)):
            return False
        match self.log:
            case MemoryLog(store=store):
                self._in_memory(store.runs[run], damage)
            case _:
                self._in_tables(run, damage)
        return True

    def _in_memory(self, kept: KeptRun, damage: Damage) -> None:
        match damage.column:
            case "tags":
                kept.row = replace(kept.row, tags={}, unreadable=("tags",))
            case "saga":
                kept.row = replace(kept.row, saga=damage.text.decode(errors="replace"))
            case "digest":
                kept.row = replace(kept.row, digest=damage.text.decode(errors="replace"))
            case "kind":
                kept.events[0] = replace(kept.events[0], kind=damage.text.decode(errors="replace"))
            case "body":
                kept.events[0] = replace(kept.events[0], body=damage.text)
            case "middle":
                del kept.events[1]
            case "current":
                kept.row = replace(kept.row, current=damage.text)
            case "steps":
                kept.row = replace(kept.row, steps=damage.text)
            case _:
                kept.row = replace(kept.row, stuck=damage.text)

    def _in_tables(self, run: str, damage: Damage) -> None:
        change = STATEMENTS.get(damage.column, COLUMN).replace(":column", damage.column)
        if self.sql is not None:
            text = damage.text.decode().replace("'", "''")
            in_schema = change.replace("runs ", "amends.runs ").replace("events ", "amends.events ")
            self.sql(in_schema.replace(":text", f"'{text}'").replace(":run", f"'{run}'"))
            return
        with closing(sqlite3.connect(self.path)) as file, file:
            values = {"text": damage.text, "run": run}
            file.execute(change.replace(":text", "CAST(:text AS TEXT)"), values if ":text" in change else {"run": run})


COLUMN = "UPDATE runs SET :column = :text WHERE id = :run"
STATEMENTS = {
    "kind": "UPDATE events SET kind = :text WHERE run = :run AND version = 1",
    "body": "UPDATE events SET body = :text WHERE run = :run AND version = 1",
    "middle": "DELETE FROM events WHERE run = :run AND version = 2",
}


@pytest.fixture(params=LOGS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    path = tmp_path / "log.db"
    match request.param:
        case "memory":
            return Opened("memory", MemoryLog(), path, None)
        case "sqlite":
            return Opened("sqlite", open_log(f"sqlite:///{path}"), path, None)
        case _:
            sql: Sql = request.getfixturevalue("sql")
            return Opened("postgres", open_log(request.getfixturevalue("log_url")), path, sql)


def marks(*given: Mapping[str, object]) -> bytes:
    return json.dumps(given).encode()


def mark(step: str | None, phase: str | None, reason: str) -> Mapping[str, object]:
    return {"step": step, "phase": phase, "reason": reason, "attempts": 1, "since": 5}


async def ok(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer
    return answer.json()


async def listed(caller: Caller, query: str = "") -> dict[str, dict[str, Any]]:
    found = {each["id"]: each for each in (await ok(await caller.get(f"/v1/runs?limit=1000&{query}")))["runs"]}
    return dict(found)


async def check_every_question(caller: Caller, runs: Mapping[str, str]) -> None:
    """Every list, number and single run there is; `runs` are all there are, with the state of each."""
    rows = await listed(caller)
    assert {id: row["state"] for id, row in rows.items()} == dict(runs)
    for state in RunState:
        assert set(await listed(caller, f"state={state.value}")) == {id for id, at in runs.items() if at == state.value}
    assert set(await listed(caller, "step=reserve")) <= set(runs)
    for phase in (*(each.value for each in Phase), RUN_PHASE):
        assert set(await listed(caller, f"where=phase={phase}")) <= set(runs)
    stuck = await ok(await caller.get("/v1/stuck"))
    assert stuck["runs"] == sum(state == "stuck" for state in runs.values())
    metrics = (await caller.get("/metrics")).body.decode()
    assert "amends_log_up 1.0" in metrics
    for path in ("/v1/sagas", "/v1/workers", "/v1/participants", "/healthz"):
        assert (await caller.get(path)).status == 200, path
    for run, row in rows.items():
        view = await ok(await caller.get(f"/v1/runs/{run}"))
        assert (view["id"], view["state"]) == (run, row["state"])
        assert (await ok(await caller.get(f"/v1/runs/{run}/events")))["run"] == run
    for verb in ("retry", "cancel", "compensate"):
        dry = {"where": "state=running,compensating,stuck", "reason": "to count", "dry_run": True}
        assert (await ok(await caller.ask(f"/v1/runs:{verb}", dry)))["matched"] == sum(
            state in {"running", "compensating", "stuck"} for state in runs.values()
        )


async def test_a_row_of_every_state_and_mark_is_shown_beside_all_others(opened: Opened) -> None:
    """Marks as this version writes them, and as older ones did, which had no step and no phase for a whole run."""
    GATES.clear()
    async with api(staged, log=opened.log) as (caller, context):
        runs: dict[str, str] = {}
        for number, stage in enumerate(STAGES):
            await bring(caller, stage, f"real-{number}")
            runs[f"real-{number}"] = (await ok(await caller.get(f"/v1/runs/real-{number}")))["state"]
        assert set(runs.values()) == {state.value for state in RunState}
        base = start("base").row
        written = [
            start(f"state-{state.value}", shown=replace(base, state=state.value, ended_at=5 if state in ENDS else None))
            for state in RunState
        ]
        for reason in StuckReason:
            for at, each in enumerate([("reserve", "action"), ("ship/a", "compensation"), ("", "run"), (None, None)]):
                shown = replace(base, state="stuck", stuck=marks(mark(*each, reason)))
                written.append(start(f"mark-{reason}-{at}", shown=shown))
        await write(context.engine.log, *written)
        await check_every_question(caller, runs | {each.run: each.row.state for each in written})
        rows = await listed(caller)
        for at in (2, 3):
            (told,) = rows[f"mark-crash-loop-{at}"]["stuck"]
            assert (told["step"], told["phase"], told["reason"]) == ("", "run", "crash-loop")
        causes = {
            (each["step"], each["phase"], each["reason"]): each["count"]
            for each in (await ok(await caller.get("/v1/stuck")))["causes"]
        }
        assert causes["", "run", "crash-loop"] == 2
        for number in range(len(STAGES)):
            let_go(f"real-{number}")


async def test_a_row_that_cant_be_read_is_shown_as_that_and_hides_no_other(opened: Opened) -> None:
    """Whatever its columns, its events or its saga's name hold; it can be asked to go on once it is repaired."""
    GATES.clear()
    async with api(staged, log=opened.log) as (caller, context):
        await bring(caller, "stuck undoing", "good")
        runs, damaged = {"good": "stuck"}, dict[str, Damage]()
        for name, damage in DAMAGES.items():
            await bring(caller, "stuck undoing", name)
            runs[name] = "stuck"
            if opened.damage(name, damage):
                damaged[name] = damage
        assert len(damaged) > 15
        await check_every_question(caller, runs)
        rows = await listed(caller)
        for name, damage in damaged.items():
            reasons = [each["reason"] for each in rows[name]["stuck"]]
            assert ("unreadable" in reasons) == damage.of_row, (name, rows[name])
            row = await context.engine.log.read_row(name)
            assert row is not None
            assert (list(facts_of(row).unreadable) == [damage.column]) == damage.of_row
            if damage.column in {"kind", "body", "middle"}:
                view = await ok(await caller.get(f"/v1/runs/{name}"))
                assert (view["history"], view["stuck"][-1]["reason"]) == ("unreadable", "unreadable")
                assert (await caller.get(f"/v1/runs/{name}?wait=5")).status == 200
                stream = await caller.get(f"/v1/runs/{name}/events", STREAM)
                assert b"event: HistoryUnreadable\n" in stream.body
                seen = stream.body.partition(b"id: ")[2].partition(b"\n")[0].decode()
                assert (await caller.get(f"/v1/runs/{name}/events", {**STREAM, "last-event-id": seen})).status == 204
            else:
                assert (await ok(await caller.get(f"/v1/runs/{name}/events")))["events"]
        assert [each["reason"] for each in rows["good"]["stuck"]] == ["cannot-compensate"]
        abandoned = await caller.ask("/v1/runs/good/abandon", WHY)
        assert abandoned.status == 200


async def test_the_command_line_shows_every_row(tmp_path: Path) -> None:
    """Lists name the damaged run beside the others, and the run itself says that it can't be read."""
    url = f"sqlite:///{tmp_path}/log.db"
    opened = Opened("sqlite", open_log(url), tmp_path / "log.db", None)
    async with api(staged, log=opened.log) as (caller, _):
        for name in ("good", *DAMAGES):
            await bring(caller, "stuck undoing", name)
            if name in DAMAGES:
                assert opened.damage(name, DAMAGES[name])

    async def ask(*words: str) -> Told:
        return await asyncio.to_thread(amends, tmp_path, *words, "--log", url)

    for words in (["ls"], ["ls", "--state", "stuck"], ["ls", "--json"]):
        told = await ask(*words)
        assert told.code == 0, told.err
        assert all(name in told.out for name in ("good", *DAMAGES)), words
    told = await ask("stuck")
    assert (told.code, "the run as a whole" in told.out or "unreadable" in told.out) == (1, True), told
    assert f"{len(DAMAGES) + 1} runs need" in told.out or "runs need a person" in told.out
    forms: list[list[str]] = [[], ["--events"], ["--bodies"], ["--curl"], ["--json"]]
    for number, name in enumerate(("good", *DAMAGES)):
        for form in forms if name in EVERY_FORM else [forms[number % len(forms)]]:
            told = await ask("show", name, *form)
            assert (told.code, told.err) == (0, ""), (name, form, told)
    assert (await ask("export", "body")).code == 0
    assert "can't be read" in (await ask("show", "body")).out
    assert "can't be read" in (await ask("show", "body", "--events")).out


@pytest.mark.parametrize("opened", LOGS[1:], indirect=True)  # in memory there are no tags but those of the row
async def test_damaged_rows_are_purged_like_others_and_their_tags_with_them(opened: Opened) -> None:
    """One that can't be read holds up neither the purge nor the forgetting of what it was tagged with."""
    async with api(staged, log=opened.log) as (caller, context):
        ended = {name: damage for name, damage in DAMAGES.items() if damage.of_row}
        asked = {"saga": "staged", "input": {}, "tags": {"customer": "ann"}}
        for name in ("good", *ended):
            await caller.start({**asked, "id": name}, "?wait=5")
            if name in ended:
                opened.damage(name, ended[name])
        assert set(await listed(caller, "tag=customer=ann")) == {"good", *ended}
        assert await context.engine.log.purge(1 << 62, 1_000) == len(ended) + 1
        assert await listed(caller, "tag=customer=ann") == {}
        assert set(await listed(caller)) == {"good", *ended}
        for name in ended:
            assert (await ok(await caller.get(f"/v1/runs/{name}")))["history"] == "purged"
