"""The command as a whole: help, version, exit codes, extras that aren't there."""

from importlib.metadata import version
from pathlib import Path

from tests.fast.cli.commands import amends, amends_process, python

COMMANDS = ("demo", "new", "check", "simulate", "serve", "ls", "show")
BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


def test_version_and_help(tmp_path: Path) -> None:
    assert amends(tmp_path, "--version").out == f"amends {version('amends')}\n"
    told = amends(tmp_path, "--help")
    assert told.code == 0
    assert all(each in told.out for each in COMMANDS)
    for arguments, code in (["--version"], 0), (["new", "trip"], 0), (["new", "trip"], 1), (["new", "a b"], 2), ([], 2):
        assert amends_process(tmp_path, *arguments).code == code
    assert amends(tmp_path, "nothing").code == 2


def test_help_loads_nothing_that_serves(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom amends.cli.main import run\nassert run(['--help']) == 0\n"
        "heavy = {'uvicorn', 'starlette', 'aiohttp', 'sqlalchemy', 'sqlite3'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    told = python(tmp_path, "-c", script)
    assert told.code == 0, told.err


def test_a_demo_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    told = amends_process(tmp_path, "demo", before=BLOCKED.format(name="sqlalchemy"))
    assert told.code == 1
    assert "sqlalchemy" in told.err
    assert 'pip install "amends[demo]"' in told.err


def test_a_command_line_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import importlib.util; importlib.util.find_spec = lambda name: None"
    told = amends_process(tmp_path, "ls", before=hidden)
    assert told.code == 1
    assert 'pip install "amends[cli]"' in told.err
