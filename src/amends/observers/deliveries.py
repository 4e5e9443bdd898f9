"""Webhooks on their way: each tried until it is taken, with growing waits, and bounded in time and number.

A receiver answers 2xx; 410 says that it isn't wanted any more. What is still on its way when the process ends
is lost, and said to be: what must arrive is a saga's `notice`, which is in the log.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from amends.core.words.retry import MICROSECONDS
from amends.core.words.urls import shown_url
from amends.observers.signing import signed_headers
from amends.ports.clock import TimeSource

EVENTS: Final = ("completed", "compensated", "abandoned", "stuck", "alert")
"""What a webhook may be told: how runs ended, that one is stuck, and alerts by cause."""

FIRST_SECONDS: Final = 1.0
CAP_SECONDS: Final = 300.0
GIVE_UP_SECONDS: Final = 86_400.0
TIMEOUT_SECONDS: Final = 10.0
WAITING_MAX: Final = 10_000
"""Deliveries on their way; beyond them the oldest of those that already failed is given up."""

AT_ONCE: Final = 8

_LOGGER = logging.getLogger("amends.webhooks")

Post = Callable[[str, dict[str, str], bytes], Awaitable[int]]
"""Sends one request to a URL and gives the status; raises `OSError` or `TimeoutError` where none came."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One receiver and what it is told of. `sagas`: of these alone, `()` for all. The secret is never shown."""

    url: str
    on: Sequence[str] = ("stuck", "abandoned")
    secret: str | None = field(default=None, repr=False)
    sagas: Sequence[str] = ()

    def wants(self, event: str, saga: str | None) -> bool:
        """Whether it is told of this."""
        return event in self.on and (not self.sagas or saga is None or saga in self.sagas)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one receiver. The id is the same in every attempt, and in every process that sends it."""

    hook: Webhook
    id: str
    body: bytes


class Deliveries:
    """Sends what is to be sent. `start` and `close` it on an event loop."""

    def __init__(self, hooks: Sequence[Webhook], post: Post, clock: TimeSource) -> None:
        self.hooks = tuple(hooks)
        self._post = post
        self._clock = clock
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def waiting(self) -> int:
        """Deliveries on their way."""
        return len(self._tasks)

    def put(self, event: str, saga: str | None, id: str, body: Callable[[], bytes]) -> None:
        """Tell every receiver that wants it; `body` is made only if one does."""
        wanting = [hook for hook in self.hooks if hook.wants(event, saga)]
        if not wanting or self._closing:
            return
        made = body()
        for hook in wanting:
            if len(self._tasks) >= WAITING_MAX:
                _LOGGER.error("%s can't be told to %s: %d deliveries wait", id, shown_url(hook.url), WAITING_MAX)
                continue
            task = asyncio.get_running_loop().create_task(self._deliver(Delivery(hook, id, made)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def renew(self, hooks: Sequence[Webhook]) -> None:
        """Other receivers and secrets from now on; also deliveries on their way are signed with the secret of now."""
        self.hooks = tuple(hooks)

    def _now(self, hook: Webhook) -> Webhook | None:
        """The receiver as the settings have it now; `None` where they no longer name its address."""
        same = [each for each in self.hooks if each.url == hook.url]
        return next(
            (each for each in same if (each.on, each.sagas) == (hook.on, hook.sagas)), same[0] if same else None
        )

    async def close(self, grace_seconds: float = 2.0) -> None:
        """Give what is on its way its time, then let go; how much is lost is said."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        lost = list(self._tasks)
        for each in lost:
            each.cancel()
        await asyncio.gather(*lost, return_exceptions=True)
        if lost:
            _LOGGER.error("%d webhooks were not delivered: the process ends", len(lost))

    async def _deliver(self, delivery: Delivery) -> None:
        began, wait, attempt = self._clock.monotonic(), FIRST_SECONDS, 0
        slots = self._slots.setdefault(delivery.hook.url, asyncio.Semaphore(AT_ONCE))
        while True:
            attempt += 1
            async with slots:
                hook = self._now(delivery.hook)
                if hook is None:
                    _LOGGER.warning("%s is not told to %s any more", delivery.id, shown_url(delivery.hook.url))
                    return
                failed = await self._attempt(delivery, hook.secret)
            if failed is None:
                return
            if self._closing or self._clock.monotonic() - began + wait > GIVE_UP_SECONDS:
                _LOGGER.error("%s was not delivered to %s: %s", delivery.id, shown_url(delivery.hook.url), failed)
                return
            if attempt == 1:
                _LOGGER.warning(
                    "%s is not taken by %s, tried again: %s", delivery.id, shown_url(delivery.hook.url), failed
                )
            await asyncio.sleep(wait)
            wait = min(CAP_SECONDS, wait * 2)

    async def _attempt(self, delivery: Delivery, secret: str | None) -> str | None:
        """Why it wasn't taken; `None` where it was, or isn't wanted."""
        seconds = self._clock.now() // MICROSECONDS
        headers = signed_headers(delivery.id, seconds, delivery.body, secret)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status = await self._post(delivery.hook.url, headers, delivery.body)
        except TimeoutError:
            return f"no answer within {TIMEOUT_SECONDS:g} s"
        except OSError as error:
            return str(error) or type(error).__name__
        except Exception as error:  # a bug here must not lose the delivery without a word
            _LOGGER.exception("%s can't be posted", delivery.id)
            return type(error).__name__
        return None if 200 <= status < 300 or status == 410 else f"answered {status}"


def body_of(value: object) -> bytes:
    """A body made of plain values."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
