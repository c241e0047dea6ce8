"""Resources: declared with the SDK's decorator, checked like tools, read inside the boundary (-32602 for addresses)."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .function import AuthorFunction


def read_resource_function(author: AuthorFunction) -> Callable[..., Any]:
    """Return a function that the SDK can register: the parameters of the address, and nothing else."""
    function = author.function

    async def read(**given: Any) -> Any:
        # The SDK fills in defaults, which need not fit the types.
        named = {name: value for name, value in given.items() if value is not author.parameters[name].default}
        return await author(**author.read(named))

    read.__name__ = getattr(function, "__name__", "resource")
    read.__doc__ = inspect.cleandoc(function.__doc__ or "")
    # The SDK compares the parameters with those of the address, and would read them by their types;
    # they are read here, so that a failure is told by the rules.
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=Any)
        for name, one in author.parameters.items()
    ]
    read.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] - functions have none of their own
    read.__annotations__ = dict.fromkeys(author.parameters, Any)
    return read
