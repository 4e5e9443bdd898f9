"""The file answers plain SQL: what is going on and what happened, without amends."""

import re
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from amends.logs.sqlite.log import SqliteLog
from amends.logs.sqlite.reader import find_statement
from amends.logs.sqlite.statements import SCHEMA, SQL
from amends.ports.log import Find, RunRow, StoredEvent
from amends.testing.contracts.log_entries import start, write

COLUMNS = {
    "runs": "id saga saga_version digest format state by_hand version owner epoch due_at claims start_print "
    "current steps stuck deadline tags created_at updated_at ended_at",
    "events": "run version kind body epoch append_id at",
    "sagas": "name version digest graph",
    "workers": "id state expires_at",
    "settings": "name value",
}


@pytest_asyncio.fixture
async def file(tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
    """A log with one stuck run, opened by plain sqlite3."""
    log = SqliteLog(tmp_path / "orders.db")
    await log.open()
    shown = RunRow(
        state="stuck",
        by_hand=False,
        due_at=None,
        current=b'["charge","schedule"]',
        steps=b"""[
            {"name":"reserve","kind":"compensable","state":"done","attempts":1,"error":null},
            {"name":"charge","kind":"pivot","state":"unknown","attempts":8,"error":"timed out"},
            {"name":"schedule","kind":"retriable","state":"acting","attempts":0,"error":null}]""",
        stuck=b'[{"step":"charge","phase":"action","reason":"outcome-unknown","attempts":8,"since":77}]',
        ended_at=None,
    )
    body = StoredEvent("RunStarted", '{"input":{"name":"Zoë"}}'.encode(), 1, 5)
    await write(log, replace(start("order-42", tags={"customer": "ann"}), events=(body,), row=shown))
    file = sqlite3.connect(tmp_path / "orders.db")
    yield file
    file.close()
    await log.close()


def rows(file: sqlite3.Connection, sql: str) -> list[tuple[Any, ...]]:  # whatever the columns hold
    return file.execute(sql).fetchall()


async def test_every_step_of_a_run_is_a_row(file: sqlite3.Connection) -> None:
    assert rows(file, "SELECT * FROM run_steps ORDER BY position") == [
        ("order-42", "place-order", 1, "stuck", 1, "reserve", "compensable", "done", 1, None, 0),
        ("order-42", "place-order", 1, "stuck", 2, "charge", "pivot", "unknown", 8, "timed out", 1),
        ("order-42", "place-order", 1, "stuck", 3, "schedule", "retriable", "acting", 0, None, 1),
    ]


async def test_every_mark_is_a_row(file: sqlite3.Connection) -> None:
    assert rows(file, "SELECT * FROM stuck_steps") == [
        ("order-42", "place-order", 1, "charge", "action", "outcome-unknown", 8, 77)
    ]


async def test_a_row_that_holds_what_no_row_should_hides_no_other_from_the_views(file: sqlite3.Connection) -> None:
    views = ["SELECT * FROM run_steps WHERE run = 'order-42'", "SELECT * FROM stuck_steps WHERE run = 'order-42'"]
    whole = [rows(file, view) for view in views]
    columns = "saga, saga_version, digest, state, by_hand, version, epoch, start_print, tags, created_at, updated_at"
    for number, odd in enumerate([b"", b"{", b"{}", b"7", b'"text"', b"[7]", b"\xff", b'["a"]']):
        file.execute(
            f"INSERT INTO runs (id, {columns}, current, steps, stuck) "  # noqa: S608 - our own texts
            f"SELECT 'odd-{number}', {columns}, CAST(:odd AS TEXT), CAST(:odd AS TEXT), CAST(:odd AS TEXT) FROM runs "
            "WHERE id = 'order-42'",
            {"odd": odd},
        )
    assert [rows(file, view) for view in views] == whole
    assert rows(file, "SELECT * FROM run_steps WHERE run <> 'order-42'") == []
    file.rollback()


async def test_what_happened_is_text(file: sqlite3.Connection) -> None:
    assert rows(file, "SELECT kind, body FROM events") == [("RunStarted", '{"input":{"name":"Zoë"}}')]
    assert rows(file, "SELECT current, tags, typeof(steps), typeof(stuck) FROM runs") == [
        ('["charge","schedule"]', '{"customer":"ann"}', "text", "text")
    ]
    assert rows(file, "SELECT json_extract(body, '$.input.name') FROM events") == [("Zoë",)]


@pytest.mark.parametrize("table", COLUMNS)
async def test_the_tables_have_the_columns_that_were_promised(file: sqlite3.Connection, table: str) -> None:
    assert [name for _, name, *_ in rows(file, f"PRAGMA table_info({table})")] == COLUMNS[table].split()


# -- indexes


def plan(sql: str) -> str:
    """How an empty log would go about it."""
    database = sqlite3.connect(":memory:")
    database.executescript(SCHEMA)
    names = re.findall(r":(\w+)", sql)
    values: dict[str, str] | list[int] = dict.fromkeys(names, "[]") if names else [1] * sql.count("?")
    steps = [step for *_, step in database.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    database.close()
    return "\n".join(steps)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("claimable", "runs_due (due_at<?)"),
        ("claimable", "runs_owned (owner<?)"),
        ("claimable", "runs_owned (owner>?)"),
        ("nudged", "runs_owned (owner=?)"),
        ("next_due", "runs_due"),
        ("next_due_of", "runs_due"),
        ("purgeable", "runs_over (ended_at<?)"),
        ("purge_tags", "run_tags USING PRIMARY KEY"),
        ("count", "COVERING INDEX runs_live"),
        ("count", "COVERING INDEX runs_other_ends"),
        ("live", "COVERING INDEX runs_live (state=?)"),
        ("due", "COVERING INDEX runs_due (due_at>? AND due_at<?)"),
        ("stuck", "runs_live (state=?)"),
        ("late", "runs_late (deadline>? AND deadline<?)"),
    ],
)
def test_no_question_asked_all_the_time_reads_all_runs(statement: str, index: str) -> None:
    how = plan(SQL[statement])
    assert index in how
    assert "SCAN runs\n" not in f"{how}\n"


