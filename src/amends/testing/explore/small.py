"""A saga as it is searched: the same steps, with little patience, so that running out of it is among what happens.

No search can go through eight attempts at everything in every order. Two show all that attempts can show: one that is
followed by another, and the last. Waits grow until they are a day, so that what is asked again and again is asked some
twenty times and not a thousand.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from amends.core.run.definition import Definition
from amends.core.words.retry import Patience, micros

ATTEMPTS_MAX: Final = 2
WAIT_MAX: Final = timedelta(days=1)


def with_little_patience(definition: Definition) -> Definition:
    """The definition, changed in place: it must not be shared."""
    for step in definition.steps.values():
        policy = step.policy
        step.policy = replace(policy, action=_little(policy.action), compensation=_little(policy.compensation))
    return definition


def _little(patience: Patience) -> Patience:
    attempts = ATTEMPTS_MAX if patience.attempts_max is None else min(patience.attempts_max, ATTEMPTS_MAX)
    return replace(patience, attempts_max=attempts, cap=micros(WAIT_MAX))
