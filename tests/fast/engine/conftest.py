"""Every test here also says: no exception went by unheard."""

import gc
import logging
from collections.abc import Generator

import pytest


@pytest.fixture(autouse=True)
def _nothing_unheard(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    with caplog.at_level(logging.WARNING):
        yield
        gc.collect()
    unheard = [each.getMessage() for each in caplog.get_records("call") if each.name == "asyncio"]
    assert not unheard
