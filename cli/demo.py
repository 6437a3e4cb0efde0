"""`streamgauge demo`: real telemetry through a stream in this process, and what came of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..engine.errors import StreamgaugeError

if TYPE_CHECKING:
    from ..engine.batch import Alert, Rejected
    from ..engine.counts import Counts
    from ..rules.spec import Spec
    from .demo_stream import Sent

FOUND_PROBLEMS = 1
INTERRUPTED = 130
FOLDER = Path("streamgauge-demo")
STREAM = "machine-temperature"
HEADER = "# Written by `streamgauge demo`; the next demo writes it anew.\n"
TABLES = """
[source]
stream = "{stream}"

[errors]
location = "{folder}/errors/"

[state]
location = "{folder}/state/"
"""
NOT_COMPARED = ("first_position", "last_position", "stale")  # the way there, not the answer


def command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")
    ] = False,
) -> None:
    """Show it all on real telemetry, with nothing but this machine.

    Eleven weeks of a machine's temperatures go as KPL aggregates into a Kinesis stream in this
    process (moto: no network, no account), with broken payloads and repeats among them. A pipeline
    reads the stream to its end; then the same readings are back-tested, and the alerts compared.
    What was used and found stays in streamgauge-demo/.

    Example: streamgauge demo
    """
    # Imported here, so that help comes at once.
    from .demo_stream import in_process, messages, send
    from .stop import Stop, stop_signals

    started = time.monotonic()
    told = messages()
    spec = _prepare()
    stop: Stop
    with in_process() as client, stop_signals() as stop:
        sent = send(client, STREAM, told)
        (FOLDER / "readings.ndjson").write_bytes(b"".join(data + b"\n" for data in sent.payloads))
        counts, alerts = _consume(client, spec, stop)
    if stop.signal is not None:
        raise typer.Exit(INTERRUPTED if stop.signal == signal.SIGINT else 0)
    result = _result(spec, sent, counts, alerts, time.monotonic() - started)
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        show(result)
    if not result.good:
        raise typer.Exit(FOUND_PROBLEMS)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the demo found.

    expected: the alerts of the back-test. errors: the error stream, each position once. altered:
    broken payloads that do not stand in it byte for byte.
    """

    sent: Sent
    counts: Counts
    alerts: Sequence[Alert]
    expected: Sequence[Alert]
    errors: Sequence[Rejected]
    altered: int
    failures: Sequence[tuple[datetime, datetime]]
    seconds: float

    @property
    def lost(self) -> int:
        """Readings that were sent and are neither in a count nor in the error stream."""
        counts = self.counts
        return len(self.sent.payloads) - (
            counts.evaluated + counts.filtered + counts.duplicates + len(self.errors)
        )

    @property
    def missing(self) -> int:
        """Alerts of the back-test that the stream did not give."""
        return len(compared(self.expected) - compared(self.alerts))

    @property
    def spurious(self) -> int:
        """Alerts of the stream that the back-test did not give."""
        return len(compared(self.alerts) - compared(self.expected))

    @property
    def same(self) -> bool:
        """Whether stream and back-test gave the same alerts."""
        return not self.missing and not self.spurious and len(self.alerts) == len(self.expected)

    @property
    def good(self) -> bool:
        """Whether everything is as promised."""
        return self.same and not self.lost and not self.altered

    def caught(self) -> list[tuple[datetime, datetime, Alert | None]]:
        """Each known failure, with the first alert that was firing in the course of it."""
        found: list[tuple[datetime, datetime, Alert | None]] = []
        for start, end in self.failures:
            firing = [
                alert
                for alert, over in episodes(self.alerts)
                if moment(alert.time) <= end and (over is None or moment(over) >= start)
            ]
            found.append((start, end, firing[0] if firing else None))
        return found

    def as_dict(self) -> dict[str, Any]:
        """The object that --json prints."""
        return {
            "records_sent": len(self.sent.payloads),
            "records_evaluated": self.counts.evaluated,
            "duplicates": self.counts.duplicates,
            "filtered": self.counts.filtered,
            "rejected": self.counts.rejected,
            "lost": self.lost,
            "altered": self.altered,
            "alerts": len(self.alerts),
            "alerts_expected": len(self.expected),
            "alerts_missing": self.missing,
            "alerts_spurious": self.spurious,
            "failures_known": len(self.failures),
            "failures_caught": sum(alert is not None for _, _, alert in self.caught()),
            "seconds": round(self.seconds, 3),
            "folder": str(FOLDER),
            "next": next_command(),
        }


