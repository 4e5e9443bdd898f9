"""What code that does a step's work may know about the call it is answering."""

from contextvars import ContextVar
from datetime import datetime
from typing import Final, Literal, Protocol

from amends.core.words.keys import Phase, make_key
from amends.core.words.values import value


@value
class CallInfo:
    """The call being answered.

    `key` is the same in every attempt; `action_key` names the action a compensation undoes.
    """

    key: str
    action_key: str
    run: str
    step: str
    item: str
    phase: Literal["action", "compensation", "probe", "seal"]
    attempt: int
    epoch: int
    deadline: datetime | None
    callback: str | None


class Answering(Protocol):
    """A call being answered, of which little is worked out until it is asked for."""

    def info(self) -> CallInfo:
        """What may be known of it."""
        ...


CURRENT_CALL: Final[ContextVar[CallInfo | Answering]] = ContextVar("amends_current_call")


def this_call() -> CallInfo:
    """The call being answered; `LookupError` outside of one."""
    try:
        current = CURRENT_CALL.get()
    except LookupError:
        msg = "this_call() is known only inside a step's work or a service's handler"
        raise LookupError(msg) from None
    return current if isinstance(current, CallInfo) else current.info()


def call_info(
    run: str,
    step: str,
    item: str,
    phase: Phase,
    *,
    attempt: int,
    epoch: int,
    deadline: datetime | None = None,
    callback: str | None = None,
) -> CallInfo:
    """Put the facts of one call together."""
    return CallInfo(
        key=make_key(run, step, item, phase),
        action_key=make_key(run, step, item, Phase.ACTION),
        run=run,
        step=step,
        item=item,
        phase=phase.value,
        attempt=attempt,
        epoch=epoch,
        deadline=deadline,
        callback=callback,
    )
