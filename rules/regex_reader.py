"""A Java pattern read character by character: its escapes and properties, and their faults."""

from __future__ import annotations

from typing import NoReturn

from .regex_sets import CATEGORIES, LETTERS, POSIX, Characters

_CONTROLS = {"t": 0x09, "n": 0x0A, "r": 0x0D, "f": 0x0C, "a": 0x07, "e": 0x1B}
_OCTAL, _HEXADECIMAL = "01234567", "0123456789abcdefABCDEF"
_REFUSED_ESCAPES = {
    "k": "the back reference \\k",
    "G": "\\G",
    "N": "a character by name, \\N",
    "X": "a grapheme cluster, \\X",
}


class Refused(ValueError):
    """A pattern is none of Java's, or has what cannot be found in linear time."""


class Reader:
    """A pattern and the place where it is being read."""

    def __init__(self, pattern: str) -> None:
        """Begin at the first character."""
        self.pattern = pattern
        self.at = 0

    def fail(self, what: str, at: int | None = None) -> NoReturn:
        """Refuse the pattern; `what` is said of the character at `at`, else of the next one."""
        raise Refused(f"{what} (offset {self.at if at is None else at})")

    @property
    def ended(self) -> bool:
        """Whether all is read."""
        return self.at >= len(self.pattern)

    def sees(self, text: str) -> bool:
        """Whether this text is next."""
        return self.pattern.startswith(text, self.at)

    def accept(self, text: str) -> bool:
        """Read this text where it is next."""
        found = self.sees(text)
        self.at += len(text) * found
        return found

    def take(self) -> str:
        """Read one character."""
        if self.ended:
            self.fail("the pattern ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def run(self, allowed: str, longest: int) -> str:
        """Read as many of these characters as there are, up to a number."""
        start = self.at
        while not self.ended and self.at - start < longest and self.pattern[self.at] in allowed:
            self.at += 1
        return self.pattern[start : self.at]

    def until(self, end: str, what: str) -> str:
        """Read up to this text, and the text itself."""
        close = self.pattern.find(end, self.at)
        if close < 0:
            self.fail(f"{what} without {end}")
        found = self.pattern[self.at : close]
        self.at = close + len(end)
        return found

    def quotation(self) -> str:
        r"""Read what stands between \Q, which is read already, and \E or the end."""
        close = self.pattern.find("\\E", self.at)
        found = self.pattern[self.at : close if close >= 0 else None]
        self.at += len(found) + (2 if close >= 0 else 0)
        return found

    def escaped_set(self) -> Characters | None:
        """Read the rest of an escape that stands for a set, as \\d and \\p{L} do, or None."""
        at = self.at - 1
        name = self.pattern[self.at : self.at + 1]
        if name and name.lower() in LETTERS:
            self.at += 1
            found = Characters()
            found.add(LETTERS[name.lower()], False)
            return found.complement() if name.isupper() else found
        if name not in ("p", "P"):
            return None
        self.at += 1
        braced = self.accept("{")
        word = self.until("}", "a property") if braced else self.take()
        found = self._property(word, at)
        return found.complement() if name == "P" else found

    def _property(self, word: str, at: int) -> Characters:
        """The set of a property by one of the names that Java has for it."""
        if word in POSIX:
            return Characters(list(POSIX[word]))
        kind, equals, name = word.rpartition("=")
        if not equals and word.startswith("Is"):
            name = word[2:]
        category = name in CATEGORIES and kind.lower() in ("", "gc", "general_category")
        if category:
            return Characters([], [f"p{{{name}}}"])
        is_script = kind.lower() in ("sc", "script") or (not equals and word.startswith("Is"))
        if is_script and name.replace("_", "").isalpha() and name.isascii():
            return Characters([], ["p{" + "_".join(p.capitalize() for p in name.split("_")) + "}"])
        self.fail(f"the property {{{word[:32]}}} is not known here", at)

    def escaped_character(self) -> int:
        """Read the rest of an escape that stands for one character, and return its code point."""
        at = self.at - 1
        name = self.take()
        if name in _CONTROLS:
            return _CONTROLS[name]
        if name == "0":
            digits = self.run(_OCTAL, 3 if self.pattern[self.at : self.at + 1] in "0123" else 2)
            return int(digits, 8) if digits else self.fail("\\0 without octal digits", at)
        if name == "x" and self.accept("{"):
            return self._point(self.until("}", "\\x{"), at)
        if name in "xu":
            return self._unit(2 if name == "x" else 4, at)
        if name == "c":
            return ord(self.take()) ^ 0x40
        if name in "123456789":
            self.fail(f"the back reference \\{name} cannot be found in linear time", at)
        if name in _REFUSED_ESCAPES:
            self.fail(f"{_REFUSED_ESCAPES[name]} cannot be found in linear time", at)
        if name.isascii() and name.isalpha():
            self.fail(f"there is no escape \\{name}", at)
        return ord(name)

    def _unit(self, length: int, at: int) -> int:
        r"""A code of two or four digits; two halves written by \u are one character."""
        point = self._point(self.run(_HEXADECIMAL, length), at, length)
        if length == 4 and 0xD800 <= point < 0xDC00 and self.accept("\\u"):
            low = self._point(self.run(_HEXADECIMAL, 4), at, 4)
            if not 0xDC00 <= low < 0xE000:
                self.fail("half a surrogate pair", at)
            return 0x10000 + ((point - 0xD800) << 10) + low - 0xDC00
        if 0xD800 <= point < 0xE000:
            self.fail("half a surrogate pair", at)
        return point

    def _point(self, digits: str, at: int, length: int | None = None) -> int:
        wrong = not digits or any(digit not in _HEXADECIMAL for digit in digits)
        if wrong or len(digits) != (length or len(digits)) or len(digits) > 8:
            self.fail("a code point without its hexadecimal digits", at)
        point = int(digits, 16)
        if point > 0x10FFFF:
            self.fail("a code point beyond 10FFFF", at)
        return point
