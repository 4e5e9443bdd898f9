"""Group commit: everything that waited while the last commit was in flight goes into the next one.

One batch is in flight at a time. The caller that put an entry in is called back once its verdict is durable; nothing of
a run leaves before. Where the log is another process, the two take turns: the next batch leaves before those of the
last one are called back, so that one is written while the next is being decided.

While the log can't be written, appends wait and are sent again as they are (same `append_id`, so an unclear commit is
settled by the log itself), and starts are given back: no caller was told yet that they happened. But a start of which
it isn't known whether it was written waits as well, until that is known: it may be there, ours, and then a worker must
drive it. An entry whose row another session holds on to waits by itself; the others go on.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final

from amends.core.words.error_texts import told
from amends.core.words.errors import LogBroken, LogUnavailable, LogUnclear
from amends.engine.repeated_warning import Complaint
from amends.ports.clock import LOOP_TIMERS, Timer, Timers, timeout
from amends.ports.log import Append, Start, TransactionLog, Written
from amends.system.interrupts import Interrupted, contained

BATCH_MAX: Final = 1_000
BATCH_BYTES_MAX: Final = 8 * 2**20
"""Of bodies in one batch, but for its last entry's: a batch that takes the log too long is given up, each time."""

HELD_SECONDS: Final = 1.0
"""How long an entry waits whose row another session holds on to."""

HALVED_MIN: Final = 24
"""From so many on, a first batch for a log elsewhere is half of what waits: the other half leaves when it is back. Else
everything in flight would be decided, and then written, in one lump, and each side would wait for the other. Smaller
halves than a dozen cost more by the batch than they save (measured with 8, 16 and 32 runs in flight).
"""

BACKOFF_FIRST_SECONDS: Final = 0.05
BACKOFF_CAP_SECONDS: Final = 2.0

Done = Callable[[Written | LogUnavailable], None]
Entry = tuple[Start | Append, Done]

_LOGGER = logging.getLogger("amends.engine")


