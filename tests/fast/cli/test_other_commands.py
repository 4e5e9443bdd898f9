"""Drawing, purging, alert rules, completion: what needs no running server."""

import asyncio
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from amends import Orchestrator
from amends.cli.purge import age
from amends.codecs.encrypted import key_name
from amends.config.settings import PrivacySettings, Settings
from amends.config.values import Secret
from amends.observers.signing import KEY_BYTES, key_of
from amends.server.app import application
from amends.server.context import Context
from tests.fast.cli.commands import Told, amends, amends_process
from tests.fast.cli.place_order import Inventory, Mail, Payments, Shipping, basket, place_order
from tests.fast.server.asgi import Caller

MODULE = "tests.fast.cli.place_order"


def test_a_saga_is_drawn_for_a_terminal(tmp_path: Path) -> None:
    drawn = amends(tmp_path, "graph", f"{MODULE}:place_order", f"{MODULE}:basket")
    assert drawn.out.splitlines() == [
        "place-order v1",
        "  reserve   compensable                                  inventory.reserve   undone by release",
        "  hold      compensable                                  payments.hold       undone by unhold",
        "  capture   pivot         reads hold; after reserve      payments.capture",
        "  ship      retriable     reads reserve; after capture   shipping.schedule",
        "",
        "basket v1",
        "  approve       neutral                   a person, or time",
        "  cooling_off   neutral   after approve   a person, or time",
    ]


def test_a_saga_is_drawn_for_a_page_and_for_graphviz(tmp_path: Path) -> None:
    mermaid = amends(tmp_path, "graph", f"{MODULE}:place_order", "--format", "mermaid").out.splitlines()
    assert mermaid[:4] == ["---", "title: place-order v1", "---", "flowchart LR"]
    assert '    capture{{"capture<br/>pivot"}}' in mermaid
    assert "    hold --> capture" in mermaid
    assert "    reserve -.-> capture" in mermaid
    dot = amends(tmp_path, "graph", f"{MODULE}:place_order", "--format", "dot").out.splitlines()
    assert dot[0] == 'digraph "place-order v1" {'
    assert dot[-1] == "}"
    assert "    reserve -> capture [style=dashed];" in dot
    said = json.loads(amends(tmp_path, "graph", f"{MODULE}:place_order", "--json").out)
    assert [each["name"] for each in said["sagas"][0]["steps"]] == ["reserve", "hold", "capture", "ship"]
    assert amends(tmp_path, "graph", "nowhere").code == 2


async def test_the_shipped_alert_rules_speak_of_metrics_that_there_are(tmp_path: Path) -> None:
    routes = [each.at("http://127.0.0.1:9") for each in (Inventory, Payments, Shipping, Mail)]
    async with Orchestrator([place_order, basket], routes=routes) as runs:
        await runs.start(basket, 1_000, id="b")
        answer = await Caller(application(Context(runs.engine, lanes=runs.lanes))).get("/metrics")
    there = set(re.findall(r"^# TYPE (\w+)", answer.body.decode(), re.MULTILINE))
    rules = json.loads((await asyncio.to_thread(amends, tmp_path, "alerts", "--json")).out)["rules"]
    named = {metric for rule in rules for metric in re.findall(r"\bamends_\w+", rule["expr"])}
    assert named <= there, named - there
    assert [each["alert"] for each in rules] == [
        "AmendsStuck",
        "AmendsParticipantDown",
        "AmendsCompensatingTooLong",
        "AmendsPastPivotLate",
        "AmendsUnclaimable",
        "AmendsNotDriving",
    ]


def test_the_rules_are_a_file_that_prometheus_reads(tmp_path: Path) -> None:
    lines = amends(tmp_path, "alerts").out.splitlines()
    assert lines[:3] == ["groups:", "  - name: amends", "    rules:"]
    assert sum(line.startswith("      - alert: Amends") for line in lines) == 6
    keys = {line.strip().partition(":")[0].removeprefix("- ") for line in lines}
    assert keys == {
        "groups",
        "name",
        "rules",
        "alert",
        "expr",
        "for",
        "labels",
        "severity",
        "annotations",
        "summary",
        "look",
    }
    for line in lines:
        if line.strip().startswith(("summary:", "look:")):
            value = line.partition(": ")[2]
            assert value[0] == value[-1] == "'", "text with braces and colons must be quoted"


