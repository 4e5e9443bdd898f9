"""The tables: made and brought up to date once, refused where they aren't this program's; and plain SQL is answered."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from amends.core.words.errors import AmendsError, LogUnavailable, SchemaMismatch
from amends.logs.postgres import connections, schema
from amends.logs.postgres.connections import DatabaseAddress
from amends.logs.postgres.failures import told
from amends.logs.postgres.log import PostgresLog
from amends.logs.postgres.reader import open_readonly
from amends.logs.postgres.rows import find_statement
from amends.logs.postgres.statements import SQL
from amends.ports.log import Find, RunRow, StoredEvent
from amends.testing.contracts.log_entries import ORDERS, append, row, start, write
from amends.testing.postgres_server import ask
from tests.support.postgres import Databases

TABLES = [
    f"amends.{name}" for name in ("runs", "events", "sagas", "workers", "settings", "run_tags", "schema_versions")
]
NEWER = f"INSERT INTO amends.schema_versions VALUES ({schema.LATEST + 1})"  # noqa: S608 - a number

# -- migrations


async def test_tables_are_made_once_and_found_done_the_second_time(no_log: str) -> None:
    assert await schema.found_version(no_log) == 0
    assert await schema.apply(no_log) == (0, schema.LATEST)
    assert await schema.apply(no_log) == (schema.LATEST, schema.LATEST)
    assert await schema.found_version(no_log) == schema.LATEST


async def test_two_who_apply_at_once_are_one_after_the_other(no_log: str) -> None:
    done = await asyncio.gather(*(schema.apply(no_log) for _ in range(4)))
    assert sorted(before for before, _ in done) == [0] + [schema.LATEST] * 3


async def test_the_script_makes_the_same_tables(no_log: str, log_url: str) -> None:
    ask(no_log, schema.script())
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema = 'amends' ORDER BY 1, 2"
    )
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'amends' ORDER BY 1"
    for question in (columns, indexes):
        assert ask(no_log, question) == ask(log_url, question)
        assert ask(no_log, question)
    assert await schema.apply(no_log) == (schema.LATEST, schema.LATEST)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (NEWER, "made by a newer amends.*pip install"),
        ("TRUNCATE amends.schema_versions", "there is no log in .* yet. Make it: amends schema apply --log"),
        ("DROP SCHEMA amends CASCADE", "there is no log in .* yet. Make it: amends schema apply --log"),
    ],
)
async def test_tables_that_are_not_this_programs_are_refused(spare_log_url: str, found: str, says: str) -> None:
    ask(spare_log_url, found)
    with pytest.raises(SchemaMismatch, match=says):
        await PostgresLog(spare_log_url).open()
    with pytest.raises(SchemaMismatch, match=says):
        async with open_readonly(spare_log_url):
            pass


async def test_tables_that_are_older_are_refused(log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "LATEST", schema.LATEST + 1)
    with pytest.raises(SchemaMismatch, match=f"has schema {schema.LATEST - 1}, this amends needs {schema.LATEST}"):
        await PostgresLog(log_url).open()


async def test_newer_tables_are_not_touched_by_apply_nor_taken_for_done(spare_log_url: str) -> None:
    ask(spare_log_url, NEWER)
    with pytest.raises(SchemaMismatch, match="made by a newer amends"):
        await schema.apply(spare_log_url)
    with pytest.raises(SchemaMismatch, match="made by a newer amends"):
        await schema.found_version(spare_log_url)


async def test_bringing_tables_up_to_date_takes_as_long_as_it_takes(
    no_log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the patience for a statement nor what this user is held to in daily work ends it half-way."""
    monkeypatch.setattr(connections, "STATEMENT_SECONDS", 0.3)
    ask(no_log, f"ALTER DATABASE {urlsplit(no_log).path.removeprefix('/')} SET statement_timeout = '300ms'")
    slow = {number: f"SELECT pg_sleep(0.4);\n{text}" for number, text in schema.migrations().items()}
    monkeypatch.setattr(schema, "migrations", lambda: slow)
    done = await asyncio.gather(*(schema.apply(no_log) for _ in range(2)))
    assert sorted(before for before, _ in done) == [0, schema.LATEST], "who waits for the other waits as long"


