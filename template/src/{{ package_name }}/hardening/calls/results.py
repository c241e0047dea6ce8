"""Validates results against the advertised output schema and `MCP_MAX_RESPONSE_BYTES`.

A result that does not fit is a failure, never an answer.
"""

from __future__ import annotations

from functools import reduce
from types import UnionType
from typing import Any, Union, get_args, get_origin

from mcp.types import CallToolResult, InputRequiredResult, TextContent
from pydantic import TypeAdapter
from pydantic_core import from_json

from ..errors import TooLarge
from .arguments import PlainSchema


class ResultSchema:
    """What one tool returns.

    A tool that builds its content itself has no output schema; one that asks for more input first,
    by returning `InputRequiredResult` at times, has that of its other results.

    Attributes:
        schema: As `tools/list` shows it, or None.
    """

    def __init__(self, returned: Any) -> None:
        options = get_args(returned) if get_origin(returned) in {Union, UnionType} else (returned,)
        plain = tuple(option for option in options if option is not InputRequiredResult)
        self._adapter: TypeAdapter[Any] | None = None
        self._wrapped = False
        self.schema: dict[str, Any] | None = None
        if plain and CallToolResult not in plain:
            structured: Any = reduce(lambda one, other: one | other, plain)
            self._adapter = TypeAdapter(structured)
            self.schema = self._adapter.json_schema(mode="serialization", schema_generator=PlainSchema)
            if self.schema.get("type") != "object":
                self._wrapped, self.schema = True, _wrap(self.schema)

    def finish(self, returned: Any, max_bytes: int) -> CallToolResult | InputRequiredResult:
        """Return a result as it goes out.

        Raises:
            TooLarge: It is larger than `max_bytes`.
            TypeError: It is no result at all, though the tool builds its content itself.
            ValueError: It does not fit the schema, which is a fault of the tool.
        """
        if self._adapter is None or isinstance(returned, InputRequiredResult):
            if not isinstance(returned, CallToolResult | InputRequiredResult):
                raise TypeError
            _bound(returned.model_dump_json(by_alias=True).encode(), max_bytes)
            return returned
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


def _wrap(schema: dict[str, Any]) -> dict[str, Any]:
    """Put a schema into an object: clients before 2026-07-28 accept nothing else."""
    definitions = schema.pop("$defs", None)
    wrapped: dict[str, Any] = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
    return wrapped | ({"$defs": definitions} if definitions else {})


def _bound(dumped: bytes, max_bytes: int) -> None:
    if len(dumped) > max_bytes:
        raise TooLarge
