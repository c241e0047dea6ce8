"""Answers of other systems: one that was to be JSON, and is none, is `upstream_unavailable`, and no fault of the tool.

So is the page of a proxy or of a sign-in in the place of it.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2


class NotJsonError(httpx2.DecodingError, json.JSONDecodeError):
    """The body is no JSON; nothing of it is kept."""

    def __init__(self) -> None:
        json.JSONDecodeError.__init__(self, "the answer is no JSON", "", 0)
        self._request = None


class Answer(httpx2.Response):
    """An answer as the library has it."""

    def json(self, **kwargs: Any) -> Any:
        """Return what the body holds.

        Raises:
            NotJsonError: It is no JSON.
        """
        try:
            return super().json(**kwargs)
        except (ValueError, RecursionError):
            raise NotJsonError from None
