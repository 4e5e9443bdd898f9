"""Every mistake in a definition, at once: each says what, where, and what to do.

A table of small rules: a rule is given the saga (or one of its steps) and yields sentences. What can only be seen
once a call is built is checked there (`amends.core.run.definition`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Final, Union, cast, get_args, get_origin

from amends.core.saga.functions import (
    is_local,
    may_skip,
    parameter_types,
    parameters,
    return_type,
    takes_any_number,
)
from amends.core.saga.graph import closure, stated_edges
from amends.core.saga.operation import Call, Operation
from amends.core.saga.signatures import operations_in
from amends.core.saga.steps import Declares, Step, where_is
from amends.core.words.codec import TypeForm
from amends.core.words.keys import NOTICE, PUBLIC_NAME, STEP_NAME
from amends.core.words.limits import READS_MAX, STEPS_MAX, VERSION_MAX
from amends.core.words.retry import Guard, Kind, Policy, Retry

SagaRule = Callable[[Declares[Any]], Iterator[str]]
StepRule = Callable[[Declares[Any], Step[Any, Any]], Iterator[str]]


def check_saga(saga: Declares[Any]) -> list[str]:
    """Every mistake in one saga. Where its shape can't be told, only what stands in the way of telling is listed."""
    mistakes = [mistake for rule in SHAPE_RULES for mistake in rule(saga)]
    if mistakes:
        return mistakes
    mistakes = [mistake for rule in SAGA_RULES for mistake in rule(saga)]
    mistakes += [mistake for step in saga.steps for rule in STEP_RULES for mistake in rule(saga, step)]
    return mistakes


def check_sagas(sagas: Iterable[Declares[Any]]) -> list[str]:
    """Every mistake in several sagas that are loaded together."""
    mistakes: list[str] = []
    seen: dict[tuple[str, int], Declares[Any]] = {}
    for saga in sagas:
        mistakes += check_saga(saga)
        other = seen.setdefault((saga.name, saga.version), saga)
        if other is not saga:
            mistakes.append(f"{_title(saga)} is defined twice. Give one of them another name or version.")
    return mistakes


def _title(saga: Declares[Any]) -> str:
    return f"{saga.name} v{saga.version}"


def _at(saga: Declares[Any], step: Step[Any, Any]) -> str:
    return f"{_title(saga)}, step {step.name}"


# -- shape: what must hold before anything else can be looked at


def _names(saga: Declares[Any]) -> Iterator[str]:
    if not isinstance(saga.name, str) or PUBLIC_NAME.fullmatch(saga.name) is None:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code
        yield f"{saga.name!r} is no name for a saga: expected {PUBLIC_NAME.pattern}."
    if not isinstance(saga.version, int) or not 1 <= saga.version <= VERSION_MAX:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code
        yield f"{saga.name}: version {saga.version!r} is no version: expected a whole number from 1 to {VERSION_MAX}."
    for step in saga.steps:
        if step.name == NOTICE:
            yield f"{_title(saga)}: a step can't be called {NOTICE}: that name is taken. Rename {step.where}."
        elif STEP_NAME.fullmatch(step.name) is None:
            yield (
                f"{_title(saga)}: {step.name!r} is no name for a step: expected an ASCII identifier of up to 64 "
                f"characters. Rename {step.where}."
            )


def _steps_once(saga: Declares[Any]) -> Iterator[str]:
    if not saga.steps:
        yield f"{_title(saga)} has no steps. Add one: @{saga.name.replace('-', '_')}.compensable() above a function."
    if len(saga.steps) > STEPS_MAX:
        yield f"{_title(saga)} has {len(saga.steps)} steps; the limit is {STEPS_MAX}."
    first: dict[str, Step[Any, Any]] = {}
    for step in saga.steps:
        other = first.setdefault(step.name, step)
        if other is not step:
            yield (
                f"{_title(saga)}: two steps are called {step.name} ({other.where} and {step.where}). A step's name is "
                "its function's name; it is stored in every run."
            )


def _own_steps(saga: Declares[Any]) -> Iterator[str]:
    own = {id(step) for step in saga.steps}
    for step in saga.steps:
        for other in (*step.reads, *step.after):
            if id(other) not in own:
                yield (
                    f"{_at(saga, step)}: {other.name} is a step of another saga. Steps can only name steps of their "
                    "own saga."
                )


# -- the graph and the kinds


def _one_pivot(saga: Declares[Any]) -> Iterator[str]:
    pivots = [step.name for step in saga.steps if step.kind is Kind.PIVOT]
    if len(pivots) > 1:
        yield (
            f"{_title(saga)}: {' and '.join(pivots)} are {'both' if len(pivots) == 2 else 'all'} pivots. After the "
            f"first nothing may say no: make {' and '.join(pivots[1:])} retriable."
        )


