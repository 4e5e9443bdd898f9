"""Sagas by the names that people type: `MODULE`, every saga found in it, or `MODULE:NAME`, that one."""

import importlib
import os
import sys
from collections.abc import Sequence
from traceback import extract_tb
from typing import Any, TypeGuard

from amends.cli.errors import BadUsage
from amends.core.saga.saga import Saga
from amends.core.words.error_texts import told
from amends.core.words.errors import AmendsError


def find_sagas(names: Sequence[str]) -> list[Saga[Any]]:
    """The sagas that these names mean, each once; `BadUsage` where a name means nothing."""
    here = os.getcwd()  # noqa: PTH109 - a path entry is a str
    if here not in sys.path:
        sys.path.insert(0, here)
    found: dict[int, Saga[Any]] = {}
    for name in names:
        for saga in _named(name):
            found[id(saga)] = saga
    return list(found.values())


def _named(name: str) -> list[Saga[Any]]:
    module_name, colon, attribute = name.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        msg = f"{module_name} is a file. Name the module instead: {dotted}{colon}{attribute}"
        raise BadUsage(msg)
    if not all(part.isidentifier() for part in module_name.split(".")) or (colon and not attribute):
        msg = f"{name!r} is no MODULE or MODULE:NAME. Examples: shop.sagas, shop.sagas:place_order"
        raise BadUsage(msg)
    module = _imported(module_name)
    if not attribute:
        sagas = [each for each in vars(module).values() if _is_saga(each)]
        if not sagas:
            msg = f'there is no saga in {module_name}. One begins like this: trip = Saga("trip", str)'
            raise BadUsage(msg)
        return sagas
    value: object = module
    for part in attribute.split("."):
        value = getattr(value, part, None)
    if not _is_saga(value):
        known = ", ".join(each for each, value in vars(module).items() if _is_saga(value)) or "none"
        msg = f"{module_name} has no saga {attribute}. Its sagas: {known}."
        raise BadUsage(msg)
    return [value]


def _is_saga(value: object) -> TypeGuard[Saga[Any]]:
    return isinstance(value, Saga)


def _imported(name: str) -> object:
    """The module; what goes wrong in its own code is told with its place."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            msg = f"there is no module {name}. Is it installed, or is its folder another one?"
            raise BadUsage(msg) from error
        msg = f"{name} can't be imported: {error}{_place(error)}. Is it installed?"
        raise AmendsError(msg) from error
    except SyntaxError as error:
        msg = f"{name} can't be imported: {error.msg} ({error.filename}:{error.lineno})."
        raise AmendsError(msg) from error
    except Exception as error:  # whatever an author's code raises, told as what it is
        msg = f"{name} can't be imported: {told(error)}{_place(error)}."
        raise AmendsError(msg) from error


def _place(error: Exception) -> str:
    """The innermost line of the author's own code."""
    frames = [each for each in extract_tb(error.__traceback__) if not each.filename.startswith("<frozen")]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
