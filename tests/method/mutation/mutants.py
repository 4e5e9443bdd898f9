"""Small changes to a module's source, one at a time: what a slip of the hand could have made of it.

A change is made in the module's syntax tree and taken back after it was compiled, so all mutants of a module share one
tree. What no test can be expected to notice isn't changed: texts for people, types, docstrings, and asserts, which
only say what holds anyway.
"""

import ast
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
REVERSED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
CALCULATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
EXCHANGED = {"min": "max", "max": "min", "any": "all", "all": "any"}
TEXT_CALLS = frozenset({"cast", "TypeVar", "ParamSpec", "getLogger", "_clean"})
"""Calls whose arguments aren't looked into: they name types or write for people."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. `function` is the outermost function that it is in, empty where it is made at import."""

    path: Path
    line: int
    column: int
    function: str
    change: str
    text: str
    apply: Callable[[], None]
    undo: Callable[[], None]

    @property
    def name(self) -> str:
        """Stable as long as the line, or the statement, stays where and what it is."""
        return f"{self.path.name}:{self._place}:{self.column} {self.change}"

    @property
    def _place(self) -> int | str:
        return self.line if self.path.suffix == ".py" else self.function

    @property
    def claim(self) -> str:
        """What an argument is about: the line wherever it stands."""
        return f"{self.module} | {self.text} | {self.change}"

    @property
    def module(self) -> str:
        """What its file is called in arguments; of statements there are several files of one name."""
        return self.path.name if self.path.suffix == ".py" else f"{self.path.parent.name}/{self.path.name}"


