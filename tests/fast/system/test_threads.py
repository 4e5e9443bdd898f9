"""Threads for work that blocks: as many as are needed, and nothing waits for them."""

import threading
from collections.abc import Callable
from threading import Event, current_thread

import pytest

from amends.core.run.answers import NoRoom
from amends.system.threads import Threads
from amends.testing.contracts.transport import CALL
from amends.transports.http import HttpTransport

SECONDS = 30


def test_idle_threads_are_used_again() -> None:
    threads: Threads[str] = Threads(4, "work")
    names = {threads.submit(lambda: current_thread().name).result(SECONDS) for _ in range(4)}
    assert len(names) == 1
    threads.close()


def test_so_many_work_at_once_and_the_others_wait_and_can_be_cancelled() -> None:
    threads: Threads[bool] = Threads(2, "work")
    go, begun = Event(), [Event(), Event()]

    def work(mine: Event) -> Callable[[], bool]:
        def wait() -> bool:
            mine.set()
            return go.wait(SECONDS) and current_thread().daemon

        return wait

    jobs = [threads.submit(work(each)) for each in begun]
    for each in begun:
        assert each.wait(SECONDS)
    third, fourth = threads.submit(lambda: True), threads.submit(lambda: False)
    assert not third.running()
    assert third.cancel()
    go.set()
    assert [job.result(SECONDS) for job in jobs] == [True, True], "and no thread keeps the process from ending"
    assert fourth.result(SECONDS) is False
    threads.close()


def test_what_work_raises_is_its_callers() -> None:
    threads: Threads[None] = Threads(1, "work")

    def fails() -> None:
        raise SystemExit(3)

    for _ in range(2):
        with pytest.raises(SystemExit):
            threads.submit(fails).result(SECONDS)
    threads.close()


def test_closing_cancels_what_nobody_began() -> None:
    threads: Threads[bool] = Threads(1, "work")
    go, begun = Event(), Event()

    def work() -> bool:
        begun.set()
        return go.wait(SECONDS)

    first, second = threads.submit(work), threads.submit(work)
    assert begun.wait(SECONDS)
    threads.close()
    assert second.cancelled()
    go.set()
    assert first.result(SECONDS)


def refused(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_work_for_which_there_is_no_thread_is_never_done(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: Threads[str] = Threads(2, "work")
    done: list[str] = []

    def first() -> str:
        done.append("first")
        return "first"

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threads.submit(first)
    assert threads.submit(lambda: "second").result(SECONDS) == "second"
    assert done == [], "it was told as not begun"
    threads.close()


async def test_no_thread_to_look_a_name_up_is_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    http = HttpTransport("http://localhost:1")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        assert isinstance(await http.send(CALL), NoRoom)
