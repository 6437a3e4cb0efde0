"""What does it cost to carry one MQTT message into a stream, and how late does it come there?

A fleet publishes readings with QoS 1 at a set rate, as packets made in bulk (producers/
mqtt_publish.py). A broker (mosquitto) hands them to the bridge, a process of its own, and that puts
them into a stand-in for the endpoint of Kinesis, which notes when each record came. The bridge has
two clients, ours and paho-mqtt; beside them stands, in the same run, what one writes by hand: paho-
mqtt with acknowledgement by hand, and put_records.

Everything published must be in the stream, that of each device in order; a bench that misses one
message exits with 1. Reported are the rate that was reached, CPU microseconds a message of bridge,
broker and publisher, each by itself, and the milliseconds from publish to accepted. Everything is
on 127.0.0.1. Prints one JSON object, tables on stderr.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from material import endpoint, telemetry, timing

from streamgauge import Record
from streamgauge.cli.local_broker import LocalBroker, local_broker
from streamgauge.engine.kpl import deaggregate
from streamgauge.producers.messages import Messages
from streamgauge.producers.mqtt_publish import Publisher, Server

OURS, ON_PAHO, PLAIN = "streamgauge, quick", "streamgauge, paho", "paho and put_records"
CLIENTS = {OURS: "quick", ON_PAHO: "paho"}
AIM_PER_SECOND = 10_000
SECONDS_BEHIND_MAX = 30.0  # after the last publish, until everything is in the stream
WARM = b'{"device":"warm","n":0,"sent":0,"temperature":20}'
TICK_SECONDS = 0.01
TICKS = os.sysconf("SC_CLK_TCK")
TOML = """
[pipeline]
name = "bench"
[source]
stream = "{stream}"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM 'home/+/thermostat'"
measure = "temperature"
threshold = 90
[mqtt]
url = "{url}"
client_id = "{name}"
max_in_flight = 10000
{share}
[[mqtt.routes]]
sql = "SELECT * FROM 'home/+/thermostat' WHERE temperature > -40"
partition_key = "${{device}}"
"""


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has taken, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def bridges(
    folder: Path, broker: LocalBroker, url: str, stream: str, count: int, client: str
) -> Iterator[list[int]]:
    """Bridges that run as users run them; their process ids."""
    with ExitStack() as stack:
        pids = []
        for number in range(count):
            name = f"{stream}-{number}"
            share = 'share = "bench"' if count > 1 else ""
            text = TOML.format(stream=stream, url=broker.url, name=name, share=share)
            (folder / f"{name}.toml").write_text(text)
            command = [
                sys.executable, "-m", "streamgauge", "bridge", f"{name}.toml", "--client", client
            ]  # fmt: skip
            pids.append(stack.enter_context(child(command, folder, url)))
        yield pids


@contextmanager
def child(command: Sequence[str], folder: Path, url: str) -> Iterator[int]:
    """A process that is ended afterwards; its process id."""
    with open(folder / "children.log", "ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log,
            env={**os.environ, "AWS_ENDPOINT_URL": url},
        )  # fmt: skip
    try:
        yield process.pid
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def readings(devices: int, first: int, count: int) -> Messages:
    """Readings in turn of all devices; each says which it is, and when it was published."""
    numbers = range(first, first + count)
    names = [telemetry.name(number % devices) for number in numbers]
    now = time.monotonic()
    data = [
        b'{"device":"%s","n":%d,"sent":%.6f,"ts":1767225600123,"temperature":71.23}'
        % (name.encode(), number, now)
        for name, number in zip(names, numbers, strict=True)
    ]
    return Messages(names, data, [f"home/{name}/thermostat" for name in names])


def published(broker: LocalBroker, rate: int, seconds: float, devices: int) -> tuple[int, float]:
    """Publish at a rate, as well as that goes; how many messages, and in how many seconds."""
    server = Server("127.0.0.1", broker.port, client_id="bench", version=broker.version)
    publisher = Publisher(server)
    start, sent, total = time.monotonic(), 0, int(rate * seconds)
    while sent < total:
        due = min(total, int((time.monotonic() - start) * rate) + 1)
        if due > sent:
            publisher.send(readings(devices, sent, due - sent))
            sent = due
        publisher.tend()
        time.sleep(TICK_SECONDS)
    publisher.drain()
    taken = time.monotonic() - start
    publisher.close()
    return total, taken


def entries(path: Path) -> Iterator[tuple[float, list[bytes]]]:
    """When each Kinesis record came, and the payloads in it."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            record = Record("s", "1", base64.b64decode(entry["Data"]), entry["PartitionKey"])
            users, rejected = deaggregate([record])
            assert not rejected, rejected
            yield entry["At"], users.data


def found(path: Path) -> tuple[dict[int, float], int]:
    """Seconds from publish to accepted of each message, and how many came behind a later one of
    their device."""
    late: dict[int, float] = {}
    last: dict[str, int] = {}
    inversions = 0
    for at, payloads in entries(path):
        for data in payloads:
            reading = json.loads(data)
            number, device = reading["n"], reading["device"]
            if device == "warm" or number in late:
                continue
            late[number] = at - reading["sent"]
            inversions += number < last.get(device, -1)
            last[device] = number
    return late, inversions


def lines(path: Path) -> int:
    """How many entries the stream has."""
    return sum(1 for _ in path.open("rb")) if path.exists() else 0


