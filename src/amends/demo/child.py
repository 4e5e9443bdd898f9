"""A module run as a child that ends with its parent: `python -m amends.demo.child MODULE ARGUMENTS...`.

Standard input is a pipe from the parent. When it ends the parent is gone, however it went, even by a SIGKILL that left
it no time to clean up; then this process asks itself to stop, and insists some seconds later.
"""

import os
import runpy
import signal
import sys
import time
from threading import Thread
from typing import Final

STDIN: Final = 0
GRACE_SECONDS: Final = 10.0
"""As long as an orchestrator waits for its calls in flight."""


def main() -> None:
    """Watch, and be the module that was asked for."""
    Thread(target=end_with_parent, name="parent", daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def end_with_parent() -> None:
    """Read until the other end is closed."""
    while os.read(STDIN, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
