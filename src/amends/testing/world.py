"""One run in a world where everything that can go wrong may: a value with moves.

A `World` holds the log, the processes that drive the run (one owner; others may be stale and not know it), every
message on its way, what the participants keep, and what really happened. `moves` lists what can happen next; `apply`
gives the world after it and leaves the old one as it was. So an explorer is a search over values, and a story is a
list of moves. What costs something (a fault, a crash, a person's verb) is paid from a budget; without budget left
only what must happen in the end can happen.

How things run here:

* An owner sends all it owes as soon as its append is durable; that a message leaves late is the same as its being
  under way for long. The owner may die right after the append, before anything left.
* A time-out ends a call at its owner and leaves its messages where they are: a copy may arrive at any time, also
  after the end. Only messages of calls that no barrier protects are gone after `late_after`: that is what is assumed
  of networks for those.
* An answer that reaches a process which no longer owns the run is offered as a visitor's, if it is definite.
* Time stands still until it jumps to the next moment that the owner waits for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from amends.core.answers import Cause, Halt, Outcome, SaidNo, Succeeded, Unknown
from amends.core.commands import Adopted, Begin, Command, Due, Refusal, Reply, Start
from amends.core.keys import NOTICE, Phase, unit_name
from amends.core.owed import Send, withdrawable
from amends.core.retry import MICROSECONDS, Guard, Kind
from amends.core.state import LOCAL, RunRecord
from amends.testing.fingerprint import LATE_AFTER
from amends.testing.history import History
from amends.testing.invariants import Effect
from amends.testing.moment import Moment, Setup
from amends.testing.moves import Answer, Flying, Move, Process, Request, is_of, without
from amends.testing.people import CANCEL, Does, remedies
from amends.testing.possible import moves
from amends.testing.pretend import Answers, Barrier, Called, Naive, Said, Wants

RUN: Final = "run"


_SENDS: Final = frozenset({"receive", "jump", "adopt", "poll", "lose", "halt", "deadline"})
"""After these the owner sends what it owes, if it lives."""


_DEFINITE: Final = (Succeeded, SaidNo)
"""What a process takes in from a call that isn't its own."""


def _never_sent(send: Send, now: int, epoch: int) -> Reply:
    came = Unknown(Cause.WITHDRAWN, "taken back before it was sent", counted=False)
    return Reply(now, epoch, send.step, send.item, send.phase, send.attempt, came)


