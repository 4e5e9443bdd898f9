"""`amends check`: every mistake in the definitions, before anything runs."""

import asyncio
import textwrap
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from amends.cli.check_against_log import as_told, findings, note_of, story, strange_notes, verdict_line
from amends.cli.output import Json, as_json, tell

if TYPE_CHECKING:
    from amends.cli.check_against_log import DeployFindings
    from amends.core.saga.saga import Saga
    from amends.testing.rehearsal import Remark

COLUMN_MIN: Final = 13
GAP: Final = 3
WIDTH: Final = 112
BY_ITSELF: Final = "If its effect is in a database, make it an operation of a Service (exactly once, same process)."


def check(
    sagas: Annotated[list[str], typer.Argument(metavar="MODULE[:NAME]...", help="Where the sagas are.")],
    *,
    against: Annotated[
        str | None, typer.Option(metavar="LOG", help="Also what the live runs in this log need; it is only read.")
    ] = None,
    leave: Annotated[
        list[str] | None,
        typer.Option(metavar="SAGA", help="With --against: its live runs may stand still; repeat per saga."),
    ] = None,
    build: Annotated[
        bool, typer.Option("--build/--no-build", help="Also call every builder twice with made-up values.")
    ] = True,
    json: Json = False,
) -> None:
    """Find every mistake in sagas. Exit code 1 if there is one, or if live runs need what isn't here.

    Builders are called with made-up values. One that connects, starts a process or writes a file is stopped there.
    """
    from amends.cli.modules import find_sagas
    from amends.core.saga.check import check_sagas

    found = find_sagas(sagas)
    mistakes = [_mistakes(each) for each in found]
    remarks = [[] if wrong or not build else _rehearsed(each) for each, wrong in zip(found, mistakes, strict=True)]
    mistakes = [
        [*wrong, *(each.text for each in said if each.is_mistake)]
        for wrong, said in zip(mistakes, remarks, strict=True)
    ]
    known = {mistake for each in mistakes for mistake in each}
    together = [each for each in check_sagas(found) if each not in known]
    notes = [
        [] if wrong else [*_notes(each), *(remark.text for remark in said if not remark.is_mistake)]
        for each, wrong, said in zip(found, mistakes, remarks, strict=True)
    ]
    said = None if against is None or known or together else asyncio.run(_held_against(against, found, leave or ()))
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
                **({} if said is None else {"against": as_told(said)}),
            }
        )
    else:
        _print(found, mistakes, notes, together, sagas_from=sagas, said=said)
    if known or together or (said is not None and not said.is_fine):
        raise typer.Exit(1)


async def _held_against(url: str, sagas: "Sequence[Saga[Any]]", leave: Sequence[str]) -> "DeployFindings":
    from amends.codecs.json import JsonCodec
    from amends.core.run.definition import define
    from amends.orchestrator import open_reader

    codec = JsonCodec()
    async with open_reader(url) as log:
        return await findings(log, [define(each, codec) for each in sagas], leave)


def _mistakes(saga: "Saga[Any]") -> list[str]:
    """What the rules find, or, where they find nothing, what only loading does: types that JSON can't carry."""
    from amends.codecs.json import JsonCodec
    from amends.core.run.definition import define
    from amends.core.words.errors import DefinitionInvalid

    try:
        define(saga, JsonCodec()).graph()
    except DefinitionInvalid as error:
        return list(error.mistakes)
    return []


def _rehearsed(saga: "Saga[Any]") -> "list[Remark]":
    """What only shows when its calls are built."""
    from amends.testing.rehearsal import rehearse

    return rehearse(saga)


def _notes(saga: "Saga[Any]") -> list[str]:
    """What is right and should still be known."""
    from amends.core.saga.functions import is_local
    from amends.core.words.retry import Kind

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
    *,
    sagas_from: Sequence[str],
    said: "DeployFindings | None",
) -> None:
    titles = [f"{each.name} v{each.version}" for each in sagas]
    missing = [] if said is None else [each.title for each in said.needed]
    width = max(COLUMN_MIN, *(len(each) + GAP for each in (*titles, *missing)))
    for title, saga, wrong, note in zip(titles, sagas, mistakes, notes, strict=True):
        verdict = f"{_counted(len(saga.steps), 'step')}, {_counted(len(wrong), 'mistake') if wrong else 'fine'}"
        tell(verdict_line(title, verdict, "" if said is None else note_of(saga.name, saga.version, said), width))
        for each in wrong:
            tell(_wrapped("error", each))
        for each in note:
            tell(_wrapped("note", each))
    for each in together:
        tell(_wrapped("error", each))
    if said is not None:
        _print_needed(said, sagas_from, width)


def _print_needed(said: "DeployFindings", modules: Sequence[str], width: int) -> None:
    now = time.time_ns() // 1_000
    for each in said.needed:
        count = f"{_counted(each.count, 'live run')} {'needs' if each.count == 1 else 'need'} it"
        tell(verdict_line(each.title, f"not in {', '.join(modules)}", count, width))
    for each in said.needed:
        for line in story(each, modules, now):
            tell(line)
    for refusal in said.refusals:
        tell(f"error   {refusal}".replace("\n", "\n        "))
    for word, sentence in strange_notes(said, modules):
        tell(_wrapped(word, sentence))


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
