"""One mutant of what a module makes when it is imported: the tests, in a process that never sees the real module."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from tests.method.mutation.mutants import Module


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from other code."""

    def __init__(self, path: Path, code: CodeType) -> None:
        self.path = path
        parts = path.with_suffix("").parts
        inner = len(parts) - 1 - parts[::-1].index("amends")  # a checkout may be called so, too
        self.name = ".".join(parts[inner:])
        self._code = code

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=str(self.path))

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102 - that is what importing is


def main() -> int:
    path, number, *tests = sys.argv[1:]
    module = Module(Path(path))
    with module.mutated(module.mutants[int(number)]) as code:
        changed = Changed(Path(path), code)
    assert changed.name not in sys.modules
    sys.meta_path.insert(0, changed)
    return pytest.main(["-q", "-x", "-n", "0", "-p", "no:cacheprovider", *tests])


if __name__ == "__main__":
    sys.exit(main())
