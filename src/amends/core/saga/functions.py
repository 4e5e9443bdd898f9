"""What a function says of itself: whether it works or builds, its parameters, the types it names."""

import inspect
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints

from amends.core.saga.operation import Blocking, Call
from amends.core.words.codec import TypeForm


def is_local(function: Callable[..., Any]) -> bool:
    """An `async def`, or a plain function under `@blocking`: it does the work, rather than build a request."""
    return (
        isinstance(function, Blocking)
        or inspect.iscoroutinefunction(function)
        or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object whose call is async
        )
    )


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as its author wrote it."""
    return function.work if isinstance(function, Blocking) else function


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Its annotations, resolved; empty where a name can't be found (a class made inside a function, say)."""
    try:
        return get_type_hints(inner(function), include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """Its positional parameters."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(each for each in inspect.signature(inner(function)).parameters.values() if each.kind in positional)


def takes_any_number(function: Callable[..., Any]) -> bool:
    """Whether it has `*args`."""
    signature = inspect.signature(inner(function))
    return any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in signature.parameters.values())


def parameter_types(function: Callable[..., Any]) -> tuple[Any, ...]:
    """The types of its positional parameters; `Any` where it names none; empty where none can be known."""
    known = hints(function)
    if not known:
        return ()
    return tuple(known.get(each.name, Any) for each in parameters(function))


def return_type(function: Callable[..., Any]) -> TypeForm:
    """What it says it returns; `Any` if it doesn't."""
    return hints(function).get("return", Any)


def typed_reply(function: Callable[..., Any]) -> TypeForm:
    """The `R` in the `Call[R]`, `dict[str, Call[R]]` or `list[Call[R]]` that a builder says it returns."""
    found = return_type(function)
    for each in (found, *get_args(found)):
        if get_origin(each) is Call:
            return get_args(each)[0]
    return Any


def may_skip(function: Callable[..., Any]) -> bool:
    """Whether a builder says that it may return `None`."""
    found = return_type(function)
    return get_origin(found) in {Union, types.UnionType} and type(None) in get_args(found)
