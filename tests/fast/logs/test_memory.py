"""What only the log in memory can show: a worker that goes on after it was declared gone."""

from amends.logs.memory import MemoryLog, MemoryStore
from amends.ports.log import Written
from amends.testing.contracts.log_entries import ORDERS, append, start, write


async def test_a_worker_declared_gone_cant_write_to_a_run_that_was_adopted() -> None:
    store = MemoryStore()
    former, successor = MemoryLog(store), MemoryLog(store)
    await former.open()
    await write(former, start("a"), start("b"))
    await successor.open()
    await write(former, append("b", 1))  # harmless: nobody else drives it yet
    claimed = await successor.claim([ORDERS], now=0, limit=10)
    assert [(run.run, run.version, run.epoch) for run in claimed] == [("a", 1, 2), ("b", 2, 2)]
    assert await former.append([append("a", 1, number=9)]) == [Written.NOT_YOURS]
    assert await former.append([append("a", 1, epoch=2, number=9)]) == [Written.NOT_YOURS]
    await write(successor, append("a", 1, epoch=2))


async def test_a_run_started_by_a_worker_declared_gone_is_claimed_by_the_next_sweep() -> None:
    store = MemoryStore()
    former, successor = MemoryLog(store), MemoryLog(store)
    await former.open()
    await successor.open()
    await write(former, start("a"))
    assert await former.claim([ORDERS], now=9_000, limit=10) == ()
    assert [run.run for run in await successor.claim([ORDERS], now=0, limit=10)] == ["a"]
    await former.close()
    assert await successor.claim([ORDERS], now=0, limit=10) == []


async def test_a_log_without_a_store_begins_empty() -> None:
    one, other = MemoryLog(), MemoryLog()
    await one.open()
    await other.open()
    await write(one, start("a"))
    assert await other.read("a") is None


def test_an_append_is_this_processs_own_work() -> None:
    """So nothing is gained by dividing what comes at once."""
    assert not MemoryLog().is_elsewhere
