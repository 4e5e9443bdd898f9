"""Going through units of work, and keeping what became of each."""

import json
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.method.campaign.parts import PROJECT, Unit

PASSED, FAILED = "passed", "failed"


class OfAnotherCommit(Exception):
    """What a folder knows is about other code."""


@dataclass
class Folder:
    """What is known, on the disk after every unit."""

    path: Path
    commit: str
    anew: bool = False

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._file = self.path / "state.json"
        self.fates: dict[str, dict[str, object]] = {}
        if self.anew:
            for old in self.path.iterdir():
                if old.suffix in {".json", ".log"}:
                    old.unlink()
        if self._file.exists():
            kept = json.loads(self._file.read_text("utf-8"))
            if kept["commit"] != self.commit:
                msg = (
                    f"{self.path} is about {kept['commit']}, and this is {self.commit}. Take another folder, or --anew."
                )
                raise OfAnotherCommit(msg)
            self.fates = kept["units"]
        self._write()

    def keep(self, unit: Unit, fate: str, seconds: float) -> None:
        self.fates[unit.name] = {"fate": fate, "seconds": round(seconds, 1)}
        self._write()

    def log_of(self, unit: Unit) -> Path:
        return self.path / f"{re.sub(r'[^A-Za-z0-9]+', '-', unit.name).strip('-')}.log"

    def _write(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"commit": self.commit, "units": self.fates}, indent=1), "utf-8")
        fresh.replace(self._file)


def go_through(units: Sequence[Unit], folder: Folder, *, minutes: float | None = None) -> int:
    """Do what isn't done yet; 0 if all has passed in the end, 1 if something failed, 3 if time was over before."""
    began = time.monotonic()
    todo = [unit for unit in units if folder.fates.get(unit.name, {}).get("fate") != PASSED]
    print(f"{len(units)} pieces, {len(units) - len(todo)} done before", flush=True)
    failed = 0
    for number, unit in enumerate(todo, len(units) - len(todo) + 1):
        if minutes is not None and time.monotonic() - began > 60 * minutes:
            print("the time is over; the same command goes on from here", flush=True)
            return 3
        print(f"{number}/{len(units)} {unit.name} ...", end=" ", flush=True)
        since = time.monotonic()
        fate = _done(unit, folder.log_of(unit))
        folder.keep(unit, fate, time.monotonic() - since)
        told = "" if fate == PASSED else f": see {folder.log_of(unit)}"
        print(f"{fate}, {time.monotonic() - since:.0f} s{told}", flush=True)
        failed += fate == FAILED
    print(f"all done, {failed} failed" if failed else "all done, all passed", flush=True)
    return 1 if failed else 0


def _done(unit: Unit, log: Path) -> str:
    with log.open("w", encoding="utf-8") as output:
        try:
            done = subprocess.run(
                unit.command, cwd=PROJECT, stdout=output, stderr=output, timeout=unit.seconds_max, check=False
            )
        except subprocess.TimeoutExpired:
            output.write(f"\nnot done after {unit.seconds_max:g} s\n")
            return FAILED
    if done.returncode == 0:
        log.unlink()
        return PASSED
    return FAILED
