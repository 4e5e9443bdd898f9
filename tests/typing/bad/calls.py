"""A call takes the fields of its request; what it gives is the operation's reply."""

# A marker stays on the line that it is about, however long that line gets.
# fmt: off

from amends import Call, Participant, ask, operation, sleep
from contract import Capture, Inventory, Mail, Payments, Receipt, Reservation, ReserveItems

text_for_a_number = Inventory.reserve(sku="a", quantity="2")  # expect: mypy[arg-type] pyright[reportArgumentType]
no_quantity = Inventory.reserve(sku="a")  # expect: mypy[call-arg] pyright[reportCallIssue,reportUnknownVariableType]
no_such_field = Inventory.reserve(sku="a", quantity=2, color="red")  # expect: mypy[call-arg] pyright[reportCallIssue,reportUnknownVariableType]
by_position = Inventory.reserve("a", 2)  # expect: mypy[call-arg] pyright[reportCallIssue,reportUnknownVariableType]
another_request = Payments.capture.of(ReserveItems(sku="a", quantity=2))  # expect: mypy[arg-type] pyright[reportArgumentType]
another_reply: Call[Receipt] = Inventory.reserve(sku="a", quantity=2)  # expect: mypy[assignment] pyright[reportAssignmentType]
no_reply: Call[Receipt] = Mail.tell(hold="h")  # expect: mypy[assignment] pyright[reportAssignmentType]
no_such_operation = Inventory.release(sku="a")  # expect: mypy[attr-defined] pyright[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType]
seconds = sleep(5)  # expect: mypy[arg-type] pyright[reportArgumentType]
for_ever = ask(Receipt, "Is it paid?")  # expect: mypy[call-arg] pyright[reportCallIssue,reportUnknownVariableType]
a_call_has_no_fields: str = Inventory.reserve(sku="a", quantity=2).id  # expect: mypy[attr-defined] pyright[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType]


class Wrong(Participant):
    reply_is_no_type = operation(Capture, "Receipt")  # expect: mypy[call-overload] pyright[reportArgumentType,reportUnknownVariableType]
    compensation_is_no_name = operation(Capture, Receipt, compensation=Inventory.reserve)  # expect: mypy[call-overload] pyright[reportArgumentType]


reply: Reservation = Inventory.reserve(sku="a", quantity=2)  # expect: mypy[assignment] pyright[reportAssignmentType]
