"""The entry of the `amends` command: what is wrong is said in one message, and the exit code says whose turn it is.

0: fine. 1: the answer is no (a mistake found, a refusal, something stuck). 2: wrong usage. A traceback means a bug
of ours. Nothing heavy is imported here, so that `--version` and `--help` are quick.
"""

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec

from amends.cli.errors import BadUsage
from amends.core.words.errors import AmendsError, DefinitionInvalid, InputInvalid
from amends.core.words.visible import visible, visible_json

INDENT = " " * 8


def main() -> None:
    """Run one command, as told by the arguments of this process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    if list(arguments) == ["--version"]:
        print(f"amends {version('amends')}")
        return 0
    if find_spec("typer") is None:
        print("error   The command line requires the 'cli' extra: pip install \"amends[cli]\"", file=sys.stderr)
        return 1
    from amends.cli.app import app

    try:
        app(list(arguments), prog_name="amends")
    except BadUsage as error:
        _report(error, as_json="--json" in arguments)
        return 2
    except AmendsError as error:
        _report(error, as_json="--json" in arguments)
        return 1
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


def _report(error: AmendsError, *, as_json: bool) -> None:
    mistakes = error.mistakes if isinstance(error, DefinitionInvalid) else (_told(error),)
    if as_json:
        print(visible_json(json.dumps({"errors": list(mistakes)}, ensure_ascii=False)), file=sys.stderr)
        return
    for each in mistakes:
        print(f"error   {visible(each, lines=True)}".replace("\n", f"\n{INDENT}"), file=sys.stderr)


def _told(error: AmendsError) -> str:
    """What is wrong; of an input also where in it."""
    if isinstance(error, InputInvalid) and error.path.startswith("$"):
        return f"the input doesn't fit, at {error.path}: {error}"
    return str(error)


if __name__ == "__main__":
    main()
