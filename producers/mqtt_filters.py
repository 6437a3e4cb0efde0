"""Which subscription a message comes for: MQTT 5's subscription identifiers.

Where topic filters overlap a broker sends a message once, or once for each of them; both are
allowed. The identifiers say which, so that no route takes it twice. A session outlives the bridge,
and what was queued for it bears the identifiers of before: they are made of the filter alone.

Source: the OASIS standard MQTT 5.0, 3.3.2.3.8, 3.3.4 and 3.8.2.1.2.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

IDENTIFIER_MAX = 268_435_455


def identifier(topic_filter: str) -> int:
    """The number of a filter: 1 to IDENTIFIER_MAX, always the same."""
    return zlib.crc32(topic_filter.encode()) % IDENTIFIER_MAX + 1


def filters_by_identifier(filters: Iterable[str]) -> Mapping[int, tuple[str, ...]]:
    """Each filter once, by its number; nearly always one a number."""
    found: dict[int, tuple[str, ...]] = {}
    for one in dict.fromkeys(filters):
        number = identifier(one)
        found[number] = (*found.get(number, ()), one)
    return found
