"""What recent callers have sent is recognised in lines of others, in bounded memory."""

from __future__ import annotations

import time
import tracemalloc
from itertools import count

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hardening.logs.recent import RecentValues, plain
from hardening.logs.redaction import readings

MINUTES = 300.0


def holds(recent: RecentValues, text: str, *, whole: bool = False) -> bool:
    """Ask as a line does."""
    forms = readings(text)
    assert forms is not None
    return recent.holds((forms[0], plain(forms[0])), whole=whole)


def remember(recent: RecentValues, *strings: str) -> None:
    """Add one call."""
    recent.add(set(strings), sum(map(len, strings)))


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("4111 1111 1111 1111", "4111111111111111"),
        ("4111-1111-1111-1111", "card 4111 1111 1111 1111 declined"),
        ("Zoë Müller", "zoe_muller"),
        ("O'Brien & Sons", "o-brien-sons"),
        ("DE89 3704 0044 0532 0130 00", "de89370400440532013000"),
        ("2026-11-28", "20261128"),
        ("alice@example.com", "ALICE@EXAMPLE.COM"),
        ("+41 44 668 18 00", "0041446681800"),
        ("a long sentence of somebody", "… sentence of some …"),
        ("++++", "<++++>"),
        ("password1", "pass\u200bwo\u2060rd1"),
        ("soft\u00adhyphen", "softhyphen"),
        ("Chloe\u0308", "Chloë"),
        ("\uff26\uff35\uff2c\uff2c", "full"),
        ("Lovelace, Ada", "ada.lovelace"),
    ],
)
def test_separators_case_and_accents_hide_nothing(sent: str, written: str) -> None:
    """A value is recognised without blanks, punctuation, case and accents, and so are eleven letters of it in a row."""
    recent = RecentValues()
    remember(recent, sent)
    assert holds(recent, written)
    assert not holds(recent, "timeout after three attempts")


@given(
    text=st.text(st.characters(categories=["Lu", "Ll", "Nd", "Zs", "Po"]), min_size=4, max_size=60),
    separator=st.sampled_from([" ", "-", "_", "/", ".", " · "]),
)
@settings(max_examples=200, deadline=None)
def test_any_value_is_recognised_with_any_separator(text: str, separator: str) -> None:
    """Whatever is put between the letters of a value, it is the same value."""
    assume(len(plain(text)) >= 4)
    recent = RecentValues()
    remember(recent, text)
    spread = separator.join(text)
    assume(readings(spread) is not None)
    assert holds(recent, spread)


def test_a_value_is_forgotten_after_minutes_and_not_before() -> None:
    """Values of the last five minutes count, however many callers write lines."""
    now = 0.0
    recent = RecentValues(clock=lambda: now)
    remember(recent, "unforgotten")
    now = MINUTES - 20
    remember(recent, "another")
    assert holds(recent, "it is unforgotten")
    now = MINUTES + 60
    remember(recent, "a third")
    assert not holds(recent, "it is unforgotten")
    assert holds(recent, "another")


def test_a_set_that_grows_later_is_compared_whole() -> None:
    """What is added to a call before its first comparison is known too."""
    recent = RecentValues()
    strings = {"first value"}
    recent.add(strings, 11)
    strings.add("second value")
    assert holds(recent, "second value")


def test_memory_and_work_are_bounded() -> None:
    """A hundred thousand calls, and megabytes in one call, keep some megabytes and take some milliseconds to ask."""
    recent = RecentValues()
    number = count()
    tracemalloc.start()
    for _ in range(100_000):
        remember(recent, f"a value {next(number):08}", "another one of them")
    for _ in range(10):
        remember(recent, "".join(f"{next(number):x}" for _ in range(150_000)))
    assert holds(recent, f"of a value {0:08} or of {f'{next(number) - 2:x}' * 1}") in {True, False}
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 64 * 1024 * 1024
    started = time.thread_time()
    for _ in range(100):
        holds(recent, "nothing of it at all")
    assert time.thread_time() - started < 1.0


def test_a_call_that_was_not_gathered_whole_silences_lines_of_nobody() -> None:
    """Where the call of a line is not known, a call with more values than are gathered counts for all of them."""
    recent = RecentValues()
    recent.add({"value"}, 5, unread=True)
    assert holds(recent, "something else", whole=True)
    assert not holds(recent, "something else")


def test_secrets_of_the_settings_are_never_forgotten() -> None:
    """A password is recognised for as long as the process runs."""
    now = 0.0
    recent = RecentValues(clock=lambda: now)
    recent.keep(["pa$$word-of-the-database"])
    now = 1e6
    assert holds(recent, "login with pa$$word-of-the-database failed")
