"""Refuses attributes of the SDK's `Context` on that of this package, which has them elsewhere (exit 78).

`ctx.info(…)` in the body of a function is found where the function is declared, not in its first call.
Nothing else is refused: neither what a helper or a decorator does, nor a context that may be another object.
"""

from __future__ import annotations

import dis
from types import CodeType
from typing import TYPE_CHECKING, Any, cast

from mcp.server.mcpserver import Context as SdkContext
from pydantic import BaseModel

from .context import Context
from .declaration import InvalidDeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORDS = {name for name in dir(SdkContext) if not name.startswith("_")} - set(dir(BaseModel)) - set(dir(Context))
LOGGED = "log.info(…) of hardening tells the operator, and"
CURES = {
    **dict.fromkeys(("debug", "info", "warning", "error", "log"), LOGGED),
    "request_context": "ctx.state is what the lifespan yields, and",
    "elicit": "Annotated[T, Resolve(…)] asks the person in both eras, and",
}
# A function that looks first, or expects the failure, knows what it does.
CAREFUL = {"hasattr", "isinstance", "type", "AttributeError", "Exception"}


def refuse_words(owner: str, function: Callable[..., Any], context: str | None) -> None:
    """Refuse a function that takes a word of the SDK's from its context.

    Args:
        owner: What the function makes, by name.
        function: The function.
        context: The parameter that takes `Context`, if there is one.

    Raises:
        InvalidDeclarationError: It does; the words are named, each with what to write instead.
    """
    code = getattr(function, "__code__", None)
    # What stands behind a decorator may be given something else.
    if context is None or not isinstance(code, CodeType) or hasattr(function, "__wrapped__"):
        return
    inside = [code, *_inside(code, context)]
    if any(CAREFUL & {*one.co_names} or _is_given_anew(one, context) for one in inside):
        return
    words = [word for one in inside for word in _taken(one, context) if not hasattr(Context, word)]
    found = {word: f"{CURES.get(word, '')} ctx.sdk.{word} is the SDK's own".strip() for word in words}
    if found:
        raise InvalidDeclarationError("\n".join(f"{owner}: {context}.{word}: {cure}" for word, cure in found.items()))


def _inside(code: CodeType, context: str) -> Iterator[CodeType]:
    """Return the functions inside that use the same context."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType) and context in inner.co_freevars:
            yield inner
            yield from _inside(inner, context)


def _names(step: dis.Instruction) -> tuple[Any, ...]:
    """Return what an instruction is about; since Python 3.13 some are about two names."""
    named: Any = cast("Any", step).argval
    return cast("tuple[Any, ...]", named) if isinstance(named, tuple) else (named,)


def _is_given_anew(code: CodeType, context: str) -> bool:
    """Return whether the name may stand for another thing somewhere."""
    for step in dis.get_instructions(code):
        given = _names(step)[:1] if step.opname == "STORE_FAST_LOAD_FAST" else _names(step)
        if step.opname.startswith(("STORE_", "DELETE_")) and context in given:
            return True
    return False


def _taken(code: CodeType, context: str) -> Iterator[str]:
    """Return the words that are taken from the context."""
    before: Any = None
    for step in dis.get_instructions(code):
        # Behind a jump it may be of another thing: (logger or ctx).info.
        taken = before == context and step.opname in {"LOAD_ATTR", "LOAD_METHOD"} and not step.is_jump_target
        if taken and step.argval in WORDS:
            yield step.argval
        before = _names(step)[-1] if "LOAD_FAST" in step.opname or "LOAD_DEREF" in step.opname else None
