"""A step's parameters are the input and the replies it reads; what it returns is its shape."""

# A marker stays on the line that it is about, however long that line gets.
# fmt: off

from amends import Call, Policy, Saga
from contract import (
    Hold,
    Inventory,
    Payments,
    Receipt,
    Reservation,
    elsewhere,
    gift,
    lines,
    orders,
    pay,
    reserve,
)


@orders.pivot(reserve, gift)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def skipped_step_may_be_none(order: str, reservation: Reservation, held: Hold) -> Call[Receipt]:
    return Payments.capture(hold=held.id)


@orders.compensable()  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def does_the_work_in_a_plain_def(order: str) -> str:
    return "done"


@orders.compensable()  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def reads_what_it_does_not_name(order: str, reservation: Reservation) -> Call[Hold]:
    return Payments.hold(customer=reservation.id)


@orders.compensable(reserve)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def names_what_it_does_not_read(order: str) -> Call[Hold]:
    return Payments.hold(customer=order)


@orders.compensable(reserve, pay)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def in_another_order(order: str, receipt: Receipt, reservation: Reservation) -> Call[Hold]:
    return Payments.hold(customer=order)


@orders.compensable(lines)  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def many_replies_read_as_one(order: str, reservation: Reservation) -> Call[Hold]:
    return Payments.hold(customer=reservation.id)


@orders.compensable()  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def another_input(order: int) -> Call[Hold]:
    return Payments.hold(customer=str(order))


@orders.compensable(after=[elsewhere])  # expect: mypy[list-item] pyright[reportArgumentType]
def waits_for_a_step_of_another_saga(order: str) -> Call[Hold]:
    return Payments.hold(customer=order)


@orders.compensable(elsewhere)  # expect: mypy[arg-type] pyright[reportArgumentType]
def reads_a_step_of_another_saga(order: str, reservation: Reservation) -> Call[Hold]:
    return Payments.hold(customer=order)


@orders.compensable(after=reserve)  # expect: mypy[call-overload,untyped-decorator] pyright[reportArgumentType]
def after_takes_a_list(order: str) -> Call[Hold]:
    return Payments.hold(customer=order)


@orders.compensable(reserve, reserve, reserve, reserve, reserve, reserve, reserve)  # expect: mypy[call-overload,untyped-decorator] pyright[reportCallIssue,reportUntypedFunctionDecorator]
def reads_seven(order: str) -> Call[Hold]:
    return Payments.hold(customer=order)


@orders.compensable()  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def a_set_has_no_order(order: str) -> set[Call[Hold]]:
    return set()


@orders.compensable(policy=Policy(on_unknown="guess"))  # expect: mypy[arg-type] pyright[reportArgumentType]
def guesses(order: str) -> Call[Hold]:
    return Payments.hold(customer=order)


@orders.compensable(policy=Policy(timeout=10))  # expect: mypy[arg-type] pyright[reportArgumentType]
def seconds_are_no_duration(order: str) -> Call[Hold]:
    return Payments.hold(customer=order)


@orders.compensable  # expect: mypy[call-overload] pyright[reportArgumentType]
def forgot_the_parentheses(order: str) -> Call[Hold]:
    return Payments.hold(customer=order)


@orders.undoable()  # expect: mypy[attr-defined,untyped-decorator] pyright[reportAttributeAccessIssue,reportUnknownMemberType,reportUntypedFunctionDecorator]
def of_no_kind(order: str) -> Call[Reservation]:
    return Inventory.reserve(sku=order, quantity=1)


no_input = Saga("no-input")  # expect: mypy[call-arg,var-annotated] pyright[reportCallIssue,reportUnknownVariableType]
input_is_no_type = Saga("s", "str")  # expect: mypy[arg-type,var-annotated] pyright[reportArgumentType,reportUnknownVariableType]
