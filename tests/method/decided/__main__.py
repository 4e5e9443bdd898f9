"""`python -m tests.method.decided`: write down anew what is decided in every story of `tests/fast/core/decided`.

The stories stay what they are; what is decided in them becomes what the code decides now. Look at the difference line
by line against the rules before it is kept: each is a rule that changed.
"""

from tests.method.decided.sagas import SAGAS
from tests.method.decided.stories import FOLDER, played, read


def main() -> None:
    for name in SAGAS:
        path = FOLDER / f"{name}.txt"
        path.write_text("\n".join(played(name, read(path))) + "\n", "utf-8")


if __name__ == "__main__":
    main()
