"""The pytest plugin: workshops that a test only asks for.

```python
async def test_an_order_arrives(saga_workshop: OpenWorkshop) -> None:
    shop = await saga_workshop([place_order], [Inventory.at(inventory), Payments.at("made-up")])
    run = await shop.runs.start(place_order, ORDER)
    assert isinstance(await run.outcome(), Completed)
```

`saga_workshop` needs pytest-asyncio; `blocking_saga_workshop` is for plain tests and needs nothing. A fault that never
fired fails the test itself. Nothing of the workshop is imported until a test asks for one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from amends.core.saga.operation import Route
from amends.core.saga.saga import Saga

if TYPE_CHECKING:
    from amends.testing.workshop.blocking import BlockingWorkshop, OpenBlockingWorkshop
    from amends.testing.workshop.workshop import OpenWorkshop, Workshop

_CHECKS: Final = pytest.StashKey[list[Callable[[], None]]]()
"""What must hold of a test's workshops when its body is over."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """After a test that passed: its faults must have fired, or it tested something else than it says."""
    result = yield
    for check in item.stash.get(_CHECKS, list[Callable[[], None]]()):
        check()
    return result


def _checks_of(request: pytest.FixtureRequest) -> list[Callable[[], None]]:
    node: pytest.Item = request.node
    return node.stash.setdefault(_CHECKS, [])


async def _saga_workshop(request: pytest.FixtureRequest) -> AsyncGenerator[OpenWorkshop, None]:
    """Opens workshops that are closed after the test: `shop = await saga_workshop([saga], [routes])`."""
    from amends.testing.workshop.workshop import workshop  # noqa: PLC0415 - see the module

    checks = _checks_of(request)
    async with AsyncExitStack() as opened:

        async def open_one(
            sagas: Iterable[Saga[Any]],
            routes: Iterable[Route] = (),
            *,
            log: str = "memory:",
            starts: datetime | None = None,
            faults_must_fire: bool = True,
        ) -> Workshop:
            context = workshop(sagas, routes, log=log, starts=starts, faults_must_fire=False)
            shop = await opened.enter_async_context(context)
            if faults_must_fire:
                checks.append(shop.faults.assert_all_fired)
            return shop

        yield open_one


if importlib.util.find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    _ASYNC: Any = pytest_asyncio.fixture(name="saga_workshop")(_saga_workshop)
    saga_workshop = _ASYNC
else:  # pragma: no cover - the extra `testing` brings it

    @pytest.fixture
    def saga_workshop() -> None:
        """Say what is missing."""
        pytest.fail(
            "saga_workshop requires the 'testing' extra (pytest-asyncio): "
            'pip install "amends[testing]", or use blocking_saga_workshop'
        )


@pytest.fixture
def blocking_saga_workshop(request: pytest.FixtureRequest) -> Generator[OpenBlockingWorkshop, None, None]:
    """For plain tests: opens workshops, by what `workshop` takes, and closes them after the test."""
    from amends.testing.workshop.blocking import blocking_workshop  # noqa: PLC0415 - see the module

    checks = _checks_of(request)
    with ExitStack() as opened:

        def open_one(
            sagas: Iterable[Saga[Any]],
            routes: Iterable[Route] = (),
            *,
            log: str = "memory:",
            starts: datetime | None = None,
            faults_must_fire: bool = True,
        ) -> BlockingWorkshop:
            context = blocking_workshop(sagas, routes, log=log, starts=starts, faults_must_fire=False)
            shop = opened.enter_context(context)
            if faults_must_fire:
                checks.append(shop.faults.assert_all_fired)
            return shop

        yield open_one