@pytest.mark.parametrize(
    ("question", "index"),
    [
        (Find(), "runs_newest"),
        (Find(after=(1, "x")), "runs_newest ((created_at,id)<(?,?))"),
        (Find(states=["stuck"]), "runs_live (state=?)"),
        (Find(states=["compensated"]), "runs_other_ends (state=?)"),
        (Find(states=["completed"]), "runs_newest"),
        (Find(states=["stuck"], after=(1, "x")), "runs_live (state=? AND (created_at,id)<(?,?))"),
        (Find(saga="place-order"), "runs_by_saga (saga=?)"),
        (Find(tags={"customer": "ann"}), "run_tags USING PRIMARY KEY (name=? AND value=?)"),
    ],
)
def test_a_page_is_read_from_an_index_in_its_order(question: Find, index: str) -> None:
    how = plan(find_statement(question)[0])
    assert index in how
    assert "TEMP B-TREE" not in how


@pytest.mark.parametrize("states", [[], ["completed"], ["running", "completed"]])
def test_a_step_is_looked_for_where_something_is_left_and_not_in_every_run(states: list[str]) -> None:
    how = plan(find_statement(Find(step="ship", states=states))[0])
    assert "SEARCH runs USING COVERING INDEX runs_live (state=?)" in how
    assert "SCAN runs USING INDEX runs_left" in how
    assert how.count("SCAN runs") == 1


def test_every_statement_says_what_it_is_for_and_is_one_statement() -> None:
    assert len(SQL) > 30
    for statement in SQL.values():
        assert statement
        assert ";" not in statement
