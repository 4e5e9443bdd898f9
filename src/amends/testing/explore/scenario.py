"""One run on paper: no clock, no network, no event loop.

A `Scenario` says what is given; what isn't said is answered with made-up values of the right types. `play` tells how
the run goes then, `explore` goes through every other way it could go, and `story` tells one of those again.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any, Final, Generic, Self, TypeVar, get_origin

from amends.codecs.json import JsonCodec
from amends.core.run.answers import SaidNo
from amends.core.run.definition import Definition, define
from amends.core.saga.functions import return_type
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step
from amends.core.words.errors import AmendsError
from amends.core.words.keys import encode_item
from amends.core.words.retry import Guard
from amends.testing.explore.calm import People, come_to_rest
from amends.testing.explore.given import NO, Given
from amends.testing.explore.moment import WorldSetup
from amends.testing.explore.moves import EVERY_FAULT, USUAL_FAULTS, Budget, FaultKind
from amends.testing.explore.never import missing
from amends.testing.explore.replaying import tell
from amends.testing.explore.report import Report, broken_story, report_of, said_again
from amends.testing.explore.search import WORLDS_MAX, Progress, search
from amends.testing.explore.small import with_little_patience
from amends.testing.explore.story import Story
from amends.testing.explore.world import begin
from amends.testing.made_up import MadeUpValues

I = TypeVar("I")  # noqa: E741 - the field's letter for a saga's input
R = TypeVar("R")

PLAYED_MAX: Final = 20_000
"""Moves of a played story: a service that never answers is asked for a day, some 1,500 times."""


class MadeUpInput:
    """Stands for an input that isn't given."""


MADE_UP_INPUT: Final = MadeUpInput()
_PLAIN: Final = (str, int, float, bool, bytes, type(None))


