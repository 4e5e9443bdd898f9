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

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from amends.core.answers import Cause, Halt, Outcome, SaidNo, Succeeded, Unknown
from amends.core.commands import Adopted, Begin, Command, Due, Refusal, Reply, Start
from amends.core.decider import Decision, decide, start
from amends.core.keys import Phase, unit_name
from amends.core.owed import Send, owed
from amends.core.retry import MICROSECONDS, Guard, Kind
from amends.core.state import LOCAL, RunRecord
from amends.testing.fingerprint import LATE_AFTER
from amends.testing.invariants import Effect
from amends.testing.moment import Moment, Setup
from amends.testing.moves import Answer, Flying, Move, Process, Request, is_of, without
from amends.testing.people import Does, deeds, remedies
from amends.testing.pretend import Barrier, Called, Naive, Said, Wants

RUN: Final = "run"
IN_FLIGHT_MAX: Final = 10 * MICROSECONDS
"""While a call is in flight time jumps no further than this: it would have timed out."""

_WANTS_NO: Final = (Wants.NO, Wants.FAILS)


class World(Moment):
    """A moment of one run, and what can happen next. Treat it as frozen: `apply` gives another."""

    __slots__ = ()

    # -- what can happen next

    def moves(self) -> list[Move]:
        """Everything that can happen next, what is free first."""
        found = [*self._messages(), *self._time(), *self._owners(), *self._pending()]
        budget = self.budget
        if budget.faults:
            found += self._faults()
        if budget.verbs or budget.cancels:
            found += self._people()
        return found

    def _messages(self) -> Iterator[Move]:
        for message in dict.fromkeys(self.wire):
            if isinstance(message, Answer):
                yield Move("receive", message, free=True)
                if self.budget.crashes and message.epoch == self.epoch and self.owner is not None:
                    yield Move("receive", message, dies=True)
                continue
            yield Move("deliver", message, free=True)
            call = message.call
            row = self.rows.get((call.step, call.item))
            barrier = message.guard is Guard.BARRIER
            if not (Barrier if barrier else Naive).runs_code(row, call):
                continue
            if self.budget.noes and (call.phase is Phase.ACTION or self.budget.faults):
                yield Move("deliver", message, Wants.NO)
            if self.budget.laters and call.step in self.setup.may_wait and (barrier or call.phase is Phase.ACTION):
                yield Move("deliver", message, Wants.LATER)
            if self.budget.faults and "fails" in self.setup.faults:
                yield Move("deliver", message, Wants.FAILS)

    def _time(self) -> Iterator[Move]:
        owner = self.owner
        if owner is None or owner.seen is None:
            return
        wake = owed(self.setup.definition, owner.seen, self.now, owner.epoch).wake
        if wake is None:
            return
        if not owner.flying or wake - self.now <= IN_FLIGHT_MAX or wake == self.setup.deadline:
            yield Move("jump", free=True)
            if self.budget.crashes:
                yield Move("jump", dies=True)

    def _owners(self) -> Iterator[Move]:
        owner = self.owner
        if owner is None:
            if self.record.ended is None or self.owes_notice():
                yield Move("adopt", free=True)
        else:
            if owner.seen is not self.record:
                yield Move("poll", free=True)
            if self.budget.crashes:
                yield Move("crash")
                yield Move("adopt")
        for process in self.processes:
            if process.epoch != self.epoch and process.seen is not None and self.stale_sends(process):
                yield Move("wake", epoch=process.epoch, free=True)
        for process in self.processes:
            for flying in process.flying:
                if process.epoch == self.epoch and not self.under_way(process, flying):
                    yield Move("lose", epoch=process.epoch, flying=flying, free=True)

    def _pending(self) -> Iterator[Move]:
        for vertex, row in self.rows.items():
            if (Barrier if self.behind_barrier(vertex) else Naive).can_finish(row):
                yield Move("finish", vertex=vertex, free=True)
                if self.budget.noes:
                    yield Move("finish", vertex=vertex, wants=Wants.NO)

    def _faults(self) -> Iterator[Move]:
        kinds = self.setup.faults
        for process in self.processes:
            if process.epoch != self.epoch or process.seen is None:
                continue
            for flying in process.flying:
                messages = [each for each in self.wire if is_of(each, process.epoch, flying)]
                if not messages:
                    continue
                if "timed-out" in kinds:
                    yield Move("lose", epoch=process.epoch, flying=flying)
                if any(isinstance(each, Answer) for each in messages):
                    continue
                for cause in (Cause.NOT_SENT, Cause.MISROUTED):
                    if cause.value in kinds:
                        yield Move("lose", epoch=process.epoch, flying=flying, cause=cause)
                if "halt" in kinds:
                    yield Move("halt", epoch=process.epoch, flying=flying, cause=Cause.PROTOCOL)
        if "duplicate" in kinds:
            for message in dict.fromkeys(self.wire):
                if isinstance(message, Answer) or message.guard is Guard.BARRIER:
                    yield Move("duplicate", message)

    def _people(self) -> Iterator[Move]:
        for does in deeds(self.setup.definition, self.record, self.evidence.net, self.copies()):
            if (self.budget.cancels if does.cancels else self.budget.verbs) > 0:
                yield Move("person", does=does)

    # -- what happens

    def apply(self, move: Move) -> "World":
        """The world after a move."""
        new = self.copy()
        if not move.free:
            new.pay(move)
        match move.kind:
            case "deliver":
                new.deliver(move)
            case "receive":
                new.receive(move)
            case "jump":
                new.jump(dies=move.dies)
            case "adopt":
                new.adopt()
            case "poll":
                new.poll()
            case "crash":
                new.crash()
            case "wake":
                new.send_owed(move.epoch)
            case "lose" | "halt":
                new.lose(move)
            case "duplicate" if move.message is not None:
                new.wire = (*new.wire, move.message)
            case "finish":
                new.finish(move.vertex, move.wants)
            case "person" if move.does is not None:
                new.person(move.does)
            case _:
                msg = f"no such move: {move.kind}"
                raise ValueError(msg)
        new.tidy()
        return new

    def pay(self, move: Move) -> None:
        """Take what a move costs from the budget."""
        budget = self.budget
        if move.dies or move.kind in {"crash", "adopt"}:
            budget = budget._replace(crashes=budget.crashes - 1)
        elif move.does is not None:
            if move.does.cancels:
                budget = budget._replace(cancels=budget.cancels - 1)
            else:
                budget = budget._replace(verbs=budget.verbs - 1)
        elif move.kind in {"deliver", "finish"} and move.wants is Wants.NO:
            compensates = isinstance(move.message, Request) and move.message.call.phase is Phase.COMPENSATION
            budget = budget._replace(noes=budget.noes - 1, faults=budget.faults - compensates)
        elif move.kind == "deliver" and move.wants is Wants.LATER:
            budget = budget._replace(laters=budget.laters - 1)
        else:
            budget = budget._replace(faults=budget.faults - 1)
        self.budget = budget

    def deliver(self, move: Move) -> None:
        """A call reaches its participant."""
        message = move.message
        assert isinstance(message, Request)
        self.wire = without(self.wire, message)
        call = message.call
        vertex = (call.step, call.item)
        row, reply = self.rows.get(vertex), self.setup.reply(call.step)
        if message.guard is Guard.BARRIER:
            said = Barrier.answer(row, call, move.wants, reply)
        else:
            said = Naive.answer(row, call, move.wants, reply, message.guard)
        self._happened(vertex, said)
        if any(process.epoch == message.epoch for process in self.processes):
            answer = Answer(message.epoch, message.attempt, call.step, call.item, call.phase, said.outcome)
            self.wire = (*self.wire, answer)

    def finish(self, vertex: tuple[str, str], wants: Wants) -> None:
        """A participant is done with what it took on, and posts the callback."""
        row = self.rows[vertex]
        phase = Phase.ACTION if row.state != "compensating" else Phase.COMPENSATION
        participant = Barrier if self.behind_barrier(vertex) else Naive
        said = participant.finish(row, wants, self.setup.reply(vertex[0]))
        self._happened(vertex, said)
        self.wire = (*self.wire, Answer(0, 0, *vertex, phase, said.outcome))

    def _happened(self, vertex: tuple[str, str], said: Said) -> None:
        if said.row is not self.rows.get(vertex):
            self.rows = dict(self.rows)
            if said.row is None:
                del self.rows[vertex]
            else:
                self.rows[vertex] = said.row
        if said.did:
            self.ledger = (*self.ledger, Effect(*vertex, said.did))

    def receive(self, move: Move) -> None:
        """An answer arrives."""
        answer = move.message
        assert isinstance(answer, Answer)
        self.wire = without(self.wire, answer)
        self._land(answer.epoch, Flying(answer.step, answer.item, answer.phase, answer.attempt))
        self._take_in(answer)
        if move.dies:
            self.crash()
        elif self.owner is not None and self.owner.epoch == answer.epoch:
            self.send_owed(answer.epoch)

    def _take_in(self, answer: Answer) -> None:
        owner = self.owner
        mine = owner is not None and owner.epoch == answer.epoch
        if not mine and answer.epoch and not isinstance(answer.outcome, Succeeded | SaidNo):
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
        self.send_owed(move.epoch)

    def jump(self, *, dies: bool) -> None:
        """Time goes on to the next moment that the owner waits for."""
        owner = self.owner
        assert owner is not None
        assert owner.seen is not None
        wake = owed(self.setup.definition, owner.seen, self.now, owner.epoch).wake
        assert wake is not None
        self.now = wake
        self.wire = tuple(
            each
            for each in self.wire
            if isinstance(each, Answer) or not each.sent or each.local or wake < each.sent + LATE_AFTER
        )
        self.decided(Due(self.now, owner.epoch), owner=True)
        if dies:
            self.crash()
        else:
            self.send_owed(owner.epoch)

    def adopt(self) -> None:
        """A process claims the run; whoever drove it before doesn't know."""
        self.epoch += 1
        self.processes = (*self.processes[-1:], Process(self.epoch, self.record))
        self.decided(Adopted(self.now, self.epoch), owner=True)
        self.decided(Due(self.now, self.epoch), owner=True)
        self.send_owed(self.epoch)

    def poll(self) -> None:
        """The owner reads what visitors wrote."""
        self._reread()
        self.decided(Due(self.now, self.epoch), owner=True)
        self.send_owed(self.epoch)

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
            self.ledger = (*self.ledger, Effect(*does.undoes, "undone", by_hand=True))
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
            self.ledger = self.ledger[:-1]
        elif not self.behind_barrier(does.undoes) and does.undoes in self.rows:
            self.rows = {**self.rows, does.undoes: replace(self.rows[does.undoes], undo_request=b"by hand")}

    # -- the log and the wire

    def decided(self, command: Command, *, owner: bool) -> Refusal | None:
        """Decide and append. An owner decides on what it has read; refused, it reads what visitors wrote and decides
        again.
        """
        driver = self.owner if owner else None
        if driver is not None and driver.seen is not None and driver.seen is not self.record:
            guess = decide(self.setup.definition, driver.seen, command)
            if isinstance(guess, Refusal) or not guess.events:
                return None
        decision = decide(self.setup.definition, self.record, command)
        if isinstance(decision, Refusal):
            return decision
        if decision.events:
            self._append(decision)
        if driver is not None:
            self._reread()
        return None

    def _reread(self) -> None:
        self.processes = (*self.processes[:-1], self.processes[-1]._replace(seen=self.record))

    def _append(self, decision: Decision) -> None:
        self.events = (*self.events, *decision.events)
        self.record = decision.record

    def send_owed(self, epoch: int) -> None:
        """Send what a process owes by what it knows; what needs a fact first is refused to one that is stale."""
        process = next((each for each in self.processes if each.epoch == epoch), None)
        if process is None or process.seen is None:
            return
        current = epoch == self.epoch
        for send in owed(self.setup.definition, process.seen, self.now, epoch).sends:
            flying = Flying(send.step, send.item, send.phase, send.attempt)
            if any(each[:3] == flying[:3] for each in process.flying):
                continue
            if send.starts:
                if not current:
                    self._drop(epoch)
                    return
                self.decided(Begin(self.now, epoch, send.step, send.item, send.phase), owner=True)
                if not self._is_begun(send, epoch):
                    self.send_owed(epoch)  # what it has read by now owes something else
                    return
            process = next(each for each in self.processes if each.epoch == epoch)
            if process.seen is None:
                return
            self._check_send(send, process.seen)
            process = process._replace(flying=process.flying | {flying})
            self.processes = tuple(process if each.epoch == epoch else each for each in self.processes)
            sent = 0 if send.guard is Guard.BARRIER else self.now
            call = Called(send.step, send.item, send.phase, send.kind, send.body, epoch, send.seal)
            request = Request(epoch, send.attempt, send.guard, send.participant == LOCAL, send.since, sent, call)
            self.wire = (*self.wire, request)
        if current and self.record.ended is not None and not self.owes_notice():
            self._drop(epoch)

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
        self.processes = tuple(
            each._replace(seen=None, flying=frozenset()) if each.epoch == epoch else each for each in self.processes
        )

    def _land(self, epoch: int, flying: Flying) -> None:
        self.processes = tuple(
            each._replace(flying=each.flying - {flying}) if each.epoch == epoch else each for each in self.processes
        )

    def tidy(self) -> None:
        """Forget what makes no difference any more."""
        self.processes = tuple(
            each
            for each in self.processes
            if each.seen is not None
            or each.epoch == self.epoch
            or any(message.epoch == each.epoch for message in self.wire)
        )

    # -- to the end

    def remedies(self) -> Iterator[Move]:
        """What a sensible person would try about the oldest reason why it is stuck."""
        for does in remedies(self.record, self.evidence.net, self.copies()):
            yield Move("person", does=does, free=True)


def begin(setup: Setup) -> "World":
    """The world right after the start was acknowledged."""
    command = Start(at=MICROSECONDS, epoch=1, run=RUN, input=setup.input, deadline=setup.deadline)
    started = start(setup.definition, command)
    world = World(setup)
    world.now = MICROSECONDS
    world.epoch = 1
    world.record = started.record
    world.events = started.events
    world.processes = (Process(1, started.record),)
    world.send_owed(1)
    return world
