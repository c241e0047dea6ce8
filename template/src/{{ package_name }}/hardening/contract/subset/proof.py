"""Combines the subset rules: proves that schema B accepts all of schema A, or lists the differences.

It fails closed: whatever these rules cannot prove is a difference, never silence.
The rules know the keywords that Pydantic emits; others have to be equal on both sides.
Regular expressions are compared as text, references are local, and the work is bounded.
Source: JSON Schema 2020-12, Core 8-11 and Validation 6.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from .container import Part, array_findings, array_parts, object_findings, object_parts
from .leaf import LEAF, Finding, findings, name_types, show_all, split, types, values
from .node import COMBINED, LISTED, NAMED, SILENT, SINGLE, Node, Schema, Unprovable, bare, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

# Assertions that are compared as one group: they need each other, or accept a complement.
OPAQUE = (
    *("not", "if", "then", "else", "contains", "minContains", "maxContains", "contentSchema"),
    *("dependentRequired", "dependentSchemas"),
)
COUNTS = ("minItems", "maxItems", "minProperties", "maxProperties", "uniqueItems", "required")
KNOWN = {*OPAQUE, *COMBINED, *LISTED, *NAMED, *SILENT, *SINGLE, *LEAF, *COUNTS}
MOST_STEPS = 20_000
BROKEN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Difference(NamedTuple):
    """One reason why A is not within B; `before` is A's side."""

    path: str
    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class _At:
    """Where in the value we are, and what may be taken as given there.

    Attributes:
        path: The way to this place.
        proven: Pairs met on the way; met again deeper they hold by induction over the value's size.
        open: Pairs met at this very place; met again here they prove nothing.
        outside: Schemas of which the value is known not to be a member.
    """

    path: str = ""
    proven: frozenset[tuple[str, ...]] = frozenset()
    open: frozenset[tuple[str, ...]] = frozenset()
    outside: tuple[Node, ...] = ()

    def into(self, step: str) -> _At:
        return _At(self.path + step, self.proven | self.open)

    def differs(self, what: str, before: str, after: str) -> list[Difference]:
        return [Difference(self.path, what, before, after)]

    def differing(self, items: Iterable[Finding]) -> list[Difference]:
        return [Difference(self.path + step, *rest) for step, *rest in items]


def differences(a: Schema, b: Schema) -> list[Difference]:
    """Return why a value of A may not be a value of B; an empty list is a proof that it is."""
    try:
        a, b = bare(a), bare(b)
        if canonical(a) == canonical(b):
            return []
        found = _Proof().within(Node(a, a), Node(b, b), _At())
    except Unprovable as reason:
        return [Difference("", f"cannot be compared: {reason}", "", "")]
    except RecursionError:
        return [Difference("", "cannot be compared: too deep", "", "")]
    except BROKEN:
        return [Difference("", "cannot be compared: not a valid schema", "", "")]
    return list(dict.fromkeys(found))


