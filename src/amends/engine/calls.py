"""Calls of the runs that a worker drives: queued, sent, taken back, answered.

What is owed enters the lane of its participant; when it has a slot it is sent, as a task of its own, and what came back
is offered to the run as a command. What hasn't left can still be taken back.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from amends.core.run import commands as c
from amends.core.run.answers import Came, Cause, NoRoom, Outcome, Unknown, read_answer
from amends.core.run.definition import Definition
from amends.core.run.owed import Send, deadline_of, withdrawable
from amends.core.words.error_texts import clean, told
from amends.core.words.keys import ACTION, COMPENSATION, CallKey, make_key
from amends.core.words.retry import MICROSECONDS, RETRIABLE, Guard
from amends.engine.active_run import Driven, PendingCommand, Ready, nothing
from amends.engine.lanes import Lane
from amends.engine.outages import Outages
from amends.engine.repeated_warning import Complaint
from amends.ports.clock import Timer, Timers, TimeSource
from amends.ports.transport import Outgoing
from amends.system.interrupts import ends_the_caller

CANCELLED: Final = Unknown(Cause.LOST, "the call was cancelled before it was answered")
"""What is known of a call whose task was ended by code that isn't the engine's."""

LaneOf = Callable[[Definition, str], Lane[Ready]]

NO_ROOM_SECONDS: Final = 1.0
"""How long calls wait that this process had no room for, before they are tried again."""

_LOGGER = logging.getLogger("amends.engine")


class Calls:
    """`offer` takes what came back to its run, `late` what came back for a run that was lost. `waited` and `back` are
    told of participants that are down, and there again; see `Outages`. `may_send`: whether calls may leave now;
    `None`: always.

    `held` are calls that may not leave just now, `coming_back` those of lost runs that are let come back, `under_way`
    all whose tasks aren't over.
    """

    def __init__(  # noqa: PLR0917 - ends of a worker
        self,
        lane_of: LaneOf,
        clock: TimeSource,
        timers: Timers,
        offer: Callable[[Driven, PendingCommand], None],
        waited: Callable[[Lane[Ready]], None],
        back: Callable[[str], None],
        late: Callable[[str, c.Reply], None],
        may_send: Callable[[], bool] | None,
    ) -> None:
        self._lane_of = lane_of
        self._clock = clock
        self._offer = offer
        self._late = late
        self._may_send = may_send
        self._timers = timers
        self._closing = False
        self._lacks_room = False
        self._waiting_for_room: Timer | None = None
        self._complaint = Complaint(_LOGGER, "there is room for calls again", clock.monotonic)
        self.outages = Outages(clock, timers, self.go, waited, back)
        self.held: list[Ready] = []
        self.coming_back: set[asyncio.Task[None]] = set()
        self.under_way: dict[asyncio.Task[None], Ready] = {}

    def halt(self) -> None:
        """Send nothing more."""
        self._closing = True
        self.outages.close()
        if self._waiting_for_room is not None:
            self._waiting_for_room.cancel()
            self._waiting_for_room = None

    def make(self, driven: Driven, sends: Iterable[Send]) -> list[PendingCommand]:
        """Make every call that is owed and not yet in flight, and take back what is owed no more. Gives what is to be
        told to the run of calls that must not leave any more.
        """
        record, calls = driven.record, driven.calls
        new = sends
        may_go: list[Ready] = []
        never: list[PendingCommand] = []
        if calls or driven.commands or record.turned is not None or record.abort_requested is not None:
            new, may_go, never = self._sort_out(driven, sends)
        for send in new:
            lane = self._lane_of(driven.definition, send.participant)
            ready = Ready(driven, send, lane)
            calls[key := (send.step, send.item, send.phase)] = ready
            if driven.urged:
                ready.asked = key in driven.urged
            if lane.enter(ready):
                may_go.append(ready)
        if driven.urged:
            driven.urged.clear()
        for ready in may_go:  # last: sending may decide, and deciding may take back what hasn't left
            if not ready.gone and not ready.sent:
                self.go(ready)
        return never

    def send_on(self) -> None:
        """Calls may leave again: those that were held do."""
        held, self.held = self.held, []
        for ready in held:
            ready.held = False
            if not (ready.gone or ready.sent or ready.driven.dropped or self._closing):
                self._dispatch(ready)

    def drop(self, driven: Driven) -> None:
        """The run is driven here no more: what waits is taken back, what is under way given up."""
        for ready in driven.calls.values():
            ready.gone = True  # all of them, before a slot that one gives back goes to the next
        for ready in driven.calls.values():
            if not ready.begun:
                self._next(ready)
            if ready.task is not None:
                self._give_up(ready, ready.task)

    def stop(self, driven: Driven) -> None:
        """End the calls that are under way; their answers are not waited for any more."""
        for ready in driven.calls.values():
            if ready.task is not None:
                ready.gone = True
                ready.task.cancel()

    def _give_up(self, ready: Ready, task: asyncio.Task[None]) -> None:
        """A call of a run that was lost. Its new owner sends it again and hears the answer, unless it may be sent
        only once: then it is allowed to finish here.
        """
        if not ready.begun or ready.send.guard is not Guard.ONCE or self._closing:
            task.cancel()
            return
        self.coming_back.add(task)
        task.add_done_callback(self.coming_back.discard)

    def _sort_out(
        self, driven: Driven, sends: Iterable[Send]
    ) -> tuple[Iterable[Send], list[Ready], list[PendingCommand]]:
        """Which of these are new, which calls that wait may go by now, and which are to be told as never sent."""
        wanted = {(send.step, send.item, send.phase): send for send in sends}
        for asked in driven.commands:  # answered while the append was in flight: the record doesn't know it yet
            if isinstance(asked.command, c.Reply):
                wanted.pop((asked.command.step, asked.command.item, asked.command.phase), None)
        never = self._withdraw(driven, wanted)
        new: list[Send] = []
        may_go: list[Ready] = []
        for key, send in wanted.items():
            ready = driven.calls.get(key)
            if ready is None:
                new.append(send)
            elif not ready.sent:
                ready.send = send
                if ready.has_slot and not ready.held and not send.starts:
                    may_go.append(ready)
        return new, may_go, never

    def _withdraw(self, driven: Driven, wanted: dict[CallKey, Send]) -> list[PendingCommand]:
        """Take back what hasn't left and is no longer owed, or must not leave since the run turned back.

        The latter is taken out of `wanted`, and is to be told to the run as never sent.
        """
        taken: list[Ready] = []
        for key, ready in driven.calls.items():
            if not ready.sent and (key not in wanted or self._must_not_leave(driven, ready.send)):
                ready.gone = True  # all of them, before a slot that one gives back goes to the next
                taken.append(ready)
        for ready in taken:
            del driven.calls[ready.send.step, ready.send.item, ready.send.phase]
        for ready in taken:
            self._next(ready)
        unsent: list[Send] = []
        for key, send in list(wanted.items()):
            if key not in driven.calls and self._must_not_leave(driven, send):
                unsent.append(wanted.pop(key))
        never = Unknown(Cause.WITHDRAWN, "taken back before it was sent", counted=False)
        return [PendingCommand(self._reply(driven, send, never)) for send in unsent]

    @staticmethod
    def _must_not_leave(driven: Driven, send: Send) -> bool:
        record = driven.record
        if send.phase is not ACTION or not (record.backward or record.abort_requested is not None):
            return False
        return withdrawable(driven.definition, record, send.step, send.item)

    def go(self, ready: Ready) -> None:
        """It has its slot: send it, after the log knows of it where no barrier protects it."""
        if ready.send.starts:
            send = ready.send
            at = ready.driven.time(self._clock.now())
            begin = c.Begin(at, ready.driven.epoch, send.step, send.item, send.phase)
            self._offer(ready.driven, PendingCommand(begin))
        else:
            self._dispatch(ready)

    def _dispatch(self, ready: Ready) -> None:
        if self._may_send is not None and not self._may_send():
            self._hold(ready)
            return
        ready.sent = True
        ready.task = task = asyncio.get_running_loop().create_task(self._call(ready))
        ready.driven.tasks.add(task)
        self.under_way[task] = ready
        ready.over = partial(self._over, ready)
        task.add_done_callback(ready.over)

    async def _call(self, ready: Ready) -> None:
        """Make the call. However this ends, the slot and the run must not wait for it for ever."""
        ready.begun = True
        task, is_over = ready.task, False
        assert task is not None, "it is set before the task has its first turn"
        # From here on it ends below: what is called back by the event loop costs as much as a whole turn of it.
        task.remove_done_callback(ready.over)
        ready.over = nothing
        send, driven = ready.send, ready.driven
        record = driven.record
        outgoing = Outgoing(
            make_key(record.run, send.step, send.item, send.phase),
            record.run,
            send.step,
            send.item,
            send.phase,
            send.participant,
            send.operation,
            send.guard,
            send.kind,
            send.body,
            send.attempt,
            driven.epoch,
            send.since,
            send.timeout / MICROSECONDS,
            None if record.deadline is None else deadline_of(record),
            None,
            send.seal or None,
        )
        try:
            came = await ready.lane.transport.send(outgoing)
            if isinstance(came, NoRoom) and not driven.dropped:
                self._hold_back(ready, came)
            else:
                self._answered(ready, self._understood(driven, send, came))
            is_over = True
        except asyncio.CancelledError:
            if ready.gone:
                self._back(ready)
                is_over = True
            raise  # of others' making, or raised by the transport: answered below
        except BaseException as error:  # must not lose the call: what became of it isn't known
            if isinstance(error, GeneratorExit) or (not isinstance(error, Exception) and ends_the_caller(error)):
                task.add_done_callback(partial(self._over, ready))
                is_over = True
                raise
            _LOGGER.exception("%s: the transport failed", outgoing.key)
            self._end(ready, Unknown(Cause.LOST, clean(f"the transport failed: {told(error)}")))
            is_over = True
        finally:
            self.under_way.pop(task, None)
            if not is_over:
                self._end(ready, CANCELLED)

    def _over(self, ready: Ready, task: asyncio.Task[None]) -> None:
        """A call's task is done that never had its turn, or was ended by what isn't an error: a Ctrl-C, its closing."""
        self.under_way.pop(task, None)
        if not task.cancelled():
            task.exception()  # the event loop has raised it as well
        if ready.task is task:
            self._end(ready, CANCELLED)

    def _end(self, ready: Ready, outcome: Outcome) -> None:
        """Answer the call, unless it was answered or taken back before."""
        send = ready.send
        if not ready.gone and ready.driven.calls.get((send.step, send.item, send.phase)) is ready:
            self._answered(ready, outcome)

    def _hold(self, ready: Ready) -> None:
        ready.held = True
        self.held.append(ready)

    def _hold_back(self, ready: Ready, came: NoRoom) -> None:
        """The call couldn't be made for want of room in this process. It keeps its slot, and is tried again when some
        time has passed; the log isn't told, because nothing has happened.
        """
        driven = ready.driven
        if ready.task is not None:
            driven.tasks.discard(ready.task)
            ready.task = None
        ready.sent = ready.begun = False
        self._hold(ready)
        self._lacks_room = True
        self._complaint.wrong(f"calls are held back, this process lacks descriptors, memory or threads: {came.detail}")
        if self._waiting_for_room is None and not self._closing:
            self._waiting_for_room = self._timers.call_later(NO_ROOM_SECONDS, self._try_for_room)
        if driven.record.turned is not None or driven.record.abort_requested is not None:
            # It may have been let come back because it had left. It hasn't: perhaps it must not leave any more.
            self._offer(driven, PendingCommand(c.Due(driven.time(self._clock.now()), driven.epoch)))

    def _try_for_room(self) -> None:
        """Send what was held back; once all of it has left, say so."""
        self._waiting_for_room = None
        if not self._lacks_room:
            self._complaint.fine()
            return
        self._lacks_room = False
        self._waiting_for_room = self._timers.call_later(NO_ROOM_SECONDS, self._try_for_room)
        self.send_on()

    def _understood(self, driven: Driven, send: Send, came: Came) -> Outcome:
        decode = None
        if send.phase is not COMPENSATION and send.seal != "undone":
            decode = driven.definition.reply_decoder(send.participant, send.operation, send.step)
        retriable = send.kind is RETRIABLE
        return read_answer(came, phase=send.phase, retriable=retriable, decode=decode, now=self._clock.now())

    def _answered(self, ready: Ready, outcome: Outcome) -> None:
        driven, send = ready.driven, ready.send
        is_back, outcome = self.outages.heard(ready, outcome)
        reply = self._reply(driven, send, outcome)
        del driven.calls[send.step, send.item, send.phase]
        # The run gets its answer first. Until then its record owes this call, and each of the steps below may look for
        # owed calls: the call would be sent again.
        if driven.dropped:
            self._late(driven.run, reply)
        else:
            self._offer(driven, PendingCommand(reply))
        self._back(ready)
        if is_back:
            self.outages.resume(ready.lane)

    def _back(self, ready: Ready) -> None:
        """A call is over, its slot is free."""
        if ready.task is not None:
            ready.driven.tasks.discard(ready.task)
        self._next(ready)

    def _reply(self, driven: Driven, send: Send, outcome: Outcome) -> c.Reply:
        return c.Reply(
            driven.time(self._clock.now()), driven.epoch, send.step, send.item, send.phase, send.attempt, outcome
        )

    def _next(self, ready: Ready) -> None:
        following = ready.lane.leave(ready)
        if following is not None:
            if self._closing:
                return
            self.go(following)


def key_of(ready: Ready) -> str:
    """The idempotency key of a call."""
    return make_key(ready.driven.run, ready.send.step, ready.send.item, ready.send.phase)
