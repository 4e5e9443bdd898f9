"""Deciding: given where a run stands and what is asked or answered, the facts that follow. Pure: no clock, no
randomness, no I/O.

`decide` gives the command's own fact and everything that follows by itself, as one append. The record it gives back
is the fold of those facts on the one it was given, which it leaves alone.
"""

from dataclasses import field
from typing import NoReturn, assert_never

from amends.core.run import events as e
from amends.core.run.commands import (
    Abandon,
    Adopted,
    AnswerQuestion,
    Begin,
    Cancel,
    Command,
    Due,
    Refusal,
    Reply,
    Resolve,
    RetryStep,
    Skip,
    StartRun,
)
from amends.core.run.consequences import follow
from amends.core.run.decision import Draft
from amends.core.run.definition import Definition
from amends.core.run.evolve import begin
from amends.core.run.record import RunRecord
from amends.core.run.replies import on_reply
from amends.core.run.timers import on_due
from amends.core.run.verbs import on_verb
from amends.core.saga.mistakes import BuildError
from amends.core.words.errors import AmendsError, InputInvalid
from amends.core.words.keys import CallKey
from amends.core.words.values import value


@value
class Decision:
    """Facts to append, in order, and the record after them."""

    events: tuple[e.Event, ...]
    record: RunRecord = field(compare=False)


class BuilderFailed(AmendsError):
    """A builder raised while the run was being started: it is the caller's exception, and leaves no run."""


def start(definition: Definition, command: StartRun) -> Decision:
    """The first append of a run. A builder's bug is raised as the exception it is: nothing is stored then."""
    if command.deadline is not None and command.deadline <= command.at:
        msg = "the deadline is already over"
        raise InputInvalid(msg, path="deadline")
    started = e.RunStarted(
        at=command.at,
        epoch=command.epoch,
        run=command.run,
        saga=definition.saga,
        version=definition.version,
        digest=definition.digest,
        input=command.input,
        deadline=command.deadline,
        by=command.by,
    )
    draft = Draft(definition, begin(started), command.at, command.epoch)
    draft.events.append(started)
    follow(draft)
    if draft.bug is not None:
        _raise(definition, *draft.bug)
    return Decision(tuple(draft.events), draft.record)


def decide(
    definition: Definition, record: RunRecord, command: Command, held: frozenset[CallKey] = frozenset()
) -> Decision | Refusal:
    """What follows from a command; no events where nothing does.

    `held`: calls that the log takes for under way, although they haven't left.
    """
    draft = Draft(definition, record.copy(), command.at, command.epoch)
    match command:
        case Reply():
            on_reply(draft, command)
        case StartRun():
            msg = f"{record.run} has begun already"
            raise TypeError(msg)
        case Begin():
            _begin(draft, command)
        case Due():
            on_due(draft)
        case Adopted():
            draft.adopting = True
        case Cancel() | RetryStep() | Resolve() | Skip() | Abandon() | AnswerQuestion():
            draft.held = held
            refusal = on_verb(draft, command)
            if refusal is not None and not draft.events:
                return refusal
        case _:
            assert_never(command)
    follow(draft)
    return Decision(tuple(draft.events), draft.record)


def _begin(draft: Draft, command: Begin) -> None:
    if draft.record.ended is not None or not draft.epoch:
        return
    item = draft.record.item(command.step, command.item)
    tries = None if item is None else item.tries(command.phase)
    if tries is not None and tries.open_epoch is None and tries.due is not None:
        draft.emit(e.AttemptStarted(draft.at, draft.epoch, command.step, command.item, command.phase))


def _raise(definition: Definition, failed: BuildError, step: str) -> NoReturn:
    """The author's own exception, with a note that names the step."""
    where = f"{definition.saga} v{definition.version}, step {step}"
    if failed.exception is not None:
        failed.exception.add_note(f"in the builder of {where}")
        raise failed.exception
    msg = f"{where} {failed.error}"
    raise BuilderFailed(msg)
