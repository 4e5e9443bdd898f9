"""Performs the barrier's steps on an inbox: one loop that blocks, one that awaits, and one table of what errors mean.

An error of any step or of the handler ends the transaction; leaving the inbox's context rolls it back. What it
means is the inbox's to say (`classify`). Everything that isn't known is a 503 without an outcome: the caller doesn't
learn anything from it but that the same request may be sent again.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar, assert_never

from amends.participant.barrier import HANDLER_COMMITTED
from amends.participant.effects import Asking, Ended, Program, Verdict
from amends.participant.response import Answer, problem
from amends.ports.inbox import (
    AsyncInbox,
    AsyncTransaction,
    Busy,
    Delete,
    Inbox,
    Insert,
    Lock,
    NotSerializable,
    Read,
    ReadPurgedThrough,
    Release,
    RollBack,
    Row,
    Savepoint,
    Step,
    TableMissing,
    Transaction,
    Update,
    Work,
)

T = TypeVar("T")
Tx = TypeVar("Tx")

Doing: TypeAlias = Callable[[Tx, Row | None], Ended]
DoingAsync: TypeAlias = Callable[[Tx, Row | None], Awaitable[Ended]]

WHOLE_RUNS_MAX: Final = 3
"""How often a request is run as a whole before the database's inability to order it is the caller's problem."""

RETRY_AFTER_SECONDS: Final = 1

log = logging.getLogger("amends.participant")


class Unfit(Exception):
    """The request doesn't decode as what the handler takes; raised by work before any business code ran."""


class UnfitReply(Exception):
    """What the handler returned can't be a reply of its operation; raised after the business code ran."""


class CommitFailed(Exception):
    """Whether it was committed can't be told."""


class HandlerCommitted(Exception):
    """The handler ended, or tried to end, the transaction that isn't its own."""


def drive(inbox: Inbox[Tx], begin: Callable[[], Program], doing: Doing[Tx], name: str) -> Answer:
    """Answer one call in a transaction of its own. `name` names the answering handler in problems and logs."""
    for _ in range(WHOLE_RUNS_MAX):
        try:
            with inbox.open() as tx:
                verdict = _settle(tx, begin(), doing)
                if verdict.commit:
                    _commit(tx)
            return _final(verdict, name)
        except Exception as error:  # noqa: BLE001 - every error has a row in the table of `_meaning`
            said = _meaning(inbox.classify(error) or error, name)
            if said is not None:
                return said
    return _disordered(name)


async def drive_async(inbox: AsyncInbox[Tx], begin: Callable[[], Program], doing: DoingAsync[Tx], name: str) -> Answer:
    """`drive`, awaited. A cancellation rolls back and goes on."""
    for _ in range(WHOLE_RUNS_MAX):
        try:
            async with inbox.open_async() as tx:
                verdict = await _settle_async(tx, begin(), doing)
                if verdict.commit:
                    await _commit_async(tx)
            return _final(verdict, name)
        except Exception as error:  # noqa: BLE001 - as above
            said = _meaning(inbox.classify(error) or error, name)
            if said is not None:
                return said
    return _disordered(name)


def _settle(tx: Transaction[Tx], program: Program, doing: Doing[Tx]) -> Verdict:
    try:
        return walk(tx, program, doing)
    except Exception as error:
        if tx.tampered:
            raise HandlerCommitted(_line_of(error)) from error
        raise


async def _settle_async(tx: AsyncTransaction[Tx], program: Program, doing: DoingAsync[Tx]) -> Verdict:
    try:
        return await walk_async(tx, program, doing)
    except Exception as error:
        if tx.tampered:
            raise HandlerCommitted(_line_of(error)) from error
        raise


def _commit(tx: Transaction[Tx]) -> None:
    try:
        tx.commit()
    except Exception as error:
        raise CommitFailed from error


async def _commit_async(tx: AsyncTransaction[Tx]) -> None:
    try:
        await tx.commit()
    except Exception as error:
        raise CommitFailed from error


def _final(verdict: Verdict, name: str) -> Answer:
    answer = verdict.final()
    if answer.status >= 500:
        log.error("%s: %s", name, answer.body.decode())
    return answer


# -- the two loops


def walk(tx: Transaction[Tx], asking: Asking[T], doing: Doing[Tx]) -> T:
    """Perform a generator's steps in an open transaction."""
    given: object = None
    while True:
        try:
            step = asking.send(given)
        except StopIteration as end:
            return _result(end)
        given = _perform(tx, step, doing)


