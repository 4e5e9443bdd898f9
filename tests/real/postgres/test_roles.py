"""Roles on the log's database as the how-to grants them: readers can look, and can't read the secret of callbacks."""

import re
from collections.abc import Callable, Generator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from amends.server.callback_tokens import CallbackTokens
from amends.testing.postgres_server import ask
from tests.docs.collect import PROJECT
from tests.real.postgres.test_commands import at_work, told
from tests.real.postgres.test_workers import SOON
from tests.support.postgres import Sql

PAGE = PROJECT / "docs" / "how-to" / "run-many-workers.md"
ROLES = ("amends_worker", "amends_reader")
As = Callable[[str], str]


def grants() -> list[str]:
    (block,) = re.findall(r"```sql\n(GRANT USAGE.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return [each for each in block.split(";\n") if each]


@pytest.fixture
def as_role(log_url: str) -> Generator[As]:
    """The log's URL for another role; the roles are the server's, so they are taken away again."""
    for role in ROLES:
        ask(log_url, f"CREATE ROLE {role} LOGIN")
    try:
        for statement in grants():
            ask(log_url, statement)

        def url(role: str) -> str:
            parts = urlsplit(log_url)
            return parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()

        yield url
    finally:
        for role in ROLES:
            ask(log_url, f"DROP OWNED BY {role}")
            ask(log_url, f"DROP ROLE {role}")


def test_the_page_grants_three_kinds_of_rights() -> None:
    assert len(grants()) == 4


async def test_a_reader_sees_runs_and_no_secret(tmp_path: Path, log_url: str, sql: Sql, as_role: As) -> None:
    reader = as_role("amends_reader")
    async with at_work(log_url) as (runs, held):
        await CallbackTokens().open(runs.engine.log)
        assert sql("SELECT count(*) FROM amends.settings") == "1", "there is a secret to be read"
        for command in (["ls"], ["show", "o-1", "--events"], ["stuck"], ["export", "o-1"], ["workers"]):
            seen = await told(tmp_path, *command, "--log", reader)
            assert (seen.code, seen.err) == (0, ""), command
        held.set()
        await runs.get("o-1").outcome(wait=SOON)
    for statement in ("SELECT value FROM amends.settings", "UPDATE amends.runs SET owner = NULL"):
        with pytest.raises(Exception, match="permission denied"):
            ask(reader, statement)


async def test_a_worker_needs_no_more_than_it_is_granted(as_role: As) -> None:
    async with at_work(as_role("amends_worker")) as (runs, held):
        await CallbackTokens().open(runs.engine.log)
        held.set()
        await runs.get("o-1").outcome(wait=SOON)
