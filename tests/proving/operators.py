"""Changes that are made to every module alike: what a slip of a person or of a merge could do to it.

Each change is one place of one file: a comparison, a bound, a condition, a default, a statement that is gone.
Nothing here knows what the code is for.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "//",
    ast.LShift: ">>",
    ast.RShift: "<<",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}
# A word of a protocol, a metric or a setting; a sentence is for people, and worded as its author likes.
WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:;=,+*")
LONGEST_WORD = 60
# Up to here a number is off by one; beyond, it is doubled or halved.
SMALL = 9

# Calls that say a type, and in a second argument a value of it.
TYPES = frozenset({"cast", "TypeVar", "DefaultTypeVar", "ParamSpec"})

# What an operator gives: its name, a node or the bytes from and to, and what stands there instead.
Place: TypeAlias = tuple[str, ast.AST | tuple[int, int], str]


@dataclass(frozen=True)
class Change:
    """One place of one file, and what stands there instead.

    Attributes:
        file: Path below the folder that is changed.
        where: Function or class around it.
        kind: Which operator made it.
        line: First line, counted from 1.
        old: What stands there.
        new: What takes its place.
        start: Where it begins in the file's bytes.
        count: How many places of the same text in the same function stand before it.
    """

    file: str
    where: str
    kind: str
    line: int
    old: str
    new: str
    start: int
    count: int = 0

    @property
    def name(self) -> str:
        """What the change is called; it stays the same while other lines of the file change."""
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        place = f"{self.file} {self.where}" if self.where else self.file
        return f"{place}: {self.kind}: `{old}` -> `{new}`" + (f" #{self.count}" if self.count else "")

    def applied(self, text: bytes) -> bytes:
        """Return the file with the change."""
        end = self.start + len(self.old.encode())
        assert text[self.start : end] == self.old.encode(), self.name
        return text[: self.start] + self.new.encode() + text[end:]


class Module:
    """One module and its places."""

    def __init__(self, path: Path, file: str) -> None:
        self.file = file
        self.bytes = path.read_bytes()
        self.tree = ast.parse(self.bytes)
        self._starts = [0]
        for line in self.bytes.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def changes(self) -> list[Change]:
        """Return every change of the module, each with a name of its own."""
        seen: Counter[str] = Counter()
        found: list[Change] = []
        for change in sorted(self._walk(self.tree, ""), key=lambda change: (change.start, change.kind, change.new)):
            found.append(Change(**{**vars(change), "count": seen[change.name]}))
            seen[change.name] += 1
        return found

    def _place(self, node: ast.AST) -> tuple[int, int]:
        start = self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def _text(self, node: ast.AST) -> str:
        start, end = self._place(node)
        return self.bytes[start:end].decode()

    def _walk(self, node: ast.AST, where: str) -> Iterator[Change]:
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.If) and _for_types(node)):
            return
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TYPES:
            # A type is nothing that runs; what is cast is.
            yield from (change for given in node.args[1:] for change in self._walk(given, where))
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            where = f"{where}.{node.name}".lstrip(".")
        for kind, target, new in self._at(node, where):
            start, end = target if isinstance(target, tuple) else self._place(target)
            old = self.bytes[start:end].decode()
            line = self.bytes.count(b"\n", 0, start) + 1
            if old != new:
                yield Change(self.file, where, kind, line, old, new, start)
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "bases"} and not isinstance(node, ast.ClassDef):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not _is_docstring(child):
                    yield from self._walk(child, where)

    def _between(self, left: ast.AST, right: ast.AST) -> tuple[int, int]:
        """Return the place of the operator between two operands, without brackets and blanks."""
        start, end = self._place(left)[1], self._place(right)[0]
        text = self.bytes[start:end]
        word = text.strip(b" \n()")
        return start + text.index(word), start + text.index(word) + len(word)

    def _at(self, node: ast.AST, where: str) -> Iterator[Place]:
        yield from self._operators(node)
        yield from self._values(node)
        yield from self._conditions(node)
        yield from self._statements(node, where)
        yield from self._removals(node)

    def _operators(self, node: ast.AST) -> Iterator[Place]:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=rights):
                for one, op, other in zip([left, *rights[:-1]], ops, rights, strict=True):
                    yield "comparison", self._between(one, other), COMPARISONS[type(op)]
            case ast.BoolOp(op=op, values=values):
                for one, other in pairwise(values):
                    yield "and/or", self._between(one, other), "or" if isinstance(op, ast.And) else "and"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield "not", node, f"({self._text(operand)})"
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC and not _is_text(left, right):
                yield "arithmetic", self._between(left, right), ARITHMETIC[type(op)]
            case _:
                pass

    @staticmethod
    def _values(node: ast.AST) -> Iterator[Place]:
        match node:
            case ast.Constant(value=bool() as value):
                yield "boolean", node, str(not value)
            case ast.Constant(value=int() | float() as value):
                yield "number", node, str(value + 1 if value <= SMALL else value * 2)
                if value > 1:
                    yield "number", node, str(value // 2 if isinstance(value, int) else value / 2)
            case ast.Constant(value=str() as value) if 1 < len(value) <= LONGEST_WORD and set(value) <= WORD:
                yield "word", node, repr(value + "x")
            case ast.Return(value=ast.AST() as value) if not isinstance(value, ast.Constant):
                yield "returned", value, "None"
            case _:
                pass

    @staticmethod
    def _conditions(node: ast.AST) -> Iterator[Place]:
        match node:
            case ast.If(test=test) | ast.IfExp(test=test):
                yield "condition", test, "True"
                yield "condition", test, "False"
            case ast.While(test=test) if not isinstance(test, ast.Constant):
                yield "condition", test, "False"
            case ast.comprehension(ifs=ifs):
                for test in ifs:
                    yield "condition", test, "True"
            case _:
                pass

    def _statements(self, node: ast.AST, where: str) -> Iterator[Place]:
        match node:
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Delete() | ast.Raise(exc=ast.AST()):
                yield "statement", node, "pass"
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) if not where.endswith("__init__"):
                yield "statement", node, "pass"
            case ast.Try(handlers=handlers, finalbody=final):
                for handler in handlers:
                    yield "except", self._body(handler.body), "raise"
                if final:
                    yield "finally", self._body(final), "pass"
            case _:
                pass

    def _removals(self, node: ast.AST) -> Iterator[Place]:
        match node:
            case ast.Call(args=arguments, keywords=keywords):
                for before, keyword in pairwise([*arguments[-1:], *keywords]):
                    if isinstance(keyword, ast.keyword) and keyword.arg:
                        yield "keyword", (self._place(before)[1], self._place(keyword)[1]), ""
            case ast.Set(elts=[_, _, *_] as elements) | ast.Tuple(elts=[_, _, _, *_] as elements, ctx=ast.Load()):
                for before, element in pairwise(elements):
                    if isinstance(element, ast.Constant):
                        yield "element", (self._place(before)[1], self._place(element)[1]), ""
            case _:
                pass

    def _body(self, body: list[ast.stmt]) -> tuple[int, int]:
        return self._place(body[0])[0], self._place(body[-1])[1]


def _for_types(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_text(*nodes: ast.AST) -> bool:
    return any(
        isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
        for node in nodes
    )


def changes(folder: Path) -> list[Change]:
    """Return every change of every module below a folder."""
    found: list[Change] = []
    for path in sorted(folder.rglob("*.py")):
        found += Module(path, str(path.relative_to(folder))).changes()
    return found


NUMBER = re.compile(rb"(?<![\w.-])\d+(?=(?:s|m|h|ms|k|Ki|Mi|Gi|KB|MB)?(?![\w.]))")
SWITCHES = {b"true": b"false", b"false": b"true", b"on": b"off", b"off": b"on", b"&&": b"||", b"||": b"&&"}
SWITCH = re.compile(rb"(?<![\w-])(?:true|false|on|off)(?![\w:-])|&&|\|\|")
VALUE = re.compile(rb"[:=] *([A-Za-z][\w./-]+)\s*$")
# A line that undoes what others promise: after which, in which files, what is added, one step further in.
ADDED = (
    (re.compile(rb"^( *)securityContext:$"), ".yaml", b"  privileged: true"),
    (re.compile(rb"^( *)enableServiceLinks: "), ".yaml", b"hostNetwork: true"),
    (re.compile(rb"^( *)(?:egress|ingress):$"), ".yaml", b"  - {}"),
    (re.compile(rb"^( *)cap_drop: "), "compose.yaml", b"privileged: true"),
    (re.compile(rb"^( *)permissions:$"), ".yml", b"  actions: write"),
    (re.compile(rb"^( *)- name: "), ".yml", b"  continue-on-error: true"),
    (
        re.compile(rb"^( *)(?:uv|zizmor|python3?|git|bash|kubectl|flyctl|railway|cosign) [^\\|&]*[^\\|&{(]$"),
        ".sh",
        b" || true",
    ),
    (re.compile(rb"^( *)proxy_buffering off;$"), ".conf", b"proxy_next_upstream error timeout non_idempotent;"),
    (re.compile(rb"^(\t*)lb_try_interval "), "Caddyfile", b"lb_retry_match method POST"),
    (re.compile(rb"^(USER) "), "Dockerfile.jinja", b" 0:0"),
    (re.compile(rb"^()NoNewPrivileges="), ".service", b"AmbientCapabilities=CAP_SYS_ADMIN"),
)


def line_changes(path: Path, file: str) -> list[Change]:
    """Return every change of a file that is no Python: a line gone, a number, a switch, a word, a line that undoes it.

    The name says what the line is, not where: it stays the same while other lines come and go.
    """
    found: list[Change] = []
    seen: Counter[str] = Counter()
    comments = (b"#", b"//", b"{%", b"---", *([b"-- "] if path.suffix == ".sql" else []))
    start = 0
    for number, text in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if (bare := text.strip()) and not bare.startswith(comments):
            for kind, (a, b), new in [*_of_line(text), *_added(text, re.sub(r"\{%.*?%\}", "", file))]:
                where = "" if kind == "line" else " ".join(bare.decode()[:LONGEST_WORD].split())
                change = Change(file, where, kind, number, text[a:b].decode(), new.decode(), start + a)
                found.append(Change(**{**vars(change), "count": seen[change.name]}))
                seen[change.name] += 1
        start += len(text)
    return found


def _of_line(text: bytes) -> Iterator[tuple[str, tuple[int, int], bytes]]:
    yield "line", (0, len(text)), b""
    for found in re.finditer(NUMBER, text):
        if value := found[0]:
            yield "number", found.span(), b"%d" % (int(value) + 1 if int(value) <= SMALL else int(value) * 2)
    for found in re.finditer(SWITCH, text):
        yield "switch", found.span(), SWITCHES[found[0]]
    if found := re.search(VALUE, text):
        yield "word", found.span(1), found[1] + b"x"


def _added(text: bytes, file: str) -> Iterator[tuple[str, tuple[int, int], bytes]]:
    end = len(text.rstrip())
    for before, ending, line in ADDED:
        if file.endswith(ending) and (found := before.search(text.rstrip())):
            same = line.startswith(b" || ")
            yield "added", (end, end), line if same else b"\n" + found[1] + line


def is_python(text: bytes) -> bool:
    """Whether a changed module can be compiled; the place of an operator is found in its text."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True
