"""Small changes to named SQL statements, one at a time: a condition that is left out, a lock that isn't taken.

A statement is a row of words; where it can be changed is told by the words around. What is left out stays in the text,
where it has no effect (`(true OR (it))`), so that every parameter keeps its type and its place.
"""

import importlib
import itertools
import re
import runpy
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from typing_extensions import override

from tests.method.mutation.mutants import Mutant

WORD = re.compile(r"E?'(?:[^']|'')*'|/\*.*?\*/|\$\d+|::\w+(?:\[\])?|:\w+|[\w.]+|<=|>=|<>|=>|->>|->|[^\s\w]", re.DOTALL)
VERBS = frozenset({"SELECT", "WITH", "UPDATE", "INSERT", "DELETE"})
CLAUSES = frozenset(
    {
        *("SELECT", "FROM", "USING", "JOIN", "LEFT", "SET", "VALUES", "WHERE", "ON", "GROUP", "ORDER", "LIMIT", "FOR"),
        *("RETURNING", "UNION", "WHEN", "THEN", "ELSE", "END", "CASE", ",", "AND", "OR"),
    }
)
"""Words before which a condition, and a part of one, ends."""

BOUNDARIES = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
EXCHANGED = {"min": "max", "max": "min", "least": "greatest"}
OF_MANY = frozenset({"least", "coalesce", "min"})
"""Functions each of whose arguments can be left out."""

NAME = re.compile(r"[a-z_][\w.]*|\$\d+|:\w+|\d+")
TEXT = re.compile(r"'[a-z]+'")
MANY = 1_000_000

Change = tuple[int, int, str, str]
"""From which word to which (not itself), what stands there instead, and what that is called."""


