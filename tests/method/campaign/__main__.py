"""`python -m tests.method.campaign --state FOLDER`: all deep searches, one piece after the other, for hours.

What is done is kept in the folder; the same command goes on where it was stopped, by whatever. Pieces that failed are
tried again; their output stays in the folder. What was found out about one commit says nothing about another: then the
folder is refused, unless `--anew` empties it.
"""

import argparse
import itertools
import sys
from pathlib import Path

from amends.testing.simulation.simulate import commit
from tests.method.campaign.keeping import Folder, OfAnotherCommit, go_through
from tests.method.campaign.parts import PARTS, Size


def main(arguments: list[str]) -> int:
    options = argparse.ArgumentParser(prog="python -m tests.method.campaign", description=__doc__)
    options.add_argument("--state", type=Path, required=True, help="a folder for what is known; made if it isn't there")
    options.add_argument("--only", action="append", choices=PARTS, help="only this part; repeat for more")
    options.add_argument("--seeds", type=int, default=200_000, help="worlds to simulate; a tenth as many on SQLite")
    options.add_argument("--minutes", type=float, help="begin nothing new after so many minutes")
    options.add_argument("--anew", action="store_true", help="forget what is known")
    asked = options.parse_args(arguments)
    try:
        folder = Folder(asked.state, commit(), anew=asked.anew)
    except OfAnotherCommit as error:
        print(f"error   {error}", file=sys.stderr)
        return 2
    size = Size(asked.state, asked.seeds)
    units = list(itertools.chain.from_iterable(PARTS[part](size) for part in asked.only or PARTS))
    return go_through(units, folder, minutes=asked.minutes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