class GroupCommit:
    """Gathers appends for one log; `broken` is told when it can't be written any more by this process."""

    def __init__(self, log: TransactionLog, broken: Callable[[LogBroken], None], timers: Timers = LOOP_TIMERS) -> None:
        self._log = log
        self._timers = timers
        self._broken = broken
        self._waiting: list[Entry] = []
        self._idle: asyncio.Future[None] | None = None
        self._pausing: asyncio.Event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._over: LogUnavailable | None = None
        self._in_flight: list[Entry] = []
        self._durable: deque[tuple[list[Entry], Sequence[Written]]] = deque()  # and no caller was told yet
        self.trouble: str | None = None
        """Why the last batch couldn't be written; `None` once one could."""
        self._backoff = BACKOFF_FIRST_SECONDS
        self._complaint = Complaint(_LOGGER, "the log is written again", lambda: asyncio.get_running_loop().time())
        self._unclear: set[bytes] = set()
        self._held: list[Entry] = []
        self._held_timer: Timer | None = None

    @property
    def runs(self) -> set[str]:
        """The runs of all entries that have no verdict yet."""
        durable = chain.from_iterable(batch for batch, _ in self._durable)
        return {entry.run for entry, _ in chain(self._waiting, self._held, self._in_flight, durable)}

    @property
    def waiting(self) -> int:
        """Entries that aren't in flight yet."""
        return len(self._waiting) + len(self._held)

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="amends-writer")

    async def close(self) -> None:
        """Write what waits, then stop. What can't be written now is dropped: no caller was told that it is durable."""
        self._closing = True
        self._try_held()
        self._wake()
        self._pausing.set()
        if self._task is not None:
            await self._task

    def put(self, entry: Start | Append, done: Done) -> None:
        """Write this with the next batch, and call `done` with the verdict.

        Where no worker owns what is written (a start, a visit), `done` is told of `LogUnclear` first, for its caller.
        """
        if self._over is not None:
            asyncio.get_running_loop().call_soon(self._tell, done, self._over)
            return
        self._waiting.append((entry, done))
        self._wake()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                if self._closing:
                    self._over = LogUnavailable("the log was closed: nothing more is written")
                    return
                self._idle = asyncio.get_running_loop().create_future()
                await self._idle
                self._idle = None
                continue
            await self._let_others_come()
            try:
                await self._write(self._gather(self._share()))
            except LogUnavailable as error:
                self._tell_durable()
                batch, self._in_flight = self._in_flight, []
                self.trouble = str(error)
                final = self._closing or isinstance(error, LogBroken)
                if final:
                    self._over = error
                self._give_back(batch, error, final=final)
                if isinstance(error, LogBroken) and not self._closing:
                    self._broken(error)
                if final:
                    return
                self._complaint.wrong(f"the log can't be written, appends wait: {error}")
                await self._pause(self._backoff)
                self._backoff = min(2 * self._backoff, BACKOFF_CAP_SECONDS)

    async def _let_others_come(self) -> None:
        """Where several come at once, more are on their way: a turn of the loop costs less than a commit. One alone
        doesn't wait.
        """
        found = 1
        while found < len(self._waiting) < BATCH_MAX:
            found = len(self._waiting)
            await asyncio.sleep(0)

    async def _pause(self, seconds: float) -> None:
        """Let the log recover; closing doesn't wait for that."""
        try:
            async with timeout(self._timers, seconds):
                await self._pausing.wait()
        except TimeoutError:
            pass

    def _share(self) -> int:
        """How many of those that wait may go with a batch while none is in flight."""
        count = len(self._waiting)
        return (count + 1) // 2 if self._log.is_elsewhere and count >= HALVED_MIN else count

    def _gather(self, share: int = BATCH_MAX) -> list[Entry]:
        """What goes into the next batch, in order; a second entry of one run waits for the first one's verdict."""
        most, room = min(share, BATCH_MAX), BATCH_BYTES_MAX
        batch: list[Entry] = []
        later: list[Entry] = []
        runs: set[str] = set()
        for each in self._waiting:
            run = each[0].run
            if len(batch) < most and room > 0 and run not in runs:
                runs.add(run)
                batch.append(each)
                for event in each[0].events:
                    room -= len(event.body)
            else:
                later.append(each)
        self._waiting = later
        return batch

    async def _write(self, batch: list[Entry]) -> None:
        """Write a batch; for a log elsewhere also what waits by then, and so on. What failed is in flight still."""
        self._in_flight = batch
        verdicts = await self._append(batch)
        while self._waiting and self._log.is_elsewhere:
            self._durable.append((batch, verdicts))
            asyncio.get_running_loop().call_soon(self._tell_durable)  # once the next has left
            batch = self._in_flight = self._gather()
            verdicts = await self._append(batch)
        self._tell_durable()
        self._in_flight = []
        self._call_back(batch, verdicts)

    async def _append(self, batch: list[Entry]) -> Sequence[Written]:
        """Verdicts, one for each; none if they had to be written one by one, and were called back."""
        try:
            with contained():
                verdicts = await self._log.append([entry for entry, _ in batch])
            assert len(verdicts) == len(batch), f"the log gave {len(verdicts)} verdicts for {len(batch)} entries"
        except LogUnavailable:
            raise
        except Interrupted as error:  # cancelled within the log, not here: perhaps written
            raise LogUnclear(f"the log gave an append up: {told(error)}") from error
        except Exception as error:
            if len(batch) > 1:
                while batch:  # what has its verdict is no longer in the batch, should the log fail half-way
                    alone = batch[:1]
                    self._call_back(alone, await self._append(alone))
                    del batch[0]
                return []
            entry, done = batch[0]
            _LOGGER.exception("%s: the log can't take this append", entry.run)
            self._tell(done, LogUnavailable(f"{entry.run}: the log can't take this append: {error}"))
            batch.clear()
            return []
        self.trouble, self._backoff = None, BACKOFF_FIRST_SECONDS
        self._complaint.fine()
        return verdicts

    def _tell_durable(self) -> None:
        while self._durable:
            self._call_back(*self._durable[0])
            self._durable.popleft()

    def _call_back(self, batch: list[Entry], verdicts: Sequence[Written]) -> None:
        for (entry, done), verdict in zip(batch, verdicts, strict=True):
            if verdict is Written.HELD:
                self._put_off(entry, done)
                continue
            self._unclear.discard(entry.append_id)
            self._tell(done, verdict)

    def _put_off(self, entry: Start | Append, done: Done) -> None:
        """Row locked by another session: owners' appends wait; others fail, unless they may be written already."""
        is_owners = isinstance(entry, Append) and entry.epoch is not None
        if self._closing or not (is_owners or entry.append_id in self._unclear):
            text = f"{entry.run}: another session holds on to its row in the log. Nothing was written; ask again later."
            self._tell(done, LogUnavailable(text))
            return
        self._held.append((entry, done))
        if self._held_timer is None:
            self._held_timer = self._timers.call_later(HELD_SECONDS, self._try_held)

    def _try_held(self) -> None:
        if self._held_timer is not None:
            self._held_timer.cancel()
            self._held_timer = None
        self._waiting += self._held
        self._held.clear()
        self._wake()

    def _tell(self, done: Done, verdict: Written | LogUnavailable) -> None:
        try:
            done(verdict)
        except Exception:
            _LOGGER.exception("what follows from an append failed; the append itself is as it is")

    def _give_back(self, batch: list[Entry], error: LogUnavailable, *, final: bool) -> None:
        again: list[Entry] = []
        if final:
            self._try_held()
            batch, self._waiting = batch + self._waiting, []
        if isinstance(error, LogUnclear):
            self._unclear.update(entry.append_id for entry, _ in batch)
        for entry, done in batch:
            is_open = entry.append_id in self._unclear
            if final or (isinstance(entry, Start) and not is_open):
                self._tell(done, error)
                continue
            again.append((entry, done))
            if isinstance(error, LogUnclear) and (isinstance(entry, Start) or entry.epoch is None):
                self._tell(done, error)
        self._waiting = again + self._waiting
