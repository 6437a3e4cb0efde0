"""What a fleet is to be: its size, its faults and how much of each, the rule that watches it.

A struct's field is a key of the scenario file: the annotation says what it means and which values
it takes, the default is the key's. The file is read by the command line; docs/fleet.md shows it.

Begin and length of a fault that lasts are shares of the run, drawn for each device from a range: a
scenario keeps its shape when `seconds` changes. What is a length of time by its nature is in
seconds.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

SECOND_MS = 1000
START = 1_767_600_000_000  # ms; the event time at which a run begins, unless it is told
SECONDS_MAX = 7 * 86_400
DEVICES_MAX = 1_000_000

Share = Annotated[float, Meta(ge=0, le=1)]
Range = tuple[Share, Share]
Seconds = Annotated[int, Meta(ge=1, le=SECONDS_MAX)]
SecondsRange = tuple[Annotated[int, Meta(ge=0, le=SECONDS_MAX)], Seconds]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rule that the truth judges by and that the pipeline file declares."""

    pipeline: Annotated[str, Meta(min_length=1, description="name of the pipeline")] = "thermostats"
    name: Annotated[str, Meta(min_length=1, description="name of the rule")] = "overheating"
    threshold: Annotated[float, Meta(description="of devices without a limit of their own")] = 30.0
    clear_margin: Annotated[float, Meta(ge=0, description="resolves that far below")] = 1.0
    min_samples: Annotated[int, Meta(ge=1, description="in the window, or nothing fires")] = 5
    window_seconds: Annotated[Seconds, Meta(description="the mean is over so long")] = 60
    lateness_seconds: Annotated[Seconds, Meta(description="allowed_lateness of the pipeline")] = 10
    hold_seconds: Annotated[
        int, Meta(ge=0, le=SECONDS_MAX, description="above the limit so long until it fires")
    ] = 0
    skew_seconds: Annotated[Seconds, Meta(description="max_clock_skew of the pipeline")] = 300
    severity: Annotated[str, Meta(min_length=1, description="comes back in alerts")] = "warning"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of single devices, around the rule's threshold."""

    share: Annotated[Share, Meta(description="of devices with a limit of their own")] = 0.2
    lowest: Annotated[float, Meta(ge=-500, le=500, description="degrees from the threshold")] = -2.0
    highest: Annotated[float, Meta(ge=-500, le=500, description="degrees from the threshold")] = 2.0
    clear_margin: Annotated[float, Meta(ge=0, description="of these limits")] = 1.0
    changed: Annotated[Share, Meta(description="of them that change half-way")] = 0.34
    change: Annotated[float, Meta(ge=-500, le=500, description="degrees by which")] = 1.5


class Lasting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault that a device has for a while, once in a run."""

    share: Annotated[Share, Meta(description="of devices that have it")] = 0.0
    begins: Annotated[Range, Meta(description="from .. to, as shares of the run")] = (0.1, 0.6)
    lasts: Annotated[Range, Meta(description="from .. to, as shares of the run")] = (0.1, 0.2)


class Drift(Lasting, frozen=True, forbid_unknown_fields=True):
    """A sensor that reads more and more too warm, until it is set right."""

    degrees: Annotated[float, Meta(ge=-100, le=100, description="at its end")] = 4.0


class Dropout(Lasting, frozen=True, forbid_unknown_fields=True):
    """A link that is down; what was measured comes in one burst when it is up again."""

    kept: Annotated[
        int, Meta(ge=1, le=100_000, description="readings a device can keep; the oldest are lost")
    ] = 3600


class WrongClock(Lasting, frozen=True, forbid_unknown_fields=True):
    """A clock that is wrong for a while: of three such devices one each is ahead, behind, unset."""

    ahead_seconds: Annotated[Seconds, Meta(description="of those ahead")] = 86_400
    behind_seconds: Annotated[Seconds, Meta(description="of those behind")] = 7_200


class OldData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device that was out of reach since before the run, and brings what it measured then."""

    share: Annotated[Share, Meta(description="of devices that have it")] = 0.0
    begins: Annotated[Range, Meta(description="when it comes, as shares of the run")] = (0.2, 0.7)
    hours: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=168)], Annotated[int, Meta(ge=1, le=168)]],
        Meta(description="so old is the oldest reading, from .. to"),
    ] = (1, 6)
    readings: Annotated[int, Meta(ge=1, le=10_000, description="that it brings")] = 50
    after: Annotated[Share, Meta(description="of them that send the present first")] = 0.5


class Sometimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault that meets single messages of any device."""

    share: Annotated[Share, Meta(description="of messages")] = 0.0


class Delayed(Sometimes, frozen=True, forbid_unknown_fields=True):
    """A fault of single messages that come, or come again, later."""

    seconds: Annotated[SecondsRange, Meta(description="later, from .. to")] = (1, 3)


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every fault that a fleet can have. A share of 0 takes it away."""

    stuck_relay: Lasting = Lasting(0.06, (0.05, 0.4), (0.22, 0.32))
    stuck_sensor: Lasting = Lasting(0.02, (0.1, 0.6), (0.1, 0.3))
    drift: Drift = Drift(0.02, (0.1, 0.5), (0.2, 0.4))
    dropout: Dropout = Dropout(0.03, (0.1, 0.6), (0.05, 0.12))
    wrong_clock: WrongClock = WrongClock(0.005, (0.0, 0.3), (0.2, 0.9))
    churn: Lasting = Lasting(0.01, (0.2, 0.7), (0.02, 0.2))
    old_data: OldData = OldData(0.005)
    duplicate: Delayed = Delayed(0.003, (0, 3))
    reordered: Delayed = Delayed(0.004, (1, 3))
    late: Delayed = Delayed(0.0004, (95, 95))
    bad_payload: Sometimes = Sometimes(0.001)
    faulty_reading: Sometimes = Sometimes(0.001)
    elsewhere: Sometimes = Sometimes(0.001)


MEANINGS = {
    "stuck_relay": "the relay sticks and heats the room: what the rule is to find",
    "stuck_sensor": "the sensor gives the same reading again and again",
    "drift": "the sensor reads more and more too warm, until it is set right",
    "dropout": "the link is down; then everything comes in one burst",
    "wrong_clock": "one third each: ahead, behind, unset (1970)",
    "churn": "the device leaves; another one takes its place when that is over",
    "old_data": "out of reach since before the run; brings readings of hours ago",
    "duplicate": "the message comes twice",
    "reordered": "the message comes a little later than those after it",
    "late": "the message comes when its window is long past",
    "bad_payload": "cut off, no JSON, no UTF-8, wrong types and more",
    "faulty_reading": "the sensor reads -127, as one does whose wire is broken",
    "elsewhere": "the message is on another topic",
}


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fleet and one run of it. Equal scenarios give the same bytes."""

    devices: Annotated[int, Meta(ge=1, le=DEVICES_MAX, description="at any one time")] = 500
    seconds: Annotated[Seconds, Meta(description="of event time")] = 300
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1, description="everything is drawn from it")] = 1
    start: Annotated[
        int, Meta(ge=0, le=32_503_680_000_000, description="event time at the beginning, ms UTC")
    ] = START
    periods: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=3600)], ...],
        Meta(min_length=1, description="seconds between two readings; each device draws one"),
    ] = (1, 2, 2, 5)
    rule: Rule = Rule()
    limits: Limits = Limits()
    faults: Faults = Faults()


def disorder(scenario: Scenario) -> list[tuple[str, str]]:
    """What is wrong between the values of a scenario: the path of a key, and what was expected."""
    wrong = []
    for name in Faults.__struct_fields__:
        fault = getattr(scenario.faults, name)
        for key in ("begins", "lasts", "seconds", "hours"):
            low, high = getattr(fault, key, (0, 0))
            if low > high:
                wrong.append((f"faults.{name}.{key}", f"expected from .. to, found {low}, {high}"))
    if scenario.limits.lowest > scenario.limits.highest:
        wrong.append(("limits.lowest", "expected at most limits.highest"))
    odd = sum(
        fault.share
        for name in Faults.__struct_fields__
        if isinstance(fault := getattr(scenario.faults, name), Sometimes)
    )
    if odd > 1:
        wrong.append(
            ("faults", f"expected shares of messages of at most 1 together, found {odd:g}")
        )
    return wrong


def example() -> str:
    """A scenario file with every key at its default, and what each means."""
    lines = ["# A fleet: every key, with its default. What is left out has it."]
    _write(Scenario(), (), lines)
    return "\n".join(lines) + "\n"


def _write(table: Any, path: tuple[str, ...], lines: list[str]) -> None:
    """Write a table: its own keys, then the tables below it."""
    tables = []
    hints = {f.name: f.type for f in msgspec.inspect.type_info(type(table)).fields}  # type: ignore[attr-defined]
    for name in table.__struct_fields__:
        value = getattr(table, name)
        if isinstance(value, msgspec.Struct):
            tables.append((name, value))
            continue
        note = _description(hints[name])
        text = msgspec.json.encode(value).decode().replace(",", ", ")
        lines.append(f"{name} = {text}".ljust(36) + f"# {note}")
    for name, value in tables:
        below = (*path, name)
        if any(not isinstance(getattr(value, k), msgspec.Struct) for k in value.__struct_fields__):
            lines += ["", f"[{'.'.join(below)}]".ljust(36).rstrip()]
            if name in MEANINGS:
                lines[-1] = lines[-1].ljust(36) + f"# {MEANINGS[name]}"
        _write(value, below, lines)


def _description(hint: Any) -> str:
    extra = getattr(hint, "extra_json_schema", None) or {}
    return str(extra.get("description", ""))