class Module:
    """A module and all its mutants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        source = path.read_text("utf-8")
        self.lines = source.splitlines()
        self.tree = ast.parse(source)
        self.mutants = [*_Finder(self)]

    def compile(self) -> CodeType:
        """The module as its tree is now."""
        return compile(ast.fix_missing_locations(self.tree), str(self.path), "exec")

    @contextmanager
    def mutated(self, mutant: Mutant) -> Generator[CodeType]:
        """The module with this change."""
        mutant.apply()
        try:
            yield self.compile()
        finally:
            mutant.undo()


class _Finder:
    """Walks a tree and finds where it can be changed."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def __iter__(self) -> Iterator[Mutant]:
        yield from self._body(self._module.tree, "body", "")

    # -- statements

    def _body(self, owner: ast.AST, field: str, function: str) -> Iterator[Mutant]:
        statements: list[ast.stmt] = getattr(owner, field)
        for index, statement in enumerate(statements):
            yield from self._statement(statements, index, statement, function)

    def _statement(self, among: list[ast.stmt], index: int, statement: ast.stmt, function: str) -> Iterator[Mutant]:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                for default in (*statement.args.defaults, *statement.args.kw_defaults):
                    if default is not None:
                        yield from self._expression(default, function)
                yield from self._body(statement, "body", function or statement.name)
                return
            case ast.ClassDef():
                yield from self._body(statement, "body", function)
                return
            case ast.Assert() | ast.Import() | ast.ImportFrom() | ast.Global() | ast.Nonlocal() | ast.Raise():
                return
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                return
            case ast.AnnAssign():
                if statement.value is not None:
                    yield from self._expression(statement.value, function)
                return
            case ast.Assign(targets=[ast.Name(id="msg" | "detail" | "message")]):
                return
            case ast.Expr() | ast.AugAssign() | ast.Continue() | ast.Break() if function:
                gone = ast.copy_location(ast.Pass(), statement)
                yield self._swap_item(among, index, gone, "removed", function)
            case ast.Assign() if function and isinstance(statement.targets[0], ast.Attribute | ast.Subscript):
                gone = ast.copy_location(ast.Pass(), statement)
                yield self._swap_item(among, index, gone, "removed", function)
            case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
                nothing = ast.copy_location(ast.Return(ast.copy_location(ast.Constant(None), statement)), statement)
                yield self._swap_item(among, index, nothing, "returns None", function)
            case _:
                pass
        if isinstance(statement, ast.If) and not _is_not(statement.test):
            yield self._negated(statement, "test", function)
        yield from self._children(statement, function)

    def _children(self, node: ast.AST, function: str) -> Iterator[Mutant]:
        for field, value in ast.iter_fields(node):
            if field in {"annotation", "returns", "decorator_list", "type_params"}:
                continue
            if isinstance(value, list):
                listed: list[Any] = value  # pyright: ignore[reportUnknownVariableType] - a tree knows no types
                if listed and isinstance(listed[0], ast.stmt):
                    yield from self._body(node, field, function)
                elif field == "cases":
                    yield from self._cases(listed, function)
                else:
                    for each in listed:
                        if isinstance(each, ast.expr):
                            yield from self._expression(each, function)
                        elif isinstance(each, ast.AST):
                            yield from self._children(each, function)
            elif isinstance(value, ast.expr):
                yield from self._expression(value, function)
            elif isinstance(value, ast.AST):
                yield from self._children(value, function)

    def _cases(self, cases: list[ast.match_case], function: str) -> Iterator[Mutant]:
        for index, case in enumerate(cases):
            if len(cases) > 1 and not _never(case):
                yield self._without_case(cases, index, function)
            if case.guard is not None:
                if not _is_not(case.guard):
                    yield self._negated(case, "guard", function)
                yield from self._expression(case.guard, function)
            yield from self._body(case, "body", function)

    # -- expressions

    def _expression(self, node: ast.expr, function: str) -> Iterator[Mutant]:
        match node:
            case ast.JoinedStr():
                return
            case ast.Call(func=ast.Name(id=name)) if name in TEXT_CALLS:
                return
            case ast.Call(func=ast.Name(id=name)) if name in EXCHANGED:
                yield self._set(node.func, "id", EXCHANGED[name], f"{name} -> {EXCHANGED[name]}", function)
            case ast.Compare():
                yield from self._comparison(node, function)
            case ast.IfExp() if not _is_not(node.test):
                yield self._negated(node, "test", function)
            case ast.Constant():
                yield from self._constant(node, function)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                for generator in node.generators:
                    for index in range(len(generator.ifs)):
                        if not _is_not(generator.ifs[index]):
                            yield self._negated_item(generator.ifs, index, function)
            case _:
                yield from self._operation(node, function)
        yield from self._children(node, function)

    def _operation(self, node: ast.expr, function: str) -> Iterator[Mutant]:
        match node:
            case ast.BoolOp(op=ast.And()):
                yield self._set(node, "op", ast.Or(), "and -> or", function)
            case ast.BoolOp(op=ast.Or()):
                yield self._set(node, "op", ast.And(), "or -> and", function)
            case ast.UnaryOp(op=ast.Not()):
                yield self._set(node, "operand", _not(node.operand), "not removed", function)
            case ast.BinOp(op=op) if type(op) in CALCULATED:
                other = CALCULATED[type(op)]
                yield self._set(node, "op", other(), f"{type(op).__name__} -> {other.__name__}", function)
            case _:
                pass

    def _constant(self, node: ast.Constant, function: str) -> Iterator[Mutant]:
        match node.value:
            case bool() as value:
                yield self._set(node, "value", not value, f"{value} -> {not value}", function)
            case int() as number:
                yield self._set(node, "value", number + 1, f"{number} -> {number + 1}", function)
            case str() as text:
                yield self._set(node, "value", f"{text}~", f"{text!r} -> {text + '~'!r}", function)
            case bytes() as raw:
                yield self._set(node, "value", raw + b"~", f"{raw!r} -> {raw + b'~'!r}", function)
            case _:
                pass

    def _comparison(self, node: ast.Compare, function: str) -> Iterator[Mutant]:
        for index, op in enumerate(node.ops):
            for table in (COMPARED, REVERSED):
                other = table.get(type(op))
                if other is not None:
                    change = f"{type(op).__name__} -> {other.__name__}"
                    yield self._swap_item(node.ops, index, other(), change, function, at=node)

    # -- changes

    def _mutant(
        self, node: ast.AST, function: str, change: str, apply: Callable[[], None], undo: Callable[[], None]
    ) -> Mutant:
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        text = self._module.lines[line - 1].strip()
        return Mutant(self._module.path, line, column, function, change, text, apply, undo)

    def _set(self, node: ast.AST, field: str, value: object, change: str, function: str) -> Mutant:
        before: object = getattr(node, field)
        return self._mutant(
            node, function, change, lambda: setattr(node, field, value), lambda: setattr(node, field, before)
        )

    def _swap_item(  # noqa: PLR0917 - what is put in whose place
        self,
        items: list[Any],
        index: int,
        other: ast.AST,
        change: str,
        function: str,
        at: ast.AST | None = None,
    ) -> Mutant:
        before: ast.AST = items[index]

        def apply() -> None:
            items[index] = other

        def undo() -> None:
            items[index] = before

        return self._mutant(at or before, function, change, apply, undo)

    def _negated(self, node: ast.AST, field: str, function: str) -> Mutant:
        test: ast.expr = getattr(node, field)
        other = _not(test)
        return self._mutant(
            test,
            function,
            "branch swapped" if field == "test" else "guard negated",
            lambda: setattr(node, field, other),
            lambda: setattr(node, field, test),
        )

    def _negated_item(self, tests: list[ast.expr], index: int, function: str) -> Mutant:
        return self._swap_item(tests, index, _not(tests[index]), "filter negated", function)

    def _without_case(self, cases: list[ast.match_case], index: int, function: str) -> Mutant:
        case = cases[index]
        return self._mutant(
            case.pattern, function, "case removed", lambda: cases.remove(case), lambda: cases.insert(index, case)
        )


def _not(test: ast.expr) -> ast.expr:
    return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)


def _is_not(test: ast.expr) -> bool:
    """It has a `not` that can be taken away: to put another one before it would be the same."""
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _never(case: ast.match_case) -> bool:
    match case.body:
        case [ast.Expr(value=ast.Call(func=ast.Name(id="assert_never")))] | [ast.Pass()] | [ast.Raise()]:
            return True
        case _:
            return False
