"""A compensation is given the input and the reply or `None`; only a compensable step that makes one call has one."""

# A marker stays on the line that it is about, however long that line gets.
# fmt: off

from amends import Call
from contract import Hold, Payments, Receipt, Reservation, lines, orders, pay, reserve


@reserve.compensation  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def reply_may_be_unknown(order: str, reservation: Reservation) -> Call[None]:
    raise NotImplementedError


@reserve.compensation  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def another_reply(order: str, held: Hold | None) -> Call[None]:
    raise NotImplementedError


@reserve.compensation  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def without_the_reply(order: str) -> Call[None]:
    raise NotImplementedError


@reserve.compensation  # expect: mypy[arg-type] pyright[reportArgumentType,reportCallIssue,reportUntypedFunctionDecorator]
def undoes_in_a_plain_def(order: str, reservation: Reservation | None) -> None:
    return None


@pay.compensation  # expect: mypy[attr-defined,untyped-decorator] pyright[reportAttributeAccessIssue,reportUnknownMemberType,reportUntypedFunctionDecorator]
def a_pivot_is_never_undone(order: str, receipt: Receipt | None) -> Call[None]:
    raise NotImplementedError


@lines.compensation  # expect: mypy[attr-defined,untyped-decorator] pyright[reportAttributeAccessIssue,reportUnknownMemberType,reportUntypedFunctionDecorator]
def each_item_undoes_itself(order: str, reserved: dict[str, Reservation] | None) -> Call[None]:
    raise NotImplementedError


@orders.notice  # expect: mypy[arg-type] pyright[reportArgumentType]
def tells_with_a_reply(order: str, end: object) -> Call[Receipt]:
    return Payments.capture(hold=order)


@orders.notice  # expect: mypy[arg-type] pyright[reportArgumentType]
def does_not_look_at_the_end(order: str) -> Call[None]:
    raise NotImplementedError
