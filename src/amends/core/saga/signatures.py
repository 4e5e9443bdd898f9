"""Which operations a step may call, found without calling its builder.

The names in the builder's code, and in code nested in it, are looked up in its globals and its closure; functions of
the same module are followed. So a missing route or compensation is known before anything runs. What can't be seen
this way (an operation picked from a table, say) is checked when the call is built.
"""

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

from amends.core.saga.operation import Blocking, Operation, Participant


def operations_in(function: Callable[..., Any]) -> tuple[Operation[..., Any, Any], ...]:
    """Every operation that the function's code can name, in the order of the names."""
    found: dict[tuple[str, str], Operation[..., Any, Any]] = {}
    seen: set[CodeType] = set()
    _look(_function(function), found, seen)
    return tuple(found.values())


def _function(function: Callable[..., Any]) -> FunctionType | None:
    inner: Any = function.work if isinstance(function, Blocking) else function
    inner = getattr(inner, "__wrapped__", inner)
    return inner if isinstance(inner, FunctionType) else None


def _look(
    function: FunctionType | None, found: dict[tuple[str, str], Operation[..., Any, Any]], seen: set[CodeType]
) -> None:
    if function is None or function.__code__ in seen:
        return
    for code in _nested(function.__code__):
        seen.add(code)
    names = {name for code in _nested(function.__code__) for name in (*code.co_names, *code.co_freevars)}
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    for name in sorted(names):
        if name in cells:
            try:
                value: Any = cells[name].cell_contents
            except ValueError:  # not assigned yet
                continue
        elif name in function.__globals__:
            value = function.__globals__[name]
        else:
            continue
        for each in _named_by(value, names):
            found[each.participant, each.name] = each
        if isinstance(value, FunctionType) and value.__module__ == function.__module__:
            _look(value, found, seen)


def _named_by(value: object, names: set[str]) -> Iterator[Operation[..., Any, Any]]:
    """The operations a name may stand for: itself, a participant's, or those of a module's participants."""
    if isinstance(value, Operation):
        yield cast("Operation[..., Any, Any]", value)
    elif isinstance(value, type) and issubclass(value, Participant):
        for attribute in dir(value):
            each = getattr(value, attribute)
            if attribute in names and isinstance(each, Operation):
                yield cast("Operation[..., Any, Any]", each)
    elif isinstance(value, ModuleType):
        for attribute in names & set(vars(value)):
            inner = getattr(value, attribute)
            if not isinstance(inner, ModuleType):
                yield from _named_by(inner, names)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
