"""Options that several commands have in common, written once: the fields of a dataclass."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, signature


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose last parameter is a dataclass of options, as one that has each of them.

    Whoever reads the command's parameters, to parse a line or to print help, sees the fields in the place of that
    parameter, in their order; the command gets them as one value.
    """
    *own, last = signature(command).parameters.values()
    shared = last.annotation
    options = [
        Parameter(
            each.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if each.default is MISSING else each.default,
            annotation=each.type,
        )
        for each in fields(shared)
    ]

    @wraps(command)
    def spread_out(*given: object, **named: object) -> None:
        together = shared(**{each.name: named.pop(each.name) for each in options if each.name in named})
        command(*given, **named, **{last.name: together})

    spread_out.__signature__ = signature(command).replace(parameters=[*own, *options])  # type: ignore[attr-defined] # read by whoever asks for the signature of a function
    spread_out.__annotations__ = {each.name: each.annotation for each in (*own, *options)}
    return spread_out