def warm(broker: LocalBroker, path: Path) -> None:
    """Publish until something comes through: then whoever is measured has subscribed."""
    server = Server("127.0.0.1", broker.port, client_id="warm", version=broker.version)
    until = time.monotonic() + SECONDS_BEHIND_MAX
    while not lines(path):
        assert time.monotonic() < until, "nothing comes through the bridge"
        publisher = Publisher(server)
        publisher.send(Messages(["warm"], [WARM], ["home/warm/thermostat"]))
        publisher.drain()
        publisher.close()
        time.sleep(0.1)


def measure(
    given: argparse.Namespace, broker: LocalBroker, path: Path, pids: Sequence[int]
) -> dict[str, Any]:
    """Publish, wait until all of it is in the stream, and say what it took."""
    warm(broker, path)
    before = [cpu_seconds(pid) for pid in (*pids, broker.pid)]
    mine = time.process_time()
    total, seconds = published(broker, given.rate, given.seconds, given.devices)
    mine = time.process_time() - mine
    until, held = time.monotonic() + SECONDS_BEHIND_MAX, -1
    while time.monotonic() < until and (now := lines(path)) != held:
        held = now
        time.sleep(0.5)
    after = [cpu_seconds(pid) for pid in (*pids, broker.pid)]
    late, inversions = found(path)
    lost = total - len(late)
    ms = np.array(sorted(late.values())) * 1000
    spent = [(b - a) / total * 1e6 for a, b in zip(before, after, strict=True)]
    return {
        "messages": total,
        "per_second": round(total / seconds),
        "lost": lost,
        "inversions": inversions,
        "us_per_message": {
            "bridge": [round(one, 1) for one in spent[:-1]],
            "broker": round(spent[-1], 1),
            "publisher": round(mine / total * 1e6, 1),
        },
        "ms_to_accepted": {
            "p50": round(float(np.quantile(ms, 0.5)), 1),
            "p99": round(float(np.quantile(ms, 0.99)), 1),
            "max": round(float(ms[-1]), 1),
        },
    }


def contestants(given: argparse.Namespace, folder: Path, url: str) -> dict[str, dict[str, Any]]:
    """Ours with either client, then what one writes by hand, each with a broker of its own."""
    told = {}
    for name in (*CLIENTS, PLAIN):
        stream = f"kept-{len(told)}"
        place = folder / stream
        place.mkdir()
        path = folder / f"{stream}.ndjson"
        with local_broker(place, "mosquitto") as broker, ExitStack() as stack:
            if name in CLIENTS:
                ours = bridges(place, broker, url, stream, given.bridges, CLIENTS[name])
                pids = stack.enter_context(ours)
            else:
                script = Path(__file__).parent / "material" / "plain_bridge.py"
                command = [sys.executable, str(script), str(broker.port), stream]
                pids = [stack.enter_context(child(command, place, url))]
            told[name] = measure(given, broker, path, pids)
    return told


def arguments() -> argparse.Namespace:
    """The command line, with what --quick stands for filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds at a low rate")
    parser.add_argument("--rate", type=int, help=f"messages a second ({AIM_PER_SECOND})")
    parser.add_argument("--seconds", type=float, help="of publishing (60)")
    parser.add_argument("--devices", type=int, default=1000, help="size of the fleet (1000)")
    parser.add_argument("--bridges", type=int, default=1, help="that share the topics (1)")
    given = parser.parse_args()
    given.rate = given.rate or (1_000 if given.quick else AIM_PER_SECOND)
    given.seconds = given.seconds or (2.0 if given.quick else 60.0)
    return given


def tell(told: dict[str, dict[str, Any]]) -> None:
    """Print the table for people."""
    rows: list[list[Any]] = [["carried by", "per second", "lost", "us", "broker us", "p50", "p99"]]
    for name, one in told.items():
        us, ms = one["us_per_message"], one["ms_to_accepted"]
        mine = " + ".join(map(str, us["bridge"]))
        figures = [one["per_second"], one["lost"], mine, us["broker"], ms["p50"], ms["p99"]]
        rows.append([name, *figures])
    timing.table("MQTT messages into a stream: CPU a message, milliseconds to accepted", rows)


def main() -> None:
    """Run both and print."""
    given = arguments()
    os.environ.update(
        AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing",
        AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with endpoint.running(folder, telemetry.SHARD) as url:
            told = contestants(given, folder, url)
    tell(told)
    spent = {name: sum(one["us_per_message"]["bridge"]) for name, one in told.items()}
    report = {
        "rate": given.rate,
        "seconds": given.seconds,
        "devices": given.devices,
        "bridges": given.bridges,
        "carried_by": told,
        "cpu_times_less": {
            name: round(taken / spent[OURS], 2) for name, taken in spent.items() if name != OURS
        },
        "aims_reached": {
            "per_second": told[OURS]["per_second"] >= 0.99 * AIM_PER_SECOND,
            "lost": told[OURS]["lost"] == 0,
        },
    }
    head = timing.header("bridge", "what does it cost to carry one MQTT message into a stream?")
    good = all(
        one["lost"] == 0 and (given.bridges > 1 or one["inversions"] == 0)  # several: no order
        for name, one in told.items()
        if name in CLIENTS
    )
    timing.finish({**head, **report}, good)


if __name__ == "__main__":
    main()
