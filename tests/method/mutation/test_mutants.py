"""The mutants are what they say, are taken back without a trace, and are put into functions that are in use already."""

import ast
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType

import pytest

from tests.method.mutation.__main__ import AREAS, ARGUED, arguments, modules_of, stale, told
from tests.method.mutation.fresh import Changed
from tests.method.mutation.mutants import Module
from tests.method.mutation.running import Fate, functions_of, put_in

SOURCE = '''
"""Text."""

LIMIT = 3


def sign(number: int) -> str:
    """What it is."""
    assert number is not None
    if number < 0 or number > LIMIT:
        return "out"
    total = sum(each for each in range(number) if each % 2)
    match total:
        case 0:
            return "none"
        case _ if not number:
            return "never"
        case _:
            raise ValueError("so many" + "!")
'''


@pytest.fixture
def module(tmp_path: Path) -> Module:
    path = tmp_path / "sample.py"
    path.write_text(SOURCE)
    return Module(path)


def test_each_mutant_is_one_change_and_is_taken_back(module: Module) -> None:
    before = ast.dump(module.tree)
    texts: set[str] = set()
    for mutant in module.mutants:
        with module.mutated(mutant):
            texts.add(ast.unparse(module.tree))
        assert ast.dump(module.tree) == before, mutant.name
    assert len(texts) == len(module.mutants), "no two mutants are the same"
    assert ast.unparse(module.tree) not in texts


def test_what_matters_is_changed_and_what_is_said_to_people_is_not(module: Module) -> None:
    changes = {(mutant.line, mutant.change) for mutant in module.mutants}
    assert {
        (4, "3 -> 4"),
        (10, "branch swapped"),
        (10, "Lt -> LtE"),
        (10, "Lt -> Gt"),
        (10, "or -> and"),
        (11, "'out' -> 'out~'"),
        (11, "returns None"),
        (12, "filter negated"),
        (12, "Mod -> Mult"),
        (14, "case removed"),
        (16, "case removed"),
        (16, "not removed"),
    } <= changes
    assert not {line for line, _ in changes} & {2, 8, 9, 19}
    assert {mutant.function for mutant in module.mutants} == {"", "sign"}


def test_a_change_is_put_into_a_function_in_use(module: Module) -> None:
    names: dict[str, object] = {}
    exec(module.compile(), names)  # noqa: S102 - the sample above
    sign = names["sign"]
    assert callable(sign)
    functions = functions_of({str(module.path)})
    swapped = next(mutant for mutant in module.mutants if mutant.change == "branch swapped")
    assert sign(1) == "none"
    with module.mutated(swapped) as code:
        put_in(code, functions)
    assert sign(1) == "out"


def test_a_survivor_is_told_unless_it_is_argued(
    module: Module, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = module.path.parent.name
    fates: Mapping[str, str] = {f"{folder}/{mutant.name}": Fate.KILLED.value for mutant in module.mutants}
    assert told([module], fates) == 0
    assert "score 100.0 %" in capsys.readouterr().out
    first, second, *_ = module.mutants
    lives = {**fates, f"{folder}/{first.name}": Fate.SURVIVED.value, f"{folder}/{second.name}": Fate.UNCOVERED.value}
    assert told([module], lives) == 1
    out = capsys.readouterr().out
    assert f"survived: {first.name}" in out
    assert f"no test runs its line: {second.name}" in out
    argued = tmp_path / "argued.txt"
    argued.write_text(f"# text\n{first.claim} | because it is so\n{second.claim} | because it is so\n")
    monkeypatch.setattr("tests.method.mutation.__main__.ARGUED", argued)
    assert told([module], lives) == 0
    assert "(argued: 2)" in capsys.readouterr().out


@pytest.mark.parametrize("fate", [*Fate, None])
def test_an_argument_about_a_mutant_that_a_test_notices_is_stale(
    module: Module,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    fate: Fate | None,
) -> None:
    folder, first = module.path.parent.name, module.mutants[0]
    fates = {f"{folder}/{mutant.name}": Fate.KILLED.value for mutant in module.mutants}
    fates.pop(f"{folder}/{first.name}")
    if fate is not None:
        fates[f"{folder}/{first.name}"] = fate.value
    (tmp_path / "argued.txt").write_text(f"{first.claim} | because it was so\n")
    monkeypatch.setattr("tests.method.mutation.__main__.ARGUED", tmp_path / "argued.txt")
    assert told([module], fates) == (1 if fate is Fate.KILLED else 0)
    assert (f"argued, but a test notices it: {first.claim}" in capsys.readouterr().out) == (fate is Fate.KILLED)


def test_an_argument_about_a_mutant_that_is_gone_is_stale(
    module: Module, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "argued.txt").write_text(
        "sample.py | a line | that is gone | because it was so\nother.py | a line | gone | because it isn't looked at\n"
    )
    monkeypatch.setattr("tests.method.mutation.__main__.ARGUED", tmp_path / "argued.txt")
    fates = {f"{module.path.parent.name}/{mutant.name}": Fate.KILLED.value for mutant in module.mutants}
    assert told([module], fates) == 1
    out = capsys.readouterr().out
    assert "argued, but there is no such mutant: sample.py | a line | that is gone" in out
    assert "other.py" not in out


@pytest.mark.parametrize("area", AREAS)
def test_every_argument_in_the_file_is_about_a_mutant_that_there_is(area: str) -> None:
    assert stale(modules_of(AREAS[area]), {}, arguments(ARGUED)) == []


def test_every_argument_in_the_file_is_about_a_module_of_an_area() -> None:
    names = {module.name for area in AREAS.values() for module in modules_of(area)}
    assert {claim.partition(" | ")[0] for claim in arguments(ARGUED)} <= names


def test_a_change_that_leaves_super_out_fits_into_the_function_in_use() -> None:
    class Base:
        def __init__(self) -> None:
            self.made = True

    class Kind(Base):
        made = False

        def __init__(self) -> None:
            super().__init__()

    class Bare(Base):
        def __init__(self) -> None:
            pass

    function, other = vars(Kind)["__init__"], Bare.__init__.__code__
    assert isinstance(function, FunctionType)
    assert function.__code__.co_freevars
    assert not other.co_freevars
    key = (other.co_filename, other.co_qualname, other.co_firstlineno)
    module = compile("", "nowhere", "exec")
    put_in(module.replace(co_consts=(other,)), {key: [function]})
    assert not Kind().made


def test_a_changed_module_is_imported_by_its_name_wherever_the_checkout_is() -> None:
    code = compile("", "nowhere", "exec")
    assert Changed(Path("/home/ann/amends/src/amends/core/words/keys.py"), code).name == "amends.core.words.keys"
