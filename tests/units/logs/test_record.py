"""Every line of a call says whose it is, and holds nothing of what was in it."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from inspect import currentframe
from typing import TYPE_CHECKING, Any

import pytest
from captured import calling
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from hardening.exchange import Principal
from hardening.logs import record as log_lines
from hardening.logs.record import SCRUBBED, UNKNOWN, WITHHELD, Lines, hashed, now
from hardening.logs.redaction import collect

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = Lines({"echo", "timeout"})
CONTEXT = {
    "request_id": "0123456789abcdef",
    "trace_id": "5" * 32,
    "session_id": None,
    "principal": "alice",
    "client_name": "a-client/1.0",
    "probe": False,
    "era": "modern",
    "protocol_version": "2026-07-28",
    "tool_name": "echo",
}


def make(**fields: Any) -> dict[str, Any]:
    """Return the line an author's function gets."""
    return LINES.make("info", "a text", fields, None, currentframe())


def make_ours(**fields: Any) -> dict[str, Any]:
    """Return the line the hardening itself gets."""
    scope = {"__package__": log_lines.OURS, "LINES": LINES, "currentframe": currentframe, "fields": fields}
    return eval("LINES.make('info', 'a text', fields, None, currentframe())", scope)  # noqa: S307 - to be of its package


def test_a_line_of_a_call_says_whose_it_is() -> None:
    """The context of the call is on each of its lines without being passed."""
    with calling():
        line = make(count=3)
    assert {name: line[name] for name in CONTEXT} == CONTEXT
    assert list(line)[:3] == ["ts", "level", "msg"]
    assert line["count"] == 3


def test_a_line_outside_a_call_has_no_context() -> None:
    """Start, drain and exit belong to no caller."""
    assert not CONTEXT.keys() & make(count=3).keys()


@pytest.mark.parametrize("answered", [False, True])
def test_a_task_that_has_outlived_its_call_is_nobodys(*, answered: bool) -> None:
    """After its call a task may work for others: its lines carry no caller, and nothing of any of them."""
    sent = ["of the first caller", "of the second caller"]
    with calling(sent[0]) as first, calling(sent[1]):
        pass
    with calling() as again:
        again.sensitive, again.answered = first.sensitive, answered
        line = make(kind=sent[0], reason=sent[1], state="-".join(sent[1].split()), source="fine")
    assert (line["kind"], line["reason"], line["state"], line["source"]) == (*[SCRUBBED] * 3, "fine")
    assert ("principal" in line, "request_id" in line, "tool_name" in line) == ((not answered,) * 3)


def test_a_value_of_another_call_is_scrubbed_in_a_line_of_this_one() -> None:
    """What one call has started may serve another: every line is compared with what all of them have sent."""
    sent, four = "job of bob".upper(), "qzxv".upper()
    with calling(sent), calling(four), calling("job of alice".upper()):
        # A line for each: values of one line are compared together too.
        line, other = make(reference=sent.title()), make(kind=four.title())
    assert (line["reference"], other["kind"], line["principal"]) == (SCRUBBED, SCRUBBED, "alice")


def test_short_values_are_scrubbed_when_they_are_all() -> None:
    """A value of any length that the caller has sent is not written, as a text or as a number."""
    with calling({"pin": 999, "code": "xyz"}):
        line = make(count=1000 - 1, kind="XY" + "z", rows=99, reason="x" + "y")
    assert [line[name] for name in ("count", "kind", "rows", "reason")] == [SCRUBBED, SCRUBBED, 99, "xy"]


def test_what_a_caller_claims_is_not_taken_for_ours() -> None:
    """An undeclared tool, a made-up version and a session id are not written as they came."""
    with calling(tool_name="made up", protocol_version="made up", session_id="secret-session", principal=None):
        line = make()
    assert line["tool_name"] == UNKNOWN
    assert line["protocol_version"] == UNKNOWN
    assert line["session_id"] == hashed("secret-session") != "secret-session"
    assert line["principal"] is None


def test_a_client_name_that_repeats_the_call_is_scrubbed() -> None:
    """The one field that a caller fills cannot carry an argument."""
    with calling({"note": "hidden-value"}, client_name="x hidden-value x"):
        assert make()["client_name"] == SCRUBBED


def test_the_text_is_a_literal_or_withheld() -> None:
    """A text that was put together is replaced by the place that wrote it."""
    value = "run time"
    line = LINES.make("info", f"a text at {value}", {}, None, currentframe())
    assert line["msg"] == WITHHELD
    assert str(line["where"]).startswith(f"{__name__}:test_the_text_is_a_literal_or_withheld:")
    assert LINES.make("info", 7, {}, None, currentframe())["msg"] == WITHHELD
    assert make()["msg"] == "a text"