class World(Moment):
    """A moment of one run, and what can happen next. Treat it as frozen: `apply` gives another."""

    __slots__ = ()

    def moves(self) -> list[Move]:
        """Everything that can happen next, what is free first."""
        return moves(self)

    def apply(self, move: Move) -> "World":
        """The world after a move."""
        new = self.copy()
        new.budget = self.budget.without(move)
        match move.kind:
            case "deliver":
                new.deliver(move)
            case "receive":
                new.receive(move)
            case "jump":
                new.jump()
            case "adopt":
                new.adopt()
            case "poll":
                new.poll()
            case "lose" | "halt":
                new.lose(move)
            case "finish":
                new.finish(move.vertex, move.wants)
            case "deadline":
                new.pass_deadline()
            case "person" if move.does is not None:
                new.cancelled += move.does == CANCEL and move.free
                new.person(move.does)
            case "crash":
                new.crash()
            case _:
                msg = f"no such move: {move.kind}"
                raise ValueError(msg)
        if move.dies:
            new.crash()
        elif move.kind in _SENDS:
            new.send_owed(new.epoch)
        if len(new.processes) > 1:
            new.wake_former()
        new.tidy()
        return new

    def deliver(self, move: Move) -> None:
        """A call reaches its participant."""
        message = move.message
        assert isinstance(message, Request)
        if not move.again:
            self.wire = without(self.wire, message)
        call = message.call
        vertex = (call.step, call.item)
        setup, row = self.setup, self.rows.get(vertex)
        silent = setup.given.silent.get(call.step) if call.phase is Phase.ACTION else None
        if silent is False:
            return  # it got lost on its way, as the story has it
        if setup.keeps_contract(message.guard):
            said = Barrier.answer(row, call, move.wants, self._answers(vertex))
        else:
            said = Naive.answer(row, call, move.wants, self._answers(vertex), setup.does_under(message.guard))
        self._happened(vertex, said)
        if silent is None and any(process.epoch == message.epoch for process in self.processes):
            answer = Answer(message.epoch, message.attempt, call.step, call.item, call.phase, said.outcome)
            self.wire = (*self.wire, setup.marks.message(answer))

    def finish(self, vertex: tuple[str, str], wants: Wants) -> None:
        """A participant is done with what it took on, and posts the callback."""
        row = self.rows[vertex]
        phase = Phase.ACTION if row.state != "compensating" else Phase.COMPENSATION
        participant = Barrier if self.setup.keeps_contract(self.guard_of(vertex)) else Naive
        said = participant.finish(row, wants, self._answers(vertex))
        self._happened(vertex, said)
        self.wire = (*self.wire, self.setup.marks.message(Answer(0, 0, *vertex, phase, said.outcome)))

    def _answers(self, vertex: tuple[str, str]) -> Answers:
        given, item = self.setup.given, self.record.item(*vertex)
        return Answers(b"null" if item is None else given.reply(self.record, item), given.no(vertex[0]))

    def _happened(self, vertex: tuple[str, str], said: Said) -> None:
        if said.row is not self.rows.get(vertex):
            self.rows = dict(self.rows)
            if said.row is None:
                del self.rows[vertex]
            else:
                self.rows[vertex] = self.setup.marks.row(said.row)
        if said.did and vertex[0] != NOTICE:
            self.ledger = self.setup.marks.ledger((*self.ledger, Effect(*vertex, said.did)))

    def receive(self, move: Move) -> None:
        """An answer arrives."""
        answer = move.message
        assert isinstance(answer, Answer)
        if not move.again:
            self.wire = without(self.wire, answer)
        self._land(answer.epoch, Flying(answer.step, answer.item, answer.phase, answer.attempt))
        self._take_in(answer)

    def _take_in(self, answer: Answer) -> None:
        owner = self.owner
        mine = owner is not None and owner.epoch == answer.epoch
        if not mine and answer.epoch and not isinstance(answer.outcome, _DEFINITE):
            self._drop(answer.epoch)
            return
        epoch = answer.epoch if mine else 0
        reply = Reply(self.now, epoch, answer.step, answer.item, answer.phase, answer.attempt, answer.outcome)
        self.decided(reply, owner=mine)
        if not mine and answer.epoch:
            self._drop(answer.epoch)

    def lose(self, move: Move) -> None:
        """An owner's call ends without an answer."""
        flying = move.flying
        assert flying is not None
        outcome: Outcome = Unknown(move.cause, move.cause.value)
        if move.kind == "halt":
            outcome = Halt("protocol", "halted")
        if move.cause is not Cause.TIMED_OUT:
            self.wire = tuple(each for each in self.wire if not is_of(each, move.epoch, flying))
        self._land(move.epoch, flying)
        step, item, phase, attempt = flying
        self.decided(Reply(self.now, move.epoch, step, item, phase, attempt, outcome), owner=True)

    def jump(self) -> None:
        """Time goes on to the next moment that the owner waits for."""
        owner = self.owner
        assert owner is not None
        assert owner.seen is not None
        wake = owner.seen.owed(self.now, owner.epoch).wake
        assert wake is not None
        self.now = wake
        self.wire = tuple(
            each
            for each in self.wire
            if isinstance(each, Answer) or not each.sent or each.local or wake < each.sent + LATE_AFTER
        )
        self.decided(Due(self.now, owner.epoch), owner=True)

    def adopt(self) -> None:
        """A process claims the run; whoever drove it before doesn't know."""
        self.epoch += 1
        self.processes = (*self.processes[-1:], Process(self.epoch, self.history))
        self.decided(Adopted(self.now, self.epoch), owner=True)
        self.decided(Due(self.now, self.epoch), owner=True)

    def poll(self) -> None:
        """The owner reads what visitors wrote."""
        self._reread()
        self.decided(Due(self.now, self.epoch), owner=True)

    def pass_deadline(self) -> None:
        """The moment at which the run's deadline is over turns out to be this one."""
        self.processes = tuple(
            each if each.seen is None else each._replace(seen=each.seen.due_at(self.now)) for each in self.processes
        )
        self.history = self.history.due_at(self.now)
        if self.owner is not None:
            self.decided(Due(self.now, self.epoch), owner=True)

    def crash(self) -> None:
        """The owner's process dies: what was sent stays on its way, its own work and its answers are lost."""
        gone = self.processes[-1].epoch
        self.processes = self.processes[:-1]
        self.wire = tuple(
            each for each in self.wire if each.epoch != gone or (isinstance(each, Request) and not each.local)
        )

    def person(self, does: Does) -> None:
        """Somebody asks for something, and does by hand what they say they did."""
        if does.undoes is not None:
            self.ledger = self.setup.marks.ledger((*self.ledger, Effect(*does.undoes, "undone", by_hand=True)))
        before = len(self.events)
        refused = self.decided(does.command(self.now), owner=False)
        if (
            refused is None
            and len(self.events) > before
            and not any(isinstance(event, does.signed_by) for event in self.events[before:])
        ):
            self.wrong = self.wrong or f"P8 persons sign: {does} changed the run without a signed fact"
        if does.undoes is None:
            return
        if isinstance(refused, Refusal):
            self.ledger = self.setup.marks.ledger(self.ledger[:-1])
        elif self.guard_of(does.undoes) is not Guard.BARRIER and does.undoes in self.rows:
            row = replace(self.rows[does.undoes], undo_request=b"by hand")
            self.rows = {**self.rows, does.undoes: self.setup.marks.row(row)}

    # -- the log and the wire

    def decided(self, command: Command, *, owner: bool) -> Refusal | None:
        """Decide and append. An owner decides on what it has read; refused, it reads what visitors wrote and decides
        again.
        """
        driver = self.owner if owner else None
        if driver is not None and driver.seen is not None and driver.seen is not self.history:
            guess = driver.seen.after(command)
            if isinstance(guess, Refusal) or guess is driver.seen:
                return None
        decided = self.history.after(command)
        if isinstance(decided, Refusal):
            return decided
        self.history = decided
        if driver is not None:
            self._reread()
        return None

    def _reread(self) -> None:
        self.processes = (*self.processes[:-1], self.processes[-1]._replace(seen=self.history))

    def send_owed(self, epoch: int) -> None:
        """Send what a process owes by what it knows, but no action that must not leave any more: that is told as never
        sent. What needs a fact first is refused to a process that is stale.
        """
        process = self._process(epoch)
        if process is None or process.seen is None:
            return
        current, seen = epoch == self.epoch, process.seen
        for send in seen.owed(self.now, epoch).sends:
            flying = Flying(send.step, send.item, send.phase, send.attempt)
            if any(each[:3] == flying[:3] for each in process.flying):
                continue
            never = send.phase is Phase.ACTION and withdrawable(seen.definition, seen.record, send.step, send.item)
            if (send.starts or never) and not current:
                self._drop(epoch)
                return
            if never:
                self.decided(_never_sent(send, self.now, epoch), owner=True)
                self.send_owed(epoch)
                return
            if send.starts:
                self.decided(Begin(self.now, epoch, send.step, send.item, send.phase), owner=True)
                if not self._is_begun(send, epoch):
                    self.send_owed(epoch)  # what it has read by now owes something else
                    return
            process = self._process(epoch)
            if process is None or process.seen is None:
                return
            seen = process.seen
            self._check_send(send, seen.record)
            process = process._replace(flying=(*process.flying, flying))
            self.processes = tuple(process if each.epoch == epoch else each for each in self.processes)
            sent = 0 if send.guard is Guard.BARRIER else self.now
            call = Called(send.step, send.item, send.phase, send.kind, send.body, epoch, send.seal)
            request = Request(epoch, send.attempt, send.guard, send.participant == LOCAL, send.since, sent, call)
            self.wire = (*self.wire, self.setup.marks.message(request))
        if current and self.record.ended is not None and not self.owes_notice():
            self._drop(epoch)

    def _process(self, epoch: int) -> Process | None:
        for each in self.processes:
            if each.epoch == epoch:
                return each
        return None

    def wake_former(self) -> None:
        """Whoever lost the run and doesn't know sends what it thinks it owes, at once: a message may take any time on
        its way, so that one is sent later is as if it had been sent and arrived later.
        """
        for process in self.processes:
            if process.epoch != self.epoch and process.seen is not None and self.stale_sends(process):
                self.send_owed(process.epoch)

    def _is_begun(self, send: Send, epoch: int) -> bool:
        """Whether the log knows that this process makes this attempt."""
        item = self.record.item(send.step, send.item)
        tries = None if item is None else item.tries(send.phase)
        return tries is not None and tries.open_epoch == epoch and self.record.ended is None

    def _check_send(self, send: Send, seen: RunRecord) -> None:
        """What holds for every single call that leaves."""
        name = f"{unit_name(send.step, send.item)}:{send.phase.value}"
        key = (send.step, send.item, send.phase)
        before = self.sent.get(key)
        if before is None:
            self.sent = {**self.sent, key: (send.body, send.since)}
        elif before != (send.body, send.since):
            self.wrong = self.wrong or f"P6 same key, same bytes: {name} was sent before with {before}, now {send}"
        if key in seen.marks:
            self.wrong = self.wrong or f"nothing is sent for a marked phase: {name}"
        if send.phase is not Phase.ACTION or send.guard is not Guard.BARRIER or seen.ended is not None:
            return
        if seen.turned is not None:
            self.wrong = self.wrong or f"one direction: {name} was sent after the run turned back"
        elif seen.abort_requested is not None and send.kind is Kind.PIVOT:
            self.wrong = self.wrong or f"one direction: the pivot {name} was sent after somebody wanted to turn back"

    def _drop(self, epoch: int) -> None:
        self.processes = tuple([Process(epoch, None) if each.epoch == epoch else each for each in self.processes])

    def _land(self, epoch: int, flying: Flying) -> None:
        self.processes = tuple(
            [
                Process(epoch, each.seen, tuple([one for one in each.flying if one != flying]))
                if each.epoch == epoch and flying in each.flying
                else each
                for each in self.processes
            ]
        )

    def tidy(self) -> None:
        """Forget what makes no difference any more, so that worlds that differ in nothing else are one."""
        processes = self.processes
        if len(processes) > 1:
            for each in processes:
                if each.seen is not None and each.epoch != self.epoch and not self._may_send(each):
                    self._drop(each.epoch)
            processes = self.processes
        wire = self.wire
        if wire:
            heard = {epoch: seen is not None for epoch, seen, _ in processes}
            kept = [each for each in wire if not self._is_idle(each, heard)]
            if self.record.ended is not None and kept:
                self.wire = tuple(kept)
                kept = [each for each in kept if not self._is_no_news(each)]
            if len(kept) < len(wire):
                self.wire = wire = tuple(kept)
        if len(processes) > 1:
            awaited = {message.epoch for message in wire}
            for each in processes:
                if each.seen is None and each.epoch != self.epoch and each.epoch not in awaited:
                    self.processes = tuple([one for one in self.processes if one is not each])

    def _is_idle(self, message: Request | Answer, heard: Mapping[int, bool]) -> bool:
        """Whether its arrival never changes anything. `heard`: processes, and whether they have the run."""
        if isinstance(message, Answer):
            if message.epoch == 0 or isinstance(message.outcome, _DEFINITE):
                return False
            return not heard.get(message.epoch, False)
        if message.epoch in heard or not self.setup.keeps_contract(message.guard):
            return False
        return Barrier.is_settled(self.rows.get((message.call.step, message.call.item)), message.call)

    def _is_no_news(self, message: Request | Answer) -> bool:
        """Whether it, or the answer to it, tells a run that has ended nothing that belongs in its log."""
        if isinstance(message, Answer):
            return self.history.after(self._offered(message)) is self.history
        vertex = (message.call.step, message.call.item)
        row = self.rows.get(vertex)
        if row is None or not self.setup.keeps_contract(message.guard) or Barrier.can_finish(row):
            return False
        others = [each.call for each in self.wire if isinstance(each, Request) and each.call[:2] == vertex]
        if not all(Barrier.is_settled(row, call) for call in others):
            return False
        said = Barrier.answer(row, message.call, Wants.YES, self._answers(vertex))
        answer = Answer(message.epoch, message.attempt, *vertex, message.call.phase, said.outcome)
        return self.history.after(self._offered(answer)) is self.history

    def _offered(self, answer: Answer) -> Reply:
        return Reply(self.now, 0, answer.step, answer.item, answer.phase, answer.attempt, answer.outcome)

    def _may_send(self, process: Process) -> bool:
        """Whether a process that doesn't know that it lost the run has, or will have, something to send.

        If not, it only brings answers, as one that knows.
        """
        if process.seen is None:
            return False
        return self.stale_sends(process) or process.seen.owed(self.now, process.epoch).wake is not None

    # -- to the end

    def remedies(self) -> Iterator[Move]:
        """What a sensible person would try about the oldest reason why it is stuck."""
        for does in remedies(self.sight()):
            yield Move("person", does=does)


def begin(setup: Setup) -> World:
    """The world right after the start was acknowledged."""
    command = Start(at=MICROSECONDS, epoch=1, run=RUN, input=setup.given.input)
    world = World(setup)
    world.now = MICROSECONDS
    world.epoch = 1
    world.history = History.begin(setup.definition, command)
    world.processes = (Process(1, world.history),)
    world.send_owed(1)
    return world
