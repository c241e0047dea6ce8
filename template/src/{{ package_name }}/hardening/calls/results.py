"""Results: content blocks or data with an output schema; what does not fit the schema, or is too large, does not leave.

An annotation means what it means in the SDK: content types become blocks, everything else structured content.
Sources: 2026-07-28 and 2025-11-25, Tools; RFC 4648, section 4 (base64, which clients check).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from functools import reduce
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from mcp.server.mcpserver import Audio, Image
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    TextContent,
)
from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json

from ..errors import TooLarge
from .json_schema import PlainSchema, portable
from .pieces import IN_PIECES, WHOLE, is_later, listed, refuse_pieces

CONTENT = (*get_args(ContentBlock), Image, Audio)
ALONE = "return CallToolResult alone, without a union; for no content, CallToolResult(content=[])"


class InvalidResultTypeError(Exception):
    """The annotation of a result cannot be served; the message says what to write instead."""


class ResultSchema:
    """What one tool returns.

    A tool that builds its content itself has no output schema, but for `Annotated[CallToolResult, Model]`; one that
    asks for more input first, by returning `InputRequiredResult` at times, has that of its other results.

    Attributes:
        schema: As `tools/list` shows it, or None.

    Raises:
        InvalidResultTypeError: There is no such result.
    """

    def __init__(self, returned: Any) -> None:
        options = get_args(returned) if get_origin(returned) in {Union, UnionType} else (returned,)
        plain: list[Any] = [option for option in options if option is not InputRequiredResult]
        if any(is_later(option) for option in plain):
            raise InvalidResultTypeError(WHOLE)
        built = [_built(option) for option in plain]
        if any(built) and len(plain) > 1:
            raise InvalidResultTypeError(ALONE)
        self._adapter: TypeAdapter[Any] | None = None
        self._wrapped = False
        self.built = any(built)
        union: Any = reduce(lambda one, other: one | other, plain) if plain else None
        self.content = bool(plain) and not self.built and _is_content(union)
        self.schema: dict[str, Any] | None = None
        structured: Any = None
        if self.built:
            structured = _described(plain[0])
        elif plain and not self.content:
            structured = (union,)
        if structured:
            self._adapter = TypeAdapter(structured[0])
            self.schema = self._adapter.json_schema(mode="serialization", schema_generator=PlainSchema)
            self.schema = portable(self.schema, result=True)
            self.schema = _without_reference(self.schema)
            if self.schema.get("type") != "object":
                self._wrapped, self.schema = True, _wrap(self.schema)

    def finish(self, returned: Any, max_bytes: int) -> CallToolResult | InputRequiredResult:
        """Return a result as it goes out.

        Raises:
            TooLarge: It is larger than `max_bytes`.
            TypeError: It is no result at all, though the tool builds its content itself; or it holds an iterator.
            ValueError: It does not fit the schema, or a block holds no base64, which is a fault of the tool.
        """
        if isinstance(returned, CallToolResult | InputRequiredResult):
            return self._finish_built(returned, max_bytes)
        if isinstance(returned, IN_PIECES):
            returned = listed(cast("Iterable[Any]", returned), max_bytes)
        if self.content:
            blocks = _blocks(returned, max_bytes)
            return self._finish_built(CallToolResult(content=blocks), max_bytes, own=True)
        if self._adapter is None or self.built:
            raise TypeError
        try:
            dumped = self._adapter.dump_json(returned, by_alias=True, warnings="error")
        except PydanticSerializationError:
            refuse_pieces(returned)
            # As the SDK does, though strictly: a mapping is read as the model that is declared.
            returned = self._adapter.validate_json(to_json(returned), strict=True)
            dumped = self._adapter.dump_json(returned, by_alias=True, warnings="error")
        _bound(dumped, max_bytes)
        # Read back, because a model that was filled without validation dumps without complaint.
        # By names and without computed fields: aliases may differ in the two directions.
        written = self._adapter.dump_json(returned, by_alias=False, round_trip=True)
        self._adapter.validate_json(written, by_alias=False, by_name=True)
        content = from_json(dumped, allow_inf_nan=False)
        text = content if isinstance(content, str) else dumped.decode()
        return CallToolResult(
            content=[TextContent(type="text", text=text)],
            structured_content={"result": content} if self._wrapped else content,
        )

    def _finish_built(
        self, returned: CallToolResult | InputRequiredResult, max_bytes: int, *, own: bool = False
    ) -> CallToolResult | InputRequiredResult:
        if isinstance(returned, CallToolResult):
            if not (own or self.built):
                raise TypeError
            check_blocks(returned.content)
            refuse_pieces(returned.structured_content)
            if self._adapter is not None and not returned.is_error:
                given: Any = returned.structured_content
                inner: Any = (
                    cast("dict[str, Any]", given)["result"] if self._wrapped and isinstance(given, dict) else given
                )
                self._adapter.validate_json(to_json(inner), by_alias=True, by_name=False)
        _bound(returned.model_dump_json(by_alias=True).encode(), max_bytes)
        return returned


def _built(option: Any) -> bool:
    """Return whether it is `CallToolResult`, bare or with a model beside it."""
    return option is CallToolResult or (get_origin(option) is Annotated and get_args(option)[:1] == (CallToolResult,))


def _described(option: Any) -> tuple[Any, ...]:
    """Return the type of the structured content in `Annotated[CallToolResult, Model]`; nothing where none is named."""
    if get_origin(option) is not Annotated:
        return ()
    model, *more = get_args(option)[1:]
    return (Annotated[(model, *more)] if more else model,)


def _is_content(hint: Any) -> bool:
    """Return whether it names a content type: bare, in a union, or as items of a list or tuple; as in the SDK."""
    origin = get_origin(hint)
    if origin is None:
        return isinstance(hint, type) and issubclass(hint, CONTENT)
    if origin is Annotated:
        return _is_content(get_args(hint)[0])
    if origin in {Union, UnionType, list, tuple, Sequence}:
        return any(_is_content(inner) for inner in get_args(hint))
    return False


def _blocks(returned: Any, max_bytes: int) -> list[Any]:
    """Return the blocks of a result, as the SDK makes them."""
    if returned is None:
        return []
    if isinstance(returned, list | tuple):
        return [block for item in cast("list[Any]", returned) for block in _blocks(item, max_bytes)]
    if isinstance(returned, Image | Audio):
        if returned.path is not None and returned.path.stat().st_size > max_bytes:
            raise TooLarge
        return [returned.to_image_content() if isinstance(returned, Image) else returned.to_audio_content()]
    if isinstance(returned, CONTENT):
        return [returned]
    text = returned if isinstance(returned, str) else to_json(returned, indent=2).decode()
    return [TextContent(type="text", text=text)]


def check_blocks(blocks: Iterable[Any]) -> None:
    """Refuse a block that clients cannot read.

    Raises:
        ValueError: It holds no base64.
    """
    for block in blocks:
        data: str | None = None
        if isinstance(block, ImageContent | AudioContent):
            data = block.data
        elif isinstance(block, EmbeddedResource) and isinstance(block.resource, BlobResourceContents):
            data = block.resource.blob
        if data is not None:
            try:
                base64.b64decode(data, validate=True)
            except binascii.Error:
                raise ValueError("a block holds no base64") from None


def _without_reference(schema: dict[str, Any]) -> dict[str, Any]:
    """Write what a model that holds itself refers to at the root: older clients want `type: object` there."""
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    meant = schema.get("$defs", {}).get(name)
    return {**meant, "$defs": schema["$defs"]} if meant and "type" not in schema else schema


def _wrap(schema: dict[str, Any]) -> dict[str, Any]:
    """Put a schema into an object: clients before 2026-07-28 accept nothing else."""
    definitions = schema.pop("$defs", None)
    wrapped: dict[str, Any] = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
    return wrapped | ({"$defs": definitions} if definitions else {})


def _bound(dumped: bytes, max_bytes: int) -> None:
    if len(dumped) > max_bytes:
        raise TooLarge
