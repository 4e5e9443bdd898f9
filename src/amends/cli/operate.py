"""What a person does to runs: the verbs, one run or many, for real or as a dry run. Whatever is done is in the log with
the actor and the reason.
"""

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.inspect import run_of
from amends.cli.no_match import why_nothing
from amends.cli.options import spread
from amends.cli.output import Json, as_json, say
from amends.cli.source import Load, LogUrl, ServerOptions, Source, decoded, pages, post, reach
from amends.cli.source_log import Purpose
from amends.core.words.errors import AmendsError

if TYPE_CHECKING:
    from amends.server.bulk import BulkView

AT_ONCE: Final = 64
"""Runs that are asked at a time."""

NO_REASON: Final = "a dry run"
"""Nothing is written of it."""

SERVER_BULK: Final = frozenset({"retry", "cancel", "compensate"})
"""Verbs that a server takes for many runs at once; others are asked run by run."""

Id = Annotated[str | None, typer.Argument(metavar="[ID]", help="The run; or --where for many.")]
Where = Annotated[
    str | None, typer.Option(metavar="CONDITIONS", help="Many at once: 'saga=place-order step=ship reason=spent'.")
]
Reason = Annotated[str | None, typer.Option(help="Why. It stays in the log; only --dry-run needs none.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would follow, and do nothing.")]
Expected = Annotated[
    int | None, typer.Option(min=0, help="With --where: the number of runs that --dry-run reported; skips the prompt.")
]
By = Annotated[
    str | None, typer.Option(help="Your name for the audit log, if the server can't know it. Default: your user name.")
]
Step = Annotated[str | None, typer.Option(metavar="STEP[/ITEM]", help="Only this step, or this call of it.")]
NeededStep = Annotated[str | None, typer.Option(metavar="STEP[/ITEM]", help="The step, or one call of it.")]


@dataclass(frozen=True, slots=True)
class How:
    """What every verb on a run, or on many, can be told beside what it does."""

    where: Where = None
    dry_run: DryRun = False
    expected: Expected = None
    by: By = None
    server: ServerOptions = field(default_factory=ServerOptions)
    log: LogUrl = None
    load: Load = None
    json: Json = False


@dataclass(frozen=True, slots=True)
class TypedVerb:
    """One verb as it was typed."""

    verb: str
    run: str | None
    body: Mapping[str, object]
    step: str | None
    how: How

    def do_it(self, *options: str) -> str:
        """What to type after a dry run: the options that take the place of --dry-run."""
        needed = [*options, *(['--reason "..."'] if self.body.get("reason") == NO_REASON else [])]
        how = f", with {' and '.join(needed)} instead of" if needed else " without"
        return f"Do it: the same line{how} --dry-run."


@spread
def cancel(
    run: Id = None,
    *,
    reason: Reason = None,
    how: How,
) -> None:
    """Turn a run back and undo what it did. Refused once it is past its pivot."""
    _do(TypedVerb("cancel", run, _signed(reason, how), None, how))


@spread
def compensate(
    run: Id = None,
    *,
    reason: Reason = None,
    how: How,
) -> None:
    """As cancel; what is stuck and unknown behind a barrier is undone without waiting for a person."""
    _do(TypedVerb("compensate", run, _signed(reason, how), None, how))


@spread
def retry(
    run: Id = None,
    *,
    reason: Reason = None,
    step: Step = None,
    how: How,
) -> None:
    """Send it again: same key, same bytes, a new budget. Without --step everything that is stuck."""
    _do(TypedVerb("retry", run, _signed(reason, how), step, how))


@spread
def resolve(
    run: Id = None,
    *,
    reason: Reason = None,
    step: NeededStep = None,
    happened: Annotated[bool, typer.Option("--happened", help="It took effect.")] = False,
    never_happened: Annotated[bool, typer.Option("--never-happened", help="It didn't, and never will.")] = False,
    undone: Annotated[bool, typer.Option("--undone", help="You undid it, or know that it is undone.")] = False,
    reply: Annotated[str | None, typer.Option(metavar="JSON", help="With --happened: what it answered.")] = None,
    how: How,
) -> None:
    """Vouch for what became of a step. The run's end says that it was by hand."""
    said = {"succeeded": happened, "rejected": never_happened, "undone": undone}
    outcomes = [outcome for outcome, is_said in said.items() if is_said]
    if len(outcomes) != 1:
        msg = "say what became of it, one of: --happened, --never-happened, --undone."
        raise BadUsage(msg)
    body = {**_signed(reason, how), "outcome": outcomes[0]}
    if reply is not None:
        body["reply"] = _json(reply, "--reply")
    _do(TypedVerb("resolve", run, body, step, how))


@spread
def skip(
    run: Id = None,
    *,
    reason: Reason = None,
    step: NeededStep = None,
    how: How,
) -> None:
    """Leave a step as it is, on purpose. A skipped undo ends abandoned."""
    _do(TypedVerb("skip", run, _signed(reason, how), step, how))


