"""What is between the processes and the participants, and the participants themselves.

A call outlives its caller, as requests on a wire do: what has left arrives, even if its sender is dead by then.
Participants keep the contract (`testing.pretend`), or don't, where the call's guard says that nothing protects it; for
those calls it is assumed that no copy turns up an hour later.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from amends.core.run.answers import (
    NULL,
    CallResponse,
    Came,
    Cause,
    Halt,
    Lost,
    NotSent,
    Outcome,
    Pending,
    SaidNo,
    Succeeded,
    Unknown,
)
from amends.core.run.record import LOCAL
from amends.core.words.keys import Phase
from amends.core.words.retry import MICROSECONDS, Guard
from amends.ports.transport import Outgoing
from amends.testing.explore.given import NO
from amends.testing.explore.participants import Answers, Barrier, Called, Naive, PaperAnswer, PaperRow, State, Wants
from amends.testing.invariants import Effect
from amends.testing.simulation.books import SimulatedBooks
from amends.testing.simulation.disk import Machine
from amends.testing.simulation.processes import SimulatedProcess, Timeline
from amends.testing.simulation.weather import Weather, WeatherFault

WIRE_MICROS: Final = (300, 20_000)
"""One way over the network on a good day."""

LATE_MICROS: Final = (6 * MICROSECONDS, 120 * MICROSECONDS)
"""A request that was held up: longer than its caller waits."""

WORK_MICROS: Final = (1 * MICROSECONDS, 240 * MICROSECONDS)
"""How long work takes that was taken on."""

HTML: Final = b"<html><body>Bad gateway</body></html>"

Replies: TypeAlias = Callable[[Outgoing], bytes]
"""What an action gives, as JSON of its reply's type."""


class Wiring(Protocol):
    """What a call goes through."""

    def send(self, process: SimulatedProcess, call: Outgoing, answer: "asyncio.Future[Came]") -> None:
        """Let it leave; `answer` hears what comes of it."""
        ...


class SimulatedTransport:
    """`ports.transport.Transport` of one process."""

    def __init__(self, wiring: Wiring, process: SimulatedProcess) -> None:
        self._wiring = wiring
        self._process = process

    async def send(self, call: Outgoing) -> Came:
        """Send it, and wait no longer than its time-out."""
        self._process.ensure_alive()
        answer: asyncio.Future[Came] = self._process.create_future()
        over = Lost(Cause.TIMED_OUT, f"no answer within {call.timeout_seconds:g} s")
        timer = self._process.call_later(call.timeout_seconds, say, answer, over)
        try:
            self._wiring.send(self._process, call, answer)
            return await answer
        finally:
            timer.cancel()

    async def close(self) -> None:
        """There is nothing to let go of."""


def say(answer: "asyncio.Future[Came]", came: Came) -> None:
    """Answer, if a caller still waits."""
    if not answer.done():
        answer.set_result(came)


@dataclass(eq=False, slots=True)
class Travelling:
    """A request under way. `answer` hears what the participant says, if it is to."""

    call: Outgoing
    process: SimulatedProcess
    answer: "asyncio.Future[Came] | None"
    garbled: bool = False