async def test_who_may_not_make_schemas_makes_the_tables_in_the_one_he_was_given(databases: Databases) -> None:
    url = databases.new()
    role = f"maker_{urlsplit(url).path.removeprefix('/')}"
    ask(url, f"CREATE ROLE {role} LOGIN; CREATE SCHEMA amends AUTHORIZATION {role}")
    theirs = url.replace("amends@", f"{role}@")
    assert await schema.apply(theirs) == (0, schema.LATEST)
    ask(theirs, f"DROP TABLE {', '.join(TABLES)} CASCADE")
    ask(theirs, schema.script())
    assert await schema.apply(theirs) == (schema.LATEST, schema.LATEST)


async def test_workers_and_those_who_look_need_what_the_page_says_and_no_more(spare_log_url: str) -> None:
    name = urlsplit(spare_log_url).path.removeprefix("/")
    rights = {"worker": "SELECT, INSERT, UPDATE, DELETE", "looker": "SELECT"}
    urls: dict[str, str] = {}
    for who, what in rights.items():
        role = f"{who}_{name}"
        ask(spare_log_url, f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA amends TO {role}")
        ask(spare_log_url, f"GRANT {what} ON ALL TABLES IN SCHEMA amends TO {role}")
        urls[who] = spare_log_url.replace("amends@", f"{role}@")
    log = PostgresLog(urls["worker"])
    await log.open()
    await log.announce([ORDERS])
    assert await log.define(ORDERS, b"{}") is None
    assert await log.setting("key", b"value") == b"value"
    await write(log, start("a", owned=False, shown=row(due_at=1), tags={"a": "b"}))
    (claimed,) = await log.claim([ORDERS], now=1_000, limit=1)
    assert claimed.run == "a"
    ended = row(state="completed", due_at=None, ended_at=5)
    await write(log, append("a", 1, epoch=2, release=True, shown=ended))
    assert await log.purge(6, 10) == 1
    async with open_readonly(urls["looker"]) as reader:
        assert [found.run for found in await reader.find(Find())] == ["a"]
        assert len(await reader.workers()) == 1
        assert dict(await reader.count()) == {"completed": 1}
    with pytest.raises(LogUnavailable, match="This user may not"):
        await PostgresLog(urls["looker"]).open()
    await log.close()


async def test_a_database_that_can_not_hold_every_character_is_refused(databases: Databases) -> None:
    name = urlsplit(databases.new()).path.removeprefix("/") + "_latin"
    ask(databases.url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    databases.made.append(name)
    url = databases.named(name)
    for asked in (schema.apply(url), PostgresLog(url).open()):
        with pytest.raises(SchemaMismatch, match=r"encoded in LATIN1, .* createdb --encoding UTF8"):
            await asked


# -- addresses


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://amends:secret@127.0.0.1:9/orders", "amends@127.0.0.1:9/orders can't be reached"),
        ("postgresql://localhost/orders?lease_seconds=no", "lease_seconds=no: expected a number"),
        ("postgresql://localhost/orders?lease_seconds=0.01", "from 0.1 to 3600"),
        ("mysql://localhost/orders", "expected postgresql://"),
        ("postgresql://ann:secret@[::1]:9/orders", r"ann@\[::1\]:9/orders can't be reached"),
        (
            "postgresql://ann:secret@127.0.0.1:9,127.0.0.1:8/orders",
            "ann@127.0.0.1:9,127.0.0.1:8/orders can't be reached",
        ),
        ("postgresql:///orders?host=/nowhere&password=secret", r"postgresql:///orders\?host=/nowhere can't be reached"),
        ("postgresql://ann:secret@localhost:port/orders", "its password or a port isn't as it must be"),
        ("postgresql://ann:secret@localhost:65536/orders", "its password or a port isn't as it must be"),
        ("postgresql://ann:se/cret@localhost/orders", "/ # . @ : and % in a user or a password are written"),
        ("postgresql://ann:secret@more@localhost/orders", "/ # . @ : and % in a user or a password are written"),
        ("postgresql://ann:1#secret@localhost/orders", "/ # . @ : and % in a user or a password are written"),
        ("postgresql:///orders?host=/nowhere&port=no&password=secret", "its password or a port isn't as it must be"),
    ],
)
async def test_an_address_that_leads_nowhere_is_told_without_the_password(url: str, says: str) -> None:
    with pytest.raises(AmendsError, match=says) as raised:
        await PostgresLog(url).open()
    assert "secret" not in str(raised.value)


