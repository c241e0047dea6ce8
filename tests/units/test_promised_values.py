"""What is promised as a number or a word is written here, and not compared with itself: `promised.toml` has each."""

from __future__ import annotations

import ast
import tomllib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alias

from hardening.settings import HardeningSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMISED = tomllib.loads(Path(__file__).with_name("promised.toml").read_text("utf-8"))
# A text with more words is a sentence for people.
MOST_BLANKS = 3
# What is called with a word that stands in logs, metrics or answers.
SPEAKING = {"Response", "InvalidTokenError", "FetchError", "debug", "info", "warning", "error", "critical", "exception"}


def literal(node: ast.expr) -> bool:
    """Whether a value is written out: nothing in it comes from a library or from the machine."""
    inside = node.args[0] if isinstance(node, ast.Call) and ast.unparse(node.func) == "frozenset" else node
    return not any(
        isinstance(part, ast.Call | ast.comprehension | ast.JoinedStr)
        or (isinstance(part, ast.Name) and part.id.startswith("__"))
        for part in ast.walk(inside)
    )


def plain(value: object) -> Any:
    """Return a value as TOML has it, or None when it is none of ours: a sentence, a pattern, a class."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, frozenset | set | tuple):
        items = [plain(item) for item in value]
        return (items if isinstance(value, tuple) else sorted(items)) if items and None not in items else None
    if isinstance(value, str):
        return value if "\n" not in value and value.count(" ") <= MOST_BLANKS else None
    return value if type(value) in {int, float} else None


def constants() -> Iterator[tuple[str, str, Any]]:
    """Yield every constant of every module that is written out, with its module and its name."""
    for path in sorted(alias.HARDENING.rglob("*.py")):
        name = ".".join(path.relative_to(alias.HARDENING).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text("utf-8")).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            given = getattr(node, "value", None)
            if isinstance(target, ast.Name) and target.id.isupper() and isinstance(given, ast.expr) and literal(given):
                value = plain(getattr(import_module(f"hardening.{name}"), target.id))
                if value is not None:
                    yield name, target.id, value


def settings() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every setting with its default, its bounds and its choices."""
    for name, field in HardeningSettings.model_json_schema()["properties"].items():
        (described,) = [field] if "anyOf" not in field else [one for one in field["anyOf"] if one["type"] != "null"]
        parts = {"default": field["default"], **described, **described.get("items", {})}
        kept = ("default", "minimum", "maximum", "enum", "format")
        yield name, {part: parts[part] for part in kept if parts.get(part) is not None}


def words() -> Iterator[tuple[str, str]]:
    """Yield what operators read, by module: the messages of the log, the kinds of refusals with their status."""
    for path in sorted(alias.HARDENING.rglob("*.py")):
        name = ".".join(path.relative_to(alias.HARDENING).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and (called := ast.unparse(node.func)).rpartition(".")[2] in SPEAKING:
                said = [str(part.value) for part in node.args[:2] if isinstance(part, ast.Constant)]
                fields = [
                    f" {part.arg}=" + ("" if called.startswith("log.") else ast.unparse(part.value))
                    for part in node.keywords
                    if called.startswith("log.") or type(getattr(part.value, "value", None)) in {int, float}
                ]
                if said:
                    yield name, ": ".join([called, *said]) + "".join(sorted(fields))


def classes() -> Iterator[tuple[str, str]]:
    """Yield the options of dataclasses and of caches, by module: what cannot be changed, and how much is remembered."""
    for path in sorted(alias.HARDENING.rglob("*.py")):
        name = ".".join(path.relative_to(alias.HARDENING).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for made in getattr(node, "decorator_list", ()):
                cached = ast.unparse(made).partition("(")[0] in {"cache", "lru_cache"}
                if cached or (isinstance(node, ast.ClassDef) and isinstance(made, ast.Call)):
                    yield name, f"{getattr(node, 'name', '')}: {ast.unparse(made)}"


def telling(node: ast.expr | None) -> bool:
    """Whether a default decides something: a number, yes or no, a clock; not "nothing"."""
    return isinstance(node, ast.Attribute) or (
        isinstance(node, ast.Constant) and type(node.value) in {int, float, bool}
    )


def defaults() -> Iterator[tuple[str, str]]:
    """Yield what stands where nothing was given, by module: parameters of functions, of classes; none private."""
    for path in sorted(alias.HARDENING.rglob("*.py")):
        name = ".".join(path.relative_to(alias.HARDENING).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            given: list[tuple[str, ast.expr | None]] = []
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                places = [*node.args.posonlyargs, *node.args.args]
                pairs = zip(reversed(places), reversed(node.args.defaults), strict=False)
                given = [
                    (at.arg, to) for at, to in (*pairs, *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
                ]
            elif isinstance(node, ast.ClassDef):
                given = [
                    (ast.unparse(part.target), part.value) for part in node.body if isinstance(part, ast.AnnAssign)
                ]
            if given and (node.name == "__init__" or not node.name.startswith("_")):
                yield from ((name, f"{node.name}.{at} = {ast.unparse(to)}") for at, to in given if to and telling(to))


def test_every_constant_has_the_value_that_is_promised() -> None:
    """A bound, an age, a share, a size, a code or a word changes here too, on purpose, or not at all."""
    found: dict[str, dict[str, Any]] = {}
    for module, name, value in constants():
        found.setdefault(module, {})[name] = value

    assert found == PROMISED["constants"]


def test_every_setting_has_the_default_and_the_bounds_that_are_promised() -> None:
    """Whoever sets nothing gets what the documentation said when it was decided on."""
    assert dict(settings()) == PROMISED["settings"]


def test_every_word_of_logs_and_refusals_is_the_one_that_is_promised() -> None:
    """Alerts and searches of operators go by these words, and clients by the statuses."""
    found: dict[str, list[str]] = {}
    for module, said in words():
        found.setdefault(module, []).append(said)

    assert {module: sorted(said) for module, said in found.items()} == PROMISED["words"]


def test_every_default_is_the_one_that_is_promised() -> None:
    """What tests put in the place of a clock, a name or a bound is not what a server runs with: this is."""
    found: dict[str, list[str]] = {}
    for module, default in defaults():
        found.setdefault(module, []).append(default)

    assert {module: sorted(given) for module, given in found.items()} == PROMISED["defaults"]


def test_every_class_of_data_and_every_cache_has_the_options_that_are_promised() -> None:
    """What is frozen is shared without a copy, what has slots takes no further attribute, what is kept is bounded."""
    found: dict[str, list[str]] = {}
    for module, said in classes():
        found.setdefault(module, []).append(said)

    assert {module: sorted(said) for module, said in found.items()} == PROMISED["classes"]
