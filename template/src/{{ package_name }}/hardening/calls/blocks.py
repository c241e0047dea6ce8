"""Content blocks: which types and values become blocks, how they are made, and which blocks clients cannot read.

What the SDK makes of a value, it is here too.
Sources: 2026-07-28 and 2025-11-25, Tools, Content Types; RFC 4648, section 4 (base64, which clients check).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from mcp.server.mcpserver import Audio, Image
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    TextContent,
)
from pydantic_core import to_json

from ..errors import TooLarge

CONTENT = (*get_args(ContentBlock), Image, Audio)


def is_content(hint: Any) -> bool:
    """Return whether it names a content type: bare, in a union, or as items of a list or tuple; as in the SDK."""
    origin = get_origin(hint)
    if origin is None:
        return isinstance(hint, type) and issubclass(hint, CONTENT)
    if origin is Annotated:
        return is_content(get_args(hint)[0])
    if origin in {Union, UnionType, list, tuple, Sequence}:
        return any(is_content(inner) for inner in get_args(hint))
    return False


def blocks_of(returned: Any, max_bytes: int) -> list[Any]:
    """Return the blocks of a result, as the SDK makes them."""
    if returned is None:
        return []
    if isinstance(returned, list | tuple):
        return [block for item in cast("list[Any]", returned) for block in blocks_of(item, max_bytes)]
    if isinstance(returned, Image | Audio):
        if returned.path is not None and returned.path.stat().st_size > max_bytes:
            raise TooLarge
        return [returned.to_image_content() if isinstance(returned, Image) else returned.to_audio_content()]
    if isinstance(returned, CONTENT):
        return [returned]
    text = returned if isinstance(returned, str) else to_json(returned, indent=2).decode()
    return [TextContent(type="text", text=text)]


def holds_content(value: Any) -> bool:
    """Return whether it is a content block, or a list or tuple with one in it, at any depth."""
    if isinstance(value, list | tuple):
        return any(holds_content(item) for item in cast("list[Any]", value))
    return isinstance(value, CONTENT)


def with_blocks(value: Any, max_bytes: int) -> Any:
    """Put blocks in the places of the SDK's helpers: only blocks have a JSON form."""
    if isinstance(value, Image | Audio):
        return blocks_of(value, max_bytes)[0]
    if not (isinstance(value, list | tuple) and holds_content(cast("Any", value))):
        return cast("Any", value)
    return [with_blocks(item, max_bytes) for item in cast("list[Any]", value)]


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
