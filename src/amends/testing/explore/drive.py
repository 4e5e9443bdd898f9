"""The drivers of a run: the log, the processes that read it, what they wait for, and the time.

Worlds differ in what is under way, and in what participants keep, far more often than in this. So worlds share their
drives: equal ones are one object, and what follows from a move is worked out once for each, however many worlds go
through it. Drives never change.

How processes go about it is told in `amends.testing.explore.world`.
"""

from typing import Final, NamedTuple

from amends.core.run.answers import Cause, Halt, Outcome, SaidNo, Succeeded, Unknown
from amends.core.run.commands import Adopted, Begin, Command, Due, Refusal, Reply
from amends.core.run.owed import Send, withdrawable
from amends.core.run.record import LOCAL, RunRecord
from amends.core.words.keys import Phase, unit_name
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import Guard, Kind
from amends.testing.explore.fingerprint import ranks
from amends.testing.explore.history import RunHistory
from amends.testing.explore.marks import Marks, View
from amends.testing.explore.moves import AnswerOnWay, Flying, Move, PaperProcess, RequestOnWay
from amends.testing.explore.participants import Called

DEFINITE: Final = (Succeeded, SaidNo)
"""What a process takes in from a call that isn't its own."""

_SENDS: Final = frozenset({"receive", "jump", "adopt", "poll", "lose", "halt", "deadline"})
"""After these the owner sends what it owes, if it lives."""


class Followed(NamedTuple):
    """What follows from a move: the drivers of the run then, the calls that left, and what was wrong with that.

    `held`: the message that it follows from, so that it keeps its identity.
    """

    drive: "Drive"
    left: tuple[RequestOnWay, ...]
    wrong: str | None
    held: AnswerOnWay | None = None


class Head(NamedTuple):
    """What matters of a drive while certain epochs are alive. `moments`: times in it."""

    view: View
    mark: int
    moments: tuple[int, ...]


def _never_sent(send: Send, now: int, epoch: int) -> Reply:
    came = Unknown(Cause.WITHDRAWN, "taken back before it was sent", counted=False)
    return Reply(now, epoch, send.step, send.item, send.phase, send.attempt, came)


