"""`amends token new`: a token for a caller of the server, printed once."""

import re
import secrets
from typing import Annotated, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def token(
    what: Annotated[str, typer.Argument(metavar="new|key|webhook|callback")],
    *,
    name: Annotated[str, typer.Option(help="Stands in the log of whatever is done with it.")] = "",
    role: Annotated[str, typer.Option(metavar="viewer|client|operator", help="What it may do.")] = "",
    saga: Annotated[list[str] | None, typer.Option(help="Only runs of this saga; repeat for more.")] = None,
    json: Json = False,
) -> None:
    """Make a token for callers of the server (`new`), a key that encrypts the log (`key`), the secret of a webhook
    (`webhook`), or a secret for callback tokens (`callback`). It is printed once.
    """
    match what:
        case "new":
            _token(name, role, saga or [], json=json)
        case "key":
            _key(json=json)
        case "webhook":
            _secret(json=json)
        case "callback":
            _callback(json=json)
        case _:
            msg = f"token {what}: expected amends token new, key, webhook or callback."
            raise BadUsage(msg)


def _token(name: str, role: str, sagas: list[str], *, json: bool) -> None:
    from amends.server.access import Role, new_token

    if not name:
        msg = "a token has a name, which stands in the log of whatever is done with it: --name shop-web."
        raise BadUsage(msg)
    if NAME.fullmatch(name) is None:
        msg = f"--name {name!r}: expected letters, digits, dots and dashes, 64 at the most."
        raise BadUsage(msg)
    if role not in list(Role):
        msg = f"--role {role!r}: expected viewer, client or operator."
        raise BadUsage(msg)
    made, hashed = new_token()
    if json:
        as_json({"token": made, "name": name, "role": role, "hash": hashed, "sagas": sagas})
        return
    lines = ["[[tokens]]", f'name = "{name}"', f'role = "{role}"', f'hash = "{hashed}"']
    if sagas:
        lines.append("sagas = [{}]".format(", ".join(f'"{each}"' for each in sagas)))
    print(made, "", "It isn't shown again. For amends.toml of the server:", "", *lines, sep="\n")


def _secret(*, json: bool) -> None:
    from amends.observers.signing import new_secret

    made = new_secret()
    if json:
        as_json({"secret": made})
    else:
        print(made)


def _callback(*, json: bool) -> None:
    made = secrets.token_urlsafe(32)
    if json:
        as_json({"secret": made})
    else:
        print(made)


def _key(*, json: bool) -> None:
    try:
        from amends.codecs.encrypted import new_key
    except ModuleNotFoundError as error:
        msg = "A key requires the 'crypto' extra: pip install \"amends[crypto]\""
        raise BadUsage(msg) from error
    made = new_key()
    if json:
        as_json({"key": made})
    else:
        print(made)
