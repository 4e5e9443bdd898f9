"""`amends check`: every mistake in the definitions, before anything runs."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from amends.cli.output import Json, as_json

if TYPE_CHECKING:
    from amends.core.saga import Saga

COLUMN_MIN: Final = 13
GAP: Final = 3
WIDTH: Final = 112
BY_ITSELF: Final = "If its effect is in a database, make it an operation of a Service (exactly once, same process)."


def check(
    sagas: Annotated[list[str], typer.Argument(metavar="MODULE[:NAME]...", help="Where the sagas are.")],
    *,
    json: Json = False,
) -> None:
    """Find every mistake in sagas. Exit code 1 if there is one."""
    from amends.cli.modules import find_sagas
    from amends.core.check import check_sagas

    found = find_sagas(sagas)
    mistakes = [_mistakes(each) for each in found]
    known = {mistake for each in mistakes for mistake in each}
    together = [each for each in check_sagas(found) if each not in known]
    notes = [[] if wrong else _notes(each) for each, wrong in zip(found, mistakes, strict=True)]
    if json:
        as_json(
            {
                "sagas": [
                    {
                        "saga": saga.name,
                        "version": saga.version,
                        "steps": len(saga.steps),
                        "mistakes": wrong,
                        "notes": note,
                    }
                    for saga, wrong, note in zip(found, mistakes, notes, strict=True)
                ],
                "mistakes": together,
            }
        )
    else:
        _print(found, mistakes, notes, together)
    if known or together:
        raise typer.Exit(1)


def _mistakes(saga: "Saga[Any]") -> list[str]:
    """What the rules find, or, where they find nothing, what only loading does: types that JSON can't carry."""
    from amends.codecs.json import JsonCodec
    from amends.core.definition import define
    from amends.core.errors import DefinitionInvalid

    try:
        define(saga, JsonCodec()).graph()
    except DefinitionInvalid as error:
        return list(error.mistakes)
    return []


def _notes(saga: "Saga[Any]") -> list[str]:
    """What is right and should still be known."""
    from amends.core.functions import is_local
    from amends.core.retry import Kind

    notes: list[str] = []
    for step in saga.steps:
        if not is_local(step.function) or step.kind is Kind.NEUTRAL:
            continue
        late = ", and a late action is not refused after its compensation." if step.kind is Kind.COMPENSABLE else "."
        notes.append(f"{step.name} works in this process without a barrier: it is done at least once{late} {BY_ITSELF}")
    return notes


def _print(
    sagas: Sequence["Saga[Any]"],
    mistakes: Sequence[Sequence[str]],
    notes: Sequence[Sequence[str]],
    together: Sequence[str],
) -> None:
    titles = [f"{each.name} v{each.version}" for each in sagas]
    width = max(COLUMN_MIN, *(len(each) + GAP for each in titles))
    for title, saga, wrong, note in zip(titles, sagas, mistakes, notes, strict=True):
        verdict = _counted(len(wrong), "mistake") if wrong else "fine"
        print(f"{title:<{width}}{_counted(len(saga.steps), 'step')}, {verdict}")
        for each in wrong:
            print(_wrapped("error", each))
        for each in note:
            print(_wrapped("note", each))
    for each in together:
        print(_wrapped("error", each))


def _wrapped(word: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"  {word:<7}",
        subsequent_indent=" " * 9,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
