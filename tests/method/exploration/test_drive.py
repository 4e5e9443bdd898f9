# pyright: reportPrivateUsage=false
"""The explorer's account of a worker is held against the worker that ships, over stories that are drawn."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from amends.core.run import commands as c
from amends.core.run.answers import CallResponse, Came, Cause, Lost, NotSent, Pending, Succeeded
from amends.core.run.owed import Owed
from amends.core.run.record import ASK, RunState, StepState
from amends.core.words.keys import NOTICE, Phase
from amends.testing.explore import drive
from amends.testing.explore.drive import _Driving
from amends.testing.explore.given import NO, Given
from amends.testing.explore.history import RunHistory
from amends.testing.explore.participants import ABSENT, FAILED
from amends.testing.explore.people import SOMEBODY
from amends.testing.simulation.network import HTML, wire_answer
from tests.method.exploration.sagas import ALL, INPUT, definition_of
from tests.method.exploration.two_tellings import Left, Process, TwoTellings

STEPS_MAX: Final = 40
SEEDS: Final = 3
CAMPAIGN_SEEDS: Final = 250


class Story:
    """One story, drawn from a seed. `badness`: how likely it is that an answer isn't a plain yes."""

    def __init__(self, name: str, seed: int) -> None:
        self.dice = random.Random(f"{name} {seed}")
        self.badness = self.dice.choice([0.1, 0.3, 0.6])
        definition = definition_of(name)
        self.both = TwoTellings(definition)
        self.given = Given(definition, INPUT)
        self.taken_on: list[Left] = []
        self.ends = 1

    async def tell(self) -> Counter[str]:
        both = self.both
        await both.start()
        try:
            for _ in range(STEPS_MAX):
                if (both.record.ended is not None and both.drive.owner is None) or not await self._go_on():
                    break
        finally:
            await both.close()
        return both.kinds

    async def _go_on(self) -> bool:
        both, dice = self.both, self.dice
        deeds = [each for each in self._deeds() if dice.random() < (0.05 if isinstance(each, c.Cancel) else 0.3)]
        if both.unread and dice.random() < 0.6:
            await both.poll()
        elif deeds:
            await both.ask(dice.choice(deeds))
        elif self.ends and both.record.ended is None and dice.random() < 0.06:
            self.ends -= 1
            await (both.crash() if dice.random() < 0.5 else both.take_over())
        elif self.taken_on and dice.random() < 0.4:
            left = self.taken_on.pop(dice.randrange(len(self.taken_on)))
            await both.post(left, wire_answer(NO if self._bad() and left.phase is Phase.ACTION else self._yes(left)))
        elif both.waits and dice.random() < 0.9:
            process, left = dice.choice(both.waits)
            came = self._came(left)
            if isinstance(came, CallResponse) and came.status == 202:
                # What is asked about is the action: its completion comes under the action's key.
                settles = left.phase in {Phase.PROBE, Phase.SEAL}
                self.taken_on.append(left._replace(phase=Phase.ACTION) if settles else left)
            await both.answer(process, left, came)
        elif (moment := both.time.next_moment()) is not None:
            await both.pass_time(moment)
        elif both.unread:
            await both.poll()
        else:
            return bool(both.waits)
        return True

    def _bad(self) -> bool:
        return self.dice.random() < self.badness

    def _yes(self, left: Left) -> Succeeded:
        item = self.both.record.item(left.step, left.item)
        if left.step == NOTICE:
            return Succeeded(b'{"id":"told"}')
        if left.phase is Phase.COMPENSATION or item is None:
            return Succeeded(b"null")
        return Succeeded(self.given.reply(self.both.record, item))

    def _came(self, left: Left) -> Came:
        if not self._bad():
            return wire_answer(self._yes(left))
        ends: list[Came] = [
            NotSent("nobody there"),
            Lost(Cause.TIMED_OUT, "no answer"),
            Lost(Cause.LOST, "reset"),
            wire_answer(FAILED),
            CallResponse(200, {"content-type": "text/html"}, HTML),
            CallResponse(503, {"retry-after": "7"}, b""),
            wire_answer(Pending()),
        ]
        if left.phase is Phase.ACTION:
            ends += [wire_answer(NO), wire_answer(NO)]
        if left.phase in {Phase.PROBE, Phase.SEAL}:
            ends += [wire_answer(NO), wire_answer(ABSENT)]
        return self.dice.choice(ends)

    def _deeds(self) -> list[c.Verb]:
        record, now = self.both.record, self.both.time.now()
        verbs: list[c.Verb] = []
        if record.ended is not None:
            return verbs
        if record.turned is None and record.abort_requested is None:
            verbs += [c.Cancel(now, 0, SOMEBODY), c.Cancel(now, 0, SOMEBODY, "compensate")]
        if record.state is RunState.STUCK:
            verbs += [c.RetryStep(now, 0, SOMEBODY)] * 4 + [c.Abandon(now, 0, SOMEBODY)]
            for mark in record.marks.values():
                verbs.append(c.Skip(now, 0, SOMEBODY, mark.step, mark.item or None))
        for item in record.items():
            asked = item.request is not None and item.request.participant == ASK
            if asked and item.state is StepState.ACTING:
                verbs += [c.AnswerQuestion(now, 0, SOMEBODY, item.step, self.given.reply(record, item))] * 3
                verbs.append(c.AnswerQuestion(now, 0, SOMEBODY, item.step, None))
        possible = self.both.drive.history.after
        return [verb for verb in verbs if not isinstance(possible(verb), c.Refusal)]