@dataclass(slots=True)
class _Proof:
    """The rules. Each returns what stands in the way of its proof."""

    steps: int = field(default=0, init=False)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Unprovable("too large")

    def within(self, a: Node, b: Node, at: _At) -> list[Difference]:
        self._step()
        a, b = a.resolved(), b.resolved()
        if a.never:
            return []
        if b.never:
            return at.differs("", "accepted", "refused")
        pair = (a.signature(), b.signature(), *(node.signature() for node in at.outside))
        if pair[0] == pair[1] or pair in at.proven:
            return []
        at = replace(at, open=at.open | {pair})
        found: list[Difference] = []
        for name in sorted((a.schema.keys() | b.schema.keys()) - KNOWN):
            mine, theirs = ([node.schema[name]] if name in node.schema else [] for node in (a, b))
            if canonical(mine) != canonical(theirs):
                found += at.differs(name, show_all(mine), show_all(theirs))
        a, b = (node.to({name: node.schema[name] for name in node.schema if name in KNOWN}) for node in (a, b))
        return found if b.always else found + self._clauses(a, b, at)

    def _clauses(self, a: Node, b: Node, at: _At) -> list[Difference]:
        """Every clause of B has to follow from one clause of A."""
        demands, promises = b.clauses(), a.clauses()
        if len(demands) > 1 or demands[0].schema != b.schema:
            return [item for clause in demands for item in self.within(a, clause, at)]
        if len(promises) > 1 or promises[0].schema != a.schema:
            return min((self.within(clause, b, at) for clause in promises), key=len)
        branches = a.branches()
        if not branches:
            if b.branches():
                return [item for part in split(a.schema) for item in self._choice(a.to(part), b, at)]
            return self._single(a, b, at)
        found: list[Difference] = []
        for branch in branches:
            rest = tuple(other for other in branches if other is not branch) if "oneOf" in a.schema else ()
            if not self._types(branch) & self._types(b):
                found += at.differs(name_types(self._types(branch)), "accepted", "refused")
            else:
                found += self.within(branch, b, replace(at, outside=(*at.outside, *rest)))
        return found

    def _choice(self, a: Node, b: Node, at: _At) -> list[Difference]:
        """Find the alternative that takes all of A; of `oneOf`, no second one may take any of it."""
        options = b.branches()
        mine = self._types(a)
        if not mine & self._types(b):
            return at.differs(name_types(mine), "accepted", "refused")
        failed: list[tuple[bool, int, list[Difference]]] = []
        for option in options:
            found = self.within(a, option, at)
            if not found and "oneOf" in b.schema:
                others = (other for other in options if other is not option)
                if not all(self._apart(a, other, at) for other in others):
                    found = at.differs("oneOf", "exactly one", "perhaps several")
            if not found:
                return []
            failed.append((not mine & self._types(option), len(found), found))
        return min(failed, key=lambda attempt: attempt[:2])[2]

    def _apart(self, a: Node, b: Node, at: _At) -> bool:
        """Whether no value of A here is one of B."""
        return self._disjoint(a, b) or any(not self.within(b, node, _At()) for node in at.outside)

    def _disjoint(self, a: Node, b: Node) -> bool:
        self._step()
        a, b = a.resolved(), b.resolved()
        for one, other in ((a, b), (b, a)):
            if branches := one.branches():
                return all(self._disjoint(branch, other) for branch in branches)
        if a.never or b.never or not self._types(a) & self._types(b):
            return True
        mine, theirs = values(a.schema), values(b.schema)
        if mine is not None and theirs is not None:
            return not set(map(canonical, mine)) & set(map(canonical, theirs))
        if len(self._types(a) & self._types(b)) > 1 or "object" not in self._types(a):
            return False
        shared = a.mapping("properties").keys() & b.mapping("properties").keys()
        return any(
            self._disjoint(a.to(a.mapping("properties")[name]), b.to(b.mapping("properties")[name]))
            for name in shared & (a.required() | b.required())
        )

    def _types(self, node: Node) -> frozenset[str]:
        """Return the types that a value can have, choices included."""
        node = node.resolved()
        own = types(node.schema)
        branches = [self._types(branch) for branch in node.branches()]
        return own & frozenset().union(*branches) if branches else own

    def _single(self, a: Node, b: Node, at: _At) -> list[Difference]:
        """Compare two schemas without combinations."""
        found = at.differing(findings(a.schema, b.schema))
        possible = types(a.schema) & types(b.schema)
        parts: list[Part] = []
        if "array" in possible:
            found += at.differing(array_findings(a, b))
            parts += array_parts(a, b)
        if "object" in possible:
            found += at.differing(object_findings(a, b))
            parts += object_parts(a, b)
        for step, part, demand in parts:
            found += self.within(a.to(part), b.to(demand), at.into(step))
        mine, theirs = (node.to({name: node.schema[name] for name in OPAQUE if name in node.schema}) for node in (a, b))
        if theirs.schema and mine.signature() != theirs.signature():
            found += at.differs(" ".join(theirs.schema), show_all([mine.schema]), show_all([theirs.schema]))
        return found
