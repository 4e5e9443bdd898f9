"""The pytest plugin, in test suites of its own."""

import subprocess
import sys
import textwrap
from importlib.metadata import entry_points

import pytest

from tests.support.plain_pytest import WITHOUT_OURS

pytest_plugins = ("pytester",)

SAGA = """
    import pytest
    from dataclasses import dataclass
    from datetime import timedelta
    from amends import Call, Completed, Participant, Saga, operation

    @dataclass
    class Booking:
        city: str

    class Hotel(Participant):
        book = operation(Booking, str, compensation="cancel")

    trip = Saga("trip", str)

    @trip.compensable()
    def hotel(city: str) -> Call[str]:
        return Hotel.book(city)

    ROUTES = [Hotel.at("made-up")]
"""


def suite(pytester: pytest.Pytester, tests: str, *options: str, asyncio: bool = True) -> pytest.RunResult:
    loops = "asyncio_default_fixture_loop_scope = function" if asyncio else ""
    pytester.makeini(f"[pytest]\n{loops}")  # or pytest would look for settings above the folder
    pytester.makepyfile(textwrap.dedent(SAGA) + textwrap.dedent(tests))
    installed = any(each.name == "amends" for each in entry_points(group="pytest11"))
    by_hand = () if installed else ("-p", "amends.testing.plugin")  # a checkout that was installed before there was one
    return pytester.runpytest_subprocess(*WITHOUT_OURS, *by_hand, *options)


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_a_saga_is_tested_in_three_lines(pytester: pytest.Pytester, mode: str) -> None:
    result = suite(
        pytester,
        """
        @pytest.mark.asyncio
        async def test_awaited(saga_workshop):
            shop = await saga_workshop([trip], ROUTES)
            run = await shop.runs.start(trip, "Rome")
            assert isinstance(await run.outcome(), Completed)

        def test_plain(blocking_saga_workshop):
            shop = blocking_saga_workshop([trip], ROUTES)
            run = shop.runs.start(trip, "Rome")
            assert isinstance(run.outcome(), Completed)
        """,
        "-W",
        "error",
        "-o",
        f"asyncio_mode={mode}",
    )
    result.assert_outcomes(passed=2)


def test_a_fault_that_never_fires_fails_the_test_itself(pytester: pytest.Pytester) -> None:
    result = suite(
        pytester,
        """
        @pytest.mark.asyncio
        async def test_awaited(saga_workshop):
            shop = await saga_workshop([trip], ROUTES)
            shop.faults.lose_reply(Hotel.book)

        def test_plain(blocking_saga_workshop):
            shop = blocking_saga_workshop([trip], ROUTES)
            shop.faults.lose_reply(Hotel.book, times=2)
            assert isinstance(shop.runs.start(trip, "Rome").outcome(), Completed)
            shop.faults.outage(Hotel, lasting=timedelta(hours=1))

        def test_told_not_to_look(blocking_saga_workshop):
            shop = blocking_saga_workshop([trip], ROUTES, faults_must_fire=False)
            shop.faults.lose_reply(Hotel.book)

        def test_fails_for_its_own_reason(blocking_saga_workshop):
            shop = blocking_saga_workshop([trip], ROUTES)
            shop.faults.lose_reply(Hotel.book)
            assert "its own reason" == ""
        """,
    )
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(["*lose_reply(Hotel.book): fired 0 of 1 times*"])
    result.stdout.fnmatch_lines(["*outage(Hotel, lasting=1:00:00): nothing was sent there meanwhile*"])
    result.stdout.fnmatch_lines(["E       AssertionError: assert 'its own reason' == ''"])


def test_plain_suites_work_without_an_asyncio_plugin(pytester: pytest.Pytester) -> None:
    result = suite(
        pytester,
        """
        def test_plain(blocking_saga_workshop):
            shop = blocking_saga_workshop([trip], ROUTES)
            assert isinstance(shop.runs.start(trip, "Rome").outcome(), Completed)
        """,
        "-p",
        "no:asyncio",
        asyncio=False,
    )
    result.assert_outcomes(passed=1)


def test_the_plugin_imports_no_adapter_and_no_server() -> None:
    """What every test suite pays for, whether it has sagas or not."""
    shown = "import sys, amends.testing.plugin; print(*sorted(sys.modules))"
    told = subprocess.run([sys.executable, "-c", shown], check=True, capture_output=True, text=True)
    loaded = set(told.stdout.split())
    assert "amends.testing.plugin" in loaded
    assert not loaded & {"aiohttp", "sqlalchemy", "starlette", "uvicorn", "typer", "pydantic", "amends.logs.sqlite.log"}
