"""A simulated fleet of thermostats: rooms, relays and sensors, and what goes wrong with them.

Rooms are small and leak heat, so that a fault shows within minutes. A relay that sticks heats its
room until it is repaired. Links drop and come back with a burst, messages are sent twice, a little
out of order or far too late, a clock is a day ahead, and some payloads are what devices really send
when they are broken. Everything is drawn from one seed: the same seed gives the same bytes.

    for tick in Fleet(devices=500, seconds=300, seed=1, start=1_767_600_000_000):
        for message in tick:
            producer.put(message.key, message.data)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SECOND_MS = 1000
DAY_MS = 86_400_000
PERIODS = (1, 2, 2, 5)  # seconds between two readings of a device
OUTSIDE_MEAN, OUTSIDE_SWING = 6.0, 5.0  # degrees Celsius, over a day
LEAK_SECONDS = 150.0  # in which a room that is not heated loses most of its warmth
HEATING = 0.32  # degrees a second
SETPOINT, HYSTERESIS = 21.0, 0.5
NOISE = 0.08
LIMIT = 30.0  # degrees, of devices without a limit of their own
RULE = "overheating"
WHOLE_SECONDS = 300  # a run in which rooms have the time to overheat and to cool
TOO_HOT, COOLING_SECONDS = 40.0, 115.0  # of a room at the repair, and what it then takes to resolve
STUCK_SHARE = 0.06  # of devices whose relay sticks
DROPPED_SHARE = 0.03  # of devices whose link drops
OWN_LIMIT_SHARE = 0.2  # of devices with limits of their own
SKEWED_EVERY = 400  # one device of so many has its clock a day ahead
TWICE, DELAYED, LATE, BROKEN, FAULTY, ELSEWHERE = 0.003, 0.004, 0.0004, 0.001, 0.001, 0.001
DELAY_TICKS_MAX = 3
LATE_TICKS = 95  # beyond window and allowed lateness

Floats = NDArray[np.float64]


class Message(NamedTuple):
    """One message in the order sent: partition key and payload; time is int ms of the event."""

    key: str
    data: bytes
    device: str
    time: int


def broken(text: bytes, kind: int) -> bytes:
    """A payload as broken devices send it, made of a good one."""
    return (
        text[: len(text) // 2],
        text.replace(b'"temperature":', b'"temperature":NaN,"was":'),
        text.replace(b'"temperature":', b'"note":"\xb0C","temperature":'),
        text.replace(b'"device":', b'"dev":'),
        text.replace(b'"ts":', b'"ts":"soon","was":'),
        text.replace(b'"temperature":', b'"temperature":"21.5","was":'),
        b"\x00\x01\xff gateway restarted",
        b"[" + text + b"]",
    )[kind]


BROKEN_KINDS = 8


class Fleet:
    """Iterates over ticks of one second of event time, each a list of messages in the order sent.

    The last event time is `start + seconds * 1000`; what is still delayed comes with the last tick.
    """

    def __init__(self, devices: int, seconds: int, *, seed: int, start: int) -> None:
        """Draw the fleet; `start` is int ms UTC."""
        self.devices, self.seconds, self.start = devices, seconds, start
        self._random = random = np.random.Generator(np.random.PCG64(seed))
        self.names = [f"t-{number:05}" for number in range(devices)]
        self._room = random.normal(SETPOINT, 0.4, devices)
        self._setpoint = SETPOINT + random.integers(-1, 2, devices)
        self._relay = random.random(devices) < 0.5
        self._stuck = self._spans(
            STUCK_SHARE, (0.05, 0.4), (0.22, 0.32), max(seconds, WHOLE_SECONDS)
        )
        self._dropped = self._spans(DROPPED_SHARE, (0.1, 0.6), (0.05, 0.12), seconds)
        if seconds < WHOLE_SECONDS:
            self._begin_before(WHOLE_SECONDS - seconds)
        self._limits = random.random(devices)
        self._period = np.array(PERIODS)[random.integers(0, len(PERIODS), devices)].tolist()
        self._waiting: dict[int, list[Message]] = {}
        self._held: dict[int, list[Message]] = {}

    def _spans(
        self, share: float, first: tuple[float, float], length: tuple[float, float], seconds: int
    ) -> tuple[Floats, Floats]:
        """From when to when (ticks) something is wrong with each device; never, for most.

        first, length: when it begins, and how long it lasts, in parts of `seconds`.
        """
        random, devices = self._random, self.devices
        begin = random.uniform(*first, devices) * seconds
        end = begin + random.uniform(*length, devices) * seconds
        hit = random.random(devices) < share
        hit[random.integers(0, devices)] = True  # at least one
        never = np.full(devices, np.inf)
        return np.where(hit, begin, never), np.where(hit, end, never)

    def _begin_before(self, seconds: int) -> None:
        """Have the relays been stuck since before a short run, in which no room gets too hot.

        The rooms are as warm at the start as that makes them. One device overheats and is repaired
        so early that its alert is resolved before the end, too.
        """
        begin, end = (side - 0.6 * seconds for side in self._stuck)
        sure = int(self._random.integers(0, self.devices))
        outside = self._outside(0)
        hottest = outside + HEATING * LEAK_SECONDS  # what a room with its relay stuck comes to
        end[sure] = self.seconds - COOLING_SECONDS
        begin[sure] = end[sure] - LEAK_SECONDS * np.log(
            (hottest - self._room[sure]) / (hottest - TOO_HOT)
        )
        self._dropped[0][sure] = np.inf  # it is heard all the time
        self._stuck = begin, end
        heated = np.clip(np.minimum(end, 0.0) - begin, 0.0, None)
        cooled = np.clip(-end, 0.0, None)
        warm = hottest + (self._room - hottest) * np.exp(-heated / LEAK_SECONDS)
        warm = outside + (warm - outside) * np.exp(-cooled / LEAK_SECONDS)
        self._room = np.where(begin < 0, np.maximum(self._room, warm), self._room)

    def _outside(self, tick: int) -> float:
        """Degrees outside."""
        day = 2 * np.pi * ((self.start + tick * SECOND_MS) % DAY_MS) / DAY_MS
        return float(OUTSIDE_MEAN - OUTSIDE_SWING * np.cos(day))

    def thresholds(self) -> list[dict[str, Any]]:
        """Limits of single devices as lines of a thresholds file; some change half-way."""
        found = []
        for number, (name, draw) in enumerate(zip(self.names, self._limits.tolist(), strict=True)):
            if draw > OWN_LIMIT_SHARE:
                continue
            value = LIMIT - 2.0 + number % 5
            line = {"device": name, "rule": RULE, "value": value, "clear_margin": 1.0, "version": 1}
            found.append(line)
            if number % 3 == 0:
                at = self.start + self.seconds * SECOND_MS // 2
                found.append({**line, "value": value + 1.5, "version": 2, "effective_from": at})
        return found

    def __iter__(self) -> Iterator[list[Message]]:
        """Run the fleet from its start; once only."""
        for tick in range(1, self.seconds + 1):
            yield self._tick(tick)

    def _tick(self, tick: int) -> list[Message]:
        values = self._measure(tick)
        draws = self._random.random((2, self.devices))
        special = self._random.integers(0, 1 << 30, self.devices)
        time = self.start + tick * SECOND_MS
        sent: list[Message] = []
        odd = draws[0] < TWICE + DELAYED + LATE + BROKEN + FAULTY + ELSEWHERE
        offline = (self._dropped[0] <= tick) & (tick < self._dropped[1])
        shown = values.tolist()
        relays = self._relay.tolist()
        for number, name in enumerate(self.names):
            if (tick + number) % self._period[number]:
                continue
            message = self._message(number, name, time, shown[number], relays[number])
            if offline[number]:
                self._held.setdefault(number, []).append(message)
                continue
            if number in self._held:
                sent += self._held.pop(number)
            if odd[number]:
                sent += self._odd(
                    message, number, float(draws[0, number]), int(special[number]), tick
                )
            else:
                sent.append(message)
        sent += self._waiting.pop(tick, [])
        if tick == self.seconds:
            for held in (*self._held.values(), *(self._waiting[t] for t in sorted(self._waiting))):
                sent += held
        return sent

    def _measure(self, tick: int) -> Floats:
        """Let a second pass in every room; what the sensors read, in tenths of a degree."""
        outside = self._outside(tick)
        room = self._room
        self._relay = np.where(
            room < self._setpoint - HYSTERESIS,
            True,
            np.where(room > self._setpoint + HYSTERESIS, False, self._relay),
        )
        self._relay |= (self._stuck[0] <= tick) & (tick < self._stuck[1])
        room += self._relay * HEATING + (outside - room) / LEAK_SECONDS
        noise = self._random.normal(0.0, NOISE, self.devices)
        read: Floats = np.round(room + noise, 1) + 0.0
        return read

    def _message(self, number: int, name: str, time: int, value: float, relay: bool) -> Message:
        if number % SKEWED_EVERY == SKEWED_EVERY // 2:
            time += DAY_MS
        text = (
            f'{{"device":"{name}","ts":{time},"topic":"home/{number}/thermostat",'
            f'"temperature":{value},"setpoint":{self._setpoint[number]},'
            f'"relay":{"true" if relay else "false"},"battery":{90 - number % 40}}}'
        )
        return Message(name, text.encode(), name, time)

    def _odd(
        self, message: Message, number: int, draw: float, special: int, tick: int
    ) -> list[Message]:
        """What is sent in place of a message, now; the rest waits for its tick."""
        if draw < TWICE:
            return [message, message]
        draw -= TWICE
        if draw < DELAYED + LATE:
            ticks = 1 + special % DELAY_TICKS_MAX if draw < DELAYED else LATE_TICKS
            self._waiting.setdefault(tick + ticks, []).append(message)
            return []
        draw -= DELAYED + LATE
        if draw < BROKEN:
            return [message._replace(data=broken(message.data, special % BROKEN_KINDS))]
        if draw < BROKEN + FAULTY:
            start = message.data.index(b'"temperature":') + len(b'"temperature":')
            end = message.data.index(b",", start)
            return [message._replace(data=message.data[:start] + b"-127.0" + message.data[end:])]
        return [message._replace(data=message.data.replace(b"/thermostat", b"/doorbell"))]