def compared(alerts: Sequence[Alert]) -> set[tuple[tuple[str, Any], ...]]:
    """Alerts by all that makes two alert files the same."""
    import msgspec

    rows = (msgspec.structs.asdict(alert) for alert in alerts)
    return {tuple((k, v) for k, v in row.items() if k not in NOT_COMPARED) for row in rows}


def episodes(alerts: Sequence[Alert]) -> list[tuple[Alert, int | None]]:
    """Each firing alert with the time (ms) at which it was resolved, None if it was not."""
    found: list[tuple[Alert, int | None]] = []
    firing: dict[tuple[str, str], int] = {}
    for alert in alerts:
        key = (alert.rule, alert.device)
        if alert.state == "firing":
            firing[key] = len(found)
            found.append((alert, None))
        elif key in firing:
            at = firing.pop(key)
            found[at] = (found[at][0], alert.time)
    return found


def moment(time: int) -> datetime:
    """A time in ms as a datetime in UTC."""
    return datetime.fromtimestamp(time / 1000, UTC)


def _prepare() -> Spec:
    """The folder with the pipeline file in it, and what an earlier demo left there removed."""
    from ..rules.spec import load
    from .demo_stream import EXAMPLE

    path = FOLDER / "pipeline.toml"
    if FOLDER.exists() and any(FOLDER.iterdir()):
        if not path.is_file() or not path.read_text(encoding="utf-8").startswith(HEADER):
            raise StreamgaugeError(
                f"{FOLDER} exists and was not written by the demo: go elsewhere, or rename it"
            )
        for name in ("errors", "state"):
            shutil.rmtree(FOLDER / name, ignore_errors=True)
        for name in ("alerts.ndjson", "log.ndjson"):
            (FOLDER / name).unlink(missing_ok=True)
    FOLDER.mkdir(exist_ok=True)
    text = (EXAMPLE / "pipeline.toml").read_text(encoding="utf-8")
    tables = TABLES.format(stream=STREAM, folder=FOLDER.as_posix())
    path.write_text(HEADER + text + tables, encoding="utf-8")
    return load(path, {})


def _consume(client: Any, spec: Spec, stop: Any) -> tuple[Counts, list[Alert]]:
    """Read the stream to its end: the counts and the alerts, which are in a file as well."""
    from ..consumers.kinesis_reader import KinesisReader
    from ..consumers.local import LocalConsumer, host
    from ..consumers.metrics import Metrics
    from ..engine.aws import Service
    from ..engine.counts import Counts
    from ..engine.pipeline import Outcome
    from ..engine.sinks.local import FileSink
    from ..rules.edges import Edges

    counts, alerts = Counts(rule.name for rule in spec.rules), list[Any]()

    def observe(outcome: Outcome) -> None:
        counts.add(outcome.counts)
        alerts.extend(outcome.alerts)

    reader = KinesisReader(Service("kinesis", client), STREAM)
    sink = FileSink(FOLDER / "alerts.ndjson")
    with open(FOLDER / "log.ndjson", "w", encoding="utf-8") as lines:

        def log(event: str, **fields: object) -> None:
            print(json.dumps({"event": event, **fields}), file=lines)

        shared = host(
            spec, reader, edges=Edges(spec), alerts=sink, observe=observe, log=log,
            metrics=Metrics(),
        )  # fmt: skip
        LocalConsumer(reader, shared, until_end=True).run(stop)
    sink.close()
    return counts, alerts


