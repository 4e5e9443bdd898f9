"""Whatever is told to whatever graph: deciding never raises, facts fold to the record, ends are final, nothing is lost.

The checks are `Story`'s own; here the stories are made up by hypothesis.
"""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from amends.core.run.answers import Cause, Halt, Outcome, Pending, SaidNo, Succeeded, Unknown
from amends.core.run.commands import Reply
from amends.core.run.evolve import evolve, fold
from amends.core.run.record import CLEAR, RunState, StepState
from amends.core.saga.operation import Operation
from amends.core.words.keys import Phase
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import Kind, Policy
from tests.support.stories import GUARDS, Barrier, Spec, Story, gives, many, policy

POLICIES: tuple[Policy | None, ...] = (
    None,
    policy("stuck", attempts=2),
    policy("settle", attempts=2),
    policy(attempts=1),
)


@st.composite
def graphs(draw: st.DrawFn) -> list[Spec]:
    """Up to six steps of every kind, guard and shape, in an order their kinds allow."""
    kinds = draw(st.lists(st.sampled_from([Kind.COMPENSABLE, Kind.COMPENSABLE, Kind.NEUTRAL]), max_size=3))
    if draw(st.booleans()):
        kinds.append(Kind.PIVOT)
    kinds += draw(st.lists(st.sampled_from([Kind.RETRIABLE, Kind.NEUTRAL]), max_size=2))
    specs: list[Spec] = []
    for number, kind in enumerate(kinds or [Kind.COMPENSABLE]):
        above = [each.name for each in specs]
        if kind is Kind.COMPENSABLE:
            above = [each.name for each in specs if each.kind in {Kind.COMPENSABLE, Kind.NEUTRAL}]
        after = draw(st.lists(st.sampled_from(above), unique=True, max_size=2)) if above else []
        specs.append(
            Spec(f"s{number}", kind, draw(_does(kind)), after=tuple(after), policy=draw(st.sampled_from(POLICIES)))
        )
    return specs


def _does(kind: Kind) -> st.SearchStrategy[Any]:
    calls: list[Operation[..., Any, Any]] = list(GUARDS.values())
    shapes: list[Any] = [*calls, Barrier.act, Barrier.act]
    if kind is not Kind.PIVOT:
        shapes += [many("x", "y"), many("x", "y", does=GUARDS["idempotent, asked"]), gives(None), gives({})]
    return st.sampled_from(shapes)


ANSWERS: list[Outcome] = [
    Succeeded(b'"ok"'),
    Succeeded(b"null", "noop"),
    SaidNo("no", "no"),
    SaidNo(None, "never", "noop"),
    Pending(),
    Halt(StuckReason.KEY_REUSED, "?"),
    *(
        Unknown(cause, "?")
        for cause in (Cause.TIMED_OUT, Cause.NOT_SENT, Cause.MISROUTED, Cause.ABSENT, Cause.WITHDRAWN)
    ),
    Unknown(Cause.IN_PROGRESS, "?", counted=False),
]

TOLD = st.one_of(
    st.tuples(st.just("answer"), st.integers(0, 5), st.sampled_from(ANSWERS)),
    st.tuples(st.just("answer"), st.integers(0, 5), st.sampled_from(ANSWERS[:3])),
    st.tuples(st.just("stray"), st.integers(0, 5), st.sampled_from(ANSWERS), st.sampled_from(Phase), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.sampled_from([1, 3_600, 8 * 86_400])),
    st.tuples(st.just("adopted")),
    st.tuples(st.just("verb"), st.sampled_from(["cancel", "compensate", "retry", "abandon"])),
    st.tuples(
        st.just("step"),
        st.integers(0, 5),
        st.sampled_from(["retry", "skip", "succeeded", "rejected", "undone", "answer"]),
    ),
)


