"""Asking the person during a call: multi-round trips (2026-07-28), the session (legacy, stateful), or `cannot_ask`.

An answer counts once, for the call that was asked about: same caller, tool and arguments, within ten minutes.

The SDK seals the state that travels with a question and binds it to those; here each state opens once, holds what
was asked, and only answers to that get through. What is missing is asked again (2026-07-28, Multi Round-Trip Requests).
Tools, prompts and resources alike.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from mcp import MCPError
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.shared.exceptions import NoBackChannelError
from mcp.types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageRequest,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitRequest,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    InputResponse,
    InputResponseRequestParams,
    ListRootsResult,
)
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from .. import errors
from .answers import UnfitAnswer, answerable, fits, is_no, needed
from .asking_session import AskingSession, UnansweredError

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.mcpserver import MCPServer
    from mcp.server.subscriptions import SubscriptionBus

Result = TypeVar("Result")
Sdk = SdkContext[Any, Any]
Call = Callable[[Sdk], Awaitable[Result | InputRequiredResult]]
# What is being answered, for functions to which the SDK hands no context; nothing, when it is. Timers and the SDK's
# streams keep the variables of an answered request.
ANSWERED: ContextVar[list[ServerRequestContext[Any, Any]]] = ContextVar("answered")

# A call that asks more often than that asks for ever.
MOST_ROUNDS = 10
ENDLESS = "This tool asks again and again. Report it to the operator."


class UsedStates(Protocol):
    """Where it is known which states were used."""

    async def take(self, state: str) -> bool:
        """Return whether `state` has not been used before, and note that it is now."""
        ...


class _Asked(TypedDict):
    """What travels, sealed, with questions: they themselves, answers to earlier ones, and the author's own state."""

    id: str
    asked: dict[str, InputRequest]
    answers: dict[str, InputResponse]
    state: str | None


_ASKED = TypeAdapter(_Asked)