def told(name: str, seeds: range) -> Counter[str]:
    """Tell stories of one saga; what happened in them, counted."""
    kinds: Counter[str] = Counter()

    async def tell() -> None:
        for seed in seeds:
            kinds.update(await Story(name, seed).tell())

    asyncio.run(tell())
    return kinds


EVERYTHING: Final = {
    *("answer Succeeded", "answer SaidNo", "answer Unknown", "answer Pending", "post"),
    *("ask Cancel", "ask RetryStep", "ask Skip", "ask Abandon", "ask AnswerQuestion"),
    *("jump", "time passes", "poll", "crash", "take over", "adopt", "let go of"),
}


def test_the_worker_does_what_the_explorer_says() -> None:
    happened: Counter[str] = Counter()
    for name in ALL:
        happened += told(name, range(3 * SEEDS if name == "asking" else SEEDS))
    assert set(happened) >= EVERYTHING, f"never happened: {EVERYTHING - set(happened)}"


@pytest.mark.campaign
@pytest.mark.parametrize("name", ALL)
def test_the_worker_does_what_the_explorer_says_in_many_stories(name: str) -> None:
    told(name, range(SEEDS, CAMPAIGN_SEEDS))


def test_a_process_that_lost_its_run_goes_on_until_an_append_is_refused() -> None:
    """Its call times out, but the run has turned back already: nothing is to be written, so nothing tells it."""

    async def tell() -> list[int]:
        both = TwoTellings(definition_of("settled"))
        try:
            await both.start()
            await both.answer(*only(both), CallResponse(503, {}, b""))
            await both.pass_time(due(both))
            await both.ask(c.Cancel(both.time.now(), 0, SOMEBODY))
            await both.poll()
            await both.answer(*only(both, Phase.COMPENSATION), CallResponse(503, {"retry-after": "7"}, b""))
            await both.take_over()
            await both.answer(*only(both, Phase.ACTION), Lost(Cause.LOST, "reset"))
            await both.pass_time(due(both))
            return sorted(left.epoch for _, left in both.waits if left.phase is Phase.COMPENSATION)
        finally:
            await both.close()

    assert asyncio.run(tell()) == [1, 2], "both owners send the compensation again"


def only(both: TwoTellings, phase: Phase = Phase.ACTION) -> tuple[Process, Left]:
    ((process, left),) = [each for each in both.waits if each[1].phase is phase]
    return process, left


def due(both: TwoTellings) -> int:
    moment = both.time.next_moment()
    assert moment is not None
    return moment


# -- an account that drifts is noticed


def adopts_without_looking_at_the_time(patch: pytest.MonkeyPatch) -> None:
    real = _Driving.adopt

    def adopt(self: _Driving) -> None:
        real(self)
        self._now += 1

    patch.setattr(_Driving, "adopt", adopt)


def sends_nothing_after_reading(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(drive, "_SENDS", drive._SENDS - {"poll"})


def offers_no_late_answers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(drive, "DEFINITE", ())


def writes_nothing_before_an_unguarded_call(patch: pytest.MonkeyPatch) -> None:
    real = RunHistory.owed

    def owed(self: RunHistory, now: int, epoch: int) -> Owed:
        found = real(self, now, epoch)
        return replace(found, sends=tuple(replace(send, starts=False) for send in found.sends))

    patch.setattr(RunHistory, "owed", owed)


def notices_at_once_that_it_lost_its_run(patch: pytest.MonkeyPatch) -> None:
    def asleep(_driving: _Driving) -> None: ...

    patch.setattr(_Driving, "_wake_former", asleep)


DRIFTS: Final = [
    (adopts_without_looking_at_the_time, "telling"),
    (sends_nothing_after_reading, "chain"),
    (offers_no_late_answers, "parallel"),
    (writes_nothing_before_an_unguarded_call, "old-put"),
    (notices_at_once_that_it_lost_its_run, "whole"),
]


@pytest.mark.parametrize(("plant", "name"), DRIFTS, ids=[plant.__name__ for plant, _ in DRIFTS])
def test_an_account_that_drifts_is_noticed(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], name: str
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="differ"):
        told(name, range(CAMPAIGN_SEEDS))