async def test_of_several_hosts_the_one_that_can_be_written_is_used(log_url: str) -> None:
    several = log_url.replace("@127.0.0.1:", "@127.0.0.1:9,127.0.0.1:") + "?target_session_attrs=read-write"
    assert several.count("127.0.0.1") == 2
    log = PostgresLog(several)
    await log.open()
    await write(log, start("a"))
    await log.close()


async def test_no_such_database_is_told_with_what_to_do(log_url: str) -> None:
    with pytest.raises(LogUnavailable, match=r"There is no such database. Make it: createdb"):
        await PostgresLog(log_url + "_not").open()


def test_what_the_server_says_in_several_lines_is_told_in_one() -> None:
    error = asyncpg.CannotConnectNowError("it is starting")
    error.detail = "Not yet\nconsistent."
    with pytest.raises(LogUnavailable) as raised, told("here", sent=False):
        raise error
    assert str(raised.value).startswith("here: it is starting DETAIL: Not yet consistent. (57P03). It is starting or")


# -- plain SQL


@pytest_asyncio.fixture
async def stuck_run(log_url: str) -> AsyncIterator[str]:
    """A log with one stuck run."""
    log = PostgresLog(log_url)
    await log.open()
    shown = RunRow(
        state="stuck",
        by_hand=False,
        due_at=None,
        current=b'["charge","schedule"]',
        steps=b"""[
            {"name":"reserve","kind":"compensable","state":"done","attempts":1,"error":null},
            {"name":"charge","kind":"pivot","state":"unknown","attempts":8,"error":"timed out\\u0000"},
            {"name":"schedule","kind":"retriable","state":"acting","attempts":0,"error":null}]""",
        stuck=b'[{"step":"charge","phase":"action","reason":"outcome-unknown","attempts":8,"since":1000000}]',
        ended_at=None,
    )
    body = StoredEvent("RunStarted", '{"input":{"name":"Zoë"}}'.encode(), 1, 2_000_000)
    await write(log, replace(start("order-42", tags={"customer": "ann"}), events=(body,), row=shown))
    await log.close()
    yield log_url


def test_steps_marks_and_events_are_rows(stuck_run: str) -> None:
    assert ask(stuck_run, "SELECT * FROM amends.run_steps ORDER BY position").splitlines() == [
        "order-42|place-order|1|stuck|1|reserve|compensable|done|1||f",
        "order-42|place-order|1|stuck|2|charge|pivot|unknown|8|timed out\N{REPLACEMENT CHARACTER}|t",
        "order-42|place-order|1|stuck|3|schedule|retriable|acting|0||t",
    ]
    assert (
        ask(stuck_run, "SELECT run, step, phase, reason, attempts, extract(epoch FROM since) FROM amends.stuck_steps")
        == "order-42|charge|action|outcome-unknown|8|1.000000"
    )
    assert (
        ask(stuck_run, "SELECT kind, body, body::json -> 'input' ->> 'name' FROM amends.run_events")
        == 'RunStarted|{"input":{"name":"Zoë"}}|Zoë'
    )


