"""Prompts: declared with the SDK's decorator, checked like tools, rendered inside the boundary (-32602 for arguments).

An argument is text on the wire; what it has to be is the type of the parameter.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.prompts.base import PromptArgument

from .declaration import InvalidDeclarationError
from .lint import text_problems

if TYPE_CHECKING:
    from mcp.types import Icon
    from pydantic import BaseModel

    from .function import AuthorFunction


def read_prompt(
    author: AuthorFunction, name: str, *, title: str | None, description: str | None, icons: list[Icon] | None
) -> Prompt:
    """Return the prompt that the SDK lists and renders.

    Raises:
        InvalidDeclarationError: It cannot be served; every reason is named.
    """
    if name == "<lambda>":
        raise InvalidDeclarationError("prompt <lambda>: name it, @server.prompt(name=…)")
    described = author.schema.get("properties", {})
    arguments = [
        PromptArgument(name=one, description=described.get(one, {}).get("description"), required=one in author.required)
        for one in author.parameters
    ]
    about = description or inspect.cleandoc(author.function.__doc__ or "")

    async def render(**given: Any) -> Any:
        return await author(**author.read(given))

    prompt = Prompt(
        name=name, title=title, description=about, arguments=arguments, icons=icons, fn=render, context_kwarg=None
    )
    refuse_texts(author.owner, prompt)
    return prompt


def refuse_texts(owner: str, declared: BaseModel) -> None:
    """Refuse texts that steer a model past its user, or that a person does not see.

    Raises:
        InvalidDeclarationError: There are such texts; each is named.
    """
    shown = declared.model_dump(mode="json", exclude_none=True, include={"name", "title", "description", "arguments"})
    found: list[str] = []
    for field, value in shown.items():
        if isinstance(value, str):
            found += text_problems(field, value)
        else:
            for argument in value:
                place = f"argument {argument['name']}"
                found += text_problems(place, f"{argument['name']} {argument.get('description', '')}")
    if found:
        raise InvalidDeclarationError("\n".join(f"{owner}: {problem}" for problem in dict.fromkeys(found)))
