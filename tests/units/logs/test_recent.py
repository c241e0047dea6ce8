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
    return recent.holds((forms[0], "\0".join(map(plain, forms[0].split("\0")))), whole=whole)


def remember(recent: RecentValues, *strings: str) -> None:
    """Add one call."""
    recent.add(set(strings), sum(map(len, strings)))


def recognised(sent: str, written: str) -> None:
    """See that what was sent is found in what is written, and in nothing else."""
    recent = RecentValues()
    remember(recent, sent)
    assert holds(recent, written)
    assert not holds(recent, "timeout after three attempts")


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
        ("Łódź Æther", "lodz-aether"),
        ("\u0131sparta1", "ISPARTA1"),
        ("\u0664\u0661\u0661\u0661\u0661\u0661", "411111"),
    ],
)
def test_separators_case_and_accents_hide_nothing(sent: str, written: str) -> None:
    """A value is recognised without blanks, punctuation, case and accents, and so are eleven letters of it in a row."""
    recognised(sent, written)


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("1250.00", "1250.0"),
        ("19.90 EUR", "19.9"),
        ("1,234,500.10", "1234500.1"),
        ("007123456", "7123456"),
        ("1e6", "1000000"),
        ("50000.0", "50000"),
        ("0.123456", "12.3456 %"),
        ("9" * 40 + ".50", "9" * 40 + ".5"),
        ("0" * 30 + "1234567890123456789", "1234567890123456789"),
    ],
    ids=["cents", "unit", "separators", "leading zeros", "exponent", "whole", "percent", "long", "long with zeros"],
)
def test_a_number_is_recognised_as_python_writes_it(sent: str, written: str) -> None:
    """Zeros that say nothing, separators of thousands, an exponent and a unit make no other number of it."""
    recognised(sent, written)


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("https://shop.example/find?name=J%C3%B6rg+Sch%C3%A4fer", "Jörg Schäfer"),
        ("J&ouml;rg &amp; S&ouml;hne", "Jörg & Söhne"),
        ('{"name": "J\\u00f6rg Sch\\u00e4fer"}', "Jörg Schäfer"),
        ("J=C3=B6rg Sch=C3=A4fer", "Jörg Schäfer"),
        ("xn--mnchen-3ya.de", "münchen.de"),
        ("JÃ¶rg SchÃ¤fer", "Jörg Schäfer"),
        ("U2VjcmV0IG9mIEpvZXJn", "Secret of Joerg"),
        ("data:text/plain;base64,U2VjcmV0IG9m\nIEpvZXI=", "Secret of Joe"),
        ("eyJ1c2VyIjoibWFyaWEifQ", '{"user":"maria"}'),
        ("536563726574206f66204a6f", "Secret of Jo"),
    ],
    ids=["percent", "HTML", "JSON", "mail", "host", "misread", "base64", "data URL", "base64 of JSON", "hexadecimal"],
)
def test_what_an_encoded_value_holds_is_recognised(sent: str, written: str) -> None:
    """A tool that decodes its argument, and logs what was in it, logs the argument."""
    recognised(sent, written)


def test_decoding_is_bounded() -> None:
    """Of a call 16,384 characters are decoded, each string counted as 256 more; the rest is compared as it is."""
    recent = RecentValues()
    remember(recent, *(f"xn--{number:050}" for number in range(4096)))
    started = time.thread_time()
    assert holds(recent, f"xn--{4095:050}")
    assert time.thread_time() - started < 0.5
    remember(recent, "a%20" * 4097 + "Secret%20of%20Joerg")
    assert not holds(recent, "Secret of Joerg")


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