def test_a_value_of_the_call_is_scrubbed_whole() -> None:
    """Texts, numbers and items of lists that hold a value of the call are replaced."""
    with calling({"city": "Winterthur", "amount": 1234567}):
        line = make(kind="in winterthur", reference=1234567, count=1234567, total=12, calls=["a", "Winterthur"])
    assert (line["kind"], line["reference"], line["count"], line["total"]) == (SCRUBBED, SCRUBBED, SCRUBBED, 12)
    assert line["calls"] == ["a", SCRUBBED]


def test_an_argument_cannot_blank_what_is_ours() -> None:
    """Words of the server, literals of the code, names of fields and levels survive any argument."""
    with calling(["info", "a text", "echo", "timeout", "fixed", "kind", "modern", "alice", "2026-07-28", "1234"]):
        line = LINES.make("info", "a text", {"kind": "timeout", "reason": "fixed"}, None, currentframe())
        ours = make_ours(duration_ms=1234.5, tool_name="echo")
    assert (line["level"], line["msg"], line["kind"], line["reason"]) == ("info", "a text", "timeout", "fixed")
    assert (line["tool_name"], line["era"], line["principal"]) == ("echo", "modern", "alice")
    assert line["protocol_version"] == "2026-07-28"
    assert (ours["duration_ms"], ours["tool_name"]) == (1234.5, "echo")


def test_a_value_of_the_call_is_scrubbed_in_lines_of_ours_too() -> None:
    """What the hardening writes while a call runs may repeat it: an error of a library, a name from a request."""
    with calling({"city": "Winterthur"}):
        ours = make_ours(reason="not in Winterthur", kind="timeout")
    assert (ours["reason"], ours["kind"]) == (SCRUBBED, "timeout")


def test_only_the_hardening_writes_reserved_fields() -> None:
    """A mapping, or another tool's name, is not for authors."""
    with calling():
        line = make(settings={"MCP_PORT": "1"}, tool_name="other")
        ours = make_ours(settings={"MCP_PORT": "1"}, tool_name="other")
    assert "settings" not in line
    assert (line["tool_name"], line["dropped_fields"]) == ("echo", 2)
    assert (ours["settings"], ours["tool_name"]) == ({"MCP_PORT": "1"}, "other")


@pytest.mark.parametrize("number", [2**63, -(10**400), float("nan"), float("inf")])
def test_numbers_are_bounded(number: float) -> None:
    """A number that could hold a text, or is none, is not written."""
    assert make(count=number)["count"] == SCRUBBED
    assert [make(count=most)["count"] for most in (2**63 - 1, 1 - 2**63)] == [2**63 - 1, 1 - 2**63]


def test_a_thread_without_its_call_writes_nothing_variable() -> None:
    """A thread that a tool started by hand cannot write what it was given."""
    found: list[Any] = []

    def act(value: str, number: int) -> None:
        fields = {"kind": value, "count": number, "reason": "fixed", "total": number % 10}
        found.append(LINES.make("info", "a text", fields, None, currentframe()))

    with calling():
        thread = threading.Thread(target=act, args=("given to the thread", 123457))
        thread.start()
        thread.join(10)
    line = found[0]
    assert (line["kind"], line["count"]) == (SCRUBBED, SCRUBBED)
    assert (line["reason"], line["total"]) == ("fixed", 7)


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({"calls": list("4111 1111 1111 1111")}, ()),
        ({"calls": ["4111", "1111", "1111", "1111"], "reason": "fixed"}, ()),
        ({"kind": "4111", "state": "1111", "step": "1111"}, ()),
        ({"count": 4111, "total": 1111, "size": 1111}, ()),
        ({}, ("4111", 1111, b"1111")),
        ({}, ({"a": "4111", "b": "1111"},)),
        ({"kind": "111-1"}, ("411", "1-1")),
    ],
    ids=["letters", "words", "texts", "numbers", "arguments", "named", "both"],
)
@pytest.mark.parametrize("own", [True, False], ids=["its call", "nobody"])
def test_a_value_in_pieces_is_scrubbed(fields: dict[str, Any], arguments: tuple[Any, ...], *, own: bool) -> None:
    """What the values of one line make together is compared too, and none of them is written."""
    text = (
        "%(a)s %(b)s"
        if arguments and isinstance(arguments[0], dict)
        else "%s %s %s"
        if len(arguments) == 3
        else "%s %s"
    )
    collect({"card": "4111 1111 1111 1111"}, set())
    with calling({"card": "4111 1111 1111 1111"}) if own else nullcontext():
        line = LINES.make("info", text if arguments else "a text", fields, None, currentframe(), arguments)
    assert not any(char.isdigit() for char in str({**line, "ts": "", "protocol_version": "", **dict.fromkeys(CONTEXT)}))
    assert SCRUBBED in str(line)
    assert line.get("reason", "fixed") == "fixed"


