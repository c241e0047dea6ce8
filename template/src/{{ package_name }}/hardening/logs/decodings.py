"""Decodings: reads a text in the usual encodings, so that redaction finds what is hidden in one.

Escaped as JSON or by `repr`, percent-encoded, as HTML entities, as in mails (quoted-printable), in hexadecimal with or
without separators, in base64 of either alphabet at any alignment, as in names of hosts (`xn--`), and UTF-8 read as
Latin-1.
A text that holds none of these has no reading.
"""

from __future__ import annotations

import binascii
import html
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL)
_CONTROL = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0"}
_HEX = re.compile(r"[0-9a-fA-F]{8,}")
# As `bytes.hex(":")` and dumps of memory write it.
_SPACED_HEX = re.compile(r"(?:(?:0[xX])?[0-9a-fA-F]{2}[ ,:_-]+){3,}(?:0[xX])?[0-9a-fA-F]{2}")
_BETWEEN_HEX = re.compile(r"[ ,:_-]+(?:0[xX])?|^0[xX]")
_QUOTED = re.compile(r"=\r?\n|=([0-9a-fA-F]{2})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{6,}")
_URL_SAFE = str.maketrans("-_", "+/")
# A label of a name of a host has 63 characters at most (RFC 1035, section 2.3.4).
MOST_LABELS = 16
_LABEL = re.compile(r"\bxn--([a-z0-9-]{1,59})", re.IGNORECASE)
_WHOLE_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){4,}")
_WHOLE_BASE64 = re.compile(r"(?:data:[^,]{0,128},)?([A-Za-z0-9+/_-]{6,})={0,2}")


def _percent(text: str) -> Iterable[str]:
    if "%" in text or "+" in text:
        yield unquote(text)
        yield unquote_plus(text)


def _entities(text: str) -> Iterable[str]:
    if "&" in text:
        yield html.unescape(text)


def _escapes(text: str) -> Iterable[str]:
    if "\\" in text:
        plain = _ESCAPE.sub(_unescaped, text)
        # Characters beyond the basic plane come as two surrogates.
        yield plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if max(plain) < "\u0100":
            # The repr of bytes: each escape is one byte of UTF-8.
            yield plain.encode("latin-1").decode("utf-8", "replace")


def _unescaped(match: re.Match[str]) -> str:
    short, byte, long, octal, char = match.groups()
    if octal:
        return chr(int(octal, 8))
    if char:
        return _CONTROL.get(char, char)
    code = int(short or byte or long, 16)
    return chr(code) if code <= sys.maxunicode else ""


def _hexadecimal(text: str) -> Iterable[str]:
    runs: list[str] = _HEX.findall(text)
    for skipped in (0, 1) if runs else ():
        even = (run[skipped : len(run) - (len(run) - skipped) % 2] for run in runs)
        yield "".join(bytes.fromhex(run).decode("utf-8", "replace") for run in even)
    spaced = [_BETWEEN_HEX.sub("", run) for run in _SPACED_HEX.findall(text)]
    if spaced:
        yield "".join(bytes.fromhex(run).decode("utf-8", "replace") for run in spaced)


def _quoted_printable(text: str) -> Iterable[str]:
    if "=" in text:
        plain = _QUOTED.sub(lambda match: chr(int(match[1], 16)) if match[1] else "", text)
        if max(plain, default="") < "\u0100":
            yield plain.encode("latin-1").decode("utf-8", "replace")


def _base64(text: str) -> Iterable[str]:
    runs = [run.translate(_URL_SAFE) for run in _BASE64.findall(text)]
    for skipped in range(4) if runs else ():
        yield "".join(_decoded(run[skipped:]) for run in runs)


def _decoded(run: str) -> str:
    whole = run if len(run) % 4 != 1 else run[:-1]
    return binascii.a2b_base64(whole + "=" * (-len(whole) % 4)).decode("utf-8", "replace")


def _host_names(text: str) -> Iterable[str]:
    if "xn--" in text.lower():
        yield _LABEL.sub(_label, text, MOST_LABELS)


def _label(match: re.Match[str]) -> str:
    with suppress(UnicodeError):
        return match[1].encode().decode("punycode")
    return match[0]


def _misread(text: str) -> Iterable[str]:
    if not text.isascii():
        with suppress(UnicodeError):
            yield text.encode("latin-1").decode()


_WITHIN: tuple[Callable[[str], Iterable[str]], ...] = (
    _percent,
    _entities,
    _escapes,
    _quoted_printable,
    _host_names,
    _misread,
)
DECODINGS = (*_WITHIN, _hexadecimal, _base64)


def held_in(text: str) -> Iterator[str]:
    """Yield what an encoded text holds, for a tool that decodes what it was sent, and logs that.

    Hexadecimal and base64 only where the whole of it is one: any word could be a part of either.
    """
    for decode in _WITHIN:
        yield from (form for form in decode(text) if form != text)
    joined = "".join(text.split())
    with suppress(ValueError):
        if _WHOLE_HEX.fullmatch(joined):
            yield bytes.fromhex(joined).decode()
        elif match := _WHOLE_BASE64.fullmatch(joined):
            run = match[1].translate(_URL_SAFE)
            yield binascii.a2b_base64(run + "=" * (-len(run) % 4)).decode()
