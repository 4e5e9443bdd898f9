"""Where lives are spent: a process that forks them, and folders for their files."""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.real.crash.lives import Mother, mother

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def mothers() -> Generator[tuple[Mother, Mother]]:
    """Two, so that two cores have something to do."""
    with mother() as one, mother() as other:
        yield one, other


@pytest.fixture
def nursery(tmp_path: Path) -> Generator[Path]:
    """Files in memory where the system has them: what a killed process wrote is there without a sync, too."""
    if not os.access(MEMORY, os.W_OK | os.X_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="amends-", dir=MEMORY))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def folders(nursery: Path) -> Callable[[], Path]:
    """A new folder each time."""
    return lambda: Path(tempfile.mkdtemp(dir=nursery))
