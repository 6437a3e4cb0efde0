"""A rule's text to tokens, and the errors that point into the text with line, column and caret.

Every limit and every check here holds for hostile text too: a statement is cut into tokens in time
linear in its length, or refused with a ConfigError.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from decimal import Inexact, Subnormal
from typing import NamedTuple, NoReturn

from ..engine.errors import ConfigError, Problem
from .values import DECIMAL, Value, digits_max, exponent_max

statement_chars_max = 16_384
tokens_max = 6_000
excerpt_chars_max = 96
shown_chars_max = 40
likeness_min = 0.65  # below it a suggestion puzzles more than it helps

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n\f\v]+)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
      | (?P<string>'(?:[^']|'')*+'|"(?:[^"]|"")*+")
      | (?P<variable>@[A-Za-z0-9_]{1,64})
      | (?P<foreign>--|/\*|==|&&|\|\||<=>|;|`)
      | (?P<sign><>|!=|<=|>=|[=<>+\-*/%(),.{}\[\]:])""",
    re.VERBOSE,
)
_JOINED = re.compile(r"[A-Za-z0-9_.]")  # what may not follow a number at once

_HINTS = {
    "--": 'there are no comments; "a - -1" needs the blank',
    "/*": "there are no comments",
    "==": "equality is written =",
    "&&": "write AND",
    "||": "write OR; texts are joined with +",
    "!": 'write NOT, or <> for "not equal"',
    ";": "a rule is one statement, without a semicolon",
    "`": "names stand without quotes",
    "@": "a variable is @ and 1 to 64 letters, digits or _",
    **dict.fromkeys("#$", "a topic filter stands in quotes"),
    **dict.fromkeys("\u2018\u2019\u201c\u201d", "write ' or \""),
}


class Token(NamedTuple):
    """One word, number, string, variable or sign, or the end; `at` is its offset in the text.

    `value` is the Decimal of a number, the text of a string and the upper case of a word.
    """

    kind: str
    text: str
    at: int
    value: Value = None


def shown(text: str, chars_max: int = shown_chars_max) -> str:
    """Return a piece of text fit for a message: on one line, printable, not too long."""
    short = text if len(text) <= chars_max else text[: chars_max - 1] + "\u2026"
    return "".join(c if c.isprintable() else "?" for c in short)


def nearest(word: str, names: Iterable[str]) -> str:
    """Return the hint that names what may have been meant, or an empty text."""
    if len(word) > shown_chars_max:
        return ""
    by_fold = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(word.casefold(), by_fold, 1, likeness_min)
    return f"did you mean {by_fold[found[0]]}?" if found else ""


def problem(
    text: str, at: int, where: str, message: str, hint: str = "", severity: str = "error"
) -> Problem:
    """Return the problem at one offset of the text; `where` is the place of the text itself."""
    start = text.rfind("\n", 0, at) + 1
    line = text.count("\n", 0, start) + 1
    place = f"{where}: line {line}, column {at - start + 1}"
    return Problem(place, message, hint, _excerpt(text, start, at), severity)


def _excerpt(text: str, start: int, at: int) -> str:
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    first = max(start, min(at - excerpt_chars_max // 2, end - excerpt_chars_max))
    last = min(end, first + excerpt_chars_max)
    before, after = _printable(text[first:at]), _printable(text[at:last].rstrip("\r"))
    head, tail = "\u2026" * (first > start), "\u2026" * (last < end)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in before)
    return f"{head}{before}{after}{tail}\n{' ' * (len(head) + len(before) + wide)}^"


def _printable(text: str) -> str:
    # A tab or a terminal's escape sequence would put the caret elsewhere.
    return "".join(" " if c in "\t\r" else c if c.isprintable() else "?" for c in text)


def fail(text: str, at: int, where: str, message: str, hint: str = "") -> NoReturn:
    """Raise the one problem at which reading cannot go on."""
    raise ConfigError([problem(text, at, where, message, hint)])


def tokenize(text: str, where: str) -> list[Token]:
    """Cut a statement into tokens, the last of kind "end"; raise ConfigError at the first fault."""
    if len(text) > statement_chars_max:
        message = (
            f"a statement has at most {statement_chars_max:,} characters, this has {len(text):,}"
        )
        raise ConfigError([Problem(where, message)])
    try:
        text.encode()
    except UnicodeEncodeError as error:
        fail(text, error.start, where, "half of a surrogate pair is no character")
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            _refuse_character(text, at, where)
        kind, piece = str(match.lastgroup), match.group()
        if kind == "foreign":
            message = f"{piece} does not exist in AWS IoT SQL"
            fail(text, at, where, message, _HINTS.get(piece, ""))
        if len(tokens) >= tokens_max:
            fail(text, at, where, f"a statement has at most {tokens_max:,} words and signs")
        if kind != "blank":
            tokens.append(Token(kind, piece, at, _value(kind, piece, text, at, where)))
        at = match.end()
    tokens.append(Token("end", "", len(text.rstrip())))
    return tokens


def _refuse_character(text: str, at: int, where: str) -> NoReturn:
    c = text[at]
    if c in "'\"":
        fail(text, at, where, f"this string is not closed: expected {c} before the end")
    name = shown(c) if c.isascii() and c.isprintable() else unicodedata.name(c, "a character")
    message = f"unexpected {name} (U+{ord(c):04X})"
    hint = _HINTS.get(c, "")
    if c.isalpha() or c.isdigit():
        hint = "a name outside quotes has only the letters A to Z, digits and _"
    fail(text, at, where, message, hint)


def _value(kind: str, piece: str, text: str, at: int, where: str) -> Value:
    if kind == "word":
        return piece.upper()
    if kind == "string":
        return piece[1:-1].replace(piece[0] * 2, piece[0])
    return _number(piece, text, at, where) if kind == "number" else None


def _number(piece: str, text: str, at: int, where: str) -> Value:
    after = at + len(piece)
    if _JOINED.match(text, after):
        message = f"unexpected {shown(text[after])} right after the number {shown(piece)}"
        fail(text, after, where, message, "a name begins with a letter or _, a point needs digits")
    context = DECIMAL.copy()
    context.clear_flags()
    number = context.create_decimal(piece)
    if not number.is_finite() or context.flags[Inexact] or context.flags[Subnormal]:
        limits = f"{digits_max} digits and exponents from -{exponent_max} to {exponent_max}"
        fail(text, at, where, f"the number {shown(piece)} is out of range: expected {limits}")
    return number
