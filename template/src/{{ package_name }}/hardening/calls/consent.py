"""Consent: a tool with `confirm=True` runs after the person has agreed, and not otherwise (`confirmation_required`).

The person is shown the tool and its arguments; nobody else is. Asked before anything runs and after the arguments
were checked, as any question is (`questions.py`): one answer, for one call, used once.
`MCP_CONFIRM=when_possible` also runs it for clients that cannot ask a person.
"""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any

from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from .. import errors
from .answers import answerable
from .lint import HIDDEN_CATEGORIES, INVISIBLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .questions import Call, Questions, Result, Sdk
    from .tool import Tool

KEY = "confirm"
# Characters of one value that a person is shown, and of all.
LONGEST_SHOWN = 500
LONGEST_SENTENCE = 4000
# What the state of a call begins with whose person has agreed; the SDK seals it, so nobody else can write it.
AGREED = "agreed:"
FORM = {
    "type": "object",
    "properties": {KEY: {"type": "boolean", "title": "Yes, do this", "default": False}},
    "required": [KEY],
}


class Consent:
    """Asks before a tool runs.

    Args:
        questions: What asks.
        required: Whether a client that cannot ask is refused.
    """

    def __init__(self, questions: Questions, *, required: bool) -> None:
        self._questions = questions
        self._required = required

    def before(self, tool: Tool, arguments: Mapping[str, Any], call: Call[Result]) -> Call[Result]:
        """Return `call` with the question in front of it, where the tool wants it."""
        if not tool.declaration.confirm:
            return call

        async def confirmed(sdk: Sdk) -> Result | InputRequiredResult:
            state = sdk.request_state or ""
            if state.startswith(AGREED):
                own = json.loads(state.removeprefix(AGREED))
                result = await call(self._questions.with_answers(sdk, own, dict(sdk.input_responses or {})))
            else:
                tool.arguments.validate(arguments)
                question = _question(tool, arguments)
                if sdk.input_responses is None and _can_ask(question, sdk):
                    return InputRequiredResult(input_requests={KEY: question})
                self._decide((sdk.input_responses or {}).get(KEY))
                result = await call(self._questions.with_answers(sdk, None, {}) if sdk.input_responses else sdk)
            if isinstance(result, InputRequiredResult):
                # The tool asks something of its own: what was agreed stays agreed.
                return result.model_copy(update={"request_state": AGREED + json.dumps(result.request_state)})
            return result

        return confirmed

    def _decide(self, answer: object) -> None:
        if answer is None:
            if self._required:
                raise errors.ConfirmationRequired
        elif not (isinstance(answer, ElicitResult) and answer.action == "accept" and (answer.content or {}).get(KEY)):
            raise errors.Declined


def _can_ask(question: ElicitRequest, sdk: Sdk) -> bool:
    version = sdk.protocol_version
    if version is None or not answerable(question, sdk.client_capabilities):
        return False
    return version in MODERN_PROTOCOL_VERSIONS or sdk.session.can_send_request


def _question(tool: Tool, arguments: Mapping[str, Any]) -> ElicitRequest:
    wire = tool.wire()
    effect = "It may delete or overwrite. " if tool.declaration.destructive else ""
    shown = "\n".join(f"{name}: {_shown(value)}" for name, value in arguments.items()) or "(no arguments)"
    if len(shown) > LONGEST_SENTENCE:
        shown = f"{shown[:LONGEST_SENTENCE]}… ({len(shown)} characters in all)"
    message = f"{wire.title} ({tool.name}) is about to run. {effect}Do you agree?\n{shown}"
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=FORM))


def _shown(value: object) -> str:
    """Return a value as JSON, with escapes for what would hide or reorder a part of it."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST_SHOWN:
        text = f"{text[:LONGEST_SHOWN]}… ({len(text)} characters in all)"
    return "".join(json.dumps(one)[1:-1] if _hidden(one) else one for one in text)


def _hidden(one: str) -> bool:
    return unicodedata.category(one) in HIDDEN_CATEGORIES or INVISIBLE.fullmatch(one) is not None