class Questions:
    """What asks the person on behalf of calls.

    Args:
        used: Which states were used already.
        bus: Where change notifications go; the author's context keeps it.

    Attributes:
        leaving: Set when the process takes no answers any more; every open question ends then.
    """

    def __init__(self, used: UsedStates, bus: SubscriptionBus | None) -> None:
        self.leaving = asyncio.Event()
        self._used = used
        self._bus = bus

    async def middleware(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Give a request whose client can be asked in between a session that checks the answers."""
        if ctx.request_id is not None and ctx.session.can_send_request:
            ctx = replace(ctx, session=AskingSession(ctx.session, ctx.request_id, self.leaving))
        answered = [ctx]
        ANSWERED.set(answered)
        try:
            return await call_next(ctx)
        finally:
            answered.clear()

    def context(self, server: MCPServer[Any]) -> Sdk:
        """Return the SDK's context of what is being answered."""
        answered = next(iter(ANSWERED.get([])), None)
        return SdkContext(request_context=answered, mcp_server=server, subscriptions=self._bus)

    async def run(self, sdk: Sdk, call: Call[Result]) -> Result | InputRequiredResult:
        """Return what `call` returns once everything it asks was answered, or the questions to send.

        Args:
            sdk: The SDK's context of the request.
            call: The author's function; it is given the context with the answers.

        Raises:
            CannotAsk: Neither the client nor the protocol has a way to ask.
            Declined: The person said no.
            UnfitAnswer: The answer is none to what was asked.
            MCPError: -32602 for a state that was used before, -32021 for a missing capability (modern).
        """
        modern = sdk.protocol_version in MODERN_PROTOCOL_VERSIONS
        resumed = await self._resume(sdk)
        try:
            for _ in range(MOST_ROUNDS):
                if isinstance(resumed, InputRequiredResult):
                    return resumed
                result = await call(resumed)
                if not isinstance(result, InputRequiredResult):
                    return result
                resumed = _with_state(result, resumed) if modern else await self._converse(result, resumed)
        except (NoBackChannelError, UnansweredError):
            raise errors.CannotAsk from None
        except MCPError as error:
            if error.error.code != MISSING_REQUIRED_CLIENT_CAPABILITY or _of_extension(error.error.data):
                raise
            if not modern:
                raise errors.CannotAsk from None
            # The SDK's own sentence has names of the author's modules.
            raise _unable(error.error.data) from None
        except ToolError as refused:
            # The SDK's own way to say that a parameter could not be had because the person said no.
            if not isinstance(refused, UnexpectedToolError) and _said_no(resumed):
                raise errors.Declined from None
            raise
        raise errors.CannotAsk(ENDLESS)

    async def _resume(self, sdk: Sdk) -> Sdk | InputRequiredResult:
        """Open what came back with a retry, and use it up."""
        if sdk.request_state is None:
            # Answers to nothing that was asked.
            return self.with_answers(sdk, None, {}) if sdk.input_responses else sdk
        try:
            before = _ASKED.validate_json(sdk.request_state, by_name=False)
        except ValidationError:
            raise _invalid_state() from None
        asked, answers = before["asked"], before["answers"]
        for key, answer in (sdk.input_responses or {}).items():
            if key in asked:
                if not fits(asked[key], answer):
                    raise UnfitAnswer
                answers[key] = answer
        if not await self._used.take(before["id"]):
            raise _invalid_state()
        missing = {key: request for key, request in asked.items() if key not in answers}
        if missing:
            return InputRequiredResult(
                input_requests=missing, request_state=_travelling(asked, answers, before["state"])
            )
        return self.with_answers(sdk, before["state"], answers)

    async def _converse(self, result: InputRequiredResult, sdk: Sdk) -> Sdk:
        """Ask over the session, one question after the other."""
        answers: dict[str, InputResponse] = {}
        for key, request in (result.input_requests or {}).items():
            answers[key] = await sdk.session.send_request(request, _type_of_answer(request))
        return self.with_answers(sdk, result.request_state, answers)

    def with_answers(self, sdk: Sdk, state: str | None, answers: dict[str, InputResponse]) -> Sdk:
        """Return the context as the author's function sees it: its own state, and answers to what it asked."""
        params = InputResponseRequestParams(input_responses=answers or None, request_state=state)
        return SdkContext(
            request_context=sdk.request_context, mcp_server=sdk.mcp_server, input_params=params, subscriptions=self._bus
        )


def _with_state(result: InputRequiredResult, sdk: Sdk) -> InputRequiredResult:
    """Return the questions with a state that says what was asked; the SDK seals it on its way out."""
    asked = result.input_requests or {}
    for request in asked.values():
        if not answerable(request, sdk.client_capabilities):
            raise _unable({"requiredCapabilities": needed(request)})
    return result.model_copy(update={"request_state": _travelling(asked, {}, result.request_state)})


def _travelling(asked: dict[str, InputRequest], answers: dict[str, InputResponse], state: str | None) -> str:
    one: _Asked = {"id": secrets.token_urlsafe(16), "asked": asked, "answers": answers, "state": state}
    return _ASKED.dump_json(one, by_alias=True).decode()


def _unable(data: object) -> MCPError:
    return MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "The client has not declared that it can be asked this", data)


def _of_extension(data: object) -> bool:
    """Return whether an extension of the client's is missing, which is no question."""
    asked_for = cast("dict[str, Any]", data).get("requiredCapabilities") if isinstance(data, dict) else None
    return isinstance(asked_for, dict) and "extensions" in asked_for


def _invalid_state() -> MCPError:
    """Return the error that the SDK gives to a state that it cannot open."""
    return MCPError(INVALID_PARAMS, "Invalid or expired requestState", {"reason": "invalid_request_state"})


def _said_no(sdk: Sdk | InputRequiredResult) -> bool:
    if isinstance(sdk, InputRequiredResult):
        return False
    answers = (sdk.input_responses or {}).values()
    session = sdk.session if sdk.protocol_version else None
    return getattr(session, "said_no", False) or any(is_no(answer) for answer in answers)


def _type_of_answer(request: InputRequest) -> type[Any]:
    if isinstance(request, ElicitRequest):
        return ElicitResult
    if isinstance(request, CreateMessageRequest):
        return CreateMessageResultWithTools if request.params.tools else CreateMessageResult
    return ListRootsResult
