"""Checks what a client answers to a question against the question itself: JSON Schema 2020-12, closed and strict.

An answer of another kind, an accepted form without content, an unknown field or a value of another type never
reaches the author's code.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from mcp.types import (
    CreateMessageRequest,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    ListRootsRequest,
    ListRootsResult,
)
from pydantic_core import SchemaError, SchemaValidator, core_schema, from_json, to_json

from .. import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mcp.types import ClientCapabilities

UNFIT = "The answer does not fit what was asked. Call again without an answer, so that the user is asked again."


class UnfitAnswer(errors.InvalidInput):
    """The client's answer is none to the question. Raised for the author, who never sees such an answer."""

    default_advice = UNFIT


def fits(request: object, answer: object) -> bool:
    """Return whether `answer` is one to `request`."""
    if isinstance(request, CreateMessageRequest):
        return isinstance(answer, CreateMessageResult | CreateMessageResultWithTools)
    if isinstance(request, ListRootsRequest):
        return isinstance(answer, ListRootsResult)
    if not isinstance(request, ElicitRequest):
        return True
    if not isinstance(answer, ElicitResult):
        return False
    params = request.params
    if answer.action != "accept" or not isinstance(params, ElicitRequestFormParams):
        return True
    return answer.content is not None and _checker(to_json(params.requested_schema))(answer.content)


def is_no(answer: object) -> bool:
    """Return whether a person has declined or dismissed a question."""
    return isinstance(answer, ElicitResult) and answer.action != "accept"


@lru_cache(maxsize=256)
def _checker(schema: bytes) -> Callable[[Any], bool]:
    # Loaded by the first question: a server that asks nothing starts without it.
    from jsonschema import Draft202012Validator, ValidationError, validators

    def pattern(_: Any, wanted: str, value: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(value, str) and not _matches(wanted, value):
            yield ValidationError("pattern")

    # Nothing in that package says its types.
    kind: Any = cast("Any", validators).extend(Draft202012Validator, {"pattern": pattern})
    return kind({"additionalProperties": False, **from_json(schema)}).is_valid


def _matches(pattern: str, text: str) -> bool:
    """Return whether a text has a pattern, in linear time; patterns of other engines are for the author's model."""
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python(text)
    except SchemaError:
        return True


def answerable(request: object, capabilities: ClientCapabilities | None) -> bool:
    """Return whether the client has declared that it answers such requests (2026-07-28, Capabilities)."""
    if capabilities is None:
        return False
    if isinstance(request, CreateMessageRequest):
        tools = request.params.tools or request.params.tool_choice
        return capabilities.sampling is not None and (not tools or capabilities.sampling.tools is not None)
    if isinstance(request, ListRootsRequest):
        return capabilities.roots is not None
    if not isinstance(request, ElicitRequest):
        return True
    asking = capabilities.elicitation
    if asking is None:
        return False
    # Without a mode, as clients wrote it before there were modes, it means forms.
    forms = asking.form is not None or asking.url is None
    return forms if isinstance(request.params, ElicitRequestFormParams) else asking.url is not None


def needed(request: object) -> dict[str, Any]:
    """Return the capability that `answerable` has missed, as an error names it."""
    if isinstance(request, CreateMessageRequest):
        return {"sampling": {"tools": {}} if request.params.tools or request.params.tool_choice else {}}
    if isinstance(request, ListRootsRequest):
        return {"roots": {}}
    form = isinstance(getattr(request, "params", None), ElicitRequestFormParams)
    return {"elicitation": {"form" if form else "url": {}}}