@spread
def abandon(
    run: Id = None,
    *,
    reason: Reason = None,
    how: How,
) -> None:
    """End a stuck run as it is; every effect that may remain is listed."""
    _do(TypedVerb("abandon", run, _signed(reason, how), None, how))


@spread
def answer(
    run: Annotated[str, typer.Argument(metavar="ID")],
    step: Annotated[str, typer.Argument(metavar="STEP")],
    reply: Annotated[str | None, typer.Argument(metavar="[JSON]", help="The answer.")] = None,
    *,
    decline: Annotated[str | None, typer.Option(metavar="REASON", help="Say no instead, and why.")] = None,
    dry_run: DryRun = False,
    by: By = None,
    server: ServerOptions,
    log: LogUrl = None,
    load: Load = None,
    json: Json = False,
) -> None:
    """Answer a question that a step asked, or decline it."""
    if (reply is None) == (decline is None):
        msg = 'give an answer as JSON (amends answer order-42 approve \'{"by":"bo"}\'), or --decline "why not".'
        raise BadUsage(msg)
    body: dict[str, object] = {"by": by or _user()}
    if decline is not None:
        body |= {"outcome": "rejected", "reason": decline}
    elif reply is not None:
        body["reply"] = _json(reply, "the answer")
    _do(TypedVerb("answer", run, body, step, How(None, dry_run, None, by, server, log, load, json)))


@spread
def probe(
    run: Annotated[str, typer.Argument(metavar="ID")],
    *,
    step: Annotated[str, typer.Option(metavar="STEP[/ITEM]", help="The step, or one call of it.")],
    server: ServerOptions,
    log: LogUrl = None,
    json: Json = False,
) -> None:
    """Ask the participant what it knows of a call. Changes nothing, there or here."""
    from amends.cli.texts.steering import probe_line
    from amends.server.probes import ProbeView

    if server.url is None:
        msg = "a probe is sent by the server, which knows the participant's address: --server URL (or AMENDS_SERVER)."
        raise BadUsage(msg)

    async def probed() -> ProbeView:
        async with reach(server, log) as source:
            name, item = _unit(step)
            return decoded(await post(source, _place(run, name, "probe"), {"item": item}), ProbeView)

    found = asyncio.run(probed())
    if json:
        as_json(found)
    else:
        say([probe_line(found)])


# -- doing it


def _do(asked: TypedVerb) -> None:
    if (asked.run is None) == (asked.how.where is None):
        msg = f"name one run (amends {asked.verb} order-42 ...), or many by --where 'saga=place-order step=ship'."
        raise BadUsage(msg)
    if asked.run is not None:
        if asked.verb in {"resolve", "skip"} and asked.step is None:
            msg = f"say which step: amends {asked.verb} {asked.run} --step NAME ..."
            raise BadUsage(msg)
        asyncio.run(_within(asked.how, lambda source: _one(source, asked, str(asked.run))))
        return
    many = _many_by_server if asked.verb in SERVER_BULK and asked.step is None else _many_by_one
    asyncio.run(_within(asked.how, lambda source: many(source, asked)))


async def _within(how: How, work: Callable[[Source], Awaitable[None]]) -> None:
    async with reach(how.server, how.log, how.load, Purpose.ACT) as source:
        await work(source)


async def _one(source: Source, asked: TypedVerb, run: str) -> None:
    from amends.cli.texts.steering import changed_lines, preview_lines
    from amends.views.event import PreviewView
    from amends.views.run import RunView

    before = await run_of(source, run)
    said = await _post_verb(source, asked, run, dry_run=asked.how.dry_run)
    by = str(asked.body.get("by", ""))
    if asked.how.dry_run:
        preview = decoded(said, PreviewView)
        if asked.how.json:
            as_json(preview)
        else:
            say([*preview_lines(before, preview, by), asked.do_it()])
        return
    after = decoded(said, RunView)
    if asked.how.json:
        as_json(after)
        return
    say(changed_lines(before, after, by))
    if after.outcome is None:
        say([f"Follow: amends show {run} --watch"])


async def _post_verb(source: Source, asked: TypedVerb, run: str, *, dry_run: bool) -> Any:  # noqa: ANN401 - decoded by the caller
    name, item = _unit(asked.step)
    body = {**asked.body, "item": item} if item is not None else asked.body
    return await post(source, _place(run, name, asked.verb), body, {"dry_run": "true"} if dry_run else {})


async def _many_by_server(source: Source, asked: TypedVerb) -> None:
    from amends.cli.texts.steering import bulk_lines
    from amends.server.bulk import BulkView

    path = f"/v1/runs:{asked.verb}"
    body = {**asked.body, "where": asked.how.where}
    counted = decoded(await post(source, path, {**body, "dry_run": True}), BulkView)
    if await _is_nothing(source, asked, counted.matched, lambda: as_json(counted)):
        return
    if not _agreed(asked, counted.matched, counted.past_pivot, lambda: as_json(counted)):
        return
    said = await post(source, path, {**body, "expected": counted.matched}, wait=600.0)
    _told(asked, decoded(said, BulkView), bulk_lines)


