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

from amends.core.run.answers import Cause
from amends.core.run.commands import Refusal, StartRun
from amends.core.words.keys import NOTICE, Phase, unit_name
from amends.core.words.retry import MICROSECONDS, Guard
from amends.testing.explore.drive import DEFINITE, Followed
from amends.testing.explore.fingerprint import LATE_AFTER
from amends.testing.explore.history import RunHistory
from amends.testing.explore.moment import Moment, WorldSetup
from amends.testing.explore.moves import AnswerOnWay, Message, Move, RequestOnWay, is_of
from amends.testing.explore.participants import Barrier, Wants
from amends.testing.explore.people import CANCEL, Does, remedies
from amends.testing.explore.possible import moves
from amends.testing.explore.rows import CallResult
from amends.testing.invariants import Effect

RUN: Final = "run"

_CALLBACK: Final = 1
"""The bit of the epoch without an owner: any process takes what comes under it."""


class World(Moment):
    """A moment of one run, and what can happen next. Treat it as frozen: `apply` gives another."""

    __slots__ = ()

    def moves(self) -> list[Move]:
        """Everything that can happen next, what is free first."""
        return moves(self)

    def apply(self, move: Move) -> "World":
        """The world after a move."""
        new = self.copy()
        if move.costs is not None or move.ends_process:
            new.budget = self.budget.without(move)
        match move.kind:
            case "deliver":
                new.deliver(move)
            case "receive":
                new.receive(move)
            case "finish":
                new.finish(move.vertex, move.phase, move.wants)
            case "person" if move.does is not None:
                new.cancelled += move.does == CANCEL and move.free
                new.person(move.does)
            case _:
                new.go_on(move)
        new.tidy()
        return new

    # -- what participants make of it

    def deliver(self, move: Move) -> None:
        """A call reaches its participant."""
        message = move.message
        assert isinstance(message, RequestOnWay)
        if not move.again:
            self.wire = self.wire.without(message)
        setup, step = self.setup, message.call.step
        silent = setup.given.silent.get(step) if message.call.phase is Phase.ACTION else None
        if silent is False:
            return  # it got lost on its way, as the story has it
        answers = self.drive.history.answers((step, message.call.item), setup.given)
        told = self.rows.told(message, move.wants, answers, setup.does_under(message.guard))
        self._happened(told)
        if silent is None and self.drive.living >> message.epoch & 1:
            self.wire = self.wire.plus(told.answer)

    def finish(self, vertex: tuple[str, str], phase: Phase, wants: Wants) -> None:
        """A participant is done with what it took on, and posts the callback."""
        answers = self.history.answers(vertex, self.setup.given)
        told = self.rows.finished(vertex, phase, wants, answers, self.setup.does_under(self.guard_of(vertex)))
        self._happened(told)
        self.wire = self.wire.plus(told.answer)

    def _happened(self, told: CallResult) -> None:
        self.rows = told.rows
        if told.did and told.answer.step != NOTICE:
            self.ledger = self.setup.marks.longer(self.ledger, Effect(told.answer.step, told.answer.item, told.did))

    # -- what processes make of it

    def receive(self, move: Move) -> None:
        """An answer arrives."""
        answer = move.message
        assert isinstance(answer, AnswerOnWay)
        if not move.again:
            self.wire = self.wire.without(answer)
        followed = self.drive.receive(answer, dies=move.dies)
        if move.dies:
            self._die_out()
        self._follow(followed)

    def go_on(self, move: Move) -> None:
        """Something happens to a process, or time passes."""
        followed = self.drive.after(move)
        flying = move.flying
        if move.kind == "jump" and self.setup.marks.unguarded:
            self._pass(followed.drive.now)
        elif flying is not None and move.cause is not Cause.TIMED_OUT:
            self.wire = self.wire.keeping(lambda each: not is_of(each, move.epoch, flying))
        if move.dies or move.kind == "crash":
            self._die_out()
        self._follow(followed)

    def _pass(self, now: int) -> None:
        """Networks are assumed to forget after a while what no barrier protects."""
        self.wire = self.wire.keeping(
            lambda each: isinstance(each, AnswerOnWay) or not each.sent or each.local or now < each.sent + LATE_AFTER
        )

    def _die_out(self) -> None:
        """The owner's process dies: what was sent stays on its way, its own work and its answers are lost."""
        gone = self.processes[-1].epoch
        self.wire = self.wire.keeping(
            lambda each: each.epoch != gone or (isinstance(each, RequestOnWay) and not each.local)
        )

    def _follow(self, followed: Followed) -> None:
        self.drive = followed.drive
        if followed.wrong is not None:
            self.wrong = self.wrong or followed.wrong
        for request in followed.left:
            self.wire = self.wire.plus(request)
            self._check(request)

    def _check(self, request: RequestOnWay) -> None:
        """What is sent under a key is what was sent under it before."""
        call = request.call
        key = (call.step, call.item, call.phase)
        now = (call.body, request.since)
        before = self.sent.get(key)
        if before is None:
            self.sent = {**self.sent, key: now}
        elif before != now:
            name = f"{unit_name(call.step, call.item)}:{call.phase.value}"
            self.wrong = self.wrong or f"P6 same key, same bytes: {name} was sent before with {before}, now {now}"

    # -- people

    def person(self, does: Does) -> None:
        """A person asks for something, and does by hand what they say they did."""
        marks, undoes = self.setup.marks, does.undoes
        before, events = self.ledger, self.events
        if undoes is not None:
            self.ledger = marks.longer(before, Effect(*undoes, "undone", by_hand=True))
        self.drive, refused = self.drive.asked(does.command(self.now))
        added = self.events[len(events) :]
        if added and not any(isinstance(event, does.signed_by) for event in added):
            self.wrong = self.wrong or f"P8 persons sign: {does} changed the run without a signed fact"
        if undoes is None:
            return
        if isinstance(refused, Refusal):
            self.ledger = before
        elif self.guard_of(undoes) is not Guard.BARRIER and undoes in self.rows:
            self.rows = self.rows.with_row(undoes, replace(self.rows[undoes], undo_request=b"by hand"))

    # -- what makes no difference any more

    def tidy(self) -> None:
        """Forget what makes no difference any more, so that worlds that differ in nothing else are one."""
        drive = self.drive
        if self.wire.alive & ~(drive.readers | _CALLBACK):
            self.wire = self.wire.keeping(self._may_matter)
        if drive.history.record.ended is not None:
            # What is no news depends on other calls on their way: it is looked for among what may matter at all.
            self.wire = self.wire.keeping(self._is_news)
        if drive.former:
            self.drive = drive.without_former(self.wire.alive)

    def _may_matter(self, message: Message) -> bool:
        """Whether its arrival may change anything, ever."""
        if isinstance(message, AnswerOnWay):
            if message.epoch == 0 or isinstance(message.outcome, DEFINITE):
                return True
            return bool(self.drive.readers >> message.epoch & 1)
        if self.drive.living >> message.epoch & 1 or not self.setup.keeps_contract(message.guard):
            return True
        return not Barrier.is_settled(self.rows.get((message.call.step, message.call.item)), message.call)

    def _is_news(self, message: Message) -> bool:
        """Whether it, or the answer to it, may tell a run that has ended something that belongs in its log."""
        if isinstance(message, AnswerOnWay):
            return self.drive.is_news(message)
        vertex = (message.call.step, message.call.item)
        row = self.rows.get(vertex)
        if row is None or not self.setup.keeps_contract(message.guard) or Barrier.can_finish(row):
            return True
        others = [each.call for each in self.wire.requests if each.call[:2] == vertex]
        if not all(Barrier.is_settled(row, call) for call in others):
            return True
        answers = self.history.answers(vertex, self.setup.given)
        return self.drive.is_news(self.rows.told(message, Wants.YES, answers, Guard.BARRIER).answer)

    # -- from beginning to end

    def begin(self, begun: Followed) -> None:
        """The run was started."""
        self._follow(begun)
        self.tidy()

    def remedies(self) -> Iterator[Move]:
        """What a sensible person would try about the oldest reason why it is stuck."""
        for does in remedies(self.sight()):
            yield Move("person", does=does)


def begin(setup: WorldSetup) -> World:
    """The world right after the start was acknowledged."""
    command = StartRun(at=MICROSECONDS, epoch=1, run=RUN, input=setup.given.input)
    world = World(setup)
    begun = setup.drives.begun(RunHistory.begin(setup.definition, command), MICROSECONDS)
    world.begin(begun)
    return world
