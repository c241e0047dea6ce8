"""What a caller may learn from a failure."""

from __future__ import annotations

import json
import math

import pytest

from hardening import errors
from hardening.errors import ToolFailure
from hardening.response import Response


def kinds(base: type[ToolFailure] = ToolFailure) -> list[type[ToolFailure]]:
    """Return the whole taxonomy."""
    return [base, *(kind for child in base.__subclasses__() for kind in kinds(child))]


TAXONOMY = {
    "InvalidInput": ("invalid_input", False),
    "NotFound": ("not_found", False),
    "Conflict": ("conflict", False),
    "PermissionDenied": ("permission_denied", False),
    "Busy": ("busy", True),
    "UpstreamUnavailable": ("upstream_unavailable", True),
    "Timeout": ("timeout", True),
    "BudgetExhausted": ("budget_exhausted", True),
    "RateLimited": ("rate_limited", True),
    "Internal": ("internal", False),
}


@pytest.mark.parametrize("name", TAXONOMY)
def test_the_taxonomy_does_not_change(name: str) -> None:
    """Clients and alerts go by the kind and by whether a retry can help."""
    failure: type[ToolFailure] = getattr(errors, name)

    assert (failure.kind, failure.retryable) == TAXONOMY[name]


@pytest.mark.parametrize("failure", kinds(), ids=lambda one: one.__name__)
def test_every_kind_says_what_to_do(failure: type[ToolFailure]) -> None:
    """An author who says nothing still gives the caller one sentence of advice."""
    assert failure().advice == failure.default_advice
    assert failure.default_advice.endswith(".")
    assert failure("Do that.").advice == "Do that."


@pytest.mark.parametrize(
    ("given", "kept"), [(None, None), (0, 0), (2.5, 2.5), (-3, 0), (math.inf, None), (math.nan, None)]
)
def test_a_time_to_wait_is_one_that_can_be_waited(given: float | None, kept: float | None) -> None:
    """No negative, endless or undefined wait is passed on."""
    assert errors.Busy(retry_after_seconds=given).retry_after_seconds == kept


def test_a_refusal_is_a_protocol_error_with_a_reference() -> None:
    """It carries the id of the message, a code outside the reserved band, kind, reference and when to retry."""
    answer = Response(429, "rate", "Too often.", headers=((b"x-more", b"1"),), retry_after=1.2, data=(("limit", 5),))
    headers, body = answer.render("r1", 7)

    assert json.loads(body) == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {
            "code": 429,
            "message": "Too often.",
            "data": {"kind": "rate", "reference": "r1", "limit": 5, "retryAfter": 2},
        },
    }
    assert dict(headers) == {
        b"x-request-id": b"r1",
        b"x-more": b"1",
        b"retry-after": b"2",
        b"content-type": b"application/json",
        b"content-length": str(len(body)).encode(),
    }


@pytest.mark.parametrize("wait", [0.0, 0.001, 1.0])
def test_a_wait_is_at_least_a_second(wait: float) -> None:
    """`Retry-After` counts whole seconds (RFC 9110, section 10.2.3), and zero would be a storm."""
    headers, _ = Response(503, "busy", retry_after=wait).render("r", None)

    assert dict(headers)[b"retry-after"] == b"1"


@pytest.mark.parametrize(("body", "kind"), [(b"", None), (b"ok", b"text/plain")])
def test_an_answer_without_the_protocol_is_sent_as_it_is(body: bytes, kind: bytes | None) -> None:
    """Health and metadata have a body of their own, and none is none."""
    headers, sent = Response(200, "health", body=body, content_type=b"text/plain").render("r", None)

    assert sent == body
    assert dict(headers).get(b"content-type") == kind
    assert dict(headers)[b"content-length"] == str(len(body)).encode()
