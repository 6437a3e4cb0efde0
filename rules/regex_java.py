"""Regular expressions of Java, which rules for AWS IoT are written in, to those of RE2.

RE2 finds what Java finds, in time linear in the text. Refused is what cannot be found so (back
references, lookaround, atomic groups, possessive quantifiers) and what RE2 has no word for (flags
x, U and boundaries other than \\b and \\B). Known differences that are left:

- in mode (?m) a line ends with a line feed alone, and so does the text for `$` and \\Z;
- a loop over what may be empty ends in Java with its first empty turn, in RE2 it does not;
- \\R may match the first half of \\r\\n where the rest of the pattern asks for it;
- \\b takes ASCII letters, digits and _ for words, as Java does since version 19.

`$` and \\Z, which in Java also stand before a line's end that ends the text, are marked: RE2 has
them only with the help of regex.py. Case is folded for ASCII alone, as (?i) does without u.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .regex_reader import Reader, Refused
from .regex_sets import LETTERS, LINE_ENDS, Characters, NamesCombined, literal

pattern_chars_max = 1000
repeats_max = 1000  # of one quantifier
repeats_total_max = 2000
unicode_sets_max = 20
sets_depth_max = 32
END = "\0"  # stands for `$` in a translation; no translation has this character otherwise

_GROUP_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9]*")
_REPEAT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}", re.ASCII)
_FLAGS = re.compile(r"([a-zA-Z]*)(?:-([a-zA-Z]*))?([:)])")
_LOOKAROUND = {"=": "lookahead", "!": "lookahead", "<=": "lookbehind", "<!": "lookbehind"}
_CASED = [["p{Lu}"], ["p{Ll}"], ["p{Lt}"], ["p{Lu}", "p{Ll}", "p{Lt}"]]  # the last: where (?i)
_LINE_END = "(?:\\r\\n|" + Characters([*LETTERS["v"]]).re2() + ")"


@dataclass(frozen=True, slots=True)
class Translation:
    """A pattern in RE2's syntax, but for END.

    groups: how many capture; names: the numbers of those that have a name. looped: whether a match
    may be longer than the pattern says. branching: whether a part of it may be left out or has
    alternatives, other than a single character. inside: whether it has \\B, which RE2 sees within
    characters too.
    """

    text: str
    groups: int
    names: Mapping[str, int]
    looped: bool
    branching: bool
    inside: bool


def translate(pattern: str) -> Translation:
    """Translate a pattern; raises Refused with the construct and its offset."""
    if len(pattern) > pattern_chars_max:
        raise Refused(f"a pattern of more than {pattern_chars_max:,} characters")
    return _Translator(pattern).translation()


class _Translator(Reader):
    def __init__(self, pattern: str) -> None:
        super().__init__(pattern)
        self.parts: list[str] = []
        self.flags = frozenset[str]()
        self.open: list[tuple[int, frozenset[str]]] = []  # of each group: its offset, outer flags
        self.atom = ""  # what a quantifier would repeat: "", "character" or "group"
        self.groups = 0
        self.names: dict[str, int] = {}
        self.looped = self.branching = False
        self.members = set[str]()  # of the set being read: "character", "escape" or both
        self.repeats = self.unicode_sets = 0  # what makes a program large

    def translation(self) -> Translation:
        while not self.ended:
            self._next()
        if self.open:
            self.fail("a group that is not closed", self.open[-1][0])
        text = "".join(self.parts)
        return Translation(
            text, self.groups, self.names, self.looped, self.branching, "\\B" in self.parts
        )

    def _next(self) -> None:
        at = self.at
        character = self.take()
        if character in "*+?{":
            self.at = at
            self._quantifier()
        elif character == "(":
            self._group(at)
        elif character == ")":
            if not self.open:
                self.fail("a closing parenthesis too many", at)
            self.flags = self.open.pop()[1]
            self._put(")", "group")
        elif character == "|":
            self.branching = True
            self._put("|", "")
        elif character == "[":
            self.members = set()
            found = self._set(at, 1)
            if self._unicode_case and len(self.members) > 1:
                self.fail("escapes of sets beside characters are not known in mode (?iu)", at)
            self._put_set(*found, "character" in self.members)
        elif character == "\\":
            self._escape(at)
        elif character in ".^$":
            self._put(self._sign(character))
        else:
            self._put_character(ord(character))

    def _put(self, text: str, atom: str = "character") -> None:
        self.parts.append(text)
        self.atom = atom

    def _put_character(self, point: int) -> None:
        found = Characters()
        found.add([(point, point)], self._ascii_case)
        if 0xD800 <= point < 0xE000:
            self.fail("half a surrogate pair", self.at - 1)
        if self._unicode_case:
            self._put(f"(?i:{literal(point)})")
        else:
            self._put(literal(point) if len(found.ranges) == 1 else found.re2())

    def _put_set(self, found: Characters, negated: bool, folds: bool) -> None:
        text = found.re2(negated)
        self._put(f"(?i:{text})" if folds and self._unicode_case else text)

    @property
    def _ascii_case(self) -> bool:
        return "i" in self.flags and "u" not in self.flags

    @property
    def _unicode_case(self) -> bool:
        return "i" in self.flags and "u" in self.flags

    def _sign(self, sign: str) -> str:
        if sign == ".":
            if "s" in self.flags:
                return "(?s:.)"
            return Characters([(0x0A, 0x0A)] if "d" in self.flags else LINE_ENDS).re2(True)
        if "m" in self.flags:
            return f"(?m:{sign})"
        return "\\A" if sign == "^" else END

    # Escapes.

    def _escape(self, at: int) -> None:
        if self.accept("Q"):
            for character in self.quotation():
                self._put_character(ord(character))
        elif self.accept("E"):
            self.fail("\\E without \\Q", at)
        elif self.accept("b{"):
            self.fail("the boundary \\b{ is not known here", at)
        elif self.accept("R"):
            self.branching = True
            self._put(_LINE_END)
        elif self.accept("Z"):
            self._put(END)
        elif not self.ended and self.pattern[self.at] in "AbBz":
            self._put("\\" + self.take())
        elif (found := self._escaped_set(at)) is not None:
            self._put_set(found, False, False)
        else:
            self._put_character(self.escaped_character())

    def _escaped_set(self, at: int) -> Characters | None:
        """A set by escape, with both cases of its ASCII letters where the pattern asks for them."""
        found = self.escaped_set()
        self.unicode_sets += found is not None and bool(found.names)
        if self.unicode_sets > unicode_sets_max:
            self.fail(f"more than {unicode_sets_max} sets of Unicode", at)
        if found is None or "i" not in self.flags:
            return found
        if found.names in _CASED[:3]:
            found = Characters([], _CASED[3])
        elif found.names in (["P" + names[0][1:]] for names in _CASED[:3]):
            self.fail("a Unicode category of one case alone is not known here in mode (?i)", at)
        both = Characters([], found.names)
        both.add(found.ranges, self._ascii_case)
        return both

    # Groups.

    def _group(self, at: int) -> None:
        outer = self.flags
        if not self.accept("?"):
            self.groups += 1
            text = "("
        elif self.accept(">"):
            self.fail("an atomic group (?> cannot be found in linear time", at)
        else:
            for sign, name in _LOOKAROUND.items():
                if self.sees(sign):
                    self.fail(f"{name} (?{sign} cannot be found in linear time", at)
            if self.accept("<"):
                text = f"(?P<{self._group_name(at)}>"
            elif self._set_flags(at):
                self.atom = ""
                return
            else:
                text = "(?:"
        self.open.append((at, outer))
        self._put(text, "")

    def _group_name(self, at: int) -> str:
        name = self.until(">", "a group's name")
        if not _GROUP_NAME.fullmatch(name):
            self.fail("a group's name is not of ASCII letters and digits, first a letter", at)
        if name in self.names:
            self.fail(f"a second group of the name {name}", at)
        self.groups += 1
        self.names[name] = self.groups
        return name

    def _set_flags(self, at: int) -> bool:
        """Read the flags of a group; True where they stand alone, for the rest of the group."""
        found = _FLAGS.match(self.pattern, self.at)
        if found is None:
            self.fail("an unknown kind of group", at)
        on, off, end = found[1], found[2] or "", found[3]
        for flag in on + off:
            if flag not in "idmsu":
                self.fail(f"the flag {flag} is not known here", at)
        self.flags = (self.flags | set(on)) - set(off)
        self.at = found.end()
        return end == ")"

    # Quantifiers.

    def _quantifier(self) -> None:
        at = self.at
        if not self.atom:
            self.fail("nothing to repeat", at)
        sign = self.take()
        if sign == "{":
            text, most = self._counted(at)
        else:
            text, most = sign, 1 if sign == "?" else None
        if self.accept("+"):
            self.fail(f"the possessive quantifier {text}+ cannot be found in linear time", at)
        text += "?" if self.accept("?") else ""
        self.looped = self.looped or most is None
        self.branching = self.branching or self.atom == "group"
        self._put(text, "")

    def _counted(self, at: int) -> tuple[str, int | None]:
        found = _REPEAT.match(self.pattern, at)
        if found is None:
            self.fail("{ without a number of repetitions", at)
        self.at = found.end()
        least = int(found[1])
        most = int(found[3]) if found[3] else None if found[2] else least
        if most is not None and most < least:
            self.fail("the bounds of a repetition are the wrong way round", at)
        if max(least, most or 0) > repeats_max:
            self.fail(f"more than {repeats_max:,} repetitions", at)
        self.repeats += max(least, most or 0)
        if self.repeats > repeats_total_max:
            self.fail(f"more than {repeats_total_max:,} repetitions in sum", at)
        return found[0], most

    # Sets.

    def _set(self, at: int, depth: int) -> tuple[Characters, bool]:
        """Read a set whose bracket is read already: its characters, and whether to negate them."""
        if depth > sets_depth_max:
            self.fail(f"sets nested deeper than {sets_depth_max}", at)
        negated = self.accept("^")
        whole: Characters | None = None  # what stands before &&
        current: Characters | None = None
        first = True
        while first or not self.accept("]"):
            if self.ended:
                self.fail("a set without ]", at)
            if self.accept("&&"):
                whole, current = self._both(whole, current, at), None
            else:
                current = current or Characters()
                current.join(self._member(at, depth))
            first = False
        found = self._both(whole, current, at)
        if found is None:
            self.fail("a set without characters", at)
        return found, negated

    def _both(self, a: Characters | None, b: Characters | None, at: int) -> Characters | None:
        """The intersection; a side where nothing is written does not count, as in Java."""
        if a is None or b is None:
            return b if a is None else a
        return self._combined(at, lambda: a.intersection(b))

    def _member(self, at: int, depth: int) -> Characters:
        start = self.at
        if self.accept("["):
            inner, negated = self._set(start, depth + 1)
            return self._combined(at, inner.complement) if negated else inner
        if self.accept("\\Q"):
            self.members.add("character")
            found = Characters()
            found.add([(ord(c), ord(c)) for c in self.quotation()], self._ascii_case)
            return found
        if self.accept("\\"):
            escaped = self._escaped_set(start)
            if escaped is not None:
                self.members.add("escape")
                return escaped
            low = self.escaped_character()
        else:
            low = ord(self.take())
        self.members.add("character")
        high = low
        if self.sees("-") and self.pattern[self.at + 1 : self.at + 2] not in ("]", "[", ""):
            self.at += 1
            high = self._range_end(start)
        if high < low:
            self.fail("a range of characters the wrong way round", start)
        if 0xD800 <= low < 0xE000 or 0xD800 <= high < 0xE000:
            self.fail("half a surrogate pair", start)
        found = Characters()
        found.add([(low, high)], self._ascii_case)
        return found

    def _range_end(self, start: int) -> int:
        if not self.accept("\\"):
            return ord(self.take())
        if self._escaped_set(start) is not None:
            self.fail("a range of characters that ends in a set", start)
        return self.escaped_character()

    def _combined(self, at: int, combine: Callable[[], Characters]) -> Characters:
        """Combine sets, where they are known by their characters."""
        if self._unicode_case:
            self.fail("sets within sets are not known here in mode (?iu)", at)
        try:
            return combine()
        except NamesCombined:
            self.fail("this combination of Unicode's sets is not known here", at)
