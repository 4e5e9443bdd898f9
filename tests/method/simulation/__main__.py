"""`python -m tests.method.simulation --log memory --seed N --schedules M`: worlds of all explored sagas."""

import argparse
import sys

from amends.testing.simulation.simulate import Simulation, SimulationFailed
from tests.method.exploration.sagas import ALL, definition_of


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.method.simulation")
    options.add_argument("--log", default="memory")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--schedules", type=int, default=1_000)
    asked = options.parse_args()
    definitions = [definition_of(name) for name in ALL]

    def again(seed: int) -> str:
        return f"python -m tests.method.simulation --log {asked.log} --seed {seed} --schedules 1"

    with Simulation(definitions, asked.log, again=again) as simulation:
        try:
            print(simulation.play(asked.seed, asked.schedules))
        except SimulationFailed as failed:
            print(failed)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
