"""Every place that takes a URL, given one with a password and a fault: a clear error, no traceback, no password."""

from pathlib import Path

import pytest

from amends import Call, NoRoute, Orchestrator, Participant, Saga, operation
from amends.client.blocking import Client
from amends.core.words.errors import AmendsError
from amends.inboxes.memory import MemoryInbox
from amends.participant.service import Service
from tests.fast.cli.commands import amends

SECRET = "hunter2"
FAULTS = {
    "port": f"http://ann:{SECRET}@host:x",
    "port-range": f"http://ann:{SECRET}@host:99999",
    "brackets": f"http://ann:{SECRET}@[::1",
    "at": f"http://ann:{SECRET}@{SECRET}@host",
    "scheme": f"ftp://ann:{SECRET}@host",
    "host": f"http://ann:{SECRET}@",
    "query": f"http://host/x?password={SECRET}",
    "space": f"http://ann:{SECRET}@ho st",
}
SAGAS = """\
from amends import Call, Participant, Saga, operation


class Inventory(Participant):
    reserve = operation(str, str, compensation="release")


order = Saga("order", str)


@order.compensable()
def reserve(sku: str) -> Call[str]:
    return Inventory.reserve(sku)
"""
SERVER = 'log = "memory:"\nmodules = ["mine:order"]\n[server]\nlisten = "127.0.0.1:0"\n'
FILES = {
    "route": SERVER + '[participants.inventory]\nurl = "URL"\n',
    "public-url": SERVER + 'public_url = "URL"\n[participants.inventory]\nurl = "http://127.0.0.1:1"\n',
    "webhook": SERVER
    + '[participants.inventory]\nurl = "http://127.0.0.1:1"\n[[webhooks]]\nurl = "URL"\non = ["completed"]\n',
}


class Inventory(Participant):
    reserve = operation(str, str, compensation="release")


order = Saga("order", str)


@order.compensable()
def reserve(sku: str) -> Call[str]:
    return Inventory.reserve(sku)


def clear(told: str, url: str) -> None:
    assert SECRET not in told
    assert "Traceback" not in told
    assert url.partition("://")[0] in told, "it says which"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("option", ["--server", "--log"])
def test_a_command_is_told_an_address_that_is_none(tmp_path: Path, option: str, fault: str) -> None:
    url = FAULTS[fault]
    told = amends(tmp_path, "ls", option, url)
    assert told.code in {1, 2}
    clear(told.err + told.out, url)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_log_on_postgresql_is_told_an_address_that_is_none(tmp_path: Path, fault: str) -> None:
    url = FAULTS[fault].replace("http://", "postgresql://").replace("host/x", "127.0.0.1:1/x")
    told = amends(tmp_path, "ls", "--log", url)
    assert told.code in {1, 2}
    clear(told.err + told.out, "postgresql" if "postgresql" in url else url)


@pytest.mark.parametrize("fault", [each for each in FAULTS if each != "query"])
@pytest.mark.parametrize("place", FILES)
def test_a_server_does_not_start_with_an_address_that_is_none(tmp_path: Path, place: str, fault: str) -> None:
    url = FAULTS[fault]
    (tmp_path / "mine.py").write_text(SAGAS)
    (tmp_path / "amends.toml").write_text(FILES[place].replace("URL", url))
    told = amends(tmp_path, "serve")
    assert told.code in {1, 2}, told
    clear(told.err + told.out, url)
    shown = amends(tmp_path, "config")
    assert SECRET not in shown.out + shown.err


@pytest.mark.parametrize("fault", FAULTS)
async def test_code_is_told_an_address_that_is_none(fault: str) -> None:
    url = FAULTS[fault]
    with pytest.raises(AmendsError) as refused:
        Client(url)
    clear(str(refused.value), url)
    with pytest.raises(NoRoute) as refused_route:
        async with Orchestrator([order], log="memory:", routes=[Inventory.at(url)]):
            pass
    clear(str(refused_route.value), url)
    with pytest.raises(AmendsError) as refused_origin:
        Service(Inventory, MemoryInbox(), callback_origins=[url])
    clear(str(refused_origin.value), url)
