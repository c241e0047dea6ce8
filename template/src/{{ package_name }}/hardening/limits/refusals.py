"""Refusals of rate limits: 429 for a request, a result `rate_limited` or `budget_exhausted` for a call.

Each says which limit it was and when to try again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .. import errors
from ..response import Response

if TYPE_CHECKING:
    from .model import Decision

BUDGET = "budget"

MESSAGES = {
    "address": "Too many requests from this address.",
    "auth_failures": "Too many failed authentications from this address.",
    "initialize": "Too many new connections from this address.",
    "discover": "Too many server/discover requests from this address.",
    "principal": "Too many requests of this caller.",
    "tenant": "Too many requests of this tenant.",
    "probe": "Too many requests of the probe.",
}


def refusal(decision: Decision) -> Response:
    """Return the answer to a request over a limit; it says which limit and when to try again."""
    message, named = MESSAGES[decision.limit], (("limit", decision.limit),)
    return Response(429, "rate_limited", message, retry_after=decision.retry_after, data=named)


def tool_failure(decision: Decision) -> errors.ToolFailure:
    """Return what the model reads when a rate or the budget has refused its call."""
    failure = errors.BudgetExhausted if decision.limit == BUDGET else errors.RateLimited
    return failure(retry_after_seconds=math.ceil(decision.retry_after))
