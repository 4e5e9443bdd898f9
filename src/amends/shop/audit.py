"""Is every order in all three services or in none? Judged from the databases and the log, never from memory.

What is checked, of a service by itself: nothing happened twice (no call has two lines in the journal or two effects,
no effect was undone twice); what there was at the start is what is free plus what is taken; the journal adds up;
nothing is below zero. And together with the log: no effect belongs to a run the log doesn't know; a completed run has
exactly the effects its order asks for, none of them undone; a compensated run has none that wasn't undone. Runs that
haven't ended, and those a person abandoned, are counted, but what they should have left behind isn't known yet.
"""

import asyncio
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from amends.shop.books import Books, EffectLine, Everything, LoggedRun, read_everything
from amends.shop.records import ACTIVE
from amends.shop.saga import Order, place_held_order

CAPTURED = "captured"


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was found. `runs` by state, `effects` made and `undone` by kind, `faults_fired` by kind; violations are
    sentences.
    """

    runs: Mapping[str, int]
    effects: Mapping[str, int]
    undone: Mapping[str, int]
    faults_fired: Mapping[str, int]
    violations: Sequence[str]

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return not self.violations

    @property
    def judged(self) -> int:
        """Runs that ended in a way that says what they must have left behind."""
        return self.runs.get("completed", 0) + self.runs.get("compensated", 0)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"runs           {_counts(self.runs)}",
                f"effects        {_counts(self.effects)}",
                f"undone         {_counts(self.undone)}",
                f"faults fired   {_counts(self.faults_fired)}",
                f"violations     {len(self.violations)}",
                *(f"  {violation}" for violation in self.violations),
            ]
        )


async def audit(*, log: str, inventory: str, payment: str, shipping: str) -> AuditReport:
    """Read everything (all four by URL) and judge it. May be asked at any time; ended runs are judged."""
    return judge(await read_everything(log=log, inventory=inventory, payment=payment, shipping=shipping))


def judge(everything: Everything) -> AuditReport:
    """Judge what was read."""
    effects = [effect for books in everything.books for effect in books.effects]
    faults: Counter[str] = Counter()
    for books in everything.books:
        faults.update(books.faults)
    return AuditReport(
        runs=Counter(run.state for run in everything.runs),
        effects=Counter(effect.kind for effect in effects),
        undone=Counter(effect.kind for effect in effects if effect.undone),
        faults_fired=faults,
        violations=tuple(violations(everything)),
    )


def violations(everything: Everything) -> Iterator[str]:
    """Everything that is wrong, one sentence each."""
    for books in everything.books:
        yield from happened_twice(books)
        yield from not_conserved(books)
        yield from of_unknown_runs(books, everything.known)
    for run in everything.runs:
        yield from left_behind(run, everything.books)


# -- one service by itself


def happened_twice(books: Books) -> Iterator[str]:
    """Calls that were carried out more than once."""
    for key, count in Counter(line.key for line in books.journal).items():
        if count > 1:
            yield f"{books.service}: {key} was carried out {count} times."
    for (kind, key), count in Counter((effect.kind, effect.key) for effect in books.effects).items():
        if count > 1:
            yield f"{books.service}: {key} made {count} {kind}s."
    for effect in books.effects:
        if effect.undone > 1:
            yield f"{books.service}: {effect} of {effect.run} was undone {effect.undone} times."
        elif bool(effect.undone) == (effect.state in {ACTIVE, CAPTURED}):
            yield f"{books.service}: {effect} of {effect.run} is {effect.state}, but was undone {effect.undone} times."


def not_conserved(books: Books) -> Iterator[str]:
    """What there was must be free or taken, by the effects and by the journal."""
    taken: Counter[str] = Counter()
    for effect in books.effects:
        if effect.state == ACTIVE:
            taken[effect.subject] += effect.amount
    added: Counter[str] = Counter()
    for line in books.journal:
        added[line.subject] += line.amount
    for each in books.holdings:
        if each.free < 0:
            yield f"{books.service}: {each.subject} is below zero: {each.free}."
        if each.opening != each.free + taken[each.subject]:
            there = f"{each.opening} at the start, but {each.free} free and {taken[each.subject]} taken"
            yield f"{books.service}: {each.subject} isn't conserved: {there}."
        if each.free != each.opening + added[each.subject]:
            there = f"{each.opening} at the start and {added[each.subject]:+} since, but {each.free} free"
            yield f"{books.service}: the journal of {each.subject} doesn't add up: {there}."
    for subject in sorted((taken.keys() | added.keys()) - {each.subject for each in books.holdings}):
        yield f"{books.service}: something was taken from {subject}, which doesn't exist."


def of_unknown_runs(books: Books, known: frozenset[str]) -> Iterator[str]:
    """Effects without an order."""
    for effect in books.effects:
        if effect.run not in known:
            yield f"{books.service}: {effect} belongs to {effect.run}, which the log doesn't know."
    for run in sorted({line.run for line in books.journal} - {effect.run for effect in books.effects} - known):
        yield f"{books.service}: the journal names {run}, which the log doesn't know."


# -- a run and what it left behind


def left_behind(run: LoggedRun, all_books: Sequence[Books]) -> Iterator[str]:
    """Whether an ended run is in all services, or in none."""
    if run.order is None or run.state not in {"completed", "compensated"}:
        return
    how = f"{run.id} is {run.state}{' by hand' if run.by_hand else ''}"
    made = [(books.service, effect) for books in all_books for effect in books.effects if effect.run == run.id]
    if run.state == "completed":
        found = chain(_all_of_it(run, run.order, made), _steps_in(run, {"done", "skipped"}, wanted=True))
    else:
        found = chain(_none_of_it(made), _steps_in(run, {"done", "acting", "unknown", "compensating"}, wanted=False))
    for wrong in found:
        yield f"{how}, but {wrong}."


def _all_of_it(run: LoggedRun, order: Order, made: Sequence[tuple[str, EffectLine]]) -> Iterator[str]:
    expected = {("inventory", "reservation", line.sku, line.quantity): ACTIVE for line in order.lines}
    expected["payment", "charge", order.customer, order.cents] = ACTIVE
    expected["shipping", "shipment", "", 1] = ACTIVE
    if run.saga == place_held_order.name:
        expected["payment", "hold", order.customer, order.cents] = CAPTURED
    standing: Counter[tuple[str, str, str, int]] = Counter()
    for service, effect in made:
        subject = "" if service == "shipping" else effect.subject  # any carrier, any day
        what = (service, effect.kind, subject, effect.amount)
        if effect.undone:
            yield f"{effect} was undone in {service}"
        elif what not in expected:
            yield f"{service} has {effect}, which it didn't order"
        elif effect.state != expected[what]:
            yield f"{effect} is {effect.state} in {service}, not {expected[what]}"
        else:
            standing[what] += 1
    for what, state in expected.items():
        if standing[what] != 1:
            service, kind, subject, amount = what
            of = f" of {amount} of {subject}" if subject else ""
            yield f"{service} has {standing[what]} {state} {kind}s{of} for it, not 1"


def _none_of_it(made: Sequence[tuple[str, EffectLine]]) -> Iterator[str]:
    for service, effect in made:
        if not effect.undone:
            yield f"{effect} is still {effect.state} in {service}"


def _steps_in(run: LoggedRun, states: set[str], *, wanted: bool) -> Iterator[str]:
    for step, state in run.steps.items():
        if (state in states) is not wanted:
            yield f"its step {step} is {state}"


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items())) or "none"


def main() -> None:
    """Print the report; exit 1 if anything is wrong."""
    parser = ArgumentParser(prog="python -m amends.shop.audit", description="Audit the shop: four databases by URL.")
    for name in ("log", "inventory", "payment", "shipping"):
        parser.add_argument(f"--{name}", required=True, help="sqlite:///PATH or postgresql://...")
    report = asyncio.run(audit(**vars(parser.parse_args())))
    print(report)
    sys.exit(0 if report.clean else 1)


if __name__ == "__main__":
    main()