def _nothing_undone_after_the_pivot(saga: Declares[Any]) -> Iterator[str]:
    above = closure(stated_edges(saga.steps))
    kinds = {step.name: step.kind for step in saga.steps}
    for step in saga.steps:
        turning = sorted(name for name in above[step.name] if kinds[name] in {Kind.PIVOT, Kind.RETRIABLE})
        if step.kind is Kind.COMPENSABLE and turning:
            what = "the pivot" if kinds[turning[0]] is Kind.PIVOT else "the retriable"
            yield (
                f"{_title(saga)}: {step.name} is compensable but comes after {what} {turning[0]}, when nothing is "
                f"undone any more. Make it retriable, or move it before {turning[0]}."
            )
        turning = [name for name in turning if kinds[name] is Kind.RETRIABLE]  # two pivots are told of as such
        if step.kind is Kind.PIVOT and turning:
            yield (
                f"{_title(saga)}: {step.name} is the pivot but comes after the retriable {turning[0]}, which is only "
                f"done once there is no way back. Take the edge from {turning[0]} to {step.name} away."
            )


def _one_notice(saga: Declares[Any]) -> Iterator[str]:
    if len(saga.notices) > 1:
        places = " and ".join(where_is(each) for each in saga.notices)
        yield f"{_title(saga)}: {len(saga.notices)} notices ({places}). A run tells its end once: make one of them."


# -- one step


def _parameters_fit(saga: Declares[Any], step: Step[Any, Any]) -> Iterator[str]:
    if len(step.reads) > READS_MAX:
        yield f"{_at(saga, step)}: reads {len(step.reads)} steps; the limit is {READS_MAX}."
    if takes_any_number(step.function):
        return
    found = [each.name for each in parameters(step.function)]
    if len(found) != 1 + len(step.reads):
        expected = ", ".join(["input", *(f"{each.name}'s reply" for each in step.reads)])
        read = f"reads {', '.join(each.name for each in step.reads)}" if step.reads else "reads no step"
        yield (
            f"{_at(saga, step)}: {read}, {'but ' if found else 'and '}has {len(found)} parameters "
            f"({', '.join(found)}). Expected ({expected}). Name the steps it reads in "
            f"@{saga.name.replace('-', '_')}.{step.kind.value}(...), or drop the parameter."
        )


def _may_be_none(saga: Declares[Any], step: Step[Any, Any]) -> Iterator[str]:
    kinds = parameter_types(step.function)
    for read, type_ in zip(step.reads, kinds[1:], strict=False):
        optional = type_ is Any or type_ is None or type(None) in getattr(type_, "__args__", ())
        if may_skip(read.function) and not is_local(read.function) and not optional:
            yield (
                f"{_at(saga, step)}: {read.name} may be skipped, so its reply may be None, which "
                f"{getattr(type_, '__name__', type_)} doesn't allow. Make the parameter "
                f"{getattr(type_, '__name__', type_)} | None."
            )


def _undone(saga: Declares[Any], step: Step[Any, Any]) -> Iterator[str]:
    if step.kind is not Kind.COMPENSABLE or step.undo is not None:
        return
    neutral = "if it changes nothing, make the step neutral"
    if is_local(step.function):
        yield f"{_at(saga, step)}: compensable, but nothing undoes it. Write @{step.name}.compensation; {neutral}."
    for each in operations_in(step.function):
        if each.compensation is None:
            yield (
                f"{_at(saga, step)}: compensable, but {each.label} has no compensation. Name one: operation(..., "
                f'compensation="un{each.name}"), or write @{step.name}.compensation; {neutral}.'
            )


def _undone_where_it_acted(saga: Declares[Any], step: Step[Any, Any]) -> Iterator[str]:
    if step.undo is None:
        return
    acted_here, undone_here = is_local(step.function), is_local(step.undo)
    if acted_here and not undone_here:
        yield (
            f"{_at(saga, step)}: the work is done in this process, so its compensation is too. Make "
            f"{where_is(step.undo)} async def, or put @blocking under the decorator."
        )
    elif undone_here and not acted_here:
        yield (
            f"{_at(saga, step)}: another service acts, so it must undo: return a Call of it in a plain def "
            f"({where_is(step.undo)})."
        )
    elif not undone_here:
        acting = {each.participant for each in operations_in(step.function)}
        for each in operations_in(step.undo):
            if acting and each.participant not in acting:
                yield (
                    f"{_at(saga, step)}: its compensation calls {each.label}, but {', '.join(sorted(acting))} acts. "
                    "Elsewhere there is nothing to undo: call an operation of the participant that acted."
                )
    if len(parameters(step.undo)) != 2 and not takes_any_number(step.undo):
        yield (
            f"{_at(saga, step)}: its compensation has {len(parameters(step.undo))} parameters; expected (input, reply "
            "or None)."
        )


def _async_builder(saga: Declares[Any], step: Step[Any, Any]) -> Iterator[str]:
    if is_local(step.function) and "Call[" in str(return_type(step.function)):
        yield (
            f"{_at(saga, step)}: async def does the work here, but it says that it returns a Call. Make it a plain def."
        )