def test_a_row_that_holds_what_no_row_should_hides_no_other_from_the_views(stuck_run: str) -> None:
    whole = ask(stuck_run, "SELECT * FROM amends.run_steps; SELECT * FROM amends.stuck_steps")
    columns = (
        "saga, saga_version, digest, state, by_hand, version, epoch, start_print, deadline, created_at, updated_at"
    )
    for number, odd in enumerate(["{}", "7", "null", "[7]", '[{"name":"a","attempts":"x","step":1,"since":"y"}]']):
        ask(
            stuck_run,
            f"INSERT INTO amends.runs (id, {columns}, current, steps, stuck, tags) "  # noqa: S608 - our own texts
            f"SELECT 'odd-{number}', {columns}, '{odd}', '{odd}', '{odd}', '{odd}' "
            "FROM amends.runs WHERE id = 'order-42'",
        )
    found = "WHERE run = 'order-42'"
    assert ask(stuck_run, f"SELECT * FROM amends.run_steps {found}; SELECT * FROM amends.stuck_steps {found}") == whole  # noqa: S608 - as above
    assert ask(stuck_run, "SELECT run, attempts IS NULL FROM amends.run_steps WHERE step = 'a'") == "odd-4|t"
    assert (
        ask(stuck_run, "SELECT run, since IS NULL FROM amends.stuck_steps WHERE run <> 'order-42' AND step = '1'")
        == "odd-4|t"
    )


# -- indexes

MANY = """
INSERT INTO amends.runs (id, saga, saga_version, digest, state, by_hand, version, owner, epoch, due_at, start_print,
                         current, steps, stuck, tags, created_at, updated_at, ended_at)
SELECT 'r' || n, CASE WHEN n % 500 = 0 THEN 'rare' ELSE 'usual' END, 1, 'd',
       CASE WHEN n % 1000 = 0 THEN 'stuck' WHEN n % 997 = 0 THEN 'abandoned' ELSE 'completed' END,
       false, 3, CASE WHEN n % 1009 = 0 THEN 'w' || n % 7 END, 1, CASE WHEN n % 991 = 0 THEN n END, 'x',
       '[]', '[]', '[]', '{}', n, n, CASE WHEN n % 1000 = 0 THEN NULL ELSE n END
FROM generate_series(1, 20000) AS n;
INSERT INTO amends.run_tags SELECT 'customer', 'c' || created_at % 1000, saga, created_at, id FROM amends.runs;
INSERT INTO amends.run_tags SELECT 'region', 'eu', saga, created_at, id FROM amends.runs;
INSERT INTO amends.events SELECT id, n, 'Kind', '{}', 1, 'x', 1 FROM amends.runs, generate_series(1, 3) AS n;
ANALYZE;
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowded(databases: Databases, pattern: str) -> str:
    """A log with many runs that have ended and few that haven't, as after a year."""
    url = databases.new(like=pattern)
    ask(url, MANY)
    return url


async def plan(url: str, sql: str, values: Sequence[object] | None = None) -> str:
    """How the database goes about a statement as one of the log's own sessions; with no values: whatever they are."""
    connection = await DatabaseAddress(url).connect()
    try:
        if values is None:
            await connection.execute("SET plan_cache_mode = force_generic_plan")
            count = len((await connection.prepare(sql)).get_parameters())
            await connection.execute(f"PREPARE asked AS {sql}")
            nothing = f"({', '.join(['NULL'] * count)})" if count else ""
            lines = await connection.fetch(f"EXPLAIN EXECUTE asked{nothing}")
        else:
            lines = await connection.fetch(f"EXPLAIN {sql}", *values)
        return "\n".join(line for (line,) in lines)
    finally:
        await connection.close()


OF_KNOWN = "runs_due_by_saga"
"""What is due of sagas that somebody knows, and nothing else, though most of what is due is of others."""


