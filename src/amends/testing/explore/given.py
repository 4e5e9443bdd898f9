"""What is given in a story: how the run begins, what participants and people answer, which of them refuse or are
silent.

What isn't said is made up, of the right type. Values that are made up differ from each other, and are the same in every
story of the same saga: they depend on the step and its place, not on what happened before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from amends.core.run.answers import NULL, SaidNo
from amends.core.run.definition import Definition
from amends.core.run.record import ASK, LOCAL, SLEEP, ItemRecord, RunRecord
from amends.testing.made_up import MadeUpValues

NO: Final = SaidNo("declined", "declined")

ITEMS_APART: Final = 100
"""Values made up for the items of the first step that makes many calls are counted from here, and so on."""

BY_HAND: Final = 1_000
"""Values that a person supplies are counted from here, so that they can be told from a participant's."""


@dataclass(frozen=True)
class Given:
    """What is given, by the names of steps.

    `replies`: JSON by step and item. `noes`: actions that are refused, every time. `silent`: actions whose answers
    never come, and whether they took effect. `undo_noes`: compensations that are refused. `cancelled_after`: steps
    after whose success a person asks the run to turn back.
    """

    definition: Definition
    input: bytes
    replies: Mapping[tuple[str, str], bytes] = field(default_factory=dict[tuple[str, str], bytes])
    noes: Mapping[str, SaidNo] = field(default_factory=dict[str, SaidNo])
    silent: Mapping[str, bool] = field(default_factory=dict[str, bool])
    undo_noes: frozenset[str] = frozenset()
    cancelled_after: tuple[str, ...] = ()
    _made: dict[tuple[str, str, str, str], bytes] = field(
        default_factory=dict[tuple[str, str, str, str], bytes], init=False, compare=False, repr=False
    )

    _made_by_hand: dict[tuple[str, str, str, str], bytes] = field(
        default_factory=dict[tuple[str, str, str, str], bytes], init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        values = MadeUpValues(self.definition.codec)
        for name, step in self.definition.steps.items():
            if len(step.operations) > 1:
                continue
            operation = next(iter(step.operations), None)
            type_ = step.reply_type if operation is None else operation.reply_type
            asked, by = (ASK, ASK) if operation is None else (operation.participant, operation.name)
            if step.is_local:
                asked, by = LOCAL, name
            self._made[name, "", asked, by] = NULL if type_ is None else values.json(type_, name)

    def reply(self, record: RunRecord, item: ItemRecord) -> bytes:
        """What the item's action gives, as JSON."""
        said = self.replies.get((item.step, item.item))
        if said is not None:
            return said
        request = item.request
        key = (item.step, item.item, *(("", "") if request is None else (request.participant, request.operation)))
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._value(record, item, ITEMS_APART)
        return made

    def by_hand(self, record: RunRecord, item: ItemRecord) -> bytes:
        """What a person says that it gave: of the same type, and not the same."""
        request = item.request
        key = (item.step, item.item, *(("", "") if request is None else (request.participant, request.operation)))
        made = self._made_by_hand.get(key)
        if made is None:
            made = self._made_by_hand[key] = self._value(record, item, BY_HAND)
        return made

    def no(self, step: str) -> SaidNo:
        """How its service refuses."""
        return self.noes.get(step, NO)

    def _value(self, record: RunRecord, item: ItemRecord, after: int) -> bytes:
        request = item.request
        if request is None or request.participant == SLEEP:
            return NULL
        operation = self.definition.operation(request.participant, request.operation)
        type_ = self.definition.steps[item.step].reply_type if operation is None else operation.reply_type
        if type_ is None:
            return NULL
        place = list(self.definition.steps).index(item.step) + 1
        among = list(record.steps[item.step].items).index(item.item)
        return MadeUpValues(self.definition.codec, after=after * place + among).json(type_, item.step)
