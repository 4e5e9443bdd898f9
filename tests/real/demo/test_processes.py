"""A service as a process: it comes up, keeps its books through a kill, and never outlives who started it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from amends.shop.contract import Inventory
from amends.shop.service_process import NotReady, ServiceProcess, free_port
from tests.fast.shop.services import SMALL, Opened, url_of

RESERVE = Inventory.reserve(sku="sku-1", quantity=3)
KEY = "run-1:reserve/sku-1"


async def test_books_survive_a_kill_and_the_same_call_acts_once(tmp_path: Path) -> None:
    async with (
        ServiceProcess("inventory", url_of("inventory", tmp_path), tmp_path, catalogue=SMALL) as process,
        aiohttp.ClientSession() as http,
    ):
        inventory = Opened(process.url, http)
        first = await inventory.act(RESERVE, KEY)
        await process.kill()
        with pytest.raises(aiohttp.ClientError):
            await inventory.act(RESERVE, KEY, attempt=2)
        await process.restart()
        again = await inventory.act(RESERVE, KEY, attempt=3)
        assert again == first
        assert (await inventory.rows("stock", sku="sku-1"))[0]["free"] == 7
        assert f"inventory {process.url}" in process.output.read_text()


async def test_faults_fired_are_counted_through_a_kill(tmp_path: Path) -> None:
    options = ["--faults", "some", "--fault-rate", "1", "--fault-kinds", "drop-after", "--seed", "4"]
    process = ServiceProcess("inventory", url_of("inventory", tmp_path), tmp_path, options, catalogue=SMALL)
    async with process, aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        inventory = Opened(process.url, http)
        with pytest.raises(aiohttp.ClientError):
            await inventory.act(RESERVE, KEY)
        await process.kill()
        await process.restart()
        assert await inventory.rows("faults") == {"fired": 1, "by_kind": {"drop-after": 1}}
        assert (await inventory.act(RESERVE, KEY, attempt=5)).outcome == "succeeded"
        assert len(await inventory.rows("reservations")) == 1


async def test_a_service_ends_with_whoever_started_it(tmp_path: Path) -> None:
    process = ServiceProcess("payment", url_of("payment", tmp_path), tmp_path, catalogue=SMALL)
    await process.start()
    assert process.process is not None
    assert process.process.stdin is not None
    process.process.stdin.close()  # what the kernel does when the parent dies
    async with asyncio.timeout(20):
        assert await process.process.wait() == 0


async def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    process = ServiceProcess("payment", f"sqlite:///{tmp_path}/no/such/folder.db", tmp_path)
    with pytest.raises(NotReady, match="unable to open database file"):
        await process.start()
    await process.stop()


def test_the_command_line_is_checked() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "amends.shop.serve", "bakery"], capture_output=True, text=True, check=False, timeout=60
    )
    assert said.returncode == 2
    assert "bakery" in said.stderr


def test_ports_are_free() -> None:
    assert free_port() != 0
