"""Files of decisions: read, played again, written."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.method.decided.language import Asked, Moment
from tests.method.decided.sagas import SAGAS

FOLDER: Final = Path(__file__).parent / "stories"


@dataclass
class Turn:
    """A command that was taken in; `instead`: what else might have come at that moment."""

    asked: Asked
    instead: list[Asked] = field(default_factory=list[Asked])


def read(path: Path) -> list[list[Turn]]:
    """The stories of a file, without what was decided in them."""
    stories: list[list[Turn]] = []
    for line in path.read_text("utf-8").splitlines():
        if line == "story":
            stories.append([])
        elif line.startswith("+"):
            stories[-1].append(Turn(Asked.read(line)))
        elif line.startswith("  ? "):
            stories[-1][-1].instead.append(Asked.read(line[4:]))
    return stories


def played(name: str, stories: Iterable[list[Turn]]) -> Iterator[str]:
    """The lines of a file: every command of its stories and what is decided of it by the code as it is."""
    definition = SAGAS[name].definition()
    yield f"saga {name}"
    for step in definition.steps.values():
        waits = f" after {', '.join(step.vertex.requires)}" if step.vertex.requires else ""
        yield f"  {step.kind.value} {step.name}{waits}"
    for story in stories:
        yield ""
        yield "story"
        moment = Moment(definition)
        for turn in story:
            moment, told = moment.after(turn.asked)
            yield str(turn.asked)
            yield from (f"    {line}" for line in told)
            for other in turn.instead:
                yield f"  ? {other}"
                yield from (f"      {line}" for line in moment.after(other)[1])
