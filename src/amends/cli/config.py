"""`amends config`: what the settings come to, and where each came from."""

from collections.abc import Sequence
from typing import Annotated

import typer

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json, say
from amends.cli.serve import Config
from amends.cli.texts.tables import aligned


def config(
    only: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTING]...", help="Only these, or what begins with them.")
    ] = None,
    *,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show the effective settings and where each was set; secrets as ***."""
    from amends.config.loading import load
    from amends.config.showing import rows
    from amends.config.values import BadSetting

    try:
        loaded = load(file=config)
    except BadSetting as error:
        raise BadUsage(str(error)) from error
    shown = [each for each in rows(loaded) if not only or _is_meant(each.name, only)]
    if json:
        as_json({"settings": shown})
        return
    if not shown:
        msg = f"no setting is called {', '.join(only or ())}. `amends config` lists them."
        raise BadUsage(msg)
    say(aligned([(each.name, each.value, each.origin) for each in shown]))


def _is_meant(name: str, only: Sequence[str]) -> bool:
    return any(name == each or name.startswith((f"{each}.", f"{each}[")) for each in only)