def tell(story: Story, told: tuple[Any, ...]) -> None:
    names = list(story.definition.steps)
    match told:
        case ("answer", int(which), outcome):
            sends = story.owed.sends
            if sends:
                send = sends[which % len(sends)]
                story.reply(send.step, outcome, phase=send.phase, item=send.item)
        case ("stray", int(which), outcome, phase, int(attempt)):
            step = names[which % len(names)]
            known = story.record.steps.get(step)
            item = next(iter(known.items), "") if known is not None else ""
            story.do(Reply(story.now, which % 2 * story.epoch, step, item, phase, attempt, outcome))
        case ("wait", int(seconds)):
            story.due(seconds)
        case ("adopted",):
            story.adopted()
        case ("verb", "retry"):
            story.retry()
        case ("verb", "abandon"):
            story.abandon()
        case ("verb", verb):
            story.cancel(verb)
        case ("step", int(which), what):
            step = names[which % len(names)]
            known = story.record.steps.get(step)
            chosen = list(known.items)[which % len(known.items)] if known is not None and known.items else None
            tell_step(story, step, chosen, what)
        case _:
            raise AssertionError(told)


def tell_step(story: Story, step: str, item: str | None, what: Any) -> None:  # noqa: ANN401 - drawn from a list
    match what:
        case "retry":
            story.retry(step, item)
        case "skip":
            story.skip(step, item)
        case "answer":
            story.answer(step, b"null", item)
        case _:
            story.resolve(step, what, item=item)


def nothing_is_lost(story: Story) -> None:
    """A run that hasn't ended owes a call, waits for a moment, or asks a person; it never just stands there."""
    if story.record.state in {RunState.RUNNING, RunState.COMPENSATING}:
        owed = story.owed
        assert owed.sends or owed.wake is not None, f"nobody moves this on: {story.events}"


@settings(max_examples=400)
@given(specs=graphs(), commands=st.lists(TOLD, max_size=40), deadline=st.sampled_from([None, 5, 5_000]))
def test_whatever_is_told_every_promise_of_deciding_holds(
    specs: list[Spec], commands: list[tuple[Any, ...]], deadline: float | None
) -> None:
    story = Story(*specs, deadline=deadline)
    for told in commands:
        tell(story, told)
        nothing_is_lost(story)
    assert fold(story.events) == story.record
    ended(story)


def ended(story: Story) -> None:
    """What an end promises of its steps."""
    items = list(story.record.items())
    match story.record.ended:
        case RunState.COMPLETED:
            assert all(each.state in {StepState.DONE, StepState.SKIPPED} for each in items)
        case RunState.COMPENSATED:
            assert all(each.state in CLEAR for each in items)
        case _:
            pass


@settings(max_examples=200)
@given(specs=graphs(), commands=st.lists(TOLD, max_size=30))
def test_every_run_can_be_brought_to_an_end_by_its_participants_and_a_person(
    specs: list[Spec], commands: list[tuple[Any, ...]]
) -> None:
    story = Story(*specs)
    for told in commands:
        tell(story, told)
    for _ in range(400):
        if story.record.ended is not None:
            break
        for send in story.owed.sends[:1]:
            story.yes(send.step, phase=send.phase, item=send.item, reply=b'"ok"')
        if not story.owed.sends and story.record.marks:
            mark = next(iter(story.record.marks.values()))
            story.resolve(mark.step, "undone" if mark.phase is Phase.COMPENSATION else "succeeded", item=mark.item)
            if story.refused is not None:
                story.retry(mark.step, mark.item)
        elif not story.owed.sends and story.owed.wake is not None:
            story.wakes()
    assert story.record.ended is not None, story.marks


@settings(max_examples=100)
@given(specs=graphs(), commands=st.lists(TOLD, max_size=20))
def test_evolve_never_touches_the_record_it_is_given(specs: list[Spec], commands: list[tuple[Any, ...]]) -> None:
    story = Story(*specs)
    for told in commands:
        tell(story, told)
    record = None
    seen: list[tuple[Any, str]] = []
    for event in story.events:
        if record is not None:
            seen.append((record, repr(record)))
        record = evolve(record, event)
    assert all(repr(kept) == before for kept, before in seen)


@settings(max_examples=100)
@given(specs=graphs(), commands=st.lists(TOLD, max_size=20))
def test_the_same_story_is_decided_the_same_way_twice(specs: list[Spec], commands: list[tuple[Any, ...]]) -> None:
    first, second = Story(*specs), Story(*specs)
    for told in commands:
        tell(first, told)
        tell(second, told)
        assert (first.last, first.refused, first.owed) == (second.last, second.refused, second.owed)
