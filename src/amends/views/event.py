"""The history as people and programs see it: one event as a JSON object of its fields, with what must not be shown
hidden.

Which of an event's fields hold a request or a reply is a table; everything else is shown as it is, and texts that
people wrote or services sent go through the run's mask.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from enum import Enum
from typing import Any, Final, Literal

import msgspec

from amends.core.run import events as e
from amends.core.run.owed import Send
from amends.core.run.record import RunRecord
from amends.core.words.keys import Phase, make_key
from amends.core.words.reasons import StuckReason
from amends.ports.log import StoredEvent, StoredRun
from amends.views.graph import Graph
from amends.views.masking import HIDDEN
from amends.views.redaction import SHOWS_ALL, Redaction
from amends.views.run import RunView, moment

_COLUMNS: Final = frozenset({"at", "epoch"})
_TIMES: Final = frozenset({"deadline", "next_due", "answer_due", "due_at"})
_TEXTS: Final = frozenset({"reason", "code"})
_SAID: Final = frozenset({"detail", "error"})


class EventView(msgspec.Struct, frozen=True):
    """One fact. `version` counts a run's facts from 1; `epoch` is 0 where a visitor wrote it; `data` are its fields."""

    version: int
    at: datetime
    epoch: int
    kind: str
    data: dict[str, Any]


class EventsView(msgspec.Struct, frozen=True):
    """A run's history, or the part of it asked for; `next` is the `after` of the part that follows, if there is one.

    `history`: `purged`, and there are no events; or `unreadable`, and of each event only its kind and time are shown.
    """

    run: str
    events: list[EventView]
    next: int | None
    history: Literal["purged", "unreadable"] | msgspec.UnsetType = msgspec.UNSET


class SendView(msgspec.Struct, frozen=True):
    """A call that would be sent."""

    key: str
    step: str
    phase: str
    participant: str
    operation: str
    attempt: int
    seal: str | None


class PreviewView(msgspec.Struct, frozen=True):
    """What would follow from a verb, and the version of the history for which that holds (as `If-Match`)."""

    run: str
    version: int
    state: str
    events: list[EventView]
    sends: list[SendView]
    after: RunView