class Drive:
    """The drivers of a run, as a value. Equal ones are one: `Drives.one` makes them.

    Sets of epochs are numbers, one bit for each. `alive`: the latest owner's and those of all processes; `living`: of
    all processes; `readers`: of those that have the run; `former`: of those that had it, and only bring answers.
    """

    __slots__ = (
        "_drives",
        "_head",
        "_heads",
        "_known",
        "_news",
        "alive",
        "epoch",
        "former",
        "history",
        "living",
        "now",
        "owner",
        "processes",
        "readers",
    )

    def __init__(
        self, drives: "Drives", history: RunHistory, processes: tuple[PaperProcess, ...], now: int, epoch: int
    ) -> None:
        self._drives = drives
        self.history = history
        self.processes = processes
        self.now = now
        self.epoch = epoch
        last = processes[-1] if processes else None
        self.owner = last if last is not None and last.epoch == epoch and last.seen is not None else None
        self.living = self.readers = self.former = 0
        for each in processes:
            bit = 1 << each.epoch
            self.living |= bit
            if each.seen is not None:
                self.readers |= bit
            elif each.epoch != epoch:
                self.former |= bit
        self.alive = self.living | 1 << epoch
        # There are very many drives, and most are gone through once or twice: tables are made when they are needed.
        self._known: dict[object, Followed] | None = None
        self._head: tuple[int, Head] | None = None
        self._heads: dict[int, Head] | None = None
        self._news: dict[int, tuple[bool, AnswerOnWay]] | None = None

    # -- what follows from a move

    def receive(self, answer: AnswerOnWay, *, dies: bool) -> Followed:
        """An answer arrives."""
        table = self._followed()
        key = -id(answer) if dies else id(answer)
        known = table.get(key)
        if known is None:
            driving = _Driving(self._drives, self)
            driving.land(answer.epoch, Flying(answer.step, answer.item, answer.phase, answer.attempt))
            driving.take_in(answer)
            known = table[key] = driving.end(sends=True, dies=dies)._replace(held=answer)
        return known

    def after(self, move: Move) -> Followed:
        """Any other move that concerns a process."""
        table = self._followed()
        key = (move.kind, move.epoch, move.flying, move.cause, move.dies)
        known = table.get(key)
        if known is None:
            driving = _Driving(self._drives, self)
            driving.go_on(move)
            known = table[key] = driving.end(sends=move.kind in _SENDS, dies=move.dies)
        return known

    def _followed(self) -> dict[object, Followed]:
        if self._known is None:
            self._known = {}
        return self._known

    def asked(self, command: Command) -> "tuple[Drive, Refusal | None]":
        """A person asks for something, of a process that is there."""
        decided = self.history.after(command)
        if isinstance(decided, Refusal):
            return self, decided
        return self._drives.one(decided, self.processes, self.now, self.epoch), None

    def without_former(self, awaited: int) -> "Drive":
        """Without those that only bring answers, of which none is on its way. `awaited`: whose are."""
        gone = self.former & ~awaited
        if not gone:
            return self
        table = self._followed()
        key = ("without", gone)
        known = table.get(key)
        if known is None:
            left = tuple([each for each in self.processes if not gone >> each.epoch & 1])
            known = table[key] = Followed(self._drives.one(self.history, left, self.now, self.epoch), (), None)
        return known.drive

    # -- what can be said of it

    def is_news(self, answer: AnswerOnWay) -> bool:
        """Whether an answer that any process brings belongs in the log."""
        if self._news is None:
            self._news = {}
        known = self._news.get(id(answer))
        if known is None:
            offered = Reply(self.now, 0, answer.step, answer.item, answer.phase, answer.attempt, answer.outcome)
            known = self._news[id(answer)] = (self.history.after(offered) is not self.history, answer)
        return known[0]

    def head(self, alive: int) -> Head:
        """What matters of it while these epochs are alive."""
        last = self._head
        if last is not None and last[0] == alive:
            return last[1]
        if last is None:
            head = self._head_among(alive)
            self._head = (alive, head)
            return head
        if self._heads is None:
            self._heads = {}
        known = self._heads.get(alive)
        if known is None:
            known = self._heads[alive] = self._head_among(alive)
        return known

    def _head_among(self, alive: int) -> Head:
        history = self.history
        shape = history.shape(self.epoch)
        marks = self._drives.marks
        view = marks.view(alive, shape.open)
        moments = list(shape.moments)
        processes: list[object] = []
        for epoch, seen, flying in self.processes:
            if seen is None or seen is history:
                knows: int | bool = seen is None
            else:
                other = seen.shape(epoch)
                moments += other.moments
                knows = other.mark
            processes += (view.age(epoch), marks.of_calls(flying, shape.open), knows)
        mark = hash((shape.mark, tuple(processes), view.age(self.epoch), ranks(moments, self.now)))
        return Head(view, mark, tuple(moments))


