"""Outcomes are closed under `match`, their replies are typed, and values are not changed."""

# A marker stays on the line that it is about, however long that line gets.
# fmt: off

from typing import assert_never

from amends import Abandoned, Compensated, Completed, Outcome, Stuck, Unfinished, run, this_call
from contract import Receipt, Reservation, orders, pay, reserve


def forgets_that_it_may_be_stuck(outcome: Outcome) -> str:
    match outcome:
        case Completed() as done:
            return done.reply(pay).number
        case Compensated(reason=reason) | Abandoned(reason=reason):
            return reason
        case Unfinished():
            return "later"
        case _:
            assert_never(outcome)  # expect: mypy[arg-type] pyright[reportArgumentType]


def reads(done: Completed, undone: Compensated, stuck: Stuck) -> None:
    other: Receipt = done.reply(reserve)  # expect: mypy[assignment] pyright[reportAssignmentType,reportUnusedVariable]
    no_such_field = done.reply(reserve).number  # expect: mypy[attr-defined] pyright[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType,reportUnusedVariable]
    by_name = done.reply("reserve")  # expect: mypy[arg-type,var-annotated] pyright[reportArgumentType,reportUnknownVariableType,reportUnusedVariable]
    of_an_undone_run = undone.reply(reserve)  # expect: mypy[attr-defined] pyright[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType,reportUnusedVariable]
    stuck.reason = "none"  # expect: mypy[misc] pyright[reportAttributeAccessIssue]
    done.run = "another"  # expect: mypy[misc] pyright[reportAttributeAccessIssue]
    this_call().key = "another"  # expect: mypy[misc] pyright[reportAttributeAccessIssue]


another_input = run(orders, 3)  # expect: mypy[misc] pyright[reportArgumentType]
no_outcome_is_a_reply: Reservation = run(orders, "a")  # expect: mypy[assignment] pyright[reportAssignmentType]