@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        ("write", ["runs_pkey"]),
        ("claim", [OF_KNOWN, "runs_owned", "workers_pkey"]),
        ("refused", ["runs_pkey", "events_pkey"]),
        ("release", ["runs_pkey"]),
        ("hand_over", ["runs_owned"]),
        ("owned", ["runs_owned"]),
        ("let_go_of_strays", ["runs_owned"]),
        ("nudged", ["runs_owned"]),
        ("next_due", ["runs_due"]),
        ("next_due_of", [OF_KNOWN]),
        ("live", ["Index Only Scan using runs_live"]),
        ("due", ["runs_due"]),
        ("stuck", ["runs_live"]),
        ("late", ["runs_late"]),
        ("standing", ["runs_pkey"]),
        ("count", ["runs_live", "runs_other_ends", "Index Only Scan"]),
        ("row", ["runs_pkey"]),
        ("whole_run", ["runs_pkey", "events_pkey"]),
        ("events", ["events_pkey"]),
        ("events_of_many", ["events_pkey"]),
        ("heartbeat", ["workers_pkey"]),
        ("workers", ["runs_owned"]),
        ("purge", ["runs_over", "events_pkey", "run_tags_pkey"]),
    ],
)
async def test_no_question_asked_all_the_time_reads_all_runs(crowded: str, statement: str, indexes: list[str]) -> None:
    how = await plan(crowded, SQL[statement])
    for index in indexes:
        assert index in how, how
    assert "Seq Scan on runs" not in how, how
    assert "Seq Scan on events" not in how, how


@pytest.mark.parametrize(
    ("question", "index"),
    [
        (Find(), "runs_newest"),
        (Find(after=(1, "x")), "runs_newest"),
        (Find(states=["stuck"]), "runs_live"),
        (Find(states=["stuck"], after=(1, "x")), "runs_live"),
        (Find(states=["running", "compensating", "stuck"]), "runs_live"),
        (Find(states=["abandoned"]), "runs_other_ends"),
        (Find(saga="rare"), "runs_by_saga"),
        (Find(late_by=9), "runs_late"),
        (Find(saga="usual", states=["stuck"]), "runs_live"),
        (Find(tags={"customer": "c1"}), "run_tags_pkey"),
        (Find(tags={"region": "eu"}), "run_tags_pkey"),
        (Find(saga="rare", tags={"customer": "c1"}), "run_tags_pkey"),
        (Find(saga="usual", tags={"customer": "c1"}, states=["completed"], after=(1, "x")), "run_tags_pkey"),
    ],
    ids=str,
)
async def test_a_page_is_read_from_an_index(crowded: str, question: Find, index: str) -> None:
    how = await plan(crowded, *find_statement(question))
    assert index in how, how
    assert "Seq Scan" not in how, how


async def test_a_page_of_rare_ends_is_read_from_their_index_whatever_the_plan_was_made_for(crowded: str) -> None:
    statement, _ = find_statement(Find(states=["abandoned"]))
    assert "runs_other_ends" in await plan(crowded, statement)


@pytest.mark.parametrize("question", [Find(), Find(saga="rare"), Find(tags={"region": "eu"})], ids=str)
async def test_a_page_out_of_many_is_read_in_its_order(crowded: str, question: Find) -> None:
    assert "Sort" not in await plan(crowded, *find_statement(replace(question, limit=10)))


async def test_an_append_that_only_gets_on_needs_no_index_entry(spare_log_url: str) -> None:
    log = PostgresLog(spare_log_url)
    await log.open()
    await write(log, *(start(f"r{n}", shown=row(due_at=1_000)) for n in range(10)))
    for version in range(1, 6):
        await write(
            log,
            *(
                append(f"r{n}", version, at=2_000 + version, number=version, shown=row(due_at=2_000 + version))
                for n in range(10)
            ),
        )
    await log.close()
    updated, without = ask(
        spare_log_url, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'runs'"
    ).split("|")
    assert int(updated) == 60, "fifty appends, ten handed over"
    assert int(without) >= 50, "every append stayed in its page, with its index entries as they were"


async def test_every_statement_says_what_it_is_for_and_is_one_statement() -> None:
    assert len(SQL) > 35
    for statement in SQL.values():
        assert statement
        assert ";" not in statement


async def test_json_that_is_no_json_is_its_callers_mistake(log_url: str) -> None:
    log = PostgresLog(log_url)
    await log.open()
    wrong = replace(start("a"), row=replace(start("a").row, current=b"[}"))
    with pytest.raises(asyncpg.DataError):
        await log.append([wrong])
    await write(log, start("a"))
    await log.close()