async def _many_by_one(source: Source, asked: TypedVerb) -> None:
    """Run by run, for verbs that a server takes for one run only. A refusal is printed; the others go on."""
    import msgspec

    from amends.cli.texts.steering import bulk_lines
    from amends.views.run import RowView

    where = asked.how.where or ""
    step = asked.step or _said(where, "step")
    if asked.verb in {"resolve", "skip"} and step is None:
        msg = f"say which step: amends {asked.verb} --where '{where}' --step NAME ..."
        raise BadUsage(msg)
    rows = [msgspec.json.decode(each, type=RowView) async for each in pages(source, {"where": where}, None)]
    named = replace(asked, step=step)
    past = sum(row.past_pivot for row in rows)

    def told() -> None:
        as_json({"matched": len(rows), "runs": [row.id for row in rows]})

    if await _is_nothing(source, named, len(rows), told) or not _agreed(named, len(rows), past, told):
        return
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(run: str) -> AmendsError | None:
        async with slots:
            try:
                await _post_verb(source, named, run, dry_run=False)
            except AmendsError as error:
                return error
            return None

    refused = [
        (row.id, error)
        for row, error in zip(rows, await asyncio.gather(*(ask(row.id) for row in rows)), strict=True)
        if error is not None
    ]
    _told(named, _bulk_view(named, len(rows), past, [row.id for row in rows], refused), bulk_lines)


def _bulk_view(
    asked: TypedVerb, matched: int, past: int, runs: Sequence[str], refused: Sequence[tuple[str, AmendsError]]
) -> "BulkView":
    from collections import Counter

    from amends.server.bulk import BulkView, RefusalView

    views = [RefusalView(run, getattr(error, "problem", "error"), str(error)) for run, error in refused]
    return BulkView(
        verb=asked.verb,
        dry_run=False,
        matched=matched,
        past_pivot=past,
        asked=matched,
        refused=len(views),
        problems=Counter(each.problem for each in views),
        runs=list(runs),
        refusals=views,
    )


async def _is_nothing(source: Source, asked: TypedVerb, matched: int, told: Callable[[], None]) -> bool:
    """Whether no run is meant; then that is said, and why, unless runs were expected."""
    if matched or asked.how.expected:
        return False
    if asked.how.json:
        told()
    else:
        say([f"no run matches{await why_nothing(source, asked.how.where or '') or '.'}"])
    return True


def _agreed(asked: TypedVerb, matched: int, past_pivot: int, told: Callable[[], None]) -> bool:
    """Whether to go on: the person said so, or named the count before."""
    from amends.cli.texts.steering import match_line
    from amends.cli.texts.tables import counted

    if asked.how.dry_run:
        if asked.how.json:
            told()
        else:
            say(
                [
                    match_line(matched, past_pivot),
                    asked.do_it(f"--expected {matched}"),
                ]
            )
        return False
    if asked.how.expected is not None:
        if asked.how.expected != matched:
            match = counted(matched, "run")
            msg = f"{match} match, {asked.how.expected} expected. Nothing was done. Look again: --dry-run."
            raise AmendsError(msg)
        return True
    if not sys.stdin.isatty() or asked.how.json:
        msg = f"{match_line(matched, past_pivot)} Say --expected {matched} to go on without being asked."
        raise BadUsage(msg)
    say([match_line(matched, past_pivot)])
    return typer.prompt("Go? [y/N]", default="n", show_default=False, prompt_suffix=" ").strip().lower() in {"y", "yes"}


def _told(asked: TypedVerb, done: "BulkView", lines: "Callable[[BulkView, str], list[str]]") -> None:
    if asked.how.json:
        as_json(done)
    else:
        say(lines(done, asked.how.where or ""))
    if done.refused:
        raise typer.Exit(1)


# -- parts


def _place(run: str, step: str | None, verb: str) -> str:
    from amends.client.protocol import segment
    from amends.client.requests import place

    at = f"/v1/runs/{place(run)}"
    return f"{at}/{verb}" if step is None else f"{at}/steps/{segment(step)}/{verb}"


def _unit(step: str | None) -> tuple[str | None, str | None]:
    """`reserve/sku-1` as step and item."""
    if step is None:
        return None, None
    name, slash, item = step.partition("/")
    return name, item if slash else None


def _said(where: str, name: str) -> str | None:
    import shlex

    found = [word.partition("=")[2] for word in shlex.split(where) if word.startswith(f"{name}=")]
    return found[0] if found else None


def _signed(reason: str | None, how: How) -> dict[str, object]:
    if reason is None and not how.dry_run:
        msg = 'say why: --reason "...". It stays in the log. What would follow: --dry-run.'
        raise BadUsage(msg)
    return {"reason": NO_REASON if reason is None else reason, "by": how.by or _user()}


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a process without a user of its own, as in some containers
        return None


def _json(text: str, what: str) -> object:
    import msgspec

    try:
        msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        msg = f"{what} is no JSON: {error}. Text stands in double quotes, within single ones: '\"yes\"'."
        raise BadUsage(msg) from error
    return msgspec.Raw(text.encode())
