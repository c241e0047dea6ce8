"""The SDK's session of one request, with checks around each question to the client (legacy, stateful; stdio).

An answer arrives in another request than its call and belongs to the call all the same: its strings are scrubbed
from logs as arguments are, and it reaches the author's code only if it fits. Open questions end with the drain.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from mcp import MCPError
from mcp.server.session import ServerSession
from mcp.shared.message import ServerMessageMetadata
from mcp.types import CreateMessageRequest, ElicitRequest, ListRootsRequest
from pydantic import BaseModel, ValidationError

from .. import errors
from ..exchange import current
from ..logs.redaction import collect
from . import event_loop
from .answers import UnfitAnswer, answerable, fits, is_no
from .deadline import RESTARTING

if TYPE_CHECKING:
    from mcp.shared.dispatcher import ProgressFnT
    from mcp.types import RequestId, ServerRequest

ResultT = TypeVar("ResultT", bound=BaseModel)


class UnansweredError(MCPError):
    """The client refused a question, or has never declared that it answers such; its own words stay out."""


class AskingSession(ServerSession):
    """The same session, asking with care.

    Args:
        session: What the SDK has made for the request.
        request_id: Of the request that the questions belong to.
        leaving: Set when no answer can arrive any more.

    Attributes:
        said_no: Whether a person has declined or dismissed a question.
    """

    def __init__(self, session: ServerSession, request_id: RequestId, leaving: asyncio.Event) -> None:
        # Not a second session: it shares everything with the first one, and replaces one method.
        self.__dict__.update(vars(session))
        self._request_id = request_id
        self._leaving = leaving
        self._loop = event_loop.running()
        self.said_no = False

    async def send_request(
        self,
        request: ServerRequest,
        result_type: type[ResultT],
        request_read_timeout_seconds: float | None = None,
        metadata: ServerMessageMetadata | None = None,
        progress_callback: ProgressFnT | None = None,
    ) -> ResultT:
        """Ask the client.

        Raises:
            UnansweredError: It cannot be asked this, or has refused.
            UnfitAnswer: What it answers is none to the question.
            UpstreamUnavailable: The process ends before there was an answer.
            RuntimeError: The question cannot be written, because of half a character for example.
            OtherLoopError: It is asked in another event loop than the call's.
        """
        event_loop.check(self._loop)
        asks = isinstance(request, ElicitRequest | CreateMessageRequest | ListRootsRequest)
        if asks and not answerable(request, self.client_capabilities):
            raise UnansweredError(0, "The client cannot be asked")
        # What cannot be written is found here; in the stream it would be lost, and waited for to the deadline.
        try:
            request.model_dump_json(by_alias=True)
        except ValueError as unwritable:
            # Of a ValueError the SDK would give the text to the caller.
            raise RuntimeError("a question that cannot be written") from unwritable
        # On the stream of the call: whether the client has another one open is not known.
        related = metadata or ServerMessageMetadata()
        if related.related_request_id is None:
            related = replace(related, related_request_id=self._request_id)
        work = super().send_request(
            request, result_type, request_read_timeout_seconds, related, _scrubbed(progress_callback)
        )
        try:
            answer = await self._unless_leaving(work)
        except ValidationError:
            raise UnfitAnswer from None
        except MCPError as refused:
            raise UnansweredError(refused.error.code, "The client did not answer") from None
        _mark_sensitive(answer.model_dump(mode="json"))
        if not fits(request, answer):
            raise UnfitAnswer
        self.said_no = self.said_no or is_no(answer)
        return answer

    async def _unless_leaving(self, work: Any) -> Any:
        answer = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait({answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
        finally:
            answer.cancel()
            leaving.cancel()
        raise errors.UpstreamUnavailable(RESTARTING)


def _mark_sensitive(said: object) -> None:
    """Let what the client has sent be scrubbed from log lines, as arguments of the call are."""
    exchange = current.get()
    if exchange is not None:
        collect(said, exchange.sensitive)


def _scrubbed(report: ProgressFnT | None) -> ProgressFnT | None:
    if report is None:
        return None

    async def callback(progress: float, total: float | None, message: str | None) -> None:
        _mark_sensitive(message)
        await report(progress, total, message)

    return callback
