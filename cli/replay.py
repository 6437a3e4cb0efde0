"""`streamgauge replay`: recorded data sent again, at a multiple of its own pace."""

from __future__ import annotations

import os
import signal
import time as clock
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .destination import (
    As,
    Ca,
    Cert,
    Clients,
    Form,
    Key,
    MqttVersion,
    NoAggregate,
    Qos,
    Target,
    To,
    Username,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..consumers.inputs import Input
    from ..consumers.recording import Recording, Schedule, Where
    from ..producers.messages import Messages
    from ..producers.pace import Pace
    from .stop import Stop

FOUND_PROBLEMS = 1
INTERRUPTED = 130
PAUSE_SECONDS_MAX = 3600.0


class Format(StrEnum):
    """What the lines of a recording are."""

    NDJSON = "ndjson"
    CSV = "csv"
    KINESIS = "kinesis"


class Unit(StrEnum):
    """Units of times in messages."""

    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"
    ISO8601 = "iso8601"


TimeField = Annotated[str, typer.Option(metavar="FIELD", help="The field with the event time.")]
KeyField = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="The field with the partition key.  [default: device, or the record's own]",
    ),
]
TopicField = Annotated[str, typer.Option(metavar="FIELD", help="MQTT: the field with the topic.")]


def command(
    source: Annotated[str, typer.Argument(metavar="FILE|-", help="What to send; .gz is unpacked.")],
    speed: Annotated[
        str, typer.Option(metavar="N|max", help="Times as fast as recorded; 0 or max: at once.")
    ] = "1",
    to: To = "stdout",
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Guessed from name or first line where not given."),
    ] = None,
    time: TimeField = "ts",
    time_unit: Annotated[Unit, typer.Option(help="Its unit.")] = Unit.MS,
    key: KeyField = None,
    topic: TopicField = "topic",
    max_pause: Annotated[
        float, typer.Option(metavar="S", min=0.0, help="No pause is longer; seconds.")
    ] = PAUSE_SECONDS_MAX,
    written: As = Form.NDJSON,
    no_aggregate: NoAggregate = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object on stdout.")
    ] = False,
    clients: Clients = 1,
    qos: Qos = 1,
    version: MqttVersion = 5,
    username: Username = None,
    ca: Ca = None,
    cert: Cert = None,
    cert_key: Key = None,
) -> None:
    """Send recorded data again, payloads byte for byte, in the order of the file.

    The lines of FILE are payloads (ndjson), rows under a line of field names (csv) or Kinesis
    records as GetRecords gives them (kinesis), whose user records are sent. The pace is that of the
    event times, of Kinesis records that of the arrival times, times --speed. Event times are not
    changed. A summary goes to stderr. Ctrl-C waits for what is on its way.

    Example: streamgauge replay readings.ndjson.gz --speed 10 --to kinesis:telemetry
    """
    target = Target(to, written, not no_aggregate, clients, qos, version, username, ca, cert,
                    cert_key)  # fmt: skip
    if as_json and target.kind == "stdout":
        raise typer.BadParameter("needs stdout for itself: name another --to", param_hint="--json")
    if target.kind == "file" and source != "-":
        _refuse_overwriting(source, to)
    for option, path in (("--time", time), ("--key", key), ("--topic", topic)):
        if path is not None and not all(path.split(".")):
            raise typer.BadParameter(f"expected a path, found {path!a}", param_hint=option)
    from ..consumers.recording import Where

    where = Where(time, str(time_unit), key, topic)
    pace = Speed(_speed(speed), max_pause)
    raise typer.Exit(_run(source, form, where, pace, target, as_json))


@dataclass(frozen=True)
class Speed:
    """How fast: times the recorded pace, None for at once; and the longest pause in seconds."""

    times: float | None
    pause_max: float


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 <= speed < 1e9:
        raise typer.BadParameter("expected a number, or max", param_hint="--speed")
    return speed or None


def _refuse_overwriting(source: str, to: str) -> None:
    if os.path.realpath(source) == os.path.realpath(to):
        raise typer.BadParameter(f"{to} is what is read: it would be overwritten")