def test_values_that_make_nothing_together_are_written() -> None:
    """One that is scrubbed alone takes no other with it."""
    with calling({"card": "4111 1111 1111 1111"}):
        line = make(reference="4111 1111 1111 1111", kind="paid-late".strip(), count=int("12"))
    assert (line["reference"], line["kind"], line["count"]) == (SCRUBBED, "paid-late", 12)


def test_characters_of_two_bytes_are_read() -> None:
    """As other systems dump a text: every second byte says nothing."""
    with calling({"city": "Winterthur"}):
        assert make(kind="Winterthur".encode("utf-16-le").hex())["kind"] == SCRUBBED


def test_a_number_that_shows_itself_otherwise_is_compared_as_json_has_it() -> None:
    """A class of the author's cannot hide a number from the comparison."""

    class Masked(int):
        def __repr__(self) -> str:
            return "***"

    with calling({"card": 4111111111111111}):
        assert make(count=Masked(4111111111111111))["count"] == SCRUBBED


@pytest.mark.parametrize("number", [2**64 - 59, 10**30 + 7, 50000.0], ids=["64 bits", "31 digits", "whole"])
def test_numbers_of_any_size_are_recognised_as_text(number: float) -> None:
    """A number that is too large for a line is not written as a text either."""
    with calling({"account": number}):
        assert make(reference=f"{number:.0f}" if isinstance(number, float) else str(number))["reference"] == SCRUBBED


@pytest.mark.parametrize("digits", [616, 617, 4000])
def test_a_number_of_more_than_616_digits_marks_its_call(digits: int) -> None:
    """It is not made a text of, which takes long; nothing that varies is written instead, no piece of it either."""
    number = 7 * 10 ** (digits - 1)
    with calling({"account": number + 123_456_789}):
        assert make(reference=str(number)[:100])["reference"] == SCRUBBED
        other = make(kind="Winterthur")["kind"]
    assert other == (SCRUBBED if digits > 616 else "Winterthur")


def test_a_line_outside_a_call_is_compared_with_recent_calls() -> None:
    """A callback that lost its call cannot write what a recent call held."""
    value = " ".join(["of a recent call"] * 2)
    assert make(kind=value)["kind"] == value
    collect({"text": value}, set())
    assert make(kind=value)["kind"] == SCRUBBED
    assert make_ours(kind=value)["kind"] == value


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=30)
FORMS: list[Callable[[str], str]] = [
    str,
    repr,
    ascii,
    str.title,
    lambda text: text.encode().hex(),
    lambda text: f"a {text} b",
]


@given(argument=TEXT, form=st.sampled_from(FORMS), name=st.sampled_from(["kind", "reference", "reason", "state"]))
@settings(max_examples=300, deadline=None)
def test_no_string_of_a_call_is_in_the_finished_line(argument: str, form: Callable[[str], str], name: str) -> None:
    """Whatever a caller sends and however an author writes it: no value of the line that goes out holds it."""
    assume(argument.title().casefold() == argument.casefold())
    # Words of the server, and literals of `make`.
    assume(argument.casefold() not in {"echo", "timeout", "info", "a text"})
    with calling({"text": argument}, client_name=argument[:64], principal=Principal("api_key", "·"), tool_name=None):
        line = from_json(to_json(make(**{name: form(argument)})))
    variable = [line[name], line["client_name"]]
    assert variable == [SCRUBBED, SCRUBBED]
    fixed = {"ts", "level", "msg", "request_id", "trace_id", "era", "protocol_version", name, "client_name"}
    rest = [value for key, value in line.items() if key not in fixed and isinstance(value, str)]
    assert not [value for value in rest if argument in value]


def test_the_time_is_utc_to_the_millisecond() -> None:
    """Times compare as text."""
    first, second = now(), now()
    assert len(first) == len("2026-11-22T09:32:11.123Z")
    assert first[10] == "T"
    assert first[-1] == "Z"
    assert first <= second
