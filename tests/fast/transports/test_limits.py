"""Time-outs that share a timer end just their own call, and are told apart from somebody else's wish to stop it."""

import asyncio
from collections.abc import Callable

from amends.transports.limits import CallTimeouts


async def waits(limits: CallTimeouts, ended: list[str], name: str, until: asyncio.Event) -> None:
    limit = limits.begin()
    try:
        await until.wait()
        ended.append(f"{name} in time")
    except asyncio.CancelledError:
        if not limit.is_why():
            raise
        ended.append(f"{name} timed out")
    finally:
        limits.end(limit)


async def test_each_call_runs_out_by_itself_and_in_order() -> None:
    limits, ended, never, soon = CallTimeouts(0.02), list[str](), asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(waits(limits, ended, "first", never))
    second = asyncio.create_task(waits(limits, ended, "second", soon))
    third = asyncio.create_task(waits(limits, ended, "third", never))
    await asyncio.sleep(0)
    soon.set()
    await asyncio.wait_for(asyncio.gather(first, second, third), 10)
    assert ended == ["second in time", "first timed out", "third timed out"]
    assert not any(task.cancelled() or task.cancelling() for task in (first, second, third))


async def test_somebody_elses_cancellation_is_no_time_out() -> None:
    limits, ended = CallTimeouts(60), list[str]()
    task = asyncio.create_task(waits(limits, ended, "it", asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    assert not ended


async def test_a_wish_to_stop_that_comes_with_the_time_out_is_obeyed() -> None:
    limits, ended = CallTimeouts(0.0), list[str]()
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(waits(limits, ended, "it", asyncio.Event()))
    await asyncio.sleep(0)
    ring: Callable[[], None] = limits._ring  # pyright: ignore[reportPrivateUsage] - the moment both come together
    ring()
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    assert not ended
    assert loop.is_running()


async def test_who_still_waits_when_it_is_closed_keeps_the_limit() -> None:
    limits, ended = CallTimeouts(0.01), list[str]()
    task = asyncio.create_task(waits(limits, ended, "it", asyncio.Event()))
    await asyncio.sleep(0)
    limits.close()
    await asyncio.wait_for(task, 10)
    assert ended == ["it timed out"]


async def test_no_timer_stays_behind_when_nobody_waits() -> None:
    limits, ended, soon = CallTimeouts(60), list[str](), asyncio.Event()
    soon.set()
    await waits(limits, ended, "it", soon)
    timer = limits._timer  # pyright: ignore[reportPrivateUsage] - the loop doesn't say which timers it has
    assert timer is not None
    limits.close()
    assert timer.cancelled()
