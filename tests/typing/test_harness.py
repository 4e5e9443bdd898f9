"""The harness itself: it must fail where a sample and a checker disagree, or it would prove nothing."""

from pathlib import Path

import pytest

from tests.typing.harness import Finding, HarnessError, Report, difference, expected, markers

ONE = Finding("a.py", 3, "mypy", "arg-type")


def sample(folder: Path, text: str) -> Path:
    path = folder / "sample.py"
    path.write_text(text, "utf-8")
    return path


def test_agreement_is_silent() -> None:
    assert not difference(frozenset({ONE}), Report(frozenset({ONE}), ("words",)))


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (frozenset[Finding](), "expected, not reported:  a.py:3: mypy[arg-type]"),
        (frozenset({Finding("a.py", 4, "mypy", "arg-type")}), "reported, not expected:  a.py:4: mypy[arg-type]"),
        (frozenset({Finding("a.py", 3, "mypy", "call-arg")}), "reported, not expected:  a.py:3: mypy[call-arg]"),
        (frozenset({ONE, Finding("b.py", 3, "mypy", "arg-type")}), "reported, not expected:  b.py:3: mypy[arg-type]"),
    ],
    ids=["missing", "other line", "other rule", "other file"],
)
def test_disagreement_says_what_and_quotes_the_checker(found: frozenset[Finding], complaint: str) -> None:
    said = difference(frozenset({ONE}), Report(found, ("its words",)))
    assert complaint in said
    assert "its words" in said


def test_a_marker_names_checkers_and_rules(tmp_path: Path) -> None:
    path = sample(tmp_path, "a = 1\nb = 2  # expect: mypy[arg-type,call-arg] pyright[reportArgumentType]\n")
    assert list(markers(path)) == [
        (2, "mypy", "arg-type"),
        (2, "mypy", "call-arg"),
        (2, "pyright", "reportArgumentType"),
    ]
    assert expected(tmp_path, "pyright") == {Finding("sample.py", 2, "pyright", "reportArgumentType")}


def test_a_marker_in_a_string_is_no_marker(tmp_path: Path) -> None:
    assert not list(markers(sample(tmp_path, "a = '# expect: nothing'\n")))


@pytest.mark.parametrize(
    "comment",
    [
        "# expect mypy[x]",
        "# expect: arg-type",
        "# expect: mypy",
        "# expect: mypy[]",
        "# expect: pylint[x]",
        "#expect: mypy[x]",
    ],
)
def test_a_mistyped_marker_is_refused(tmp_path: Path, comment: str) -> None:
    path = sample(tmp_path, f"a = 1  {comment}\n")
    with pytest.raises(HarnessError, match=r"sample\.py:1"):
        list(markers(path))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no samples"):
        expected(tmp_path, "mypy")
