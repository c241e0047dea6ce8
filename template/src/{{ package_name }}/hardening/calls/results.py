"""Results: content blocks or data with an output schema; what does not fit the schema, or is too large, does not leave.

An annotation means what it means in the SDK: content types become blocks, everything else structured content.
Sources: 2026-07-28 and 2025-11-25, Tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, reduce
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from mcp.types import (
    CallToolResult,
    InputRequiredResult,
    TextContent,
)
from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from ..errors import TooLarge
from .blocks import blocks_of, check_blocks, holds_content, is_content, with_blocks
from .json_schema import PlainSchema, portable
from .pieces import IN_PIECES, WHOLE, is_later, listed, refuse_pieces
from .read_back import converts, reader

ALONE = "return CallToolResult alone, without a union; for no content, CallToolResult(content=[])"
# In the JSON of every content block; far faster to look for than blocks are.
BLOCK = b'"type":"'


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
        self.content = bool(plain) and not self.built and is_content(union)
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
            self._reader = reader(self._adapter.core_schema)
            self._converts = converts(self._adapter.core_schema)
            if self.schema.get("type") != "object":
                self._wrapped, self.schema = True, _wrap(self.schema)

    def finish(self, returned: Any, max_bytes: int) -> CallToolResult | InputRequiredResult:
        """Return a result as it goes out; content blocks that the annotation does not name leave as blocks too.

        Raises:
            TooLarge: It is larger than `max_bytes`.
            TypeError: It holds an iterator.
            ValueError: It does not fit the schema, or a block holds no base64, which is a fault of the tool.
        """
        if isinstance(returned, CallToolResult | InputRequiredResult):
            return self._finish_built(returned, max_bytes)
        if isinstance(returned, IN_PIECES):
            returned = listed(cast("Iterable[Any]", returned), max_bytes)
        elif not isinstance(returned, dict) and isinstance(returned, Mapping):
            returned = dict(cast("Mapping[Any, Any]", returned))
        if self._adapter is None:
            return self._finish_built(CallToolResult(content=blocks_of(returned, max_bytes)), max_bytes)
        dumped = self._dumped(self._adapter, returned, max_bytes)
        content = from_json(dumped, allow_inf_nan=False)
        blocks: list[Any] = [TextContent(type="text", text=content if isinstance(content, str) else dumped.decode())]
        if BLOCK in dumped and holds_content(returned):
            blocks = blocks_of(returned, max_bytes)
            check_blocks(blocks)
        return CallToolResult(content=blocks, structured_content={"result": content} if self._wrapped else content)

    def _dumped(self, adapter: TypeAdapter[Any], returned: Any, max_bytes: int) -> bytes:
        """Return data as JSON that fits the schema."""
        if self._converts:
            returned = adapter.validate_python(with_blocks(returned, max_bytes), by_alias=True, by_name=True)
        try:
            dumped = adapter.dump_json(returned, by_alias=True, warnings="error")
        except PydanticSerializationError:
            refuse_pieces(returned)
            # As the SDK does, though strictly: a mapping is read as the model that is declared.
            returned = adapter.validate_json(to_json(with_blocks(returned, max_bytes)), strict=True)
            dumped = adapter.dump_json(returned, by_alias=True, warnings="error")
        _bound(dumped, max_bytes)
        # Read back, because a model that was filled without validation dumps without complaint.
        # By names and without computed fields: aliases may differ in the two directions.
        written = adapter.dump_json(returned, by_alias=False, round_trip=True)
        self._reader.validate_json(written, strict=True, by_alias=False, by_name=True)
        return dumped

    @cached_property
    def _reads_what_it_writes(self) -> bool:
        """Whether names and types are the same in both directions."""
        adapter = cast("TypeAdapter[Any]", self._adapter)
        try:
            return adapter.json_schema(mode="validation") == adapter.json_schema(mode="serialization")
        except PydanticUserError:
            return False

    def _finish_built(
        self, returned: CallToolResult | InputRequiredResult, max_bytes: int
    ) -> CallToolResult | InputRequiredResult:
        if isinstance(returned, CallToolResult):
            check_blocks(returned.content)
            refuse_pieces(returned.structured_content)
            if self._adapter is not None and not returned.is_error:
                content = self._structured(self._adapter, returned)
                returned = returned.model_copy(update={"structured_content": content})
        _bound(returned.model_dump_json(by_alias=True).encode(), max_bytes)
        return returned

    def _structured(self, adapter: TypeAdapter[Any], returned: CallToolResult) -> Any:
        """Return the structured content of a result that the tool has built, so that it fits the schema.

        What is right stays as it is; what the SDK would read all the same is written anew, e.g. a number in a text.
        Where the annotation says little, e.g. `Any`, the author knows of no `result`: it is put around.
        """
        given: Any = returned.structured_content
        named: dict[str, Any] = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
        if self._wrapped and "result" not in named:
            blocks = [block.model_dump(mode="json", by_alias=True) for block in returned.content]
            named = {"result": blocks if given is None else given}
            given = named
        written = to_json(named["result"] if self._wrapped else given)
        read = adapter.validate_json(written, by_alias=True, by_name=False)
        if self._reads_what_it_writes and _is_strict(adapter, written):
            return cast("Any", given)
        content = from_json(adapter.dump_json(read, by_alias=True, warnings="error"), allow_inf_nan=False)
        return {"result": content} if self._wrapped else content


def _built(option: Any) -> bool:
    """Return whether it is `CallToolResult`, or a kind of it, bare or with a model beside it."""
    kind = get_args(option)[0] if get_origin(option) is Annotated else option
    return isinstance(kind, type) and issubclass(kind, CallToolResult)


def _described(option: Any) -> tuple[Any, ...]:
    """Return the type of the structured content in `Annotated[CallToolResult, Model]`; nothing where none is named."""
    if get_origin(option) is not Annotated:
        return ()
    model, *more = get_args(option)[1:]
    return (Annotated[(model, *more)] if more else model,)


def _is_strict(adapter: TypeAdapter[Any], written: bytes) -> bool:
    """Return whether it is right without any conversion."""
    try:
        adapter.validate_json(written, by_alias=True, by_name=False, strict=True)
    except ValidationError:
        return False
    return True


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
