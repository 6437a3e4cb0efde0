"""Cases of IoT SQL in files: a statement, a message, and what comes out. No Python for a new case.

One JSON object a line: `id`, `sql`, `topic`, the payload as `payload` (JSON), `payload_raw` (text)
or `payload_hex`; `outcome` (`output`, `not_triggered`, `no_action`, `error`, or `refused`: the
statement itself) and `expected`, the output; optional `context`, `rule_name`, `version`,
`int_division`, `undefined_logic`, and `templates`: template -> text. Numbers are compared by value,
those that came from float64 functions to 1e-12.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "iot-sql-corpus"
# Cases of others, where they lie beside the repository.
EXAMPLES = Path(__file__).parents[3] / "shared" / "reference" / "examples" / "iot-sql.jsonl"
_OPTIONS = ("version", "int_division", "undefined_logic", "rule_name")


@dataclass
class SqlCase:
    """One line of a file."""

    id: str
    line: dict[str, Any]

    @property
    def payload(self) -> bytes:
        """The bytes of the message."""
        if "payload_hex" in self.line:
            return bytes.fromhex(self.line["payload_hex"])
        if self.line.get("payload_raw") is not None:
            return str(self.line["payload_raw"]).encode()
        return json.dumps(self.line["payload"]).encode()

    @property
    def options(self) -> dict[str, Any]:
        """What else than the statement the rule is made of."""
        return {name: self.line[name] for name in _OPTIONS if name in self.line}


def cases(*files: Path) -> Iterator[SqlCase]:
    """The cases of some files; lines that are empty or begin with # are passed over."""
    for file in files:
        for text in file.read_text().splitlines():
            if text.strip() and not text.startswith("#"):
                line = json.loads(text)
                yield SqlCase(f"{file.stem}:{line['id']}", line)


def same(found: Any, expected: Any) -> bool:
    """Whether two JSON values are equal, numbers by value."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, int | float) and isinstance(expected, int | float):
        if isinstance(found, int) and isinstance(expected, int):
            return found == expected
        return math.isclose(found, expected, rel_tol=1e-12, abs_tol=1e-300)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    return type(found) is type(expected) and bool(found == expected)