async def test_purge_forgets_what_ended_and_nothing_else(tmp_path: Path) -> None:
    log = f"sqlite:///{tmp_path}/shop.db"
    async with Orchestrator([basket], log=log) as runs:
        for id in ("ended-1", "ended-2"):
            run = await runs.start(basket, 1_000, id=id)
            await runs.cancel(id, reason="enough")
            await run.outcome()
        await runs.start(basket, 1_000, id="asked")
        in_use = await asyncio.to_thread(amends, tmp_path, "purge", "--older-than", "0s", "--log", log)
        assert in_use.code == 1
        assert "is in use by process" in in_use.err

    async def purged(*arguments: str) -> str:
        return (await asyncio.to_thread(amends, tmp_path, "purge", *arguments, "--log", log)).out

    assert (await purged("--older-than", "1d")).startswith("0 runs forgotten that ended before ")
    assert (await purged("--older-than", "0s", "--dry-run")).startswith("2 runs would be forgotten")
    for state, found in (("completed", 0), ("compensated", 2)):
        said = await purged("--older-than", "0s", "--state", state, "--dry-run")
        assert said.startswith(f"{found} runs would be forgotten")
    assert json.loads(await purged("--older-than", "0s", "--json"))["purged"] == 2
    assert (await purged("--older-than", "0s", "--dry-run")).startswith("0 runs would be forgotten")
    shown = await asyncio.to_thread(amends, tmp_path, "ls", "--json", "--log", log)
    assert {each["id"]: each["state"] for each in json.loads(shown.out)["runs"]} == {
        "ended-1": "compensated",
        "ended-2": "compensated",
        "asked": "running",
    }
    assert (await asyncio.to_thread(amends, tmp_path, "purge", "--older-than", "soon", "--log", log)).code == 2
    short = await asyncio.to_thread(amends, tmp_path, "purge", "--older-than", "59m", "--log", log)
    assert (short.code, "add --keep-short" in short.err) == (2, True)
    for refused, why in (
        (["--state", "stuck"], "only what has ended is forgotten: completed, compensated, abandoned."),
        (["--server", "http://127.0.0.1:8700"], 'It forgets by its settings, while it runs: [privacy] keep = "90d".'),
    ):
        told = await asyncio.to_thread(amends, tmp_path, "purge", "--older-than", "0s", *refused, "--log", log)
        assert told.code == 2
        assert why in told.err
    for form in ([], ["--events"], ["--bodies"], ["--curl"], ["--json"]):
        purged_run = await asyncio.to_thread(amends, tmp_path, "show", "ended-1", *form, "--log", log)
        assert (purged_run.code, purged_run.err) == (0, "")