class Network:
    """All wires of one world and what they lead to."""

    def __init__(
        self, timeline: Timeline, weather: Weather, books: SimulatedBooks, machine: Machine, replies: Replies
    ) -> None:
        self._timeline = timeline
        self._weather = weather
        self._books = books
        self._machine = machine
        self._replies = replies
        self.rows: dict[tuple[str, str, str], PaperRow] = {}
        self.cut_off: dict[str, int] = {}
        """Participants that can't be reached, and until when."""
        self.under_way: dict[tuple[str, str, str], int] = {}
        """How many unguarded calls of each item are on their way."""
        self._here: set[Travelling] = set()
        self._fates: Mapping[WeatherFault, Callable[[Travelling], None]] = {
            WeatherFault.REFUSED: self._refuse,
            WeatherFault.REQUEST_LOST: self._lose_request,
            WeatherFault.REPLY_LOST: self._lose_reply,
            WeatherFault.RESET: self._reset,
            WeatherFault.LATE: self._delay,
            WeatherFault.REPEATED: self._repeat,
            WeatherFault.GARBLED: self._garble,
            WeatherFault.SERVER_ERROR: self._break_down,
            WeatherFault.MISROUTED: self._misroute,
        }

    # -- leaving

    def send(self, process: SimulatedProcess, call: Outgoing, answer: "asyncio.Future[Came]") -> None:
        """Let a call leave."""
        now = self._timeline.now()
        self._books.sends(now, process.number, call)
        travelling = Travelling(call, process, answer)
        if call.participant == LOCAL:
            self._work_here(travelling)
        elif self._is_cut_off(call.participant):
            self._hit(WeatherFault.PARTITION, call)
            if self._weather.dice.random() < 0.5:
                self._say_soon(travelling, NotSent("the simulated network: no way there"))
        else:
            fate = self._weather.of_call()
            if fate is None or (fate is WeatherFault.REPEATED and call.guard is not Guard.BARRIER):
                self._carry(travelling, self._wire_takes())
            else:
                self._hit(fate, call)
                self._fates[fate](travelling)
        if self._weather.strikes(WeatherFault.CRASH_AT_SEND):
            self._weather.fire(WeatherFault.CRASH_AT_SEND)
            self._machine.crash(process)

    def _hit(self, fault: WeatherFault, call: Outgoing) -> None:
        self._weather.fire(fault)
        self._books.note(self._timeline.now(), fault.value, call.key)

    def _is_cut_off(self, participant: str) -> bool:
        return self._timeline.now() < self.cut_off.get(participant, 0)

    def _wire_takes(self) -> int:
        low, high = WIRE_MICROS
        return low + int((high - low) * self._weather.dice.random())

    def _carry(self, travelling: Travelling, micros: int) -> None:
        call = travelling.call
        if call.guard is not Guard.BARRIER:
            vertex = (call.run, call.step, call.item)
            self.under_way[vertex] = self.under_way.get(vertex, 0) + 1
        self._timeline.after(micros, self._arrive, travelling)

    def _say_soon(self, travelling: Travelling, came: Came) -> None:
        if travelling.answer is not None:
            self._timeline.after(self._wire_takes(), say, travelling.answer, came)

    # -- what may become of it

    def _refuse(self, travelling: Travelling) -> None:
        self._say_soon(travelling, NotSent("the simulated network: connection refused"))

    def _lose_request(self, travelling: Travelling) -> None:
        """It never arrives, and its caller waits."""

    def _lose_reply(self, travelling: Travelling) -> None:
        travelling.answer = None
        self._carry(travelling, self._wire_takes())

    def _reset(self, travelling: Travelling) -> None:
        self._say_soon(travelling, Lost(Cause.LOST, "the simulated network: connection reset"))
        travelling.answer = None
        self._carry(travelling, self._wire_takes())

    def _delay(self, travelling: Travelling) -> None:
        low, high = LATE_MICROS
        self._carry(travelling, low + int((high - low) * self._weather.dice.random()))

    def _repeat(self, travelling: Travelling) -> None:
        self._carry(travelling, self._wire_takes())
        again = Travelling(travelling.call, travelling.process, None)
        self._carry(again, self._wire_takes() + int(LATE_MICROS[1] * self._weather.dice.random()))

    def _garble(self, travelling: Travelling) -> None:
        travelling.garbled = True
        self._carry(travelling, self._wire_takes())

    def _break_down(self, travelling: Travelling) -> None:
        self._say_soon(travelling, CallResponse(503, {}, b""))

    def _misroute(self, travelling: Travelling) -> None:
        self._say_soon(travelling, CallResponse(200, {"content-type": "text/html"}, HTML))

    # -- arriving

    def _work_here(self, travelling: Travelling) -> None:
        """A step that is done by the process itself: it stands still and dies with it."""
        call = travelling.call
        vertex = (call.run, call.step, call.item)
        self.under_way[vertex] = self.under_way.get(vertex, 0) + 1
        self._here.add(travelling)
        travelling.process.call_later(self._wire_takes() / MICROSECONDS, self._arrive, travelling)

    def dies(self, process: SimulatedProcess) -> None:
        """Work that a process was doing by itself ends with it; what of its calls is on a wire, arrives."""
        for each in [each for each in self._here if each.process is process]:
            self._here.discard(each)
            self.under_way[each.call.run, each.call.step, each.call.item] -= 1

    def _arrive(self, travelling: Travelling) -> None:
        call = travelling.call
        vertex = (call.run, call.step, call.item)
        if call.guard is not Guard.BARRIER:
            self.under_way[vertex] -= 1
        self._here.discard(travelling)
        if call.participant != LOCAL and self._is_cut_off(call.participant):
            self._hit(WeatherFault.PARTITION, call)
            return
        said = self._asked(vertex, call)
        self._take(vertex, said)
        if said.row is not None and said.row.state in _AT_WORK and isinstance(said.outcome, Pending):
            self._begin_work(vertex, call)
        answer = travelling.answer
        if answer is None:
            return
        came = wire_answer(said.outcome)
        if travelling.garbled:
            came = CallResponse(came.status, came.headers, b"{" + came.body[: len(came.body) // 2])
        takes = 0 if call.participant == LOCAL else self._wire_takes()
        self._timeline.after(takes, self._answered, travelling, answer, came)

    def _answered(self, travelling: Travelling, answer: "asyncio.Future[Came]", came: Came) -> None:
        call = travelling.call
        if call.participant != LOCAL and self._is_cut_off(call.participant):
            self._hit(WeatherFault.PARTITION, call)
            return
        if travelling.process.is_dead or answer.done():
            return
        if self._weather.strikes(WeatherFault.CRASH_AT_ANSWER):
            self._weather.fire(WeatherFault.CRASH_AT_ANSWER)
            self._machine.crash(travelling.process)
            return
        self._books.note(self._timeline.now(), "answer", travelling.process.number, call.key, came)
        say(answer, came)

    # -- the participants

    def _asked(self, vertex: tuple[str, str, str], call: Outgoing) -> PaperAnswer:
        row = self.rows.get(vertex)
        called = Called(call.step, call.item, call.phase, call.kind, call.body, call.epoch, call.seal or "")
        answers = Answers(NULL if call.phase is Phase.COMPENSATION else self._replies(call), NO)
        if call.guard is Guard.BARRIER:
            wants = self._wants(call) if Barrier.runs_code(row, called) else Wants.YES
            return Barrier.answer(row, called, wants, answers)
        wants = self._wants(call) if Naive.runs_code(row, called) else Wants.YES
        return Naive.answer(row, called, wants, answers, call.guard)

    def _wants(self, call: Outgoing) -> Wants:
        """What the service's own code makes of it."""
        weather = self._weather
        if weather.wishes(WeatherFault.FAILS):
            self._hit(WeatherFault.FAILS, call)
            return Wants.FAILS
        if call.phase is Phase.COMPENSATION:
            if call.participant != LOCAL and weather.wishes(WeatherFault.UNDO_REFUSED):
                self._hit(WeatherFault.UNDO_REFUSED, call)
                return Wants.NO
            return Wants.YES
        if weather.wishes(WeatherFault.NO):
            self._hit(WeatherFault.NO, call)
            return Wants.NO
        if call.participant != LOCAL and call.guard is Guard.BARRIER and weather.wishes(WeatherFault.LATER):
            self._hit(WeatherFault.LATER, call)
            return Wants.LATER
        return Wants.YES

    def _begin_work(self, vertex: tuple[str, str, str], call: Outgoing) -> None:
        low, high = WORK_MICROS
        takes = low + int((high - low) * self._weather.dice.random())
        self._timeline.after(takes, self._finish, vertex, call)

    def _finish(self, vertex: tuple[str, str, str], call: Outgoing) -> None:
        row = self.rows.get(vertex)
        if row is None or not Barrier.can_finish(row, call.phase):
            return  # it was compensated in the meantime: the service rolls its own work back
        wants = Wants.YES
        if row.state is State.PENDING and self._weather.wishes(WeatherFault.NO):
            self._hit(WeatherFault.NO, call)
            wants = Wants.NO
        said = Barrier.finish(row, call.phase, wants, Answers(self._replies(call), NO))
        assert said is not None, "it can be finished"
        self._take(vertex, said)

    def _take(self, vertex: tuple[str, str, str], said: PaperAnswer) -> None:
        if said.row is None:
            self.rows.pop(vertex, None)
        else:
            self.rows[vertex] = said.row
        if said.did:
            run, step, item = vertex
            self._books.happened(self._timeline.now(), run, Effect(step, item, said.did))

    # -- what people see

    def at_work(self, run: str) -> frozenset[tuple[str, str]]:
        """Items of which it isn't known yet what becomes of them: an unguarded call is under way."""
        return frozenset((step, item) for (of, step, item), count in self.under_way.items() if count and of == run)


_AT_WORK: Final = frozenset({State.PENDING, State.COMPENSATING})

_STATUS: Final[Mapping[str, int]] = {"rejected": 409, "blocked": 410, "noop": 200, "cannot-compensate": 409}
_PROBLEM_STATUS: Final[Mapping[str, int]] = {"key-reused": 422, "stale-epoch": 412}
_PENDING: Final = CallResponse(202, {"saga-outcome": "pending"}, b"")
_NOTHING_YET: Final = CallResponse(200, {"saga-outcome": "noop"}, b"")


def wire_answer(outcome: Outcome) -> CallResponse:
    """An outcome as a participant writes it on the wire: what the engine has to read again."""
    match outcome:
        case Succeeded(reply, word):
            return CallResponse(200, {"saga-outcome": word}, reply)
        case SaidNo(code, detail, word):
            return CallResponse(_STATUS[word], {"saga-outcome": word}, _problem(code or word, detail))
        case Pending():
            return _PENDING
        case Unknown(cause=Cause.ABSENT):
            return _NOTHING_YET
        case Unknown(detail=detail):
            return CallResponse(503, {}, _problem("unavailable", detail))
        case Halt(reason, detail):
            status = _PROBLEM_STATUS.get(reason)
            if status is not None:
                return CallResponse(status, {}, _problem(reason, detail))
            return CallResponse(_STATUS[reason], {"saga-outcome": reason}, _problem(reason, detail))


def _problem(name: str, detail: str) -> bytes:
    return f'{{"type":"urn:amends:{name}","detail":"{detail}"}}'.encode()
