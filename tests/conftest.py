"""Settings for every test: property tests never race a clock, and are the same ones each time on a build machine."""

import faulthandler
import gc
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

pytest_plugins = ["tests.support.postgres"]


def pytest_collection_finish() -> None:
    """What was collected stays until the end: no collection of garbage looks at it again. A fifth of the suite's time
    went into that.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def levels_of_logs_stay() -> Iterator[None]:
    """`amends serve` sets them for its process; within a test's process they would hold for all tests after it."""
    loggers = [logging.getLogger(name) for name in ("", "amends", "uvicorn", "amends.access", "amends.alerts")]
    before = [(each, each.level, each.propagate) for each in loggers]
    yield
    for each, level, propagate in before:
        if each.level != level:
            each.setLevel(level)
        each.propagate = propagate
    logging.captureWarnings(False)


@pytest.fixture(autouse=True)
def long_searches_take_their_time(request: pytest.FixtureRequest) -> None:
    """Two minutes are for tests that hang (`faulthandler_timeout`). What is marked `campaign` takes longer by design; a
    campaign has a limit for each of its pieces.
    """
    if request.node.get_closest_marker("campaign") is not None:
        faulthandler.cancel_dump_traceback_later()
