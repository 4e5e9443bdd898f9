"""Stories as short texts: `r>.r<.h>.h!.cancel.-h>` is a path, one word per move, with a dot between two.

A word names what moves and how, never its place in a list of choices, so a path stays good as long as the story can
happen. Names of steps are cut to the shortest beginning that is theirs alone; whole names are read as well.

    what                            word
    a request arrives               r>   and the service: r>n refuses, r>l takes it on, r>f fails
    an answer arrives               r<
    a call ends without its answer  r!   in time; r!n it never left, r!m misrouted, r!u unreadable, r!h halted
    ... and once more, later        r>+, r<+: a copy stays on its way
    work that was taken on is over  r$   r$n: it is refused
    which call                      r an action, -r its undo, ?r a probe, =r a seal; r#2 the second attempt,
                                    r@2 the second owner's; r/sku-1 an item; r>~2 the second of its like
    owner and time                  T time passes, O an owner takes over, P it reads on, X it dies, D deadline
    people                          cancel, compensate, abandon, retry(r), skip(r), answer(r), decline(r),
                                    resolve(r)s succeeded, r rejected, u undone, h undone by hand
    ... and then the owner dies     an x at the end: r<x, Tx
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from amends.core.run.answers import Cause
from amends.core.words.errors import AmendsError
from amends.core.words.keys import Phase
from amends.testing.explore.moves import AnswerOnWay, Move, RequestOnWay
from amends.testing.explore.participants import Wants

_PHASES: Final[Mapping[Phase, str]] = {
    Phase.ACTION: "",
    Phase.COMPENSATION: "-",
    Phase.PROBE: "?",
    Phase.SEAL: "=",
}
_WANTS: Final[Mapping[Wants, str]] = {Wants.YES: "", Wants.NO: "n", Wants.LATER: "l", Wants.FAILS: "f"}
_CAUSES: Final[Mapping[Cause, str]] = {
    Cause.TIMED_OUT: "",
    Cause.NOT_SENT: "n",
    Cause.MISROUTED: "m",
    Cause.UNREADABLE: "u",
    Cause.PROTOCOL: "h",
}
_ALONE: Final[Mapping[str, str]] = {"jump": "T", "adopt": "O", "poll": "P", "crash": "X", "deadline": "D"}
_OUTCOMES: Final[Mapping[str, str]] = {"succeeded": "s", "rejected": "r", "undone": "u"}

_CALL: Final = re.compile(r"([-?=]?)([A-Za-z_]\w*)((?:/[^#@><!+$]*)?[#@><!+$].*)", re.ASCII)
_PERSON: Final = re.compile(r"([a-z]+\()([A-Za-z_]\w*)(.*)", re.ASCII)


class BadPath(AmendsError):
    """What was given is no path, or one of another saga: the story can't go on like that."""


def encode(steps: Iterable[str], words: Iterable[str]) -> str:
    """A path from full words, with the names of steps cut short."""
    short = _shortened(tuple(steps))
    return ".".join(_renamed(word, lambda name: short.get(name, name)) for word in words)


def decode(steps: Iterable[str], path: str) -> Iterator[str]:
    """The full words of a path; `BadPath` names what isn't one."""
    known = tuple(steps)
    for word in path.split(".") if path else ():
        yield _renamed(word, lambda name: _full(name, known))


def words_of(moves: Sequence[Move]) -> list[str]:
    """The word of each of these moves, which can happen in the same world; each word once."""
    seen: Counter[str] = Counter()
    words: list[str] = []
    for move in moves:
        word = _word(move)
        seen[word] += 1
        words.append(word if seen[word] == 1 else f"{word}~{seen[word]}")
    return words


def _word(move: Move) -> str:
    return f"{_what(move)}{'x' if move.dies else ''}"


def _what(move: Move) -> str:
    match move.kind:
        case "deliver" | "receive" if move.message is not None:
            return _message(move, move.message)
        case "lose" | "halt" if move.flying is not None:
            step, item, phase, attempt = move.flying
            return f"{_call(step, item, phase, attempt, move.epoch)}!{_CAUSES[move.cause]}"
        case "finish":
            return f"{_PHASES[move.phase]}{_unit(*move.vertex)}${_WANTS[move.wants]}"
        case "person" if move.does is not None:
            does = move.does
            unit = f"({_unit(does.step, does.item)})" if does.step else ""
            how = "" if does.word != "resolve" else "h" if does.undoes else _OUTCOMES[does.outcome]
            return f"{does.word}{unit}{how}"
        case kind:
            return f"{_ALONE[kind]}{f'@{move.epoch}' if move.epoch else ''}"


def _message(move: Move, message: RequestOnWay | AnswerOnWay) -> str:
    again = "+" if move.again else ""
    if isinstance(message, AnswerOnWay):
        call = _call(message.step, message.item, message.phase, message.attempt, message.epoch)
        return f"{call}<{again}"
    called = message.call
    call = _call(called.step, called.item, called.phase, message.attempt, message.epoch)
    return f"{call}>{_WANTS[move.wants]}{again}"


def _call(step: str, item: str, phase: Phase, attempt: int, epoch: int) -> str:
    which = f"#{attempt}" if attempt != 1 else ""
    whose = f"@{epoch}" if epoch != 1 else ""
    return f"{_PHASES[phase]}{_unit(step, item)}{which}{whose}"


def _unit(step: str, item: str) -> str:
    return f"{step}/{item.replace('.', '%2E')}" if item else step


# -- names of steps


def _renamed(word: str, rename: Callable[[str], str]) -> str:
    for pattern in (_CALL, _PERSON):
        found = pattern.fullmatch(word)
        if found is not None:
            before, name, after = found.groups()
            return f"{before}{rename(name)}{after}"
    return word


def _shortened(steps: Sequence[str]) -> Mapping[str, str]:
    return {name: next(short for short in _beginnings(name) if _means(short, steps) == [name]) for name in steps}


def _beginnings(name: str) -> Iterator[str]:
    return (name[:length] for length in range(1, len(name) + 1))


def _means(short: str, steps: Sequence[str]) -> list[str]:
    return [short] if short in steps else [name for name in steps if name.startswith(short)]


def _full(short: str, steps: Sequence[str]) -> str:
    meant = _means(short, steps)
    if len(meant) == 1:
        return meant[0]
    what = f"may be {', '.join(meant)}" if meant else f"is none of its steps: {', '.join(steps)}"
    msg = f"{short!r} {what}. Was the path written by another saga, or another version of it?"
    raise BadPath(msg)
