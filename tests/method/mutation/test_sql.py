"""Statements are changed as they are said to be, every changed one is a statement still, and it is put in use."""

import sqlite3
from collections.abc import Callable

import pytest

from amends.logs.postgres.connections import DatabaseAddress
from amends.logs.postgres.statements import numbered
from amends.logs.sqlite import writer
from amends.logs.sqlite.statements import SCHEMA
from amends.logs.sqlite.statements import SQL as SQLITE
from tests.method.mutation.__main__ import AREAS, modules_of
from tests.method.mutation.sql import VERBS, Statement, Statements, put_in_use

SAMPLE = """
WITH late AS (
    SELECT id FROM runs WHERE owner IS NULL AND (due_at <= $1 OR NOT $2)
    ORDER BY due_at NULLS LAST LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE runs AS r SET epoch = r.epoch + 1, due_at = CASE WHEN r.owner = $4 THEN least(r.due_at, $1) ELSE 0 END
FROM late WHERE r.id = late.id RETURNING r.id
"""


def statements_of(area: str) -> Statements:
    (module,) = modules_of(AREAS[area])
    assert isinstance(module, Statements)
    return module


def test_a_statement_is_changed_where_it_decides() -> None:
    statement = Statement("take", " ".join(SAMPLE.split()))
    changes = {f"{statement.part(each)}: {statement.said(each)} | {each[3]}" for each in statement.changes()}
    assert changes == {
        "take.late: owner IS NULL AND (due_at <= $1 OR NOT $2) | -> false",
        "take.late: owner IS NULL | -> true",
        "take.late: IS NULL | -> IS NOT NULL",
        "take.late: (due_at <= $1 OR NOT $2) | -> true",
        "take.late: due_at <= $1 | -> false",
        "take.late: <= | -> <",
        "take.late: NOT $2 | -> false",
        "take.late: NOT | removed",
        "take.late: ORDER BY due_at NULLS LAST | removed",
        "take.late: NULLS LAST | removed",
        "take.late: LIMIT $3 | removed",
        "take.late: FOR UPDATE SKIP LOCKED | removed",
        "take.late: SKIP LOCKED | removed",
        "take: epoch = r.epoch + 1 | not set",
        "take: r.epoch + 1 | left side alone",
        "take: 1 | -> 2",
        "take: due_at = CASE WHEN r.owner = $4 THEN least(r.due_at, $1) ELSE 0 END | not set",
        "take: r.owner = $4 | -> false",
        "take: r.owner = $4 | -> true",
        "take: least | -> greatest",
        "take: least(r.due_at, $1) | without r.due_at",
        "take: least(r.due_at, $1) | without $1",
        "take: 0 | -> 1",
        "take: r.id = late.id | -> false",
        "take: r.id = late.id | -> true",
    }


def test_what_is_left_out_stays_in_the_text_so_that_parameters_keep_their_places() -> None:
    statement = Statement("take", "SELECT id FROM runs WHERE a = ? AND b = ? LIMIT ?")
    changed = {f"{statement.said(each)} {each[3]}": statement.changed(each) for each in statement.changes()}
    assert changed["a = ? -> true"] == "SELECT id FROM runs WHERE (true OR (a = ?)) AND b = ? LIMIT ?"
    assert changed["LIMIT ? removed"] == "SELECT id FROM runs WHERE a = ? AND b = ? LIMIT 1000000 + ?"
    assert {text.count("?") for text in changed.values()} == {3}


def whole(changed: str, texts: dict[str, str], join: Callable[[str], str]) -> str:
    """A statement that can be prepared: a condition needs one around it."""
    if changed.split(maxsplit=1)[0] in VERBS:
        return join(changed)
    return join(texts["find_by_tag" if "tagged_at" in changed else "find"]).replace("TRUE", changed)


async def test_every_changed_statement_is_one_that_postgresql_can_run(log_url: str) -> None:
    module = statements_of("postgres-sql")
    connection = await DatabaseAddress(log_url).connect()
    try:
        for mutant in module.mutants:
            mutant.apply()
            changed = module.now[mutant.function]
            mutant.undo()
            text = whole(changed, module.texts, lambda sql: sql.replace("/* conditions */", "TRUE"))
            await connection.prepare(numbered(text))
    finally:
        await connection.close()


def test_every_changed_statement_is_one_that_sqlite_can_run() -> None:
    module = statements_of("sqlite-sql")
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    rows = {"/* conditions */": "TRUE", "/* starts */": f"({', '.join('1' * 19)})"}
    rows |= {"/* entries */": f"({', '.join('1' * 14)})", "/* events */": f"({', '.join('1' * 7)})"}

    def filled(sql: str) -> str:
        for place, row in rows.items():
            sql = sql.replace(place, row)
        return sql

    for mutant in module.mutants:
        mutant.apply()
        text = whole(module.now[mutant.function], module.texts, filled)
        mutant.undo()
        named = {"now": 1, "me": "w", "known": "[]", "suspects": 1, "limit": 1}
        connection.execute(f"EXPLAIN {text}", named if ":now" in text else (None,) * text.count("?"))
    connection.close()


@pytest.mark.parametrize("area", ["postgres-sql", "sqlite-sql"])
def test_no_two_changes_of_a_file_are_called_the_same(area: str) -> None:
    claims = [mutant.claim for mutant in statements_of(area).mutants]
    assert len(claims) == len(set(claims))


def test_a_changed_statement_is_put_in_use_also_where_it_was_read_on_import() -> None:
    kept, known, kind = writer.APPEND_OWNED, dict(SQLITE), writer.SqliteWriter
    put_in_use("amends.logs.sqlite", {"append_owned": "SELECT 'changed'"})
    try:
        assert SQLITE["append_owned"] == writer.APPEND_OWNED == "SELECT 'changed'"
        assert writer.SqliteWriter is kind
    finally:
        put_in_use("amends.logs.sqlite", known)
    assert known["append_owned"] == writer.APPEND_OWNED == kept