class EventViews:
    """Shows the events of one run. `record` must know every call that they speak of: its own fold, or a later one."""

    def __init__(self, graph: Graph, record: RunRecord) -> None:
        self._graph = graph
        self._record = record
        self._mask = graph.mask(record)

    def views(self, events: Iterable[e.Event], first: int) -> list[EventView]:
        """Events in their order, the first of them at this version."""
        return [
            EventView(version, moment(each.at), each.epoch, type(each).__name__, self._data(each))
            for version, each in enumerate(events, first)
        ]

    def _data(self, event: e.Event) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for each in fields(event):
            if each.name not in _COLUMNS:
                shown[each.name] = self._shown(event, each.name, getattr(event, each.name))
        return shown

    def _shown(self, event: e.Event, name: str, value: object) -> object:
        match value:
            case bytes():
                return msgspec.Raw(_PAYLOADS.get((type(event), name), _hidden)(self, event, value))
            case tuple() if name == "requests":
                assert isinstance(event, e.ActionRequested), "no other event holds requests"
                return [self._request(event.step, each) for each in event.requests]
            case e.Who():
                claimed = self._mask.maybe(value.claimed_by) if value.claimed_by else value.claimed_by
                return {"by": value.by, "claimed_by": claimed, "reason": self._mask.text(value.reason)}
            case Enum():
                return value.value
            case int() if name in _TIMES:
                return moment(value)
            case str() if name in _SAID:
                return self._mask.said(value) or ""
            case str() if name in _TEXTS:
                return self._mask.text(value)
            case _:
                return value

    def _request(self, step: str, request: e.Request) -> dict[str, Any]:
        redaction = self._graph.request(step, request.participant, request.operation)
        return {
            "item": request.item,
            "participant": request.participant,
            "operation": request.operation,
            "guard": request.guard.value,
            "body": msgspec.Raw(redaction.shown(request.body)),
            "undo": request.undo,
            "can_settle": request.can_settle,
            "due_at": None if request.due_at is None else moment(request.due_at),
        }

    # -- payloads

    def input(self, event: e.Event, body: bytes) -> bytes:
        """What the run was started with."""
        return self._graph.input.shown(body)

    def reply(self, event: e.Event, body: bytes) -> bytes:
        """What was answered, or is said to have been."""
        return self._types(event)[1].shown(body)

    def envelope(self, event: e.Event, body: bytes) -> bytes:
        """What a compensation is told: the request, the reply, the reason."""
        request, reply = self._types(event)
        if not request.hides and not reply.hides and not self._graph.input.hides:
            return body
        told = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        told["request"] = msgspec.Raw(request.shown(bytes(told["request"])))
        told["reply"] = msgspec.Raw(reply.shown(bytes(told["reply"])))
        reason: str = msgspec.json.decode(told["reason"])
        return msgspec.json.encode({**told, "reason": self._mask.text(reason)})

    def notice(self, event: e.Event, body: bytes) -> bytes:
        """What the receiver is told of the end. Its type isn't in the graph: shown only where nothing is hidden."""
        return msgspec.json.encode(HIDDEN) if self._graph.hides else body

    def _types(self, event: e.Event) -> tuple[Redaction, Redaction]:
        """How the request and the reply of the call that an event is about are shown."""
        step, item = getattr(event, "step", ""), getattr(event, "item", "")
        found = self._record.item(step, item)
        if found is None or found.request is None:
            return SHOWS_ALL, SHOWS_ALL
        named = (step, found.request.participant, found.request.operation)
        return self._graph.request(*named), self._graph.reply(*named)


def bare_views(events: Iterable[StoredEvent], first: int) -> list[EventView]:
    """Events of a history that can't be read: when and what kind. What a body holds, and must not show, isn't known."""
    return [
        EventView(version, moment(each.at), each.epoch, each.kind, {StuckReason.UNREADABLE: True})
        for version, each in enumerate(events, first)
    ]


def end_of_stream(row: StoredRun, history: Literal["purged", "unreadable"]) -> EventView:
    """What a live stream gives in place of a history that isn't there: how the run stands."""
    kind = "HistoryPurged" if history == "purged" else "HistoryUnreadable"
    ended_at = None if row.ended_at is None else moment(row.ended_at)
    data = {"state": row.state, "by_hand": row.by_hand, "ended_at": ended_at}
    return EventView(row.version, moment(row.updated_at), row.epoch, kind, data)


def _hidden(views: EventViews, event: e.Event, body: bytes) -> bytes:
    """A payload that isn't foreseen."""
    return msgspec.json.encode(HIDDEN)


_PAYLOADS: Final[Mapping[tuple[type[e.Event], str], Callable[[EventViews, e.Event, bytes], bytes]]] = {
    (e.RunStarted, "input"): EventViews.input,
    (e.ActionSucceeded, "reply"): EventViews.reply,
    (e.Sealed, "reply"): EventViews.reply,
    (e.Resolved, "reply"): EventViews.reply,
    (e.Answered, "reply"): EventViews.reply,
    (e.LateReply, "body"): EventViews.reply,
    (e.CompensationRequested, "body"): EventViews.envelope,
    (e.NoticeRequested, "body"): EventViews.notice,
}
"""Which fields are payloads, and of what."""


def send_view(run: str, send: Send) -> SendView:
    """A call that is owed."""
    return SendView(
        key=make_key(run, send.step, send.item, send.phase),
        step=send.step if not send.item else f"{send.step}/{send.item}",
        phase=send.phase.value,
        participant=send.participant,
        operation=send.operation,
        attempt=send.attempt,
        seal=send.seal or None if send.phase is Phase.SEAL else None,
    )
