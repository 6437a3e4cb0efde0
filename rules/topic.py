"""Topics and topic filters as AWS IoT rules read them, which is not quite as MQTT brokers do.

- `+` stands for exactly one whole level, which may be empty; `#` only as the last level, for one or
  more levels: `sensor/#` matches `sensor/` and `sensor/x/y` but not `sensor`.
- A wildcard never matches a first level that begins with `$`.
- A message published to `$aws/rules/<rule>/rest/of/topic` (Basic Ingest) shows itself to `topic()`
  as `rest/of/topic`.
"""

from __future__ import annotations

from collections.abc import Callable

filter_bytes_max = 256  # AWS IoT takes no longer topic
filter_slashes_max = 7  # nor a deeper one; the first three levels of Basic Ingest do not count

BASIC_INGEST = "$aws/rules/"


class FilterError(ValueError):
    """A text is no topic filter; `offset` is the character at which that shows."""

    def __init__(self, message: str, offset: int) -> None:
        """Keep both."""
        super().__init__(message)
        self.offset = offset


def compile_filter(text: str) -> Callable[[str], bool]:
    """Return the function that tells whether a topic matches.

    Raises FilterError where `text` is no filter.
    """
    levels = _levels(text)
    if "+" not in levels and levels[-1] != "#":
        return text.__eq__
    deep = levels[-1] == "#"
    spelled = [(i, level) for i, level in enumerate(levels) if level not in ("+", "#")]
    count = len(levels)
    wild = levels[0] in ("+", "#")

    def matches(topic: str) -> bool:
        if wild and topic.startswith("$"):
            return False
        found = topic.split("/")
        if len(found) < count or (len(found) > count and not deep):
            return False
        return all(found[i] == level for i, level in spelled)

    return matches


def _levels(text: str) -> list[str]:
    if not text:
        raise FilterError("a topic filter may not be empty", 0)
    if "\0" in text:
        raise FilterError("a topic filter may not hold the character U+0000", text.index("\0"))
    levels = text.split("/")
    offset = 0
    for level in levels[:-1]:
        if "#" in level:
            at = offset + level.index("#")
            raise FilterError('"#" may stand only as the whole last level', at)
        offset += len(_whole(level, "+", offset)) + 1
    _whole(_whole(levels[-1], "#", offset), "+", offset)
    return levels


def _whole(level: str, wildcard: str, offset: int) -> str:
    if wildcard in level and level != wildcard:
        at = offset + level.index(wildcard)
        raise FilterError(f'"{wildcard}" must be a whole level between slashes', at)
    return level


def beyond_limits(text: str) -> str:
    """Say which limit of AWS IoT a filter breaks, or return an empty text."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > filter_bytes_max:
        return f"AWS IoT takes topics of at most {filter_bytes_max} bytes, this filter has {size}"
    slashes = text.count("/") - (3 if text.startswith(BASIC_INGEST) else 0)
    if slashes > filter_slashes_max:
        return f"AWS IoT takes at most {filter_slashes_max} slashes, this filter has {slashes}"
    return ""


def visible(topic: str) -> str:
    """Return what `topic()` shows: the prefix of Basic Ingest is hidden."""
    if not topic.startswith(BASIC_INGEST):
        return topic
    parts = topic.split("/", 3)
    return parts[3] if len(parts) == 4 else topic


def ingested_by(topic: str) -> str | None:
    """Return the name of the one rule that a topic of Basic Ingest reaches; None for others."""
    if not topic.startswith(BASIC_INGEST):
        return None
    parts = topic.split("/", 3)
    return parts[2] if len(parts) == 4 else None


def reaches(matches: Callable[[str], bool], rule_name: str) -> Callable[[str], bool]:
    """Return the function that tells whether a topic reaches a rule, by FROM or by Basic Ingest.

    matches: that of FROM, which has no say where the topic names a rule.
    """

    def reached(topic: str) -> bool:
        named = ingested_by(topic) if topic.startswith("$") else None
        return matches(topic) if named is None else named == rule_name != ""

    return reached


def level(topic: str, n: int) -> str | None:
    """Return the n-th level as `topic(n)` does, counted from 1; None where there is none."""
    if not 1 <= n <= len(topic) + 1:
        return None
    levels = visible(topic).split("/", n)
    return levels[n - 1] if n <= len(levels) else None
