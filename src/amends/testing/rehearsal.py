"""Every builder of a saga called with made-up values, twice: what only shows when a call is built, before it runs.

Builders are pure by contract, so to call one does no harm. A step without `async` that does its work all the same is
stopped at the first connection, file or process that it opens (`no_effects`), and told of. A builder that can't work
with made-up values (it parses a text, or looks a name up) isn't a mistake: it is noted as not tried.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from traceback import walk_tb
from types import FunctionType
from typing import Any, Final, TypeVar, cast

from amends.codecs.json import JsonCodec
from amends.core.run import events as e
from amends.core.run.definition import Built, Declined, Definition, StepDefinition, define
from amends.core.run.evolve import apply, begin
from amends.core.run.record import ASK, LOCAL, SLEEP, RunRecord, RunState
from amends.core.run.summary import ended_outcome
from amends.core.saga.mistakes import BuildError
from amends.core.saga.operation import Operation
from amends.core.saga.saga import Saga
from amends.core.words.errors import AmendsError
from amends.core.words.retry import IDEMPOTENT, Kind
from amends.core.words.values import value
from amends.engine.input_diff import difference
from amends.testing.made_up import MadeUpValues
from amends.testing.no_effects import no_effects

T = TypeVar("T")

SECONDS_MAX: Final = 10.0
"""How long all builders of one saga may take together. They only compute; what takes longer waits for something."""

AT: Final = 1_893_456_000_000_000
"""When the made-up run takes place (2030-01-01T00:00:00Z, in microseconds)."""

PLAIN_DEF: Final = (
    "A plain def only builds the request. To do the work here write async def, or put @blocking under the decorator."
)


@value
class Remark:
    """What was found. A mistake would make every run stuck; otherwise it is only good to know."""

    text: str
    is_mistake: bool


def rehearse(saga: Saga[Any], *, seconds_max: float = SECONDS_MAX) -> list[Remark]:
    """Build every step of a saga that `check_saga` finds no mistakes in. Raises nothing, whatever its code does.

    What builders print goes to standard error. The code runs on a thread of its own: one that never returns is left.
    """
    rehearsal = _Rehearsal(define(saga, JsonCodec()))
    thread = threading.Thread(target=rehearsal.run, daemon=True, name=f"amends-check-{saga.name}")
    with redirect_stdout(sys.stderr):
        thread.start()
        thread.join(seconds_max)
    found = list(rehearsal.found)
    if thread.is_alive():
        told = f"{rehearsal.at} did not return within {seconds_max:g} s. Builders must not wait."
        found.append(Remark(told, is_mistake=True))
    return found


class _Rehearsal:
    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._title = f"{definition.saga} v{definition.version}"
        self._values = MadeUpValues(JsonCodec())
        self.found: list[Remark] = []
        self.at = self._title

    def run(self) -> None:
        try:
            record = self._begin()
            for step in self._definition.steps.values():
                self.at = f"{self._title}, step {step.name}"
                self._act(step, record)
            for step in self._definition.steps.values():
                if step.kind is Kind.COMPENSABLE and step.undo_function is not None and not step.is_local:
                    self.at = f"{self._title}, step {step.name}"
                    self._undo(step, record)
            if self._definition.has_notice:
                self.at = f"{self._title},"
                self._tell(record)
        except KeyboardInterrupt:  # on this thread it is the code's own
            self._wrong(f"{self.at}: its code raised KeyboardInterrupt")
        except AmendsError as error:  # a type of which no value can be made up
            self._note(f"{self.at}: not tried with made-up values, nor what comes after it: {error}")

    def _begin(self) -> RunRecord:
        known = self._definition
        given = self._values.json(known.input_type, known.saga)
        return begin(e.RunStarted(AT, 1, "made-up", known.saga, known.version, known.digest, given, None, "check"))

    # -- one builder

    def _act(self, step: StepDefinition, record: RunRecord) -> None:
        requests: tuple[e.Request, ...] = (e.Request("", LOCAL, step.name, IDEMPOTENT, b"[]"),)
        shape = "one"
        if not step.is_local:
            built = self._twice(lambda: step.build(self._definition, record))
            if isinstance(built, Built):
                requests, shape = built.requests, built.shape
            elif built is None and step.name in self._only_optional():
                apply(record, e.StepSkipped(AT, 1, step.name))
                return
        apply(record, e.ActionRequested(AT, 1, step.name, step.kind, shape, requests))
        for request in requests:
            apply(record, e.ActionSucceeded(AT, 1, step.name, request.item, self._reply(step, request)))

    def _only_optional(self) -> set[str]:
        """Steps that may be missing: whatever reads them takes `None`."""
        needed = {
            name for step in self._definition.steps.values() for name in step.reads if name not in step.optional_reads
        }
        return set(self._definition.steps) - needed

    def _reply(self, step: StepDefinition, request: e.Request) -> bytes:
        if request.participant == SLEEP:
            return b"null"
        operation = self._definition.operation(request.participant, request.operation)
        type_ = step.reply_type if operation is None or request.participant in {LOCAL, ASK} else operation.reply_type
        return b"null" if type_ is None else self._values.json(type_, step.name)

    def _undo(self, step: StepDefinition, record: RunRecord) -> None:
        item = next(iter(record.steps[step.name].items.values()), None)
        if item is not None and item.request is not None and item.request.participant != LOCAL:
            self._twice(lambda: step.build_undo(self._definition, record, item, "made up"))

    def _tell(self, record: RunRecord) -> None:
        ended = replace(record, ended=RunState.COMPLETED)
        self._twice(lambda: self._definition.build_notice(ended, ended_outcome(self._definition, ended)))

    def _twice(self, build: Callable[[], T]) -> T | None:
        """What it gives, twice the same; `None` where that is nothing, or a mistake, which was noted."""
        first = self._once(build)
        if first is None:
            return None
        second = self._once(build)
        if second is not None and first != second:
            told = _told(first, second)
            self._wrong(f"{self.at} builds two different requests for one input: {told}. {CLOCKS}")
        return first

    def _once(self, build: Callable[[], T]) -> T | None:
        with no_effects() as tripped:
            built = build()
        if tripped.events:
            self._wrong(f"{self.at} does work ({', '.join(dict.fromkeys(tripped.events))}). {PLAIN_DEF}")
            return None
        if isinstance(built, BuildError):
            self._failed(built)
            return None
        return None if isinstance(built, Declined) else built

    def _failed(self, failed: BuildError) -> None:
        if failed.of_values or (failed.exception is not None and not _is_mistake(failed.exception)):
            self._note(f"{self.at}: not tried with made-up values: {failed.error}")
        else:
            apart = failed.exception is not None or failed.error.startswith("its ")
            colon = ":" if apart and not self.at.endswith(",") else ""
            self._wrong(f"{self.at}{colon} {failed.error}")

    # -- telling

    def _wrong(self, text: str) -> None:
        self._remark(text, is_mistake=True)

    def _note(self, text: str) -> None:
        self._remark(text, is_mistake=False)

    def _remark(self, text: str, *, is_mistake: bool) -> None:
        remark = Remark(text, is_mistake)
        if remark not in self.found:
            self.found.append(remark)


_CALLING: Final = cast("FunctionType", vars(Operation)["__call__"]).__code__
"""Where a request is made of its fields."""

CLOCKS: Final = "Randomness and clocks belong in the input."


def _is_mistake(error: Exception) -> bool:
    """Whether no other value could have helped: a field that doesn't exist, a name that isn't defined, a request made
    of other fields than it has.
    """
    match error:
        case NameError():
            return True
        case AttributeError():
            return error.obj is not None
        case TypeError():
            return _innermost(error) is _CALLING
        case _:
            errors: Any = getattr(error, "errors", None)
            of_request = any(frame.f_code is _CALLING for frame, _ in walk_tb(error.__traceback__))
            return of_request and callable(errors) and _lacks_a_field(errors)


def _innermost(error: Exception) -> object:
    return [frame.f_code for frame, _ in walk_tb(error.__traceback__)][-1]


def _lacks_a_field(errors: Callable[[], Any]) -> bool:
    """What pydantic says of a model that was made of other fields than it has."""
    try:
        return any(each["type"] in {"missing", "extra_forbidden"} for each in errors())
    except Exception:  # noqa: BLE001 - an exception of its author's own whose `errors` is something else
        return False


def _told(first: object, second: object) -> str:
    """The first place where two requests differ: `cents 4200, 4311`."""
    return next(_differences(first, second), "other calls the second time")


def _differences(first: object, second: object) -> Iterator[str]:
    ones, others = _bodies(first), _bodies(second)
    if list(ones) != list(others):
        return
    for name, body in ones.items():
        found = difference(json.loads(body), json.loads(others[name]))
        if found is not None:
            path, before, now = found
            place = path.removeprefix("$").removeprefix(".")
            yield " ".join(each for each in (place, f"{json.dumps(before)}, {json.dumps(now)}") if each)


def _bodies(built: object) -> dict[str, bytes]:
    match built:
        case Built(requests=requests):
            return {f"{each.participant}.{each.operation} {each.item}": each.body for each in requests}
        case e.Request():
            return {built.operation: built.body}
        case _:
            return {getattr(built, "operation", ""): getattr(built, "body", b"null")}
