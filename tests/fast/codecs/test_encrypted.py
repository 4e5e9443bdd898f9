"""Encrypted events: read by whoever has the key, by nobody else, and not changed without being noticed."""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from amends import Orchestrator, Rejected, Saga
from amends.cli.main import run as amends
from amends.codecs.encrypted import BadEncryptionKey, EncryptedEvents, key_name, new_key
from amends.codecs.events import JsonEventCodec
from amends.codecs.seals import sealed_by
from amends.config.settings import PrivacySettings, Settings
from amends.config.values import Secret
from amends.core.run.events import Aborted, ActionSucceeded, Event
from amends.core.words.codec import Undecodable
from amends.core.words.errors import LogDamaged

SECRET = "hidden-4711"
OLD_KEY = "b2xkIGtleSBvZiB0aGUgdGVzdHMsIDMyIGJ5dGVzISE="
OLD_BODY = (
    b'{"sealed":"OaT-WwMksrUk0CZhj79VykOVEkQUirVCd_aalGDY3ATgs5rPvPYHtQ001cNlGthY3wwDuH7fcmAjJZ-Tk_WXXtZyQ0ygbYwszyqq'
    b'2AGY-kZO8Fkjd4EPJgvHTtfxaHyARJHsSEBaxw=="}'
)
RUN = "p-1"
EVENT = ActionSucceeded(5, 1, "pay", "", f'{{"card":"{SECRET}"}}'.encode())

pay = Saga("pay", str)


@pay.compensable()
async def charge(card: str) -> str:
    return f"charged {card}"


@charge.compensation
async def refund(card: str, made: str | None) -> None:
    return None


@pay.pivot(charge)
async def confirm(card: str, made: str) -> str:
    raise Rejected(f"{card} is declined")


def opened(codec: EncryptedEvents, event: Event) -> Event:
    kind, body = codec.encode(event, RUN, 3)
    return codec.decode(kind, body, event.at, event.epoch, RUN, 3)


def test_what_is_written_is_read_again_and_says_nothing() -> None:
    codec = EncryptedEvents(JsonEventCodec(), [new_key()])
    kind, body = codec.encode(EVENT, RUN, 3)
    assert SECRET.encode() not in body
    assert codec.decode(kind, body, 5, 1, RUN, 3) == EVENT
    assert codec.encode(EVENT, RUN, 3)[1] != body, "the same event twice shows that it is the same"


def test_a_new_key_writes_and_the_old_one_still_reads() -> None:
    old, new = new_key(), new_key()
    kind, body = EncryptedEvents(JsonEventCodec(), [old]).encode(EVENT, RUN, 3)
    both = EncryptedEvents(JsonEventCodec(), [new, old])
    assert both.decode(kind, body, 5, 1, RUN, 3) == EVENT
    kind, body = both.encode(EVENT, RUN, 3)
    assert EncryptedEvents(JsonEventCodec(), [new]).decode(kind, body, 5, 1, RUN, 3) == EVENT
    with pytest.raises(Undecodable, match=r"a key \([0-9a-f]{8}\) that isn't here: add it to privacy\.decrypt"):
        EncryptedEvents(JsonEventCodec(), [old]).decode(kind, body, 5, 1, RUN, 3)


def test_what_was_written_before_is_still_read() -> None:
    kind, body = JsonEventCodec().encode(EVENT, RUN, 3)
    assert EncryptedEvents(JsonEventCodec(), [new_key()]).decode(kind, body, 5, 1, RUN, 3) == EVENT


@pytest.mark.parametrize("where", [12, 40, -12])
def test_a_changed_body_is_noticed(where: int) -> None:
    codec = EncryptedEvents(JsonEventCodec(), [new_key()])
    kind, body = codec.encode(EVENT, RUN, 3)
    other = b"A" if body[where : where + 1] != b"A" else b"B"
    changed = body[:where] + other + body[where + 1 :] if where != -1 else body
    assert changed != body
    with pytest.raises(Undecodable):
        codec.decode(kind, changed, 5, 1, RUN, 3)


def test_a_body_is_of_its_kind_alone() -> None:
    codec = EncryptedEvents(JsonEventCodec(), [new_key()])
    _, body = codec.encode(Aborted(5, 1, None, None, "cancelled: x"), RUN, 3)
    with pytest.raises(Undecodable, match="moved here from another place"):
        codec.decode("AbortRequested", body, 5, 1, RUN, 3)