def _builder_builds(saga: Declares[Any], step: Step[Any, Any]) -> Iterator[str]:
    told = return_type(step.function)
    if not is_local(step.function) and not _may_be_calls(told):
        kind = told.__name__ if isinstance(told, type) else str(told)
        yield (
            f"{_at(saga, step)} says that it returns {kind}, expected a Call. A plain def only builds the request. To "
            "do the work here write async def, or put @blocking under the decorator."
        )


def _may_be_calls(told: TypeForm) -> bool:
    """Whether what a builder says it returns can be a call, or calls; only a type that surely isn't is a mistake."""
    if told is Any:
        return True
    if isinstance(told, type) and not get_args(told):
        return issubclass(told, (Call, dict, list, tuple)) or told in {object, Mapping, Sequence}
    arguments = get_args(told)
    origin: Any = get_origin(told)
    if origin in {Union, UnionType}:
        return any(_may_be_calls(each) for each in arguments if each is not type(None))
    if origin is Call or not arguments:
        return True
    return any(_may_be_calls(each) for each in arguments)


def _policies(saga: Declares[Any], step: Step[Any, Any]) -> Iterator[str]:
    policy = step.policy
    if policy is None:
        return
    yield from (f"{_at(saga, step)}: {each}" for each in _bad_numbers(policy))
    guards = _guards(step)
    if policy.on_unknown == "compensate" and guards - {Guard.BARRIER}:
        yield (
            f'{_at(saga, step)}: on_unknown="compensate" needs a barrier, and {_unguarded(step)} has none: a late '
            'action would stay. Use "settle" or "stuck".'
        )
    if policy.on_unknown == "settle" and any(not _settles(each) for each in _operations(step)):
        yield (
            f'{_at(saga, step)}: on_unknown="settle", but {_unguarded(step)} has no probe to settle by. Declare one, '
            'or use "stuck".'
        )


def _bad_numbers(policy: Policy) -> Iterator[str]:
    if policy.timeout is not None and policy.timeout.total_seconds() <= 0:
        yield f"timeout={policy.timeout} is no time-out: expected more than 0."
    tries: Mapping[str, Retry | None] = {"retry": policy.retry, "compensation_retry": policy.compensation_retry}
    for name, retry in tries.items():
        if retry is None:
            continue
        if retry.attempts_max is not None and retry.attempts_max < 1:
            yield f"{name}: attempts_max={retry.attempts_max}: expected at least 1, or None for no limit."
        if retry.first.total_seconds() <= 0 or retry.cap < retry.first:
            yield f"{name}: first={retry.first}, cap={retry.cap}: expected 0 < first <= cap."
        if retry.give_up_after is not None and retry.give_up_after.total_seconds() <= 0:
            yield f"{name}: give_up_after={retry.give_up_after}: expected more than 0."
    if policy.on_unknown not in {None, "compensate", "settle", "stuck"}:
        yield f'on_unknown={policy.on_unknown!r}: expected "compensate", "settle" or "stuck".'


def _callable(saga: Declares[Any], step: Step[Any, Any]) -> Iterator[str]:
    if not is_local(step.function):
        yield from _uncallable(_at(saga, step), step.function)
    if step.undo is not None and not is_local(step.undo):
        yield from _uncallable(f"{_at(saga, step)}: its compensation", step.undo)


def _callable_notice(saga: Declares[Any]) -> Iterator[str]:
    for notice in saga.notices:
        yield from _uncallable(f"{_title(saga)}: its notice", notice)


def _uncallable(where: str, function: Callable[..., Any]) -> Iterator[str]:
    for each in operations_in(function):
        if each.uncallable is not None:
            yield f"{where}: {each.uncallable}"


def _operations(step: Step[Any, Any]) -> Sequence[Operation[..., Any, Any] | None]:
    """What it calls; a local step calls "nothing", which has no barrier either."""
    return [None] if is_local(step.function) else operations_in(step.function)


def _guards(step: Step[Any, Any]) -> set[Guard]:
    return {Guard.IDEMPOTENT if each is None else each.guard for each in _operations(step)}


def _settles(operation: Operation[..., Any, Any] | None) -> bool:
    return operation is not None and (operation.guard is Guard.BARRIER or operation.probe is not None)


def _unguarded(step: Step[Any, Any]) -> str:
    named = [each.label for each in _operations(step) if each is not None and each.guard is not Guard.BARRIER]
    return ", ".join(named) or "work done in this process"


SHAPE_RULES: Final = cast("tuple[SagaRule, ...]", (_names, _steps_once, _own_steps))
SAGA_RULES: Final = cast(
    "tuple[SagaRule, ...]", (_one_pivot, _nothing_undone_after_the_pivot, _one_notice, _callable_notice)
)
STEP_RULES: Final = cast(
    "tuple[StepRule, ...]",
    (
        _parameters_fit,
        _may_be_none,
        _undone,
        _undone_where_it_acted,
        _async_builder,
        _builder_builds,
        _policies,
        _callable,
    ),
)
