"""How many messages a second does one core simulate, and what does their truth cost?

The fleet of producers/fleet.py, with all its faults, for 1,000 and for 100,000 devices; beside it,
in the same run, the simulator that one writes by hand: an object a device, the same periods, a
temperature that follows its set point with noise, and json.dumps. Memory is what the process grows
by. The truth (producers/truth.py) is told every message of the small fleet and says which alerts
must come.

The answer is checked: a second fleet of the same seed must give the same bytes, and the engine over
the same messages the alerts of the truth. A bench in which one differs exits with 1. Prints one
JSON object, a table on stderr.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from material import timing

from streamgauge import Pipeline, Record
from streamgauge.cli.demo_run import compared
from streamgauge.cli.destination import Target
from streamgauge.cli.fleet_files import pipeline_text, true_rule
from streamgauge.producers.fleet import Fleet
from streamgauge.producers.messages import Messages
from streamgauge.producers.scenario import Scenario
from streamgauge.producers.truth import Truth

START = 1_767_225_600_000  # ms
SMALL_DEVICES, SMALL_SECONDS = 1000, 150
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
AIM_DEVICES = 100_000  # that one core simulates as fast as time goes, at a message in 5 s each


class PlainDevice:
    """A thermostat as one writes it by hand."""

    def __init__(self, number: int, seed: int) -> None:
        """Draw what it is like."""
        self.random = random.Random(seed * 1_000_003 + number)
        self.name, self.topic = f"t-{number:05}", f"home/{number}/thermostat"
        self.period = self.random.choice(Scenario().periods)
        self.setpoint = self.random.uniform(18, 24)
        self.temperature = self.setpoint
        self.sent = 0

    def tick(self, second: int) -> tuple[str, bytes] | None:
        """Its message of this second, if it has one."""
        self.temperature += 0.1 * (self.setpoint - self.temperature) + self.random.gauss(0, 0.05)
        if second % self.period:
            return None
        message = {
            "device": self.name, "topic": self.topic, "n": self.sent,
            "ts": START + second * 1000, "temperature": round(self.temperature, 1),
        }  # fmt: skip
        self.sent += 1
        return self.topic, json.dumps(message).encode()


def plain(devices: int, seconds: int, seed: int) -> int:
    """Run such a fleet; how many messages it gave."""
    fleet = [PlainDevice(number, seed) for number in range(devices)]
    return sum(device.tick(second) is not None for second in range(seconds) for device in fleet)


def ours(devices: int, seconds: int, seed: int) -> int:
    """Run streamgauge's fleet; how many messages it gave."""
    return sum(len(tick) for tick in Fleet(devices, seconds, seed=seed, start=START))