@dataclass
class Report:
    """What became of a replay."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    refusal: str = ""
    unopened: int = 0
    astray: int = 0
    cut: int = 0
    rate: float = 0.0
    lag_max: float = 0.0
    seconds: float = 0.0
    done: bool = False


def _run(
    path: str, form: str | None, where: Where, speed: Speed, target: Target, as_json: bool
) -> int:
    import msgspec

    from ..consumers.backtest import guess_format
    from ..consumers.inputs import Input
    from .stop import Overdue, stop_signals

    with stop_signals() as stop:
        try:
            with closing(Input(path, stop.wait)) as source:
                report = run(source, form or guess_format(source), where, speed, target, stop)
        except Overdue:
            typer.echo("stopped: what is on its way was not accepted in time", err=True)
            return FOUND_PROBLEMS
        except KeyboardInterrupt:
            if stop.signal is None:
                raise
            return INTERRUPTED
    if as_json:
        typer.echo(msgspec.json.encode(_object(report, path, target)))
    else:
        typer.echo(_text(report, path, target), err=True)
    if not report.done:
        return INTERRUPTED if stop.signal == signal.SIGINT else 0
    return 0 if report.accepted == report.sent else FOUND_PROBLEMS


def run(source: Input, form: str, where: Where, speed: Speed, target: Target, stop: Stop) -> Report:
    """Send a whole input, or what is sent of it until `stop`; everything sent is drained.

    Raises:
        StreamgaugeError, OSError: the input or the destination fails.
    """
    from ..consumers.recording import Recording, Schedule
    from ..producers.pace import Pace
    from .progress import ProgressBar

    report, whole = Report(), list[bool]()
    recording = Recording(source, form, where, topics=target.kind == "mqtt")
    schedule = None if speed.times is None else Schedule(speed.times, speed.pause_max)
    started = clock.monotonic()
    with opened(target, lambda payloads: None, whole) as destination:
        pace = Pace(stopping=stop, idle=destination.tend)
        try:
            with ProgressBar(source.total, target.kind != "stdout", noun="messages") as bar:
                for part in _parts(recording, schedule, pace):
                    destination.send(part, int(clock.time() * 1000))
                    bar.advance(source.bytes_read, destination.sent)
            report.done = not stop()
        except KeyboardInterrupt:  # while more was asked of a pipe
            if stop.signal is None:
                raise
        finally:
            report.sent = destination.sent
        destination.drain()
        if report.done:
            whole.append(True)
    report.accepted, report.refused = destination.accepted, destination.refused
    report.refusal, report.unopened = destination.refusal, recording.unopened
    if schedule is not None:
        report.astray, report.cut = schedule.astray, schedule.cut
    report.rate, report.lag_max = pace.rate, pace.lag_max
    report.seconds = clock.monotonic() - started
    if schedule is None:
        report.rate = report.sent / report.seconds  # what is on its way at the end counts, too
    return report


def _parts(recording: Recording, schedule: Schedule | None, pace: Pace) -> Iterator[Messages]:
    """What is to be sent, in parts, each handed out when it is due."""
    import numpy as np

    from ..consumers.recording import scheduled

    if schedule is None:
        for block in recording:
            for part in pace.at_rate(len(block), None):
                yield block.part(part.start, part.stop)
        return
    for block, due in scheduled(recording, schedule):
        for part in pace.at(np.array(due)):
            yield block.part(part.start, part.stop)


def _object(report: Report, path: str, target: Target) -> dict[str, Any]:
    return {
        "from": path,
        "to": target.to,
        "sent": report.sent,
        "accepted": report.accepted,
        "refused": report.refused,
        "unopened": report.unopened,
        "times_astray": report.astray,
        "pauses_cut": report.cut,
        "rate": round(report.rate, 1),
        "lag_max_ms": round(report.lag_max * 1000, 1),
        "elapsed": round(report.seconds, 3),
        "whole": report.done,
    }


def _text(report: Report, path: str, target: Target) -> str:
    told = [
        f"{report.sent:,} messages from {path} to {target.to} in {report.seconds:.1f} s,"
        f" {report.rate:,.0f} a second, at most {report.lag_max * 1000:,.0f} ms behind",
        f"{report.accepted:,} accepted, {report.refused:,} refused",
    ]
    if report.refusal:
        told.append(f"the first one refused: {report.refusal}")
    for count, what in (
        (report.unopened, "Kinesis records could not be opened: sent as they are"),
        (report.astray, "times far ahead of those after them: sent without waiting for them"),
        (report.cut, "pauses were cut short (--max-pause)"),
    ):
        if count:
            told.append(f"{count:,} {what}")
    if not report.done:
        told.append("interrupted: a file that holds a part only is called FILE.partial")
    return "\n".join(told)
