"""No string of a call survives in what is written, in any form it is likely to take."""

from __future__ import annotations

import base64
import html
import json
import quopri
import sys
import threading
import time
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hardening.logs import redaction as scrub
from hardening.logs.redaction import EVERYTHING, MOST_VALUES, collect, is_one_of, leaks

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = 'Geheim: straße/№7 "x" \\ & 100%\n'  # noqa: S105 - to be found again


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "inside": lambda text: f"before {text} after",
    "joined": lambda text: f"x{text}x",
    "repr": repr,
    "ascii": ascii,
    "repr of bytes": lambda text: repr(text.encode()),
    "JSON": json.dumps,
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "repr of JSON": lambda text: repr(json.dumps([text])),
    "percent": lambda text: quote(text, safe=""),
    "percent of everything": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "form": quote_plus,
    "HTML": html.escape,
    "hexadecimal": lambda text: text.encode().hex(),
    "HEXADECIMAL": lambda text: text.encode().hex().upper(),
    "hexadecimal after a digit": lambda text: f"a{text.encode().hex()}",
    "hexadecimal with colons": lambda text: text.encode().hex(":"),
    "hexadecimal with blanks": lambda text: f"dump: {text.encode().hex(' ')} end",
    "bytes of C": lambda text: ", ".join(f"0x{byte:02X}" for byte in text.encode()),
    "quoted-printable": lambda text: quopri.encodestring(text.encode()).decode(),
    "base64": _base64,
    "base64 without padding": lambda text: _base64(text).rstrip("="),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 of more": lambda text: _base64(f"user:{text}:end"),
    "UTF-8 read as Latin-1": lambda text: text.encode().decode("latin-1"),
    "base64 after a letter": lambda text: "a" + _base64(text),
    "base64 after two letters": lambda text: "ab" + _base64(text),
    "base64 after three letters": lambda text: "abc/" + _base64(text),
    "base64 of base64": lambda text: _base64(_base64(text)),
    "percent of base64": lambda text: quote(_base64(text), safe=""),
    "base64 of JSON": lambda text: _base64(json.dumps({"a": text})),
    "base64 of percent": lambda text: _base64(quote(text, safe="")),
}


@pytest.mark.parametrize("form", FORMS)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=40))
@example(text=SECRET)
@example(text="0000")
@example(text="++++")
@example(text="\\u0041")
@example(text="\x00\x01\x02\x03")
@example(text="%41&amp;")
@settings(max_examples=60, deadline=None)
def test_every_form_of_a_string_is_found(form: str, text: str) -> None:
    """A value that holds a string of the call, written in a common form, is never written."""
    # A few letters have an upper case that does not lead back to them.
    assume(form != "upper case" or text.upper().casefold() == text.casefold())
    assume(form != "lower case" or text.lower().casefold() == text.casefold())
    assert leaks(FORMS[form](text), {text})


@given(text=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=20), start=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_a_part_that_was_cut_off_is_found(text: str, start: int) -> None:
    """Eleven characters in a row are enough: a value that was cut does not get through."""
    assert leaks(f"… {text[start : start + 11]} …", {text})


@given(st.recursive(
    st.text(min_size=4, max_size=12) | st.integers(1000, 2**62) | st.floats(1000, 1e9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=4), inner, max_size=4),
    max_leaves=20,
))  # fmt: skip
@settings(deadline=None)
def test_every_value_of_the_arguments_is_gathered(arguments: object) -> None:
    """Values at any depth, keys and numbers of four digits are all known to the last wall."""
    found: set[str] = set()
    collect(arguments, found)
    pending = [arguments]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            pending += [item for pair in cast("dict[str, object]", one).items() for item in pair]
        elif isinstance(one, list):
            pending += cast("list[object]", one)
        else:
            assert str(one) in found


