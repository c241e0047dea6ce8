"""API keys: what may be configured, and how a presented key is compared."""

from __future__ import annotations

import secrets
import statistics
import time
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardening.auth import api_keys
from hardening.auth.api_keys import MOST_KEYS, ApiKey, match, parse_api_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECRET = "k" * 31 + "7"
OTHER = "another-key-of-thirty-two-letters"


def test_plain_and_hashed_keys_are_the_same_key() -> None:
    """A key may be configured as its digest, so that the configuration need not hold it."""
    plain = parse_api_keys(f"ci:{SECRET}")
    hashed = parse_api_keys(f"ci:sha256:{sha256(SECRET.encode()).hexdigest()}")

    assert plain == hashed
    assert match(hashed, SECRET) == ApiKey("ci", sha256(SECRET.encode()).digest())


def test_several_keys_of_one_name_rotate() -> None:
    """One caller may have two keys at once, so a rotation refuses no request."""
    keys = parse_api_keys(f"ci:{SECRET},\n ci:{OTHER} desk:{SECRET}x")

    assert [key.name for key in keys] == ["ci", "ci", "desk"]
    assert match(keys, SECRET) is keys[0]
    assert match(keys, OTHER) is keys[1]


def test_a_secret_alone_is_named_default() -> None:
    """The shortest configuration, one secret, works."""
    assert [key.name for key in parse_api_keys(SECRET)] == ["default"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ci:tooshort", "at least 32 characters"),
        (f"ci:{SECRET[:-1]}", "at least 32 characters"),
        (f"ci:{SECRET}é", "letters, digits"),
        (f"ci:{SECRET}:x", "letters, digits"),
        ("ci:sha256:abc", "64 hexadecimal digits"),
        ("sha256:" + "a" * 64, "put a name in front"),
        (f":{SECRET}", "a name has"),
        (f"c/i:{SECRET}", "a name has"),
        ("n" * 65 + f":{SECRET}", "a name has"),
        (f"ci:{SECRET},desk:{SECRET}", "key 2: the same secret"),
        (f"ci:{SECRET},ci:sha256:{sha256(SECRET.encode()).hexdigest()}", "the same secret"),
        (" ".join(f"k{n}:{SECRET}{n}" for n in range(MOST_KEYS + 1)), f"at most {MOST_KEYS}"),
    ],
)
def test_a_bad_key_is_refused_with_the_rule_and_never_the_key(text: str, rule: str) -> None:
    """A key that is weak, ambiguous or could never be sent stops the start and stays unprinted."""
    with pytest.raises(ValueError, match=rule) as caught:
        parse_api_keys(text)

    assert SECRET[:-1] not in str(caught.value)
    assert "tooshort" not in str(caught.value)


def test_all_problems_are_named_at_once() -> None:
    """Three bad keys are three sentences of one error."""
    with pytest.raises(ValueError, match=r"key 1: .*; key 2: .*; key 3: ") as caught:
        parse_api_keys("a:x,b:y,c:z")

    assert str(caught.value).count("32 characters") == 3


@given(st.text())
def test_any_text_is_either_keys_or_a_value_error(text: str) -> None:
    """Nothing that stands in the variable can crash the start in another way."""
    try:
        keys = parse_api_keys(text)
    except ValueError:
        return

    assert all(len(key.digest) == 32 for key in keys)


def test_a_digest_is_not_shown() -> None:
    """Printing the keys, as a traceback would, shows names only."""
    assert repr(parse_api_keys(f"ci:{SECRET}")) == "(ApiKey(name='ci'),)"


@pytest.mark.parametrize("presented", ["first", "last", "none of them", ""])
def test_the_number_of_comparisons_is_constant(presented: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is compared, by digest and in constant time, whichever one was presented."""
    sizes: list[tuple[int, int]] = []

    def counting(left: bytes, right: bytes) -> bool:
        sizes.append((len(left), len(right)))
        return compare_digest(left, right)

    monkeypatch.setattr(api_keys, "compare_digest", counting)
    keys = tuple(ApiKey(name, sha256(name.encode()).digest()) for name in ("first", "2", "last"))

    match(keys, presented)

    assert sizes == [(32, 32)] * 3


def apart(compare: Callable[[str], object], guesses: Sequence[str], rounds: int) -> float:
    """Return how far apart the median times of two guesses are, in parts of the shorter."""
    times: tuple[list[int], list[int]] = ([], [])
    for _ in range(rounds):
        # Turn by turn, so that a busy machine slows both down alike.
        for guess, spent in zip(guesses, times, strict=True):
            started = time.perf_counter_ns()
            compare(guess)
            spent.append(time.perf_counter_ns() - started)
    first, last = (statistics.median(spent) for spent in times)
    return abs(first - last) / min(first, last)


def test_time_does_not_tell_where_the_first_wrong_byte_is() -> None:
    """A guess whose first byte is wrong takes as long as one that is right up to the last byte.

    The bound is wide and has to be missed five times in a row, so noise alone cannot fail it.
    A comparison that stops at the first difference misses it by far, which the control shows.
    """
    secret = secrets.token_hex(4000)
    guesses = ("x" + secret[1:], secret[:-1] + "x")
    keys = (ApiKey("ci", sha256(secret.encode()).digest()),)

    def stops_early(guess: str) -> bool:
        return all(left == right for left, right in zip(secret, guess, strict=True))

    assert any(apart(lambda guess: match(keys, guess), guesses, 1000) < 0.25 for _ in range(5))
    assert apart(stops_early, guesses, 20) > 5
