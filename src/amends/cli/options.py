"""Options that several commands have in common, written once: the fields of a dataclass."""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Any


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command with parameters that are dataclasses, as a command with one option per field.

    Typer reads the signature to parse a line and to print help: it finds the fields in the place of each such
    parameter, in their order. A field may be a dataclass of options itself. The command gets each group as one value.
    """
    parameters = signature(command).parameters
    groups = {name: each.annotation for name, each in parameters.items() if is_dataclass(each.annotation)}
    options = [
        option
        for name, each in parameters.items()
        for option in (_options(groups[name]) if name in groups else (each,))
    ]

    @wraps(command)
    def spread_out(*given: object, **named: object) -> None:
        together = {name: _together(group, named) for name, group in groups.items()}
        command(*given, **named, **together)

    spread_out.__signature__ = signature(command).replace(parameters=options)  # type: ignore[attr-defined] # read by `inspect.signature`
    spread_out.__annotations__ = {each.name: each.annotation for each in options}
    return spread_out


def _options(group: Any) -> Iterator[Parameter]:  # noqa: ANN401 - any dataclass; Python has no type for them
    for each in fields(group):
        if is_dataclass(each.type):
            yield from _options(each.type)
        else:
            default = Parameter.empty if each.default is MISSING else each.default
            yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=default, annotation=each.type)


def _together(group: Any, named: dict[str, object]) -> object:  # noqa: ANN401 - as above
    """The group's value; its options are taken out of `named`."""
    values: dict[str, object] = {}
    for each in fields(group):
        if is_dataclass(each.type):
            values[each.name] = _together(each.type, named)
        elif each.name in named:
            values[each.name] = named.pop(each.name)
    return group(**values)
