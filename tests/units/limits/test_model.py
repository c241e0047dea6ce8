"""The words of rate limiting, and who is asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_core import from_json

from hardening.limits.backend import open_limiter
from hardening.limits.memory import TokenBuckets
from hardening.limits.model import Decision, Limit
from hardening.limits.redis import RedisLimiter
from hardening.limits.refusals import MESSAGES, refusal, tool_failure
from hardening.settings import HardeningSettings


def settings(**values: Any) -> HardeningSettings:
    """Return settings that nothing in the environment changes."""
    return HardeningSettings(_env_file=None, **values)  # pyright: ignore[reportCallIssue]


def test_a_rate_a_minute_with_a_burst_is_a_bucket_that_fills_at_the_rate() -> None:
    """600 a minute of which 120 at once is 120 units that come back in 12 seconds."""
    assert Limit.per_minute("address", 600, 120) == Limit("address", 120, 12.0)
    assert Limit.per_minute("tool", 30) == Limit("tool", 30, 60.0)


@pytest.mark.parametrize(
    "limit", ["address", "auth_failures", "discover", "initialize", "principal", "probe", "tenant"]
)
def test_a_refusal_says_which_limit_and_when_to_try_again(limit: str) -> None:
    """429, `Retry-After` in whole seconds rounded up, the id of the message, the limit; nothing about the caller."""
    answer = refusal(Decision(allowed=False, limit=limit, retry_after=1.2))
    headers, body = answer.render("reference", 7)
    error = from_json(body)
    assert answer.status == 429
    assert (b"retry-after", b"2") in headers
    assert error["id"] == 7
    assert error["error"]["code"] not in range(-32768, -31999)
    assert error["error"]["data"] == {
        "kind": "rate_limited",
        "reference": "reference",
        "limit": limit,
        "retryAfter": 2,
    }


def test_each_refusal_has_its_sentence_and_each_call_its_failure() -> None:
    """By the name of the limit; a time to wait is rounded up."""
    assert len(MESSAGES) == 7
    for limit, kind in (("budget", "budget_exhausted"), ("tool", "rate_limited")):
        failure = tool_failure(Decision(allowed=False, limit=limit, retry_after=1.2))
        assert (failure.kind, failure.retry_after_seconds) == (kind, 2)


def test_without_redis_the_buckets_are_in_this_process() -> None:
    """No URL, no connection."""
    limiter = open_limiter(settings())
    assert isinstance(limiter, TokenBuckets)
    assert (limiter.degraded, limiter.redis_errors) == (False, 0)


async def test_with_redis_the_limits_are_shared(tmp_path: Any) -> None:
    """A URL is all it takes; nothing is connected before the first request."""
    limiter = open_limiter(settings(REDIS_URL=f"unix://{tmp_path}/redis.sock"))
    assert isinstance(limiter, RedisLimiter)
    assert not limiter.degraded
    await limiter.aclose()


async def test_what_shared_limits_are_made_of(tmp_path: Any) -> None:
    """Keys named after the public URL, so that deployments share a Redis and nothing in it; shares, times and sizes."""
    made: list[tuple[str, float, float, int]] = []
    for url in ("https://mcp.example.com", "https://staging.example.com", "https://mcp.example.com"):
        values = {"public_url": url, "replicas": 4, "redis_timeout_seconds": 0.5, "rate_max_keys": 2048}
        limiter = open_limiter(settings(REDIS_URL=f"unix://{tmp_path}/redis.sock", **values))
        assert isinstance(limiter, RedisLimiter)
        local: Any = limiter._local  # noqa: SLF001 - what it is made of
        made.append((limiter._prefix, limiter._share, limiter._timeout, local._callers._max_keys))  # noqa: SLF001
        await limiter.aclose()

    assert [one[1:] for one in made] == [(0.25, 0.5, 1024)] * 3
    assert made[0] == made[2]
    assert made[0][0] != made[1][0]
