"""Runs are started with the saga's input, and answered with the step's reply."""

# A marker stays on the line that it is about, however long that line gets.
# fmt: off

from datetime import timedelta

from amends import AsyncClient, Call, Client, Orchestrator, Rejected, Run, Runs, ask
from contract import Inventory, Receipt, Reservation, orders, reserve


@orders.neutral()
def approve(order: str) -> Call[Receipt]:
    return ask(Receipt, "Is it paid?", within=timedelta(days=1))


async def steer(runs: Runs, embedded: Orchestrator) -> None:
    await runs.start(orders, 3)  # expect: mypy[misc] pyright[reportArgumentType]
    await runs.start("orders", "a")  # expect: mypy[arg-type] pyright[reportArgumentType]
    await runs.start(orders, "a", deadline=900)  # expect: mypy[arg-type] pyright[reportArgumentType]
    await runs.start(orders, "a", tags=["customer"])  # expect: mypy[arg-type] pyright[reportArgumentType]
    await runs.start(orders, "a", run_id="a")  # expect: mypy[call-arg] pyright[reportCallIssue]
    await runs.answer("a", approve, Reservation("r"))  # expect: mypy[misc] pyright[reportArgumentType]
    await runs.answer("a", "approve", Receipt("1"))  # expect: mypy[arg-type] pyright[reportArgumentType]
    await runs.cancel("a")  # expect: mypy[call-arg] pyright[reportCallIssue]
    await embedded.resolve("a", reserve, "succeeded", reply=Receipt("1"), reason="seen")  # expect: mypy[misc] pyright[reportArgumentType]
    await embedded.skip("a", reserve)  # expect: mypy[call-arg] pyright[reportCallIssue]
    started: Run = runs.start(orders, "a")  # expect: mypy[assignment] pyright[reportAssignmentType]
    started.id = "b"  # expect: mypy[misc] pyright[reportAttributeAccessIssue]
    started.result()  # expect: mypy[attr-defined] pyright[reportAttributeAccessIssue,reportUnknownMemberType]


async def over_http(runs: AsyncClient, client: Client) -> None:
    await runs.start(orders, 3)  # expect: mypy[misc] pyright[reportArgumentType]
    await runs.resolve("a", reserve, "done", reason="seen")  # expect: mypy[arg-type] pyright[reportArgumentType]
    client.start(orders, 3)  # expect: mypy[misc] pyright[reportArgumentType]
    client.answer("a", approve, Reservation("r"))  # expect: mypy[misc] pyright[reportArgumentType]
    client.outcome("a", wait=2)  # expect: mypy[arg-type] pyright[reportArgumentType]


one_saga = Orchestrator(orders)  # expect: mypy[arg-type] pyright[reportArgumentType]
a_number = Orchestrator([orders], log=5)  # expect: mypy[arg-type] pyright[reportArgumentType]
an_operation_has_no_place = Orchestrator([orders], routes=[Inventory])  # expect: mypy[list-item] pyright[reportArgumentType]
a_no_needs_words = Rejected()  # expect: mypy[call-arg] pyright[reportCallIssue]
