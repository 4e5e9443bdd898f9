"""`python -m tests.method.decided.walk SAGA ...`: finds stories of a saga with decisions that no story has yet.

It goes by the dice, always the same way for the same seed, through whatever might be asked or answered, sensible or
not, and keeps the moments at which a command of a new kind meets a step in a new situation, or something else follows
from it than before. A file is written only where there is none: what was found is then read, and kept.
"""

import random
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from amends.core.run.owed import owed
from amends.core.run.record import ASK, BUILT_IN, ItemRecord
from amends.core.words.keys import NOTICE, Phase
from tests.method.decided.language import Asked, Moment
from tests.method.decided.sagas import SAGAS
from tests.method.decided.stories import FOLDER, Turn, played

WALKS: Final = 10
STEPS_MAX: Final = 16
TRIED_MAX: Final = 60
STALE: Final = 0.2

ANSWERS: Final = (
    'yes "ok"',
    'yes "ok"',
    'yes "ok"',
    "no rejected no-stock",
    "no blocked",
    "no noop",
    "no absent code",
    "later",
    "unknown timed-out",
    "unknown not-sent",
    "unknown withdrawn",
    "unknown misrouted",
    "unknown absent",
    "unknown in-progress free wait=30",
    "halt protocol",
    "halt key-reused their-code",
)
UNDONE: Final = (*ANSWERS[2:], "yes-noop", "yes-blocked", "yes null", "yes null")


def candidates(moment: Moment, dice: random.Random) -> Iterator[Asked]:
    """Whatever might come next."""
    record = moment.record
    assert record is not None
    epoch = _epoch(moment)
    owes = owed(moment.definition, record, moment.now, epoch)
    for send in owes.sends:
        if send.starts:
            yield Asked(0, epoch, f"begin {_unit(send.step, send.item)}:{send.phase.value}")
    if owes.wake is not None:
        yield Asked(owes.wake - moment.now, epoch, "due")
    yield Asked(1_000_000, epoch, "due")
    yield Asked(0, epoch + 1, "adopted")
    yield Asked(500_000, 0, "cancel")
    yield Asked(0, epoch, "compensate")
    yield Asked(0, 0, "abandon")
    yield Asked(0, 0, "retry")
    if record.notice is not None:
        for answer in UNDONE:
            yield Asked(0, epoch, f"{NOTICE}:action#{record.notice.sends + 1} {answer}")
    for name in moment.definition.steps:
        known = record.steps.get(name)
        items = [] if known is None else [*known.items.values()]
        for item in items:
            if item.request is not None:
                yield from _answers(item, epoch, dice)
        units = [name, *[_unit(name, each.item) for each in items if each.item], f"{name}/none"]
        for unit in units:
            yield Asked(0, 0, f"retry {unit}")
            yield Asked(0, 0, f"skip {unit}")
            yield Asked(0, 0, f'resolve {unit} succeeded "by-hand"')
            yield Asked(0, 0, f"resolve {unit} succeeded 7")
            yield Asked(0, 0, f"resolve {unit} rejected")
            yield Asked(7_200_000_000, 0, f"resolve {unit} rejected")
            yield Asked(0, 0, f"resolve {unit} undone")
            if any(item.request is not None and item.request.participant == ASK for item in items):
                yield Asked(0, 0, f'answer {unit} "me"')
                yield Asked(0, 0, f"decline {unit}")
        yield Asked(0, 0, f"answer {name} 7")
    yield Asked(0, 0, "skip nobody")
    yield Asked(0, 0, "answer nobody 7")


def _answers(item: ItemRecord, epoch: int, dice: random.Random) -> Iterator[Asked]:
    unit = _unit(item.step, item.item)
    built_in = item.request is not None and item.request.participant in BUILT_IN
    for phase in Phase:
        tries = item.tries(phase)
        if (tries is None and (phase is not Phase.COMPENSATION or dice.random() > STALE)) or built_in:
            continue
        latest = 1 if tries is None else tries.sends + 1
        for answer in ANSWERS if phase is Phase.ACTION else UNDONE:
            yield Asked(250_000, epoch, f"{unit}:{phase.value}#{latest} {answer}")
            if dice.random() < STALE:
                yield Asked(0, epoch, f"{unit}:{phase.value}#{max(latest - 1, 0)} {answer}")
            if dice.random() < STALE:
                yield Asked(0, 0, f"{unit}:{phase.value}#{latest} {answer}")


def _unit(step: str, item: str) -> str:
    return f"{step}/{item}" if item else step


def _epoch(moment: Moment) -> int:
    return max(event.epoch for event in moment.events)


def _kinds(moment: Moment, asked: Asked, told: Iterable[str]) -> Iterator[str]:
    """What is new about a decision: each of these once is enough."""
    verb = re.sub(r"#\d+", "", asked.words)
    record = moment.record
    assert record is not None
    unit = verb.partition(":")[0] if ":" in verb else verb.split(" ")[min(1, verb.count(" "))]
    step, _, name = unit.partition("/")
    verb = re.sub(r"\b[a-z](/[a-z0-9%]+)?(?=[: ]|$)", "", verb)
    item = record.item(step, name)
    lines = [line for line in told if not line.startswith((":", ">"))]
    facts = [" ".join(_TELLING.findall(line)) for line in lines]
    yield " ".join((verb, *facts))
    names = " ".join(line.split(" ")[0] for line in lines)
    if item is not None:
        tries = item.action
        how = "" if tries is None else f"{tries.guard} {tries.pending} {tries.tainted}"
        kind = moment.definition.steps[step].kind
        yield f"{verb.split(' ')[0]} {kind} {item.state} {item.seal} {item.found} {how} {record.backward} {names}"


_TELLING: Final = re.compile(
    r"^\w+(?: [\w-]+:|)|(?:cause|word|reason|outcome|seal|found|state|phase|kind)=[\w-]+|alert|settled|fact|declined"
)
"""What of a fact makes it another one: its name and its words, not its numbers and names."""


def found(name: str, seed: int, seen: set[str], first: str) -> list[Turn] | None:
    """One walk; what was new in it, if anything was."""
    dice = random.Random(f"{name} {seed}")
    begun = Asked(0, 1, first)
    story = [Turn(begun)]
    moment = Moment(SAGAS[name].definition()).after(begun)[0]
    last = 0
    for _ in range(STEPS_MAX):
        possible = list(dict.fromkeys(candidates(moment, dice)))
        tried = dice.sample(possible, min(TRIED_MAX, len(possible)))
        goes_on: list[tuple[Asked, Moment]] = []
        for asked in tried:
            after, told = moment.after(asked)
            kinds = set(_kinds(moment, asked, told))
            if kinds - seen:
                seen |= kinds
                story[-1].instead.append(asked)
                last = len(story)
            if after is not moment and len(after.events) > len(moment.events):
                goes_on.append((asked, after))
        if not goes_on:
            break
        asked, moment = dice.choice(goes_on)
        if asked in story[-1].instead:
            story[-1].instead.remove(asked)
            last = len(story) + 1
        story.append(Turn(asked))
    return story[:last] if last else None


def main() -> None:
    seen: set[str] = set()
    for name in sys.argv[1:] or SAGAS:
        path = FOLDER / f"{name}.txt"
        if path.exists():
            continue
        stories = [
            story
            for seed in range(WALKS)
            if (story := found(name, seed, seen, "start deadline=20" if seed % 5 == 1 else "start")) is not None
        ]
        path.write_text("\n".join(played(name, stories)) + "\n", "utf-8")
        print(f"{name}: {len(stories)} stories")


if __name__ == "__main__":
    main()
