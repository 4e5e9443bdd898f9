"""`amends demo`: the shop lives in a package of its own and needs an extra; here it is only found."""

import typer

from amends.core.words.errors import AmendsError


def demo(context: typer.Context) -> None:
    """The shop: three services, their databases, orders under faults, a live picture."""
    try:
        from amends.demo.command import demo_command

        shop = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        shop.command()(demo_command)
        shop(context.args, prog_name="amends demo")
    except ModuleNotFoundError as error:
        msg = f"The demo requires the 'demo' extra ({error.name} is not installed): pip install \"amends[demo]\""
        raise AmendsError(msg) from error
