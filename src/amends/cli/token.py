"""`amends token new`: a token for whoever calls the server, printed once."""

import re
from typing import Annotated, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def token(
    what: Annotated[str, typer.Argument(metavar="new")],
    *,
    name: Annotated[str, typer.Option(help="Stands in the log of whatever is done with it.")],
    role: Annotated[str, typer.Option(metavar="viewer|client|operator", help="What it may do.")],
    saga: Annotated[list[str] | None, typer.Option(help="Only runs of this saga; repeat for more.")] = None,
    json: Json = False,
) -> None:
    """Make a token for whoever calls the server: printed once, with the lines for amends.toml that hold its hash."""
    from amends.server.access import Role, new_token

    if what != "new":
        msg = f"token {what}: there is only amends token new."
        raise BadUsage(msg)
    if NAME.fullmatch(name) is None:
        msg = f"--name {name!r}: expected letters, digits, dots and dashes, 64 at the most."
        raise BadUsage(msg)
    if role not in list(Role):
        msg = f"--role {role}: expected viewer, client or operator."
        raise BadUsage(msg)
    made, hashed = new_token()
    sagas = f"\nsagas = [{', '.join(f'{each!r}' for each in saga)}]".replace("'", '"') if saga else ""
    lines = f'[[tokens]]\nname = "{name}"\nrole = "{role}"\nhash = "{hashed}"{sagas}'
    if json:
        as_json({"token": made, "name": name, "role": role, "hash": hashed, "sagas": saga or []})
        return
    print(f"{made}\n\nIt isn't shown again. For amends.toml of the server:\n\n{lines}")