def test_an_age_has_a_unit() -> None:
    assert (age("90d"), age("12h"), age("30m"), age("10s")) == (
        timedelta(days=90),
        timedelta(hours=12),
        timedelta(minutes=30),
        timedelta(seconds=10),
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_completes_commands(tmp_path: Path, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Else typer looks for the shell among the processes above this one, and there may be none.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    script = amends_process(tmp_path, "--show-completion", shell)
    assert script.code == 0, script.err
    assert "_AMENDS_COMPLETE" in script.out or "AMENDS_COMPLETE" in script.out


KEYS = ("a" * 43 + "=", "b" * 43 + "=")


async def test_rekey_says_which_key_can_go_and_changes_nothing(tmp_path: Path) -> None:
    log = f"sqlite:///{tmp_path}/shop.db"
    settings = tmp_path / "amends.toml"
    for number, keys in enumerate(([], KEYS[:1], KEYS[::-1]), start=1):
        privacy = (
            PrivacySettings(encrypt=Secret(keys[0]), decrypt=tuple(map(Secret, keys[1:])))
            if keys
            else PrivacySettings()
        )
        async with Orchestrator([basket], log=log, settings=Settings(privacy=privacy)) as runs:
            run = await runs.start(basket, 1_000, id=f"b-{number}")
            if number == 2:
                await runs.cancel("b-2", reason="enough")
                await run.outcome()
    before = (tmp_path / "shop.db").read_bytes()

    async def told(*arguments: str) -> Told:
        return await asyncio.to_thread(amends, tmp_path, "rekey", *arguments, "--log", log)

    settings.write_text(f'[privacy]\nencrypt = "{KEYS[1]}"\ndecrypt = ["{KEYS[0]}"]\n')
    new, old = key_name(KEYS[1]), key_name(KEYS[0])
    counted = {each["key"]: each for each in json.loads((await told("--json")).out)["keys"]}
    assert list(counted) == [new, old, "-"]
    assert (counted[old]["runs"], counted[old]["live_runs"], counted[old]["setting"]) == (1, 0, "privacy.decrypt[0]")
    assert counted["-"]["runs"] == 1
    said = (await told()).out
    assert f"{old} still reads {counted[old]['events']} events of 1 run: keep it." in said
    assert "Nothing is written anew" in said
    assert (tmp_path / "shop.db").read_bytes() == before
    await asyncio.to_thread(amends, tmp_path, "purge", "--older-than", "0s", "--log", log)
    assert f"{old} reads nothing more: take it out of privacy.decrypt[0]." in (await told()).out
    settings.write_text(f'[privacy]\nencrypt = "{KEYS[0]}"\n')
    assert f"{new} wrote " in (await told()).out
    assert "isn't here: add it to privacy.decrypt." in (await told()).out


def test_a_log_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for command in (["purge", "--older-than", "1d"], ["rekey"]):
        told = amends(tmp_path, *command)
        assert told.code == 2
        assert "sqlite:///amends.db: there is no such file. Name the log" in told.err
    assert not list(tmp_path.iterdir())


async def test_purge_works_on_the_log_of_the_settings(tmp_path: Path) -> None:
    log = f"sqlite:///{tmp_path}/shop.db"
    async with Orchestrator([basket], log=log) as runs:
        run = await runs.start(basket, 1_000, id="b-1")
        await runs.cancel("b-1", reason="enough")
        await run.outcome()
    (tmp_path / "amends.toml").write_text(f'log = "{log}"\n')
    told = await asyncio.to_thread(amends, tmp_path, "purge", "--older-than", "0s")
    assert told.out.startswith("1 run forgotten")


def test_a_log_that_is_named_wins_over_a_server_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMENDS_SERVER", "http://127.0.0.1:9")
    assert "can't be reached" in amends(tmp_path, "ls").err
    told = amends(tmp_path, "ls", "--log", f"sqlite:///{tmp_path}/none.db")
    assert "none.db" in told.err
    assert "can't be reached" not in told.err
    both = amends(tmp_path, "ls", "--server", "http://127.0.0.1:8", "--log", "sqlite:///none.db")
    assert both.code == 2
    assert "--server and --log are one or the other" in both.err
    monkeypatch.setenv("AMENDS_LOG", "sqlite:///none.db")
    assert "can't be reached" in amends(tmp_path, "ls", "--server", "http://127.0.0.1:8").err


async def test_a_bad_input_is_told_with_its_place(tmp_path: Path) -> None:
    log = f"sqlite:///{tmp_path}/shop.db"
    told = await asyncio.to_thread(amends, tmp_path, "start", "basket", '"x"', "--log", log, "--load", MODULE)
    assert told.err.startswith("error   the input doesn't fit, at $: ")


def test_a_token_needs_a_name(tmp_path: Path) -> None:
    told = amends(tmp_path, "token", "new", "--role", "viewer")
    assert (told.code, told.out) == (2, "")
    assert "--name shop-web" in told.err


def test_a_secret_for_webhooks_is_one_that_a_server_takes(tmp_path: Path) -> None:
    told = amends(tmp_path, "token", "webhook")
    assert told.code == 0
    assert len(key_of(told.out.strip())) == KEY_BYTES
