"""The error tree, sorted by what delivery does with each: stop, wait, or divert the record.

- StreamgaugeError: the root; catch it to catch all that this package raises on purpose.

  - Stop (nobody can go on before a person has changed something):

    - ConfigError: the pipeline file, a thresholds file or a rule is wrong; carries every problem.
    - InputError: a file of records cannot be what it is said to be; names file and line.
    - StateError: a state object cannot be read (torn, another version, bad checksum).
    - FencedError: another owner has written this shard's next state object; reload and go on.
    - OrderError: records of a shard are handed over out of order, so some would be passed over.

  - Wait (the service may come back; the batch is not lost, nothing was applied or the same batch is
    delivered again):

    - UnavailableError: a sink, a store or the stream did not answer or refused for now.

A single record that cannot be processed is not an exception: it becomes a `Rejected` row and goes
on
to the error stream with its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class StreamgaugeError(Exception):
    """The root of all errors that streamgauge raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in what a user wrote, ready to print.

    `where` is the place ("thermostats.toml: rules.overheating.window"), `message` says what was
    expected and found, `hint` is the nearest valid thing (or empty), `excerpt` is the text with a
    caret under the fault (or empty). `severity` is "error" or "warning".
    """

    where: str
    message: str
    hint: str = ""
    excerpt: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        """One line for a terminal, with the excerpt below it."""
        text = f"{self.where}: {self.severity}: {self.message}"
        if self.hint:
            text += f" ({self.hint})"
        if self.excerpt:
            text += "\n" + self.excerpt
        return text


class ConfigError(StreamgaugeError):
    """What the user declared is wrong; `problems` lists everything found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep all problems; the message is one line for each."""
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


class InputError(StreamgaugeError):
    """A file of records is not what it is said to be; the message names file and line."""


class StateError(StreamgaugeError):
    """A state object cannot be read: torn, wrong checksum, or of an unknown version."""


class FencedError(StreamgaugeError):
    """Another owner wrote the next state object of this shard: stop, reload, go on from there."""


class OrderError(StreamgaugeError):
    """Records of a shard are handed over out of order: to go on would be to skip some of them."""


class UnavailableError(StreamgaugeError):
    """A service did not answer or refused for now; the same call may succeed later."""
