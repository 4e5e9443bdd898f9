"""A story must hold what was given for it: one whose fault never came to bear tells something else than its name."""

from amends.core.run.record import StepState
from amends.core.words.keys import Phase
from amends.testing.explore.given import Given
from amends.testing.explore.story import Story
from amends.testing.explore.world import World


class NeverHappened(AssertionError):
    """Something that was given in a scenario never came to bear; the message says what, and what happened instead."""


def missing(given: Given, last: World, story: Story) -> None:
    """Raise `NeverHappened` if something that was given had no part in the story."""
    asked = {(step, phase) for step, _, phase in last.sent}
    asked |= {(item.step, Phase.ACTION) for item in last.record.items() if item.state is not StepState.WAITING}
    unheard = [f"replies({step})" for step, _ in given.replies if (step, Phase.ACTION) not in asked]
    unheard += [f"rejects({step})" for step in given.noes if (step, Phase.ACTION) not in asked]
    unheard += [f"times_out({step})" for step in given.silent if (step, Phase.ACTION) not in asked]
    unheard += [f"refuses_compensation({step})" for step in given.undo_noes if (step, Phase.COMPENSATION) not in asked]
    done = {item.step for item in last.record.items() if item.reply is not None}
    unheard += [f"cancelled_after({step})" for step in given.cancelled_after if step not in done]
    if unheard:
        msg = f"{', '.join(dict.fromkeys(unheard))} never came to bear, so nothing was tested by it.\n{story.text()}"
        raise NeverHappened(msg)
