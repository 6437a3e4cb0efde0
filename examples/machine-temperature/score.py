"""Back-test the machine's readings and hold the alerts against its known failures.

    python examples/machine-temperature/score.py

A failure counts as caught if a rule was firing at some time between its two ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
COMMAND = [
    "backtest", "pipeline.toml", "--input", "machine-temperature-system-failure.csv",
    "--set", "device=machine",
]  # fmt: skip


class Episode(NamedTuple):
    """From a firing alert to the resolved one; `end` is None where none has come."""

    rule: str
    start: datetime
    end: datetime | None

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Whether the rule was firing at some time from start to end."""
        return self.start <= end and (self.end is None or self.end >= start)

    def __str__(self) -> str:
        """One line."""
        length = "not over" if self.end is None else f"for {hours(self.end - self.start)}"
        return f"{self.rule}  {stamp(self.start)}  {length}"


class Failure(NamedTuple):
    """A time in which the machine is known to have failed."""

    start: datetime
    end: datetime


def backtest() -> Iterator[dict[str, Any]]:
    """The alerts of the back-test; its summary goes to the terminal."""
    command = [sys.executable, "-m", "streamgauge", *COMMAND]
    done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, check=True)
    yield from map(json.loads, done.stdout.splitlines())


def episodes(alerts: Iterable[dict[str, Any]]) -> list[Episode]:
    """Pair each firing with its resolved, in the order in which they fired."""
    found: list[Episode] = []
    firing: dict[str, int] = {}
    for alert in alerts:
        rule, time = alert["rule"], datetime.fromtimestamp(alert["time"] / 1000, UTC)
        if alert["state"] == "firing":
            firing[rule] = len(found)
            found.append(Episode(rule, time, None))
        else:
            at = firing.pop(rule)
            found[at] = found[at]._replace(end=time)
    return found


def failures() -> list[Failure]:
    """The known failures, in order."""
    listed = json.loads((HERE / "failures.json").read_text())
    return [Failure(*map(datetime.fromisoformat, (one["from"], one["to"]))) for one in listed]


def report(known: list[Failure], fired: list[Episode]) -> Iterator[str]:
    """The lines of the score: each failure with what caught it, then whatever else fired."""
    yield "known failures"
    caught = 0
    for start, end in known:
        window = f"{stamp(start)} to {stamp(end)}"
        hits = [episode for episode in fired if episode.overlaps(start, end)]
        caught += bool(hits)
        if not hits:
            yield f"  missed  {window}"
        for episode in hits[:1]:
            lead = episode.start - start
            after = f"{hours(lead)} after its start" if lead >= timedelta() else (
                f"{hours(-lead)} before its start"
            )  # fmt: skip
            yield f"  caught  {window}  {episode.rule}, {after}"
    others = [e for e in fired if not any(e.overlaps(*failure) for failure in known)]
    yield f"{caught} of {len(known)} caught"
    yield ""
    yield f"what else fired: {len(others)}"
    yield from (f"  {episode}" for episode in others)


def stamp(time: datetime) -> str:
    """A time to the minute; all are UTC."""
    return f"{time:%Y-%m-%d %H:%M}"


def hours(length: timedelta) -> str:
    """A length in hours and minutes."""
    minutes = round(length.total_seconds() / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


if __name__ == "__main__":
    alerts = list(backtest())
    print("\n".join(report(failures(), episodes(alerts))))