class Statement:
    """One statement, taken apart into words, and all its changes."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._text = text
        found = [*WORD.finditer(text)]
        self._words = [each[0] for each in found]
        self._places = [each.span() for each in found]
        self._depths = list[int]()
        """How many parentheses each is in; they themselves are outside."""
        depth = 0
        for word in self._words:
            depth -= word == ")"
            self._depths.append(depth)
            depth += word == "("
        assert depth == 0, f"{name}: parentheses that don't match"

    def changed(self, change: Change) -> str:
        """The statement with this change."""
        begin, end, instead, _ = change
        return self._text[: self._places[begin][0]] + instead + self._text[self._places[end - 1][1] :]

    def said(self, change: Change) -> str:
        """What is changed, as it is written."""
        return self._said(change[0], change[1])

    def part(self, change: Change) -> str:
        """The statement's name, and which of its named parts this is in."""
        at = change[0]
        for opening in range(at, 1, -1):
            if (self._words[opening], self._depths[opening], self._words[opening - 1]) == ("(", 0, "AS"):
                named = opening - 2
                while self._depths[named] or self._words[named] in {"(", ")"}:
                    named -= 1
                return f"{self.name}.{self._words[named]}" if at < self._until(opening + 1) else self.name
        return self.name

    def changes(self) -> Iterator[Change]:
        """All of them."""
        if self._words[0] not in VERBS:
            yield from self._condition(0, len(self._words), "false", "true")
        for at, word in enumerate(self._words):
            yield from self._conditions(at, word)
            yield from self._clauses(at, word)
            yield from self._values(at, word)

    # -- conditions

    def _conditions(self, at: int, word: str) -> Iterator[Change]:
        after = self._words[at + 1 : at + 2]
        if word in {"WHERE", "WHEN"} or (word == "ON" and after != ["CONFLICT"]):
            end = self._until(at + 1, *CLAUSES - {"AND", "OR", ",", "CASE", "END"})
            yield from self._condition(at + 1, end, "false", *(["true"] if word == "WHEN" else []))
        if word in {"AND", "OR"}:
            begin, end = self._since(at - 1, *CLAUSES), self._until(at + 1, *CLAUSES)
            without = "true" if word == "AND" else "false"
            yield from self._condition(at + 1, end, without)
            if self._words[begin - 1] not in {"AND", "OR"}:
                yield from self._condition(begin, at, without)
        elif word in {"WHERE", "ON"} and not {"AND", "OR"} & {*self._level(at + 1)}:
            yield from self._condition(at + 1, self._until(at + 1, *CLAUSES), "true") if after != ["CONFLICT"] else ()
        if word == "NOT" and after != ["NULL"]:
            yield at, at + 1, "", "removed"
        if word == "IS":
            yield from self._is(at, self._words[at + 1])
        if word in BOUNDARIES:
            yield at, at + 1, BOUNDARIES[word], f"-> {BOUNDARIES[word]}"

    def _condition(self, begin: int, end: int, *instead: str) -> Iterator[Change]:
        said = self._said(begin, end)
        for value in instead:
            yield begin, end, f"({value} {'OR' if value == 'true' else 'AND'} ({said}))", f"-> {value}"

    def _is(self, at: int, what: str) -> Iterator[Change]:
        match what:
            case "NULL":
                yield at, at + 2, "IS NOT NULL", "-> IS NOT NULL"
            case "NOT":
                yield at, at + 3, "IS NULL", "-> IS NULL"
            case _:
                yield at, at + 2, "", "removed"

    # -- clauses

    def _clauses(self, at: int, word: str) -> Iterator[Change]:
        after = self._words[at + 1 : at + 2]
        match word, after:
            case "SKIP", _:
                yield at, at + 2, "", "removed"
            case "FOR", ["UPDATE" | "NO"]:
                yield at, self._until(at), "", "removed"
            case "ON", ["CONFLICT"]:
                yield at, self._until(at, "RETURNING"), "", "removed"
            case "LEFT", ["JOIN"]:
                yield at, at + 1, "", "removed"
            case "ORDER", _:
                end = self._until(at, "LIMIT", "FOR", "UNION")
                yield at, end, "", "removed"
                yield from self._keys(at + 2, end)
            case "DESC", _:
                yield at, at + 1, "", "removed"
            case "NULLS", _:
                yield at, at + 2, "", "removed"
            case "LIMIT", _:
                end = self._until(at, "FOR", "UNION")
                yield at, end, f"LIMIT {MANY} + {self._said(at + 1, end)}", "removed"
            case "SET", _:
                yield from self._assignments(at)
            case _:
                pass

    def _keys(self, begin: int, end: int) -> Iterator[Change]:
        """Each of the values that something is ordered by, if there is more than one."""
        parts = [*self._parts(begin, end)]
        for (first, _), (after, _) in itertools.pairwise(parts):
            yield first, after, "", "removed"
        if len(parts) > 1:
            yield parts[-1][0] - 1, parts[-1][1], "", "removed"

    def _assignments(self, at: int) -> Iterator[Change]:
        """What is set stays as it is. Before SET stands the table, or what it is called here."""
        table = self._words[at - 1].rpartition(".")[2]
        for begin, end in self._parts(at + 1, self._until(at, *{"FROM", "WHERE", "RETURNING"})):
            column, value = self._words[begin], self._said(begin + 2, end)
            yield begin, end, f"{column} = CASE WHEN true THEN {table}.{column} ELSE {value} END", "not set"

    # -- values

    def _values(self, at: int, word: str) -> Iterator[Change]:
        before = self._words[at - 1] if at else "("
        calculated = word in {"+", "*"} or (word == "-" and self._words[at + 1] == "interval")
        if calculated and (before == ")" or NAME.fullmatch(before)) and not before.endswith("."):
            left, right = self._left(at - 1), self._right(at + 1)
            kept = self._said(left, at)
            yield left, right, f"CASE WHEN true THEN {kept} ELSE {self._said(left, right)} END", "left side alone"
        if word in EXCHANGED and self._words[at + 1] == "(":
            yield at, at + 1, EXCHANGED[word], f"-> {EXCHANGED[word]}"
        if word in OF_MANY and self._words[at + 1] == "(":
            yield from self._arguments(at)
        if TEXT.fullmatch(word):
            yield at, at + 1, f"{word[:-1]}~'", f"-> {word[:-1]}~'"
        if word in {"0", "1"} and before not in {"LIMIT", "SELECT"}:
            yield at, at + 1, str(int(word) + 1), f"-> {int(word) + 1}"

    def _arguments(self, at: int) -> Iterator[Change]:
        """Each argument replaced by one beside it."""
        parts = [*self._parts(at + 2, self._until(at + 2))]
        texts = [self._said(*part) for part in parts]
        if len(parts) == 2:
            whole = (at, parts[1][1] + 1)
            for number, kept in enumerate(("false", "true")):
                either = f"CASE WHEN {kept} THEN {texts[0]} ELSE {texts[1]} END"
                yield *whole, either, f"without {texts[number]}"
        elif len(parts) > 2:
            for number, (begin, end) in enumerate(parts):
                yield begin, end, f"CASE WHEN true THEN {texts[number - 1]} ELSE {texts[number]} END", "removed"

    # -- words

    def _said(self, begin: int, end: int) -> str:
        return self._text[self._places[begin][0] : self._places[end - 1][1]]

    def _until(self, begin: int, *ends: str) -> int:
        """Where what begins here ends: before one of these words, or where its parentheses end."""
        depth, at = self._depths[begin], begin
        while at < len(self._words) and self._depths[at] >= depth:
            if at > begin and self._depths[at] == depth and self._words[at] in ends:
                break
            at += 1
        return at

    def _since(self, end: int, *begins: str) -> int:
        """The same, backwards."""
        depth, at = self._depths[end], end
        while at >= 0 and self._depths[at] >= depth:
            if self._depths[at] == depth and self._words[at] in begins:
                break
            at -= 1
        return at + 1

    def _level(self, begin: int) -> Iterator[str]:
        """The words of the same depth of a condition that begins here."""
        end = self._until(begin, *CLAUSES - {"AND", "OR"})
        return (self._words[at] for at in range(begin, end) if self._depths[at] == self._depths[begin])

    def _parts(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """What stands between commas."""
        while begin < end:
            comma = min(end, self._until(begin, ","))
            yield begin, comma
            begin = comma + 1

    def _left(self, at: int) -> int:
        """Where a value begins that ends here: a name, or what is in parentheses, perhaps with a function's name."""
        if self._words[at] != ")":
            return at
        opening = next(n for n in range(at - 1, -1, -1) if (self._words[n], self._depths[n]) == ("(", self._depths[at]))
        return opening - bool(NAME.fullmatch(self._words[opening - 1]))

    def _right(self, at: int) -> int:
        """Where a value ends that begins here."""
        at += self._words[at] == "interval" or self._words[at + 1 : at + 2] == ["("]
        if self._words[at] == "(":
            at = next(
                n for n in range(at, len(self._words)) if (self._words[n], self._depths[n]) == (")", self._depths[at])
            )
        return at + 1 + self._words[at + 1].startswith("::")


class Statements:
    """A file of named statements, and all their mutants; `changed` are those that are to be put in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text("utf-8").splitlines()
        self.name = f"{path.parent.name}/{path.name}"
        self.package = ".".join(path.parent.parts[-3:])
        # By its file: whatever of the package is imported before pytest begins, pytest can't have a part in.
        statements = runpy.run_path(str(path.parent.parent / "named_sql.py"))["statements"]
        self.texts: dict[str, str] = statements(path.read_text("utf-8"))
        self.now = dict(self.texts)
        self.mutants = [*self._mutants()]

    def line(self, statement: str) -> int:
        """Where a statement begins."""
        return self.lines.index(f"-- name: {statement}") + 1

    def _mutants(self) -> Iterator[Mutant]:
        met = Counter[tuple[str, str]]()
        for name, text in self.texts.items():
            statement = Statement(name, text)
            for change in statement.changes():
                said = f"{statement.part(change)}: {statement.said(change)}"
                met[said, change[3]] += 1
                number = met[said, change[3]]
                what = change[3] if number == 1 else f"{change[3]} ({number})"
                apply, undo = self._putting(name, statement.changed(change)), self._putting(name, text)
                yield Mutant(self.path, self.line(name), change[0], name, what, said, apply, undo)

    def _putting(self, name: str, text: str) -> Callable[[], None]:
        def put() -> None:
            self.now[name] = text

        return put

    @contextmanager
    def mutated(self, mutant: Mutant) -> Generator[Callable[[], None]]:
        """Gives what puts the changed statement in use."""
        mutant.apply()
        try:
            now = dict(self.now)
            yield lambda: put_in_use(self.package, now)
        finally:
            mutant.undo()


class Watched(dict[str, str]):
    """Statements that know which of them were asked for."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__(texts)
        self.asked = set[str]()

    @override
    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)


def watch(package: str) -> Watched:
    """From now on, note which statements are asked for."""
    texts: dict[str, str] = importlib.import_module(f"{package}.statements").SQL
    watched = Watched(texts)
    for module in _users(texts):
        module.__dict__["SQL"] = watched
    return watched


def put_in_use(package: str, texts: Mapping[str, str]) -> None:
    """Put other statements in the place of those that the package has, also in what was made of them on import."""
    known: dict[str, str] = importlib.import_module(f"{package}.statements").SQL
    known.update(texts)
    for module in _users(known):
        if module.__name__.startswith(package) and module.__name__ != f"{package}.statements":
            before = dict(vars(module))
            importlib.reload(module)
            # Classes and functions stay those that others have; they find the new texts in their module.
            vars(module).update({name: value for name, value in before.items() if not name.isupper() or name == "SQL"})


def _users(texts: Mapping[str, str]) -> list[ModuleType]:
    return [module for module in list(sys.modules.values()) if vars(module).get("SQL") is texts]
