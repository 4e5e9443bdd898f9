"""What is on its way, as a value: equal ones are one object, in whatever order their messages left."""

from collections.abc import Callable, Iterator

from amends.testing.explore.marks import Marks, View
from amends.testing.explore.moves import AnswerOnWay, Message, RequestOnWay


class MessagesOnWay:
    """Every message on its way, some of them perhaps more than once. Never changed.

    `alive`: whose they are, epochs as bits. `requests`, `answers`: those that differ.
    """

    __slots__ = ("_all", "_known", "_mark", "_messages", "_view", "alive", "answers", "requests")

    def __init__(self, every: "EveryWire", messages: tuple[Message, ...]) -> None:
        self._all = every
        self._messages = messages
        different = tuple({id(each): each for each in messages}.values())
        self.requests = tuple([each for each in different if isinstance(each, RequestOnWay)])
        self.answers = tuple([each for each in different if isinstance(each, AnswerOnWay)])
        self.alive = 0
        for each in different:
            self.alive |= 1 << each.epoch
        self._known: dict[int, MessagesOnWay] = {}
        self._view: View | None = None
        self._mark = 0

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    def without(self, message: Message) -> "MessagesOnWay":
        """Without one copy of a message."""
        known = self._known.get(-id(message))
        if known is None:
            index = self._messages.index(message)
            known = self._all.one(self._messages[:index] + self._messages[index + 1 :])
            self._known[-id(self._messages[index])] = known
        return known

    def plus(self, message: Message) -> "MessagesOnWay":
        """With a message more."""
        known = self._known.get(id(message))
        if known is None:
            kept = self._all.marks.message(message)
            known = self._known[id(kept)] = self._all.one((*self._messages, kept))
        return known

    def keeping(self, stays: Callable[[Message], bool]) -> "MessagesOnWay":
        """Only what stays."""
        kept = tuple([each for each in self._messages if stays(each)])
        return self if len(kept) == len(self._messages) else self._all.one(kept)

    def mark(self, view: View) -> int:
        """What matters of it under a view."""
        if self._view is not view:
            self._mark = view.of_messages(self._messages)
            self._view = view
        return self._mark


class EveryWire:
    """All that is ever on its way in one setting's worlds, each once."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self._all: dict[tuple[int, ...], MessagesOnWay] = {}

    def one(self, messages: tuple[Message, ...]) -> MessagesOnWay:
        """The one object for these messages, which must be kept in `Marks`."""
        ordered = sorted(messages, key=self.marks.place)
        key = tuple([id(each) for each in ordered])
        known = self._all.get(key)
        if known is None:
            known = self._all[key] = MessagesOnWay(self, tuple(ordered))
        return known