class Drives:
    """Every drive of one setting, each once."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self._all: dict[tuple[RunHistory, tuple[PaperProcess, ...], int, int], Drive] = {}

    def one(self, history: RunHistory, processes: tuple[PaperProcess, ...], now: int, epoch: int) -> Drive:
        """The one object for this."""
        key = (history, processes, now, epoch)
        known = self._all.get(key)
        if known is None:
            known = self._all[key] = Drive(self, history, processes, now, epoch)
        return known

    def begun(self, history: RunHistory, now: int) -> Followed:
        """Right after the start was acknowledged to the first owner."""
        return _Driving(self, self.one(history, (PaperProcess(1, history),), now, 1)).end(sends=True, dies=False)


class _Driving:
    """A drive that something happens to."""

    def __init__(self, drives: "Drives", drive: Drive) -> None:
        self._drives = drives
        self._now, self._epoch = drive.now, drive.epoch
        self._history, self._processes = drive.history, drive.processes
        self._left: list[RequestOnWay] = []
        self._wrong: str | None = None

    def end(self, *, sends: bool, dies: bool) -> Followed:
        """What came of it. `sends`: the owner sends what it owes now; `dies`: or it dies instead."""
        if dies:
            self.crash()
        elif sends:
            self._send_owed(self._epoch)
        if len(self._processes) > 1:
            self._wake_former()
            for each in self._processes:
                if each.seen is not None and each.epoch != self._epoch and not self._may_send(each):
                    self._drop(each.epoch)
        drive = self._drives.one(self._history, self._processes, self._now, self._epoch)
        return Followed(drive, tuple(self._left), self._wrong)

    # -- what happens

    def go_on(self, move: Move) -> None:
        """A move that is no message."""
        match move.kind:
            case "jump":
                self.jump()
            case "adopt":
                self.adopt()
            case "poll":
                self.poll()
            case "lose" | "halt":
                self.lose(move)
            case "deadline":
                self.pass_deadline()
            case "crash":
                self.crash()
            case _:
                msg = f"no such move: {move.kind}"
                raise ValueError(msg)

    def take_in(self, answer: AnswerOnWay) -> None:
        """What an answer says is decided on, by its process or, if that has lost the run, by any process.

        A process that has lost the run and doesn't know decides as if it were the owner. It learns that it isn't when
        its append is refused; where nothing follows from the answer there is no append, and it goes on.
        """
        owner = self._owner
        mine = owner is not None and owner.epoch == answer.epoch
        step, item, phase, attempt = answer.step, answer.item, answer.phase, answer.attempt
        if not mine and answer.epoch:
            process = self._process(answer.epoch)
            if process is not None and process.seen is not None:
                own = Reply(self._now, answer.epoch, step, item, phase, attempt, answer.outcome)
                if process.seen.after(own) is process.seen:
                    return
                self._drop(answer.epoch)
            if not isinstance(answer.outcome, DEFINITE):
                return
        epoch = answer.epoch if mine else 0
        self._decided(Reply(self._now, epoch, step, item, phase, attempt, answer.outcome), owner=mine)

    def lose(self, move: Move) -> None:
        """An owner's call ends without an answer."""
        flying = move.flying
        assert flying is not None
        outcome: Outcome = Unknown(move.cause, move.cause.value)
        if move.kind == "halt":
            outcome = Halt(StuckReason.PROTOCOL, "halted")
        self.land(move.epoch, flying)
        step, item, phase, attempt = flying
        self._decided(Reply(self._now, move.epoch, step, item, phase, attempt, outcome), owner=True)

    def jump(self) -> None:
        """Time goes on to the next moment that the owner waits for."""
        owner = self._owner
        assert owner is not None
        assert owner.seen is not None
        wake = owner.seen.owed(self._now, owner.epoch).wake
        assert wake is not None
        self._now = wake
        self._decided(Due(self._now, owner.epoch), owner=True)

    def adopt(self) -> None:
        """A process claims the run; its former driver doesn't know."""
        self._epoch += 1
        self._processes = (*self._processes[-1:], PaperProcess(self._epoch, self._history))
        self._decided(Adopted(self._now, self._epoch), owner=True)
        self._decided(Due(self._now, self._epoch), owner=True)

    def poll(self) -> None:
        """The owner reads what visitors wrote."""
        self._reread()
        self._decided(Due(self._now, self._epoch), owner=True)

    def pass_deadline(self) -> None:
        """The moment at which the run's deadline is over turns out to be this one."""
        self._processes = tuple(
            each if each.seen is None else each._replace(seen=each.seen.due_at(self._now)) for each in self._processes
        )
        self._history = self._history.due_at(self._now)
        if self._owner is not None:
            self._decided(Due(self._now, self._epoch), owner=True)

    def crash(self) -> None:
        """The owner's process dies."""
        self._processes = self._processes[:-1]

    def land(self, epoch: int, flying: Flying) -> None:
        """A process waits for a call no longer."""
        self._processes = tuple(
            [
                PaperProcess(epoch, each.seen, tuple([one for one in each.flying if one != flying]))
                if each.epoch == epoch and flying in each.flying
                else each
                for each in self._processes
            ]
        )

    # -- the log

    @property
    def _owner(self) -> PaperProcess | None:
        last = self._processes[-1] if self._processes else None
        return last if last is not None and last.epoch == self._epoch and last.seen is not None else None

    def _decided(self, command: Command, *, owner: bool) -> None:
        """Decide and append. An owner decides on what it has read; refused, it reads what visitors wrote and decides
        again.
        """
        driver = self._owner if owner else None
        if driver is not None and driver.seen is not None and driver.seen is not self._history:
            guess = driver.seen.after(command)
            if isinstance(guess, Refusal) or guess is driver.seen:
                return
        decided = self._history.after(command)
        if isinstance(decided, Refusal):
            return
        self._history = decided
        if driver is not None:
            self._reread()

    def _reread(self) -> None:
        self._processes = (*self._processes[:-1], self._processes[-1]._replace(seen=self._history))

    def _drop(self, epoch: int) -> None:
        self._processes = tuple(
            [PaperProcess(epoch, None) if each.epoch == epoch else each for each in self._processes]
        )

    # -- what is sent

    def _send_owed(self, epoch: int) -> None:
        """Send what a process owes by what it knows, but no action that must not leave any more: that is told as never
        sent. What needs a fact first is refused to a process that is stale.
        """
        process = self._process(epoch)
        if process is None or process.seen is None:
            return
        current, seen = epoch == self._epoch, process.seen
        for send in seen.owed(self._now, epoch).sends:
            flying = Flying(send.step, send.item, send.phase, send.attempt)
            if any(each[:3] == flying[:3] for each in process.flying):
                continue
            never = send.phase is Phase.ACTION and withdrawable(seen.definition, seen.record, send.step, send.item)
            if (send.starts or never) and not current:
                self._drop(epoch)
                return
            if never:
                self._decided(_never_sent(send, self._now, epoch), owner=True)
                self._send_owed(epoch)
                return
            if send.starts:
                self._decided(Begin(self._now, epoch, send.step, send.item, send.phase), owner=True)
                if not self._is_begun(send, epoch):
                    self._send_owed(epoch)  # what it has read by now owes something else
                    return
            process = self._process(epoch)
            if process is None or process.seen is None:
                return
            seen = process.seen
            self._check(send, seen.record)
            process = process._replace(flying=(*process.flying, flying))
            self._processes = tuple(process if each.epoch == epoch else each for each in self._processes)
            sent = 0 if send.guard is Guard.BARRIER else self._now
            call = Called(send.step, send.item, send.phase, send.kind, send.body, epoch, send.seal)
            request = RequestOnWay(epoch, send.attempt, send.guard, send.participant == LOCAL, send.since, sent, call)
            self._left.append(self._drives.marks.message(request))
        record = self._history.record
        if current and record.ended is not None and not owes_notice(record):
            self._drop(epoch)

    def _process(self, epoch: int) -> PaperProcess | None:
        for each in self._processes:
            if each.epoch == epoch:
                return each
        return None

    def _wake_former(self) -> None:
        """A process that lost the run and doesn't know sends what it thinks it owes, at once: a message may take any
        time on its way, so that one is sent later is as if it had been sent and arrived later.
        """
        for process in self._processes:
            if process.epoch != self._epoch and process.seen is not None and self._has_to_send(process):
                self._send_owed(process.epoch)

    def _has_to_send(self, process: PaperProcess) -> bool:
        """Whether a process that doesn't own the run any more, and doesn't know, has something to send."""
        if process.seen is None:
            return False
        sends = process.seen.owed(self._now, process.epoch).sends
        if not sends:
            return False
        flying = {each[:3] for each in process.flying}
        return any((each.step, each.item, each.phase) not in flying for each in sends)

    def _may_send(self, process: PaperProcess) -> bool:
        """Whether a process that doesn't know that it lost the run has, or will have, something to send.

        If not, it only brings answers, as one that knows.
        """
        if process.seen is None:
            return False
        return self._has_to_send(process) or process.seen.owed(self._now, process.epoch).wake is not None

    def _is_begun(self, send: Send, epoch: int) -> bool:
        """Whether the log knows that this process makes this attempt."""
        record = self._history.record
        item = record.item(send.step, send.item)
        tries = None if item is None else item.tries(send.phase)
        return tries is not None and tries.open_epoch == epoch and record.ended is None

    def _check(self, send: Send, seen: RunRecord) -> None:
        """What holds for every single call that leaves, whatever was sent before."""
        name = f"{unit_name(send.step, send.item)}:{send.phase.value}"
        if (send.step, send.item, send.phase) in seen.marks:
            self._wrong = self._wrong or f"nothing is sent for a marked phase: {name}"
        if send.phase is not Phase.ACTION or send.guard is not Guard.BARRIER or seen.ended is not None:
            return
        if seen.turned is not None:
            self._wrong = self._wrong or f"one direction: {name} was sent after the run turned back"
        elif seen.abort_requested is not None and send.kind is Kind.PIVOT:
            self._wrong = self._wrong or f"one direction: the pivot {name} was sent after somebody wanted to turn back"


def owes_notice(record: RunRecord) -> bool:
    """Whether a completion notification is still due."""
    notice = record.notice
    return notice is not None and notice.due is not None and not record.notice_delivered
