"""The demo on PostgreSQL: it starts a server of its own, loses a worker, stops another, and its audit holds."""

import json
from pathlib import Path

import pytest

from tests.fast.cli.commands import amends_process


@pytest.mark.campaign
def test_the_demo_on_postgresql_with_two_workers_holds(tmp_path: Path) -> None:
    asked = ("demo", "--postgres", "--workers", "2", "--orders", "60", "--seed", "7", "--json")
    told = amends_process(tmp_path, *asked, "--dir", str(tmp_path / "demo"))
    assert told.code == 0, told.out + told.err
    result = json.loads(told.out.splitlines()[-1])
    assert result["audit_ok"]
    assert "workers killed with SIGKILL" in told.err
    assert "woken with SIGCONT" in told.err


def test_several_workers_need_postgresql(tmp_path: Path) -> None:
    told = amends_process(tmp_path, "demo", "--workers", "2")
    assert told.code == 2
    assert "--workers 2 needs --postgres" in told.err