async def walk_async(tx: AsyncTransaction[Tx], asking: Asking[T], doing: DoingAsync[Tx]) -> T:
    """`walk`, awaited."""
    given: object = None
    while True:
        try:
            step = asking.send(given)
        except StopIteration as end:
            return _result(end)
        given = await _perform_async(tx, step, doing)


def _result(end: StopIteration) -> T:  # type: ignore[type-var] # what a generator returns is untyped in its exception
    result: T = end.value
    return result


def _perform(tx: Transaction[Tx], step: Step, doing: Doing[Tx]) -> object:
    match step:
        case Insert(row=row):
            return tx.insert(row)
        case Lock(run=run, step=name):
            return tx.lock(run, name)
        case Read(run=run, step=name):
            return tx.read(run, name)
        case Update(row=row):
            tx.update(row)
            return None
        case Delete(run=run, step=name):
            tx.delete(run, name)
            return None
        case ReadPurgedThrough():
            return tx.purged_through()
        case Savepoint():
            tx.savepoint()
            return None
        case Work(row=undone):
            return doing(tx.handle, undone)
        case Release():
            return tx.release()
        case RollBack():
            return tx.roll_back()
        case _ as never:
            assert_never(never)


async def _perform_async(tx: AsyncTransaction[Tx], step: Step, doing: DoingAsync[Tx]) -> object:
    match step:
        case Insert(row=row):
            return await tx.insert(row)
        case Lock(run=run, step=name):
            return await tx.lock(run, name)
        case Read(run=run, step=name):
            return await tx.read(run, name)
        case Update(row=row):
            await tx.update(row)
            return None
        case Delete(run=run, step=name):
            await tx.delete(run, name)
            return None
        case ReadPurgedThrough():
            return await tx.purged_through()
        case Savepoint():
            await tx.savepoint()
            return None
        case Work(row=undone):
            return await doing(tx.handle, undone)
        case Release():
            return await tx.release()
        case RollBack():
            return await tx.roll_back()
        case _ as never:
            assert_never(never)


# -- what errors mean


def _meaning(error: Exception, name: str) -> Answer | None:
    """The answer; None: run the whole request again."""
    match error:
        case NotSerializable():
            return None
        case Busy():
            return problem(409, "in-progress", str(error), code="in-progress", retry_after_seconds=RETRY_AFTER_SECONDS)
        case TableMissing():
            detail = f"{name}: {error}"
            log.error("%s", detail)
            return problem(503, "barrier-missing", detail, code="barrier-missing")
        case HandlerCommitted():
            detail = (
                f"{name} ended the transaction itself{error}, so the effect and the barrier's row could part. "
                f"Remove the commit or rollback: the barrier commits. Nothing was written."
            )
            log.error("%s", detail, exc_info=error)
            return problem(500, HANDLER_COMMITTED, detail, code=HANDLER_COMMITTED)
        case Unfit():
            return problem(400, "request-invalid", f"{name}: {error}", code="request-invalid")
        case UnfitReply():
            # No server error: those are tried again until the run is compensated, and the work is done each time.
            detail = f"{name}: {error}. Everything was rolled back. Mend the handler; the call is tried again."
            log.error("%s", detail, exc_info=error)
            return problem(422, "reply-invalid", detail, code="reply-invalid")
        case CommitFailed():
            log.error("%s: the commit failed; whether it holds can't be told", name, exc_info=error)
            return problem(503, "commit-unclear", f"{name}: the commit failed, or its answer was lost.")
        case _:
            # The text of an error may quote what the database was given, card numbers included: only the log gets it.
            log.error("%s failed; everything was rolled back", name, exc_info=error)
            return problem(503, "failed", f"{name} failed with {type(error).__name__}; nothing was kept.")


def _disordered(name: str) -> Answer:
    return problem(503, "not-serializable", f"{name}: the database refused to order it {WHOLE_RUNS_MAX} times.")


def _line_of(error: Exception) -> str:
    """` (app.py:38)`: the service's line that an error came through; it isn't ours and not a library's."""
    trace = error.__traceback__
    found = ""
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if "site-packages" not in path and "amends/participant/" not in path and "amends/inboxes/" not in path:
            found = f" ({path}:{trace.tb_lineno})"
        trace = trace.tb_next
    return found