def resident() -> int:
    """The memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def bytes_per_device(devices: int, seconds: int, seed: int) -> float:
    """What a fleet at work takes in memory."""
    gc.collect()
    before = resident()
    fleet = iter(Fleet(devices, seconds, seed=seed, start=START))
    for _ in range(min(seconds, 5)):
        next(fleet)
    gc.collect()
    return (resident() - before) / devices


def digest(devices: int, seconds: int, seed: int) -> str:
    """Of all messages, their topics and their times."""
    found = hashlib.sha256()
    for tick in Fleet(devices, seconds, seed=seed, start=START):
        for data, topic, time in zip(tick.data, tick.topics, tick.times, strict=True):
            found.update(b"%b|%b|%d\n" % (topic.encode(), data, time))
    return found.hexdigest()


def truth_of(fleet: Fleet, ticks: list[Messages]) -> Truth:
    """The truth, told all messages as they arrive at the end of their second."""
    truth = Truth(true_rule(Scenario().rule), fleet.thresholds(), keep_rejected=False)
    for number, tick in enumerate(ticks, 1):
        for data in tick.data:
            truth.take(data, START + number * 1000)
    return truth


def differing(fleet: Fleet, ticks: list[Messages], truth: Truth, folder: Path) -> int:
    """How many alerts the engine has that the truth does not have, or the other way round."""
    limits, path = folder / "limits.ndjson", folder / "fleet.toml"
    limits.write_text("".join(json.dumps(line) + "\n" for line in fleet.thresholds()))
    path.write_text(pipeline_text(Scenario().rule, Target("stdout")))
    sent = [(number, data) for number, tick in enumerate(ticks, 1) for data in tick.data]
    outcome = Pipeline.load(path, thresholds=limits).push(
        Record("s", str(place), data, "k", START + number * 1000)
        for place, (number, data) in enumerate(sent, 1)
    )
    alerts = {compared(msgspec.to_builtins(alert)) for alert in outcome.alerts}
    return len(alerts ^ {compared(alert) for alert in truth.alerts})


def arguments() -> argparse.Namespace:
    """The command line, with what --quick stands for filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="short runs, one repeat")
    parser.add_argument("--devices", type=int, default=AIM_DEVICES, help="of the large fleet")
    parser.add_argument("--seconds", type=int, help="of event time of the large fleet (60)")
    parser.add_argument("--repeat", type=int, help="how often each is measured (5)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.seconds = given.seconds or (10 if given.quick else 60)
    given.repeat = given.repeat or (1 if given.quick else 5)
    return given


def measured(given: argparse.Namespace) -> dict[str, list[float]]:
    """Messages a second of CPU time, of each fleet and of the truth, in turn."""
    runs = {
        "small": partial(ours, SMALL_DEVICES, SMALL_SECONDS, given.seed),
        "large": partial(ours, given.devices, given.seconds, given.seed),
        "by hand": partial(plain, SMALL_DEVICES, SMALL_SECONDS, given.seed),
    }
    fleet = Fleet(SMALL_DEVICES, SMALL_SECONDS, seed=given.seed, start=START)
    ticks = list(fleet)
    messages = sum(map(len, ticks))
    found: dict[str, list[float]] = {name: [] for name in (*runs, "truth")}
    for _ in range(given.repeat):
        for name, run in runs.items():
            busy, count = timing.cpu_seconds(run)
            found[name].append(count / busy)
        busy, _ = timing.cpu_seconds(partial(truth_of, fleet, ticks))
        found["truth"].append(messages / busy)
    return found


def main() -> None:
    """Run all and print."""
    given = arguments()
    fleet = Fleet(SMALL_DEVICES, SMALL_SECONDS, seed=given.seed, start=START)
    ticks = list(fleet)
    truth = truth_of(fleet, ticks)
    with tempfile.TemporaryDirectory() as folder:
        wrong = differing(fleet, ticks, truth, Path(folder))
    one, two = (digest(SMALL_DEVICES, SMALL_SECONDS, given.seed) for _ in range(2))
    memory = bytes_per_device(given.devices, given.seconds, given.seed)
    taken = measured(given)
    rows: list[list[Any]] = [["", "messages/s"]]
    rows += [[name, f"{timing.spread(values)['median']:,.0f}"] for name, values in taken.items()]
    timing.table("messages a second of one core", rows)
    report = {
        "devices": {"small": SMALL_DEVICES, "large": given.devices},
        "seconds": {"small": SMALL_SECONDS, "large": given.seconds},
        "messages_per_second": {name: timing.spread(of, 0) for name, of in taken.items()},
        "times_faster_than_by_hand": timing.ratios(taken["small"], taken["by hand"]),
        "bytes_per_device": round(memory),
        "checked": {
            "alerts": len(truth.alerts),
            "alerts_differing": wrong,
            "same_seed_same_bytes": one == two,
        },
        "aims_reached": {
            "devices_on_one_core": timing.spread(taken["large"])["min"] >= given.devices / 5
        },
    }
    head = timing.header(
        "fleet", "how many messages a second does one core simulate?",
        seed=given.seed, repeat=given.repeat,
    )  # fmt: skip
    timing.finish({**head, **report}, wrong == 0 and one == two and len(truth.alerts) > 0)


if __name__ == "__main__":
    main()