def _result(
    spec: Spec, sent: Sent, counts: Counts, alerts: Sequence[Alert], seconds: float
) -> Result:
    """Hold what came out against the back-test of the readings, and against what was sent."""
    from collections import Counter

    from ..engine.sinks.errors_directory import read_errors
    from .demo_stream import EXAMPLE

    errors = {row.at: row for row in read_errors(spec.errors.location, spec.pipeline.name)}
    left = Counter(sent.broken)
    left.subtract(row.data for row in errors.values())
    known = json.loads((EXAMPLE / "failures.json").read_text(encoding="utf-8"))
    stamps = [
        (datetime.fromisoformat(one["from"]), datetime.fromisoformat(one["to"])) for one in known
    ]
    return Result(
        sent=sent,
        counts=counts,
        alerts=sorted(alerts, key=lambda alert: alert.time),
        expected=list(_backtested(spec)),
        errors=list(errors.values()),
        altered=sum(number for number in left.values() if number > 0),
        failures=stamps,
        seconds=seconds,
    )


def _backtested(spec: Spec) -> Iterator[Alert]:
    """The alerts of the back-test of the same readings."""
    from contextlib import closing

    from ..consumers.backtest import read, run
    from ..consumers.inputs import Input
    from ..rules.plan import Pipeline

    with closing(Input(str(FOLDER / "readings.ndjson"))) as source:
        for outcome in run(Pipeline.plan(spec), read(source, "ndjson")):
            yield from outcome.alerts


def next_command() -> str:
    """A command line that works in this directory, with the command as it was called here."""
    called = sys.argv[0]
    found = shutil.which("streamgauge")
    if found is not None and os.path.exists(called) and os.path.samefile(found, called):
        program = "streamgauge"
    elif Path(called).stem == "streamgauge" and os.access(called, os.X_OK):
        program = shlex.quote(os.path.relpath(called))
    else:
        program = f"{shlex.quote(sys.executable)} -m streamgauge"
    return f"{program} backtest {FOLDER}/pipeline.toml --input {FOLDER}/readings.ndjson"


def show(result: Result) -> None:
    """The last screen: the alerts as a table, then what became of every reading."""
    if sys.stdout.isatty():
        _table(result.alerts)
    else:
        for row in _rows(result.alerts):
            typer.echo("  ".join(row))
    for line in _lines(result):
        typer.echo(line)


def _rows(alerts: Sequence[Alert]) -> Iterator[tuple[str, ...]]:
    yield ("time (UTC)      ", "state   ", "rule    ", "mean of the last hour")
    for alert in alerts:
        above = ">" if alert.value > alert.threshold else "<"
        value = f"{alert.value:.2f} {above} {alert.threshold:g}"
        value = value if alert.state == "firing" else f"{alert.value:.2f}"
        yield (f"{moment(alert.time):%Y-%m-%d %H:%M}", f"{alert.state:8}", f"{alert.rule:8}", value)


def _table(alerts: Sequence[Alert]) -> None:
    """The same as a table of rich, for a terminal."""
    from rich.console import Console
    from rich.table import Table

    heading, *rows = _rows(alerts)
    table = Table(*(cell.strip() for cell in heading), title="Alerts of one machine")
    for row in rows:
        table.add_row(*row, style="red" if row[1].strip() == "firing" else "green")
    Console().print(table)


def _lines(result: Result) -> Iterator[str]:
    counts, sent = result.counts, result.sent
    yield ""
    for start, end, alert in result.caught():
        span = f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
        yield f"known failure {span}: " + ("missed" if alert is None else f"caught by {alert.rule}")
    others = sum(alert.state == "firing" for alert in result.alerts)
    others -= len({alert.id for _, _, alert in result.caught() if alert is not None})
    yield f"other times at which a limit was passed: {others}"
    yield ""
    rejected = f"{counts.rejected:,} rejected"
    yield (
        f"{len(sent.payloads):,} readings in {sent.records:,} Kinesis records: {counts.evaluated:,}"
        f" evaluated, {counts.duplicates:,} duplicates, {rejected}, {result.lost:,} lost"
    )
    whole = "each in the error stream byte for byte" if not result.altered else "NOT all whole"
    yield f"rejected records: {whole} ({FOLDER}/errors)"
    if result.same:
        yield f"{len(result.alerts)} alerts: the same as the back-test's"
    else:
        yield (
            f"{len(result.alerts)} alerts, NOT the same as the back-test's {len(result.expected)}:"
            f" {result.missing} missing, {result.spurious} spurious"
        )
    yield f"done in {result.seconds:.1f} s; pipeline, readings, alerts and errors: {FOLDER}/"
    yield ""
    yield "try next:"
    yield f"  {next_command()}"
