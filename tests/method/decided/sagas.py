"""The sagas whose decisions are written down: one for each shape, guard and mistake that a rule speaks of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from amends.core.run.definition import Definition
from amends.core.saga.operation import ask, sleep
from amends.core.words.errors import Rejected
from amends.core.words.retry import Policy, Retry
from tests.support.stories import (
    Asked,
    Barrier,
    Once,
    OnceAsked,
    Plain,
    Spec,
    c,
    calls,
    definition_of,
    gives,
    many,
    n,
    p,
    r,
)

TWICE: Final = Policy(
    retry=Retry(attempts_max=2, first=timedelta(seconds=1), cap=timedelta(seconds=4)),
    compensation_retry=Retry(attempts_max=2, first=timedelta(seconds=1), cap=timedelta(seconds=4)),
)
HOUR: Final = Policy(retry=Retry(attempts_max=None, give_up_after=timedelta(minutes=3)))
STUCK: Final = Policy(retry=TWICE.retry, compensation_retry=TWICE.compensation_retry, on_unknown="stuck")
SETTLE: Final = Policy(retry=TWICE.retry, compensation_retry=TWICE.compensation_retry, on_unknown="settle")


@dataclass(frozen=True)
class Given:
    """A saga, unchecked: calls without a barrier can be decided on before they can be sent."""

    specs: tuple[Spec, ...]
    notice: Callable[..., Any] | None = None

    def definition(self) -> Definition:
        return definition_of(*self.specs, notice=self.notice)


def asks(_input: str, *_replies: object) -> object:
    return ask(str, "really?", within=timedelta(hours=1))


def asks_many(_input: str) -> object:
    return {name: ask(str, f"{name}?", within=timedelta(hours=1)) for name in ("who else", "x")}


def sleeps(_input: str, *_replies: object) -> object:
    return sleep(timedelta(minutes=5))


def perhaps(_input: str, reply: str | None) -> object:
    return None if reply == "ok" else Barrier.act(str(reply))


def optional(_input: str, reply: str | None) -> object:
    return Barrier.act(f"{reply}")


def needed(_input: str, reply: str) -> object:
    return Barrier.act(reply)


def counts(_input: str, replies: dict[str, str]) -> object:
    return Barrier.bare("+".join(f"{name}={reply}" for name, reply in replies.items()))


def listed(_input: str, *_replies: object) -> object:
    return [Plain.act("0"), Once.act("1")]


def nothing(_input: str, *_replies: object) -> object:
    return {}


def undo_by(_input: str, reply: str | None) -> object:
    return Barrier.undo(f"undo {reply}")


def undo_elsewhere(_input: str, _reply: str | None) -> object:
    return Plain.undo("elsewhere")


def told(_input: str, ended: object) -> object:
    return Barrier.bare(str(ended))


def told_once(_input: str, _ended: object) -> object:
    return Once.act("told")


def never_told(_input: str, _ended: object) -> object:
    return None


def no_call(_input: str, _ended: object) -> object:
    return 7


def cannot_tell(_input: str, _ended: object) -> object:
    raise KeyError("nobody")


async def works(text: str) -> str:
    return text


async def works_on(_text: str, reply: str) -> str:
    return reply


async def unworks(_text: str, _reply: str | None) -> None: ...


def _guarded(does: Any) -> Given:  # noqa: ANN401 - an operation of any participant
    return Given((c("a", does, policy=TWICE), c("b", reads="a", policy=TWICE)))


def _pivot(does: Any) -> Given:  # noqa: ANN401 - as above
    return Given((c("a", policy=TWICE), p("p", does, reads="a", policy=TWICE), r("r", reads="p", policy=TWICE)))


SAGAS: Final[Mapping[str, Given]] = {
    "chain": Given((c("a", policy=TWICE), c("b", reads="a", policy=TWICE))),
    "patient": Given((c("a"), r("r", policy=HOUR))),
    "whole": Given((c("a", policy=TWICE), p("p", reads="a", policy=TWICE), r("r", reads="p", policy=TWICE))),
    "parallel": Given((c("a", policy=TWICE), c("b", policy=STUCK), c("d", after="a b", policy=TWICE))),
    "settle": Given((c("a", policy=SETTLE), c("b", reads="a", policy=STUCK))),
    "retriables": Given((r("q", Once.act, policy=TWICE), r("r", Plain.act, after="q", policy=TWICE), r("s"))),
    "items": Given(
        (c("a", policy=TWICE), c("m", many("x", "y z"), after="a", policy=TWICE), p("p", counts, reads="m"))
    ),
    "items-stuck": Given((c("m", many("x", "y"), policy=STUCK), c("b", after="m", policy=TWICE))),
    "items-unguarded": Given((c("m", listed, policy=TWICE), c("e", nothing, after="m"), r("r", many("x", "y")))),
    "neutral": Given((n("k", policy=TWICE), n("q", asks), n("z", sleeps), c("a", policy=TWICE), p("p", reads="q"))),
    "neutral-unguarded": Given((n("k", Once.act, policy=TWICE), n("j", Asked.act, policy=TWICE), c("a", after="k j"))),
    "neutral-later": Given(
        (p("p", policy=TWICE), n("q", asks, after="p"), n("z", sleeps, after="p"), r("r", after="q"))
    ),
    "optional": Given(
        (c("a", policy=TWICE), c("b", perhaps, reads="a"), c("d", optional, reads="b"), r("r", reads="a"))
    ),
    "plain": _guarded(Plain.act),
    "asked": _guarded(Asked.act),
    "once": _guarded(Once.act),
    "once-asked": _guarded(OnceAsked.act),
    "pivot-plain": _pivot(Plain.act),
    "pivot-asked": _pivot(Asked.act),
    "pivot-once": _pivot(Once.act),
    "pivot-once-asked": _pivot(OnceAsked.act),
    "asked-by-name": Given((n("q", asks_many), p("p"))),
    "local": Given(
        (c("a", works, undo=unworks, policy=TWICE), c("b", works_on, reads="a"), p("p", works_on, reads="b"))
    ),
    "override": Given((c("a", undo=undo_by, policy=TWICE), c("b", after="a", policy=TWICE), c("d", after="a"))),
    "override-wrong": Given((c("a", undo=undo_elsewhere, policy=TWICE), c("b", after="a", policy=TWICE))),
    "declined": Given(
        (c("a", policy=TWICE), c("b", gives(Rejected("none left", code="no-stock")), after="a"), c("d", after="a"))
    ),
    "declined-later": Given((p("p", policy=TWICE), r("r", gives(Rejected("is gone", code="gone")), after="p"), r("s"))),
    "declined-at-once": Given((c("a", gives(Rejected("not today"))), c("b"))),
    "broken": Given((c("a", policy=TWICE), c("b", gives(7), after="a"), c("d", reads="b"), c("f", after="a"))),
    "broken-later": Given((p("p", policy=TWICE), r("r", gives(KeyError("zip")), after="p"), r("s"), r("t", after="r"))),
    "notice": Given((c("a", policy=TWICE),), notice=told),
    "notice-once": Given((c("a", policy=TWICE),), notice=told_once),
    "notice-none": Given((c("a", policy=TWICE),), notice=never_told),
    "notice-no-call": Given((c("a", policy=TWICE),), notice=no_call),
    "notice-broken": Given((c("a", calls(Barrier.act, "a"), policy=TWICE),), notice=cannot_tell),
    "marks": Given((c("a"), c("b", after="a", policy=TWICE), c("k", Once.act, policy=TWICE), p("p", policy=TWICE))),
    "diamond": Given((c("a", policy=TWICE), c("b", after="a"), c("d", after="a", policy=TWICE), p("p", after="b d"))),
}