@pytest.mark.parametrize(("run", "version"), [("p-2", 3), ("p-1", 4), ("3 p-1", 3), ("", 0)])
def test_a_body_is_of_its_place_alone(run: str, version: int) -> None:
    codec = EncryptedEvents(JsonEventCodec(), [new_key()])
    kind, body = codec.encode(EVENT, RUN, 3)
    with pytest.raises(Undecodable, match="moved here from another place or run"):
        codec.decode(kind, body, 5, 1, run, version)


def test_a_body_that_an_older_version_encrypted_is_still_read() -> None:
    """Written by the version before bodies were bound to their place; the key is made up."""
    kind, body = "ActionSucceeded", OLD_BODY
    codec = EncryptedEvents(JsonEventCodec(), [OLD_KEY])
    assert codec.decode(kind, body, 5, 1, RUN, 3) == EVENT
    assert sealed_by(body) == key_name(OLD_KEY)
    with pytest.raises(Undecodable):
        codec.decode("ActionRejected", body, 5, 1, RUN, 3)


@pytest.mark.parametrize("text", ["", "short", "x" * 44, new_key()[:-4]], ids=["none", "short", "no key", "cut off"])
def test_a_key_is_what_it_must_be(text: str) -> None:
    with pytest.raises(BadEncryptionKey, match="32 bytes in base64"):
        EncryptedEvents(JsonEventCodec(), [text])


def files_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_a_run_lives_and_is_resumed_and_its_log_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    log, key = "sqlite:///runs.db", Secret(new_key())
    settings = Settings(privacy=PrivacySettings(encrypt=key))
    async with Orchestrator([pay], log=log, settings=settings) as runs:
        started = await runs.start(pay, SECRET, id="p-1")
        assert f"{SECRET} is declined" in str(await started.outcome())
    everything = files_in(tmp_path)
    assert b"RunStarted" in everything
    assert SECRET.encode() not in everything
    async with Orchestrator([pay], log=log, settings=settings) as runs:
        assert "declined" in str(await runs.get("p-1").outcome())
    with pytest.raises(LogDamaged, match=r"privacy\.decrypt"):
        async with Orchestrator(
            [pay], log=log, settings=Settings(privacy=PrivacySettings(encrypt=Secret(new_key())))
        ) as runs:
            await runs.get("p-1").outcome()


async def test_bodies_that_were_swapped_between_runs_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By somebody who may write to the database and has no key: two runs of the same saga, event by event alike."""
    monkeypatch.chdir(tmp_path)
    log, key = "sqlite:///runs.db", Secret(new_key())
    settings = Settings(privacy=PrivacySettings(encrypt=key))
    async with Orchestrator([pay], log=log, settings=settings) as runs:
        for run in ("p-1", "p-2"):
            await (await runs.start(pay, run, id=run)).outcome()
    with closing(sqlite3.connect("runs.db")) as database, database:
        bodies = dict(database.execute("SELECT run, body FROM events WHERE version = 1"))
        swapped = [(bodies["p-2"], "p-1"), (bodies["p-1"], "p-2")]
        assert database.executemany("UPDATE events SET body = ? WHERE run = ? AND version = 1", swapped).rowcount == 2
    async with Orchestrator([pay], log=log, settings=settings) as runs:
        for run in ("p-1", "p-2"):
            with pytest.raises(LogDamaged, match="moved here from another place or run"):
                await runs.get(run).outcome()


def test_a_key_is_made_once_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert amends(["token", "key"]) == 0
    made = capsys.readouterr().out.strip()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}=", made)
    assert opened(EncryptedEvents(JsonEventCodec(), [made]), EVENT) == EVENT


def test_without_the_key_it_is_said_what_is_missing() -> None:
    kind, body = EncryptedEvents(JsonEventCodec(), [new_key()]).encode(EVENT, RUN, 3)
    with pytest.raises(Undecodable, match=r"is encrypted, and its key isn't here: \[privacy\] encrypt in amends\.toml"):
        JsonEventCodec().decode(kind, body, 5, 1, RUN, 3)


async def test_looking_without_the_key_is_an_answer_and_no_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(privacy=PrivacySettings(encrypt=Secret(new_key())))
    async with Orchestrator([pay], log="sqlite:///runs.db", settings=settings) as runs:
        await (await runs.start(pay, SECRET, id="p-1")).outcome()
    code = await asyncio.to_thread(amends, ["show", "p-1", "--log", "sqlite:///runs.db"])
    assert code == 0, "the row can be read, and says how the run stands"
    shown = capsys.readouterr().out
    assert "compensated" in shown
    assert "its key isn't here" in shown
    assert "Traceback" not in caplog.text
