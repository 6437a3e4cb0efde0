"""`streamgauge demo`: a fleet, a stream, alerts in a queue, all in this process, and what came."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..engine.errors import StreamgaugeError

if TYPE_CHECKING:
    from ..rules.spec import Spec
    from .demo_cloud import Cloud
    from .demo_run import Demo

FOUND_PROBLEMS = 1
INTERRUPTED = 130
FOLDER = Path("streamgauge-demo")
HEADER = "# Written by `streamgauge demo`; the next demo writes it anew.\n"
PIPELINE = (
    HEADER
    + """
[pipeline]
name = "thermostats"

[source]
stream = "{stream}"

[record]                  # where to find things in a message
device = "device"
time = "ts"
topic = "topic"           # what FROM sees

[[rules]]
name = "overheating"
sql = '''
SELECT device, ts, temperature FROM 'home/+/thermostat'
WHERE temperature > -40 AND temperature < 200
'''
measure = "temperature"
window = "60s"
statistic = "mean"
fire_when = "above"
threshold = 30.0          # of devices without an item in the table
clear_margin = 1.0
min_samples = 5

[thresholds]
table = "{table}"

[alerts]
sns_topic = "{topic}"

[errors]
location = "s3://{bucket}/errors/"

[state]
location = "s3://{bucket}/state/"
"""
)
SEED = 20


def command(
    devices: Annotated[int, typer.Option(min=1, max=100_000, help="Thermostats.")] = 500,
    seconds: Annotated[int, typer.Option(min=100, max=86_400, help="Event time, in all.")] = 300,
    mqtt: Annotated[
        bool, typer.Option("--mqtt", help="Through an MQTT broker and the bridge.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")
    ] = False,
) -> None:
    """Run the whole thing on this machine: no network, no account, no Docker.

    A simulated fleet of thermostats overheats and recovers. Its readings go as KPL aggregates
    through the shards of a Kinesis stream, with duplicates, disorder and broken payloads among
    them; limits are in a DynamoDB table, alerts arrive through SNS in a queue, broken payloads lie
    in the error stream on S3. With --mqtt the readings are published to a broker on this machine
    (mosquitto, else amqtt), and the bridge carries them from there. The simulator works out by
    itself which alerts are right. What was used and found stays in streamgauge-demo/.

    Example: streamgauge demo --devices 2000
    """
    from ..producers.fleet import Fleet  # here, so that help comes at once
    from .demo_cloud import in_process
    from .demo_run import Demo
    from .demo_screen import last_screen, screen
    from .demo_ways import Carried, straight
    from .stop import stop_signals

    started = time.monotonic()
    _make_folder()
    fleet = Fleet(devices, seconds, seed=SEED, start=(int(time.time()) - seconds) * 1000)
    with in_process() as cloud, stop_signals() as stop:
        carried = Carried(stop) if mqtt else None
        way = straight if carried is None else carried.open
        demo = Demo(cloud, _pipeline(cloud), fleet, FOLDER, stop, way)
        with screen(demo.progress, quiet=as_json) as tend:
            demo.run(tend)
        if stop.signal is None:
            result = _result(demo, cloud, time.monotonic() - started)
            if carried is not None:
                result["broker"] = carried.broker
    if stop.signal is not None:
        raise typer.Exit(INTERRUPTED if stop.signal == signal.SIGINT else 0)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        for line in last_screen(result, FOLDER):
            typer.echo(line)
    if not good(result):
        raise typer.Exit(FOUND_PROBLEMS)


def good(result: dict[str, Any]) -> bool:
    """Whether everything is as promised."""
    wrong = ("lost", "altered", "alerts_missing", "alerts_spurious")
    return not any(result[name] for name in wrong)


def _make_folder() -> None:
    """The folder, with what an earlier demo left in it removed."""
    path = FOLDER / "thermostats.toml"
    if FOLDER.exists() and any(FOLDER.iterdir()):
        if not path.is_file() or not path.read_text(encoding="utf-8").startswith(HEADER):
            raise StreamgaugeError(
                f"{FOLDER} exists and was not written by the demo: go elsewhere, or rename it"
            )
        shutil.rmtree(FOLDER)
    FOLDER.mkdir()


def _pipeline(cloud: Cloud) -> Spec:
    from ..rules.spec import load
    from .demo_cloud import BUCKET, STREAM, TABLE

    text = PIPELINE.format(stream=STREAM, table=TABLE, topic=cloud.topic, bucket=BUCKET)
    path = FOLDER / "thermostats.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, {})


def _result(demo: Demo, cloud: Cloud, seconds: float) -> dict[str, Any]:
    """Hold what came out against what the simulator knows; write the files."""
    import msgspec

    from .demo_run import compared, percentile

    progress, errors = demo.progress, demo.errors()
    counts, alerts = progress.counts, list(progress.alerts.values())
    got = {compared(msgspec.to_builtins(alert)) for alert in alerts}
    right = {compared(alert) for alert in demo.truth.alerts}
    whole = Counter(demo.truth.rejected)
    whole.subtract(row.data for row in errors.values())
    _write("thresholds.ndjson", demo.limits)
    _write("alerts.ndjson", sorted(alerts, key=lambda alert: (alert.time, alert.device)))
    _write("readings.ndjson", cloud.records())
    _write("errors.ndjson", [row.line() for row in errors.values()])
    seen = counts.evaluated + counts.filtered + counts.duplicates + len(errors)
    return {
        "records_sent": progress.sent,
        "records_evaluated": counts.evaluated,
        "duplicates": counts.duplicates,
        "filtered": counts.filtered,
        "rejected": demo.rejected,
        "lost": progress.sent - seen,
        "altered": sum(abs(number) for number in whole.values()),
        "alerts": len(alerts),
        "alerts_expected": len(demo.truth.alerts),
        "alerts_missing": len(right - got),
        "alerts_spurious": len(got - right) + len(alerts) - len(got),
        "latency_p50_ms": round(percentile(progress.latencies, 0.5), 1),
        "latency_p99_ms": round(percentile(progress.latencies, 0.99), 1),
        "seconds": round(seconds, 3),
        "folder": str(FOLDER),
        "next": next_command(),
    }


def _write(name: str, rows: Any) -> None:
    import msgspec

    with open(FOLDER / name, "wb") as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")


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
    return (
        f"{program} backtest {FOLDER}/thermostats.toml --input {FOLDER}/readings.ndjson"
        f" --thresholds {FOLDER}/thresholds.ndjson"
    )