class Scenario(Generic[I]):
    """One run on paper. What isn't said is answered with made-up replies of the right type; so is the input.

    A scenario is a value: each word gives another one.
    """

    def __init__(self, saga: Saga[I], input: I | MadeUpInput = MADE_UP_INPUT, /) -> None:
        """`DefinitionInvalid` if the saga has mistakes, `AmendsError` if its input can't be made up."""
        names = _names_around(inspect.currentframe())
        codec = JsonCodec()
        definition = define(saga, codec)
        self._saga = saga
        if isinstance(input, MadeUpInput):
            body = MadeUpValues(codec).json(saga.input_type, "input")
            self._expression = f"Scenario({_name_of_saga(saga)})"
        else:
            body = codec.encode(input)
            definition.input_value(body)
            self._expression = f"Scenario({_name_of_saga(saga)}, {_name_of(input, names)})"
        self._given = Given(definition, body)

    # -- what is given

    def replies(self, step: Step[I, R], reply: R, /) -> Self:
        """What the step's participant answers. A step that makes many calls is given a dict or list of answers."""
        type_ = self._known(step)
        codec = self._given.definition.codec
        decode = codec.decoder(type_)
        said = {(step.name, item): codec.encode(value) for item, value in _by_item(step, reply)}
        for body in said.values():
            decode(body)
        given = replace(self._given, replies={**self._given.replies, **said})
        return self._with(f"replies({step.name}, {reply!r})", given)

    def rejects(self, step: Step[I, Any], detail: str = "declined", /, *, code: str | None = None) -> Self:
        """The step's participant says no, every time it is asked."""
        self._known(step)
        no = SaidNo(code, detail) if (code, detail) != (None, NO.detail) else NO
        told = f"rejects({step.name}, {detail!r}{f', code={code!r}' if code is not None else ''})"
        return self._with(told, replace(self._given, noes={**self._given.noes, step.name: no}))

    def times_out(self, step: Step[I, Any], /, *, took_effect: bool) -> Self:
        """No answer to the step's action ever comes. `took_effect`: the calls arrive all the same."""
        self._known(step)
        told = f"times_out({step.name}, took_effect={took_effect})"
        return self._with(told, replace(self._given, silent={**self._given.silent, step.name: took_effect}))

    def refuses_compensation(self, step: Step[I, Any], /) -> Self:
        """The step's participant says that it can't undo it, every time it is asked."""
        self._known(step)
        refused = self._given.undo_noes | {step.name}
        return self._with(f"refuses_compensation({step.name})", replace(self._given, undo_noes=refused))

    def cancelled_after(self, step: Step[I, Any], /) -> Self:
        """A person asks the run to turn back as soon as the step has succeeded."""
        self._known(step)
        after = (*self._given.cancelled_after, step.name)
        return self._with(f"cancelled_after({step.name})", replace(self._given, cancelled_after=after))

    # -- what happens

    def play(self) -> Story:
        """How the run goes: everything else as it should. `NeverHappened` if something that was given didn't come to
        bear, `BrokenPromise` if the story breaks a promise.
        """
        setup = WorldSetup(self._given, Budget())
        rest = come_to_rest(begin(setup), people=People.AWAY, moves_max=PLAYED_MAX)
        again = f"{self._expression}.play()"
        if rest.broken is not None:
            raise broken_story(setup, rest.moves, rest.broken, where=f"({self._title})", again=again)
        story = Story(setup, rest.moves, again)
        missing(self._given, rest.world, story)
        return story

    def story(self, path: str, /, *, services: Guard = Guard.BARRIER) -> Story:
        """The story of a path, as a broken promise prints it, and on from there as it should be. `BadPath` if it can't
        happen, `BrokenPromise` if it breaks a promise. `services`: as `explore` was told.
        """
        setup = self._searched(Budget(), EVERY_FAULT, services)
        again = f"{self._expression}.{said_again(setup, path)}"
        told = tell(setup, path)
        moves, sentence = told.moves, told.broken
        if sentence is None:
            rest = come_to_rest(told.world, people=People.AWAY)
            moves, sentence = (*moves, *rest.moves), rest.broken
        if sentence is not None:
            raise broken_story(setup, moves, sentence, where=f"({self._title})", again=again, path=path)
        return Story(setup, moves, again)

    def explore(
        self,
        *,
        faults_max: int = 2,
        crashes_max: int = 1,
        kinds: Iterable[FaultKind] = USUAL_FAULTS,
        services: Guard = Guard.BARRIER,
        worlds_max: int = WORLDS_MAX,
        progress: Callable[[Progress], None] | None = None,
    ) -> Report:
        """Every way the run can go: messages in every order, `faults_max` things that needn't happen, of these `kinds`,
        and `crashes_max` ends of the process that drives it, known to it or not.

        `BrokenPromise` tells the smallest story that breaks one; `TooManyWorlds` says that there are more than
        `worlds_max`. `services` says what services do whose operations were promised a barrier: give
        `Guard.IDEMPOTENT` or `Guard.ONCE` to see what breaks without one.

        Steps are searched with little patience: two attempts at each call are all there are.
        """
        if faults_max < 0 or crashes_max < 0:
            msg = f"faults_max={faults_max}, crashes_max={crashes_max}: neither can be less than 0"
            raise ValueError(msg)
        setup = self._searched(Budget(faults_max, crashes_max), frozenset(kinds), services)
        found = search(setup, worlds_max=worlds_max, progress=progress)
        return report_of(found, setup, self._title, self._expression)

    def __repr__(self) -> str:
        return self._expression

    # -- within

    def _searched(self, budget: Budget, kinds: frozenset[FaultKind], services: Guard) -> WorldSetup:
        patient = define(self._saga, self._given.definition.codec)
        return WorldSetup(replace(self._given, definition=with_little_patience(patient)), budget, kinds, services)

    @property
    def _title(self) -> str:
        return f"{self._saga.name} v{self._saga.version}"

    def _with(self, told: str, given: Given) -> Self:
        new = type(self).__new__(type(self))
        new._saga = self._saga  # noqa: SLF001 - its own kind
        new._given = given  # noqa: SLF001 - as above
        new._expression = f"{self._expression}.{told}"  # noqa: SLF001 - as above
        return new

    def _known(self, step: Step[I, Any]) -> Any:  # noqa: ANN401 - the reply's type, whatever its author wrote
        definition: Definition = self._given.definition
        if step not in self._saga.steps:
            msg = f"{self._title} has no step {step.name}; it has {', '.join(definition.steps)}."
            raise AmendsError(msg)
        return definition.steps[step.name].reply_type


def _by_item(step: Step[Any, Any], reply: Any) -> list[tuple[str, object]]:  # noqa: ANN401 - whatever the step replies
    """The reply of each of its calls; a step that makes one call has the item `""`."""
    shape: Any = get_origin(return_type(step.function))
    many: type = shape if isinstance(shape, type) else object
    if issubclass(many, Mapping):
        return [(encode_item(str(name)), each) for name, each in reply.items()]
    if issubclass(many, Sequence):
        return [(str(n), each) for n, each in enumerate(reply)]
    return [("", reply)]


def _name_of_saga(saga: Saga[Any]) -> str:
    """The name its module knows the saga by; what its steps were written in is where it is."""
    functions = [step.function for step in saga.steps]
    spaces: list[Mapping[str, object]] = [getattr(each, "__globals__", {}) for each in functions]
    found = (name for space in spaces for name, value in space.items() if value is saga)
    return next(found, saga.name.replace("-", "_"))


def _names_around(frame: FrameType | None) -> Mapping[str, object]:
    """What the maker of a scenario calls things: the line that plays a story again is to say it in their words."""
    caller = None if frame is None else frame.f_back
    return {} if caller is None else {**caller.f_globals, **caller.f_locals}


def _name_of(value: object, names: Mapping[str, object]) -> str:
    """How the maker of the scenario calls this value; plain values are called by what they are."""
    if isinstance(value, _PLAIN):
        return repr(value)
    return next((name for name, each in names.items() if each is value and not name.startswith("_")), repr(value))
