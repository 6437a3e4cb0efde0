"""The telemetry of the benches: seeded readings of many devices, as rows, payloads and records.

A device reads once an interval, at a phase of its own and with jitter. Its temperature rests near
70 and, some hundred readings apart, climbs above 90 for a while and comes back, so that alerts fire
and resolve at a realistic rate. Half a per cent of the readings are faults of the sensor, which the
rule's filter takes out. All values have two decimals.

In a disturbed stream five per cent of the rows arrive one to three readings late, behind newer rows
of their device, and one per cent arrive a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamgauge.engine.kpl import aggregate

LARGE_FLEET = 50_000  # devices; from here on they read every ten seconds, below every second
START = 1_767_225_600_000  # ms: the event time of the first reading
SHARD = "shardId-000000000000"
SEQUENCE = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
ARRIVAL_DELAY = 250  # ms from the newest reading in a record to its arrival
USERS_PER_RECORD = 400
RECORDS_PER_PUSH = 40  # two megabytes: what a shard gives in a second
PLAIN_PER_PUSH = 10_000  # what one GetRecords gives at most

REST, PEAK, NOISE = 7000, 9600, 60  # hundredths of a degree
CYCLE_READINGS = 600  # from one heating of a device to the next
RISE, HOT, FALL = 80, 30, 80  # readings
FAULT_SHARE, LATE_SHARE, REPEAT_SHARE = 0.005, 0.05, 0.01
LATE_READINGS = (1.0, 3.0)  # how far behind, in readings of the device

RULE = "overheating"
LENGTH, LATENESS = 60_000, 10_000  # ms
LIMIT, MARGIN, MIN_SAMPLES = 90.0, 2.0, 5
PIPELINE = f"""
[pipeline]
name = "bench"
[source]
stream = "telemetry"
[record]
device = "device"
time = "ts"
time_unit = "ms"
[[rules]]
name = "{RULE}"
sql = "SELECT device, ts, temperature FROM '#' WHERE temperature > -40 AND temperature < 200"
measure = "temperature"
window = "{LENGTH}ms"
statistic = "mean"
fire_when = "above"
threshold = {LIMIT}
clear_margin = {MARGIN}
min_samples = {MIN_SAMPLES}
[delivery]
allowed_lateness = "{LATENESS}ms"
"""


class Rows(NamedTuple):
    """Readings in order of arrival, all (rows,): device and time int64 (ms), the rest hundredths.

    arrival: int64 ms.
    """

    device: NDArray[np.int64]
    time: NDArray[np.int64]
    arrival: NDArray[np.int64]
    temperature: NDArray[np.int64]
    humidity: NDArray[np.int64]
    battery: NDArray[np.int64]

    def take(self, rows: NDArray[Any]) -> Rows:
        """The readings of these rows."""
        return Rows._make(column[rows] for column in self)


@dataclass(frozen=True)
class Fleet:
    """Devices that read once in `interval` ms; the same seed gives the same readings."""

    seed: int
    devices: int
    interval: int

    def rows(self, first: int, count: int, disturbed: bool = False) -> Rows:
        """Readings number `first` and following, of all devices in turn, in order of arrival."""
        rng = np.random.default_rng([self.seed, self.devices, first])
        number = np.arange(first, first + count)
        device, tick = number % self.devices, number // self.devices
        regular = START + number * self.interval // self.devices
        time = regular + rng.integers(-self.interval // 10, self.interval // 10 + 1, count)
        cycle = np.random.default_rng(self.seed).integers(0, CYCLE_READINGS, self.devices)
        temperature = _heat((tick + cycle[device]) % CYCLE_READINGS)
        temperature += np.rint(rng.normal(0.0, NOISE, count)).astype(np.int64)
        fault = rng.random(count) < FAULT_SHARE
        temperature[fault] = rng.choice([-9999, 85000], int(fault.sum()))
        humidity = rng.integers(2000, 8000, count)
        battery = rng.integers(300, 420, count)
        rows = Rows(device, time, time, temperature, humidity, battery)
        return self._arrive(rows, regular, rng if disturbed else None)

    def _arrive(
        self, rows: Rows, regular: NDArray[np.int64], rng: np.random.Generator | None
    ) -> Rows:
        """The rows in order of arrival, which is their regular order unless `rng` disturbs it."""
        if rng is None:
            return rows._replace(arrival=np.maximum.accumulate(rows.time))
        count = len(regular)
        shift = rng.uniform(*LATE_READINGS, count) * self.interval
        arrival = regular + np.where(rng.random(count) < LATE_SHARE, shift, 0.0)
        again = np.flatnonzero(rng.random(count) < REPEAT_SHARE)
        source = np.concatenate((np.arange(count), again))
        arrival = np.concatenate((arrival, (arrival + shift)[again]))
        order = np.argsort(arrival, kind="stable")
        rows = rows.take(source[order])
        ordered = arrival[order].astype(np.int64)
        return rows._replace(arrival=np.maximum.accumulate(np.maximum(ordered, rows.time)))


def fleet_of(seed: int, devices: int) -> Fleet:
    """The fleet of a size."""
    return Fleet(seed, devices, 1_000 if devices < LARGE_FLEET else 10_000)


def _heat(phase: NDArray[np.int64]) -> NDArray[np.int64]:
    """The temperature without noise, by the reading's place in its device's cycle."""
    hot = RISE + HOT
    return np.interp(
        phase, [0, RISE, hot, hot + FALL, CYCLE_READINGS], [REST, PEAK, PEAK, REST, REST]
    ).astype(np.int64)


def name(device: int) -> str:
    """The id of a device."""
    return f"sensor-{device:06d}"


def payloads(rows: Rows) -> list[bytes]:
    """One JSON message a row, of about 97 bytes."""
    return [
        b'{"device":"sensor-%06d","ts":%d,"temperature":%.2f,"humidity":%.2f,"battery":%.2f}'
        % (device, time, temperature / 100, humidity / 100, battery / 100)
        for device, time, _, temperature, humidity, battery in zip(
            *(column.tolist() for column in rows), strict=True
        )
    ]


def aggregated(rows: Rows, first: int = 0) -> list[dict[str, Any]]:
    """The rows in aggregated Kinesis records; `first` is added to their sequence numbers."""
    data = payloads(rows)
    keys = [name(device) for device in rows.device.tolist()]
    made = []
    for start in range(0, len(data), USERS_PER_RECORD):
        some = slice(start, start + USERS_PER_RECORD)
        users = zip(keys[some], data[some], [None] * len(data[some]), strict=True)
        arrival = int(rows.arrival[some][-1])
        made.append(_record(first + start, arrival, aggregate(users), keys[start]))
    return made


def plain(rows: Rows) -> list[dict[str, Any]]:
    """Each row in a Kinesis record of its own."""
    columns = zip(rows.arrival.tolist(), payloads(rows), rows.device.tolist(), strict=True)
    return [
        _record(number, arrival, data, name(device))
        for number, (arrival, data, device) in enumerate(columns)
    ]


def _record(number: int, arrival: int, data: bytes, key: str) -> dict[str, Any]:
    """A Kinesis record as boto3's GetRecords gives it, with the ShardId that a host adds."""
    at = timedelta(milliseconds=arrival + ARRIVAL_DELAY)
    return {
        "SequenceNumber": str(SEQUENCE + number),
        "ApproximateArrivalTimestamp": datetime(1970, 1, 1, tzinfo=UTC) + at,
        "Data": data,
        "PartitionKey": key,
        "ShardId": SHARD,
    }


def batches(given: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut into parts of `size`, the last one may be shorter."""
    for start in range(0, len(given), size):
        yield given[start : start + size]
