"""Exceptions are types and places, and a text is written only where it stands in the code."""

from __future__ import annotations

import json
from inspect import currentframe
from typing import TYPE_CHECKING

import pytest

from hardening.logs.origin import MOST_EXCEPTIONS, MOST_FRAMES, caller, described, literal, place, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "hunter2-and-more"  # noqa: S105 - to be found again


class CustomError(Exception):
    """An exception of a module."""


def _raised(action: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - any exception is looked at
        action()
    return caught.value


def _deep(number: int) -> None:
    if number:
        _deep(number - 1)
    raise CustomError(SECRET)


def test_an_exception_is_its_type_and_where_it_went() -> None:
    """The message, the locals and the source lines stay out; module, function and line are there."""

    def act() -> None:
        local = SECRET
        raise CustomError(f"{local} is wrong")  # hunter2-and-more in the source line

    (one,) = described(_raised(act))
    assert one["type"] == f"{__name__}.CustomError"
    assert SECRET not in json.dumps(one)
    module, function, line = one["frames"][-1].rsplit(":", 2)
    assert (module, function.rpartition(".")[2]) == (__name__, "act")
    assert int(line) > 0


def test_causes_and_groups_are_types_as_well() -> None:
    """What caused it, and what a group holds, is named by type; what the author hid stays hidden."""

    def caused() -> None:
        try:
            int(SECRET)
        except ValueError as error:
            raise CustomError(SECRET) from error

    def hidden() -> None:
        try:
            int(SECRET)
        except ValueError:
            raise CustomError(SECRET) from None

    def grouped() -> None:
        raise ExceptionGroup(SECRET, [KeyError(SECRET), OSError(SECRET)])

    def types(action: Callable[[], object]) -> list[object]:
        return [str(one["type"]).rpartition(".")[2] for one in described(_raised(action))]

    assert types(caused) == ["CustomError", "ValueError"]
    assert types(hidden) == ["CustomError"]
    assert types(grouped) == ["ExceptionGroup", "KeyError", "OSError"]


def test_a_description_is_bounded() -> None:
    """However deep the stack and long the chain, a line stays a line."""
    (one,) = described(_raised(lambda: _deep(500)))
    assert len(one["frames"]) == MOST_FRAMES
    assert "_deep" in one["frames"][-1]
    group = ExceptionGroup("many", [CustomError() for _ in range(100)])
    assert len(described(group)) == MOST_EXCEPTIONS
    error = CustomError()
    error.__context__ = other = CustomError()
    other.__context__ = error
    assert len(described(error)) == MOST_EXCEPTIONS


def test_a_class_made_at_run_time_is_named_by_its_base() -> None:
    """An exception class that is named after a value does not carry the value into the line."""
    made: type[Exception] = type(SECRET, (CustomError,), {})
    assert type_name(made()) == f"{__name__}.CustomError"
    assert type_name(KeyError()) == "KeyError"


def test_code_made_at_run_time_has_no_name_and_no_literals() -> None:
    """A function or a constant that was built from a value is not taken for a name of this program."""
    frames: list[object] = []
    seen = {"frames": frames, "currentframe": currentframe, "place": place, "literal": literal}
    exec(f"def hunter2():\n    f = currentframe()\n    frames.extend([place(f), literal({SECRET!r}, f)])", seen)  # noqa: S102
    seen["hunter2"]()  # type: ignore[operator]
    assert frames == ["generated code", False]


def test_a_literal_is_what_stands_in_the_calling_function() -> None:
    """Put together at run time means not literal, whatever it is put together from."""
    frame = currentframe()
    value = 7
    assert literal("stands here", frame)
    assert not literal(f"stands {value}", frame)
    assert not literal("stands %s" % value, frame)  # noqa: UP031 - as a careless author would
    assert not literal("stands ".__add__(str(value)), frame)
    assert not literal(SECRET, frame)
    assert not literal("stands here", None)


def test_the_caller_is_found_behind_the_machinery() -> None:
    """Frames of the logging libraries are passed over, whole packages of them."""
    frame = caller(frozenset())
    assert frame is not None
    assert place(frame).startswith(f"{__name__}:test_the_caller_is_found_behind_the_machinery:")
    behind = caller(frozenset({__name__}))
    assert behind is not None
    assert place(behind).startswith("_pytest.")
    further = caller(frozenset({__name__, "_pytest", "pluggy"}))
    assert further is None or not place(further).startswith("_pytest.")