def test_values_of_every_kind_are_gathered() -> None:
    """Bytes as text, and what is in sets and tuples, as a result of a tool may have them."""
    found: set[str] = set()
    collect({"a": b"of bytes", "b": bytearray(b"of \xff more"), "c": ({"in a set"}, frozenset({1.5}))}, found)
    assert found == {"a", "of bytes", "b", "of \ufffd more", "c", "in a set", "1.5"}


def test_what_is_not_the_callers_gets_through() -> None:
    """Words that the call does not hold are written, and longer texts that hold only its shortest values."""
    found: set[str] = set()
    collect({"city": "Bern", "id": 42, "flag": True, "nothing": None, "unit": "km"}, found)
    assert found == {"city", "Bern", "id", "42", "flag", "nothing", "unit", "km"}
    for value in ("claude-ai/1.2", "timeout", "42 km", "True", "0f8a77c1d2e3b4a5", "Ber", "2026-07-28"):
        assert not leaks(value, found)


def test_a_short_value_is_found_when_it_is_all() -> None:
    """A value of up to three characters is one of the call's, in any case; inside a longer text it is a common word."""
    found: set[str] = set()
    collect({"pin": 999, "unit": "km"}, found)
    assert is_one_of("999", found)
    assert is_one_of("KM", found)
    assert not is_one_of("99", found)
    assert not is_one_of("999 km", found)


def test_too_much_is_marked_and_nothing_variable_is_written() -> None:
    """A call with more values than are gathered cannot hide one behind the bound."""
    found: set[str] = set()
    collect([f"value {number}" for number in range(MOST_VALUES + 1)], found)
    assert len(found) <= MOST_VALUES
    assert EVERYTHING in found
    assert leaks("anything", found)


def test_deep_nesting_is_gathered_without_recursion() -> None:
    """Arguments nested deeper than the interpreter's stack are gathered like others."""
    arguments: list[object] = ["innermost"]
    for _ in range(3000):
        arguments = [arguments]
    found: set[str] = set()
    collect(arguments, found)
    assert found == {"innermost"}


def test_what_cannot_be_examined_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is too long, or could be read in too many ways, counts as a leak."""
    assert leaks("a" * 513, {"something else"})
    assert not leaks("%41 &amp; \\x41", {"something else"})
    monkeypatch.setattr(scrub, "MOST_READINGS", 2)
    assert leaks("%42 &amp; \\x42", {"something else"})


@given(st.text(st.sampled_from("abcXYZ019%\\&;+/-_=xu "), min_size=400, max_size=512))
@settings(max_examples=20, deadline=500)
def test_comparing_is_bounded(text: str) -> None:
    """No value, however it is made, takes long to compare."""
    leaks(text, {f"string {number}" for number in range(100)})


@pytest.mark.parametrize(("count", "length"), [(4000, 250), (9000, 100), (1, 1_000_000), (4096, 8)])
@pytest.mark.parametrize(
    "name",
    ["\\x25&#37;\\u0025\\x26%26amp;4142434425JTQxJTQyJTQzJTQ0JTI1%25%25", "a1" * 32, "%2541%2542" * 6],
    ids=["every encoding", "hexadecimal", "percent"],
)
def test_a_line_is_compared_with_a_large_call_in_bounded_time(name: str, count: int, length: int) -> None:
    """A client's name that is chosen against the comparison takes less than 20 ms of processor time, or is withheld."""
    strings = {f"{number:0>6}".ljust(length, "x") for number in range(count)}
    leaks(name, {"warm up"})
    began = time.thread_time()
    leaks(name, strings)

    assert time.thread_time() - began < 0.02


def test_a_thread_that_gathers_does_not_disturb_one_that_writes() -> None:
    """Strings can be added while another thread compares."""
    strings = {f"string {number}" for number in range(500)}
    stop = threading.Event()

    def gather() -> None:
        number = 500
        while not stop.is_set():
            strings.add(f"string {number}")
            strings.discard(f"string {number - 500}")
            number += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=gather)
    thread.start()
    try:
        assert not any(leaks("nothing of it", strings) for _ in range(300))
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join(10)
