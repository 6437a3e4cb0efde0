"""A simulated fleet of thermostats: rooms, relays and sensors, and what goes wrong with them.

Rooms are small and leak heat, so that a fault shows within minutes. A relay that sticks heats its
room until it is repaired. Links drop and come back with a burst, sensors stick and drift, clocks
are wrong, devices leave and others take their place; messages are sent twice, out of order or far
too late, and some payloads are what devices really send when they are broken. Everything is drawn
from one seed: the same scenario gives the same bytes, on every machine.

    for tick in Fleet(devices=500, seconds=300, seed=1, start=1_767_600_000_000):
        for message in tick:
            producer.put(message.key, message.data)

All devices are computed together, a second at a time; what is kept of a device are some 40 numbers
and the text of its message, less than a kilobyte.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from .draws import Bits, Draws, Floats, Ints
from .fleet_faults import (
    BROKEN,
    OddDraws,
    Span,
    clock_offsets,
    misread,
    old_readings,
)
from .messages import Messages
from .rooms import COLDEST, WARMEST, Bools, Rooms, tenths
from .scenario import SECOND_MS, Rule, Scenario

RULE = Rule().name
LIMIT = Rule().threshold
WHOLE_SECONDS = 300  # a run in which rooms have the time to overheat and to cool
HEATING_SECONDS, COOLING_SECONDS = 90, 115  # until a room is too hot, until its alert is resolved
QUICK_PERIOD = 2  # seconds between readings: five of them come while a room is hot
LASTING = ("stuck_relay", "stuck_sensor", "drift", "dropout", "wrong_clock", "churn", "old_data")

_Waiting = tuple[str, bytes, str, int]  # key, payload, topic, time

# A message is four pieces: what never changes of a device, its number, the time, and its reading
# with the relay. All but the time are there already when a message is made.
_ENDS = [
    b'%a,"relay":%b}' % (tenth / 10, relay)
    for relay in (b"false", b"true")
    for tenth in range(COLDEST, WARMEST + 1)
]
_ON = WARMEST + 1 - COLDEST  # where in _ENDS the relays that are on begin


class Fleet:
    """Iterates over ticks of one second of event time, each the messages in the order sent.

    The last event time is `start + seconds * 1000` where no clock is wrong; what is still delayed
    comes with the last tick.

    names: of the device now in each place. counts: messages by the fault that they show, so far.
    """

    def __init__(
        self,
        devices: int,
        seconds: int,
        *,
        seed: int,
        start: int,
        scenario: Scenario | None = None,
    ) -> None:
        """Draw the fleet; `start` is int ms UTC. Of the scenario only faults, periods and limits
        are taken."""
        self.devices, self.seconds, self.start, self.seed = devices, seconds, start, seed
        self.scenario = scenario or Scenario()
        self.counts: Counter[str] = Counter()
        self.names = [f"t-{number:05}" for number in range(devices)]
        faults = self.scenario.faults
        whole = {"stuck_relay": max(seconds, WHOLE_SECONDS)}
        self._spans = {
            name: Span.draw(getattr(faults, name), name, devices, whole.get(name, seconds), seed)
            for name in LASTING
        }
        self._rooms = Rooms(devices, seed)
        periods = np.array(self.scenario.periods)
        self._period = periods[Draws(seed, "periods").integers(0, len(periods) - 1, devices)]
        if seconds <= WHOLE_SECONDS and faults.stuck_relay.share > 0:
            self._begin_before(WHOLE_SECONDS - seconds)
        self._place = np.arange(devices)
        self._sent = np.zeros(devices, np.int64)  # the number of each device's next message
        self._frozen = np.zeros(devices, np.int64)  # tenths; what each sensor read before
        self._offset = clock_offsets(
            faults.wrong_clock, self._spans["wrong_clock"].hit, devices, start
        )
        self._odd = OddDraws(faults, seed)
        self._old = old_readings(
            faults.old_data, self._spans["old_data"].hit, self._rooms.setpoint, seed
        )
        self._sent[list(self._old)] = [len(old.ago) for old in self._old.values()]
        self._bringing = np.zeros(devices, np.bool_)
        self._bringing[list(self._old)] = True
        self._held: dict[int, deque[_Waiting]] = {}
        self._holding = np.zeros(devices, np.bool_)
        self._waiting: dict[int, Messages] = {}
        self._joining = self._successors()
        self._heads = [self._head(place) for place in range(devices)]
        self._numbers = [b"0"]  # texts of the numbers of messages, made as they are reached
        self._topics = [f"home/{place}/thermostat" for place in range(devices)]

    def _begin_before(self, seconds: int) -> None:
        """Have relays been stuck since before a short run, in which no room could get too hot.

        The rooms are as warm at its start as that makes them. One device that has no other fault
        overheats, and is repaired so early that its alert is resolved before the end.
        """
        stuck = self._spans["stuck_relay"]
        begin, end = (side - 0.6 * seconds for side in stuck)
        others = [span.hit for name, span in self._spans.items() if name != "stuck_relay"]
        own = {line["device"] for line in self.thresholds()}
        fit = self._period <= QUICK_PERIOD
        for hit in others:
            fit[hit] = False
        fit &= np.array([name not in own for name in self.names])
        sure = int(np.argmax(fit))
        end[sure] = max(0, self.seconds - COOLING_SECONDS)
        begin[sure] = end[sure] - HEATING_SECONDS
        self._spans["stuck_relay"] = earlier = Span(begin, end)
        for tick in range(-WHOLE_SECONDS, 1):
            self._rooms.step(self.start + tick * SECOND_MS, earlier.active(tick))

    @classmethod
    def of(cls, scenario: Scenario) -> Fleet:
        """The fleet that a scenario describes, whole."""
        return cls(
            scenario.devices,
            scenario.seconds,
            seed=scenario.seed,
            start=scenario.start,
            scenario=scenario,
        )

    def _successors(self) -> dict[int, list[int]]:
        """Into which places another device comes, by tick."""
        joining: dict[int, list[int]] = {}
        churn = self._spans["churn"]
        for place in churn.hit.tolist():
            end = float(churn.end[place])
            joining.setdefault(math.ceil(end), []).append(place)
        return joining

    def _head(self, place: int) -> bytes:
        """The beginning of a device's messages, up to their number."""
        setpoint = float(self._rooms.setpoint[place])
        return (
            f'{{"device":"{self.names[place]}","topic":"home/{place}/thermostat",'
            f'"setpoint":{setpoint},"battery":{90 - place % 40},"n":'
        ).encode()

    def having(self, fault: str) -> set[str]:
        """The devices that have a lasting fault at some time, by the names at the start."""
        return {f"t-{place:05}" for place in self._spans[fault].hit.tolist()}

    def thresholds(self) -> list[dict[str, Any]]:
        """Limits of single devices as lines of a thresholds file; some change half-way."""
        limits, rule = self.scenario.limits, self.scenario.rule
        draws = Draws(self.seed, "limits")
        own = draws.uniform(self.devices) < limits.share
        values = rule.threshold + draws.between(limits.lowest, limits.highest, self.devices)
        values = np.rint(values * 2.0) / 2.0  # half degrees
        changed = draws.uniform(self.devices) < limits.changed
        at = self.start + self.seconds * SECOND_MS // 2
        found = []
        for place in np.flatnonzero(own).tolist():
            line = {
                "device": f"t-{place:05}",
                "rule": rule.name,
                "value": float(values[place]),
                "clear_margin": limits.clear_margin,
                "version": 1,
            }
            found.append(line)
            if changed[place]:
                value = float(values[place]) + limits.change
                found.append({**line, "value": value, "version": 2, "effective_from": at})
        return found

    def __iter__(self) -> Iterator[Messages]:
        """Run the fleet from its start; once only."""
        for tick in range(1, self.seconds + 1):
            yield self._tick(tick)

    def _tick(self, tick: int) -> Messages:
        for place in self._joining.pop(tick, []):
            self._join(place)
        spans, now = self._spans, self.start + tick * SECOND_MS
        self._rooms.step(now, spans["stuck_relay"].active(tick))
        readings = self._read(tick)
        odd, drawn, bits = self._odd.tick(self.devices)
        senders = np.flatnonzero(
            ((tick + self._place) % self._period == 0)
            & ~spans["churn"].active(tick)
            & ~(self._bringing & (tick < spans["old_data"].begin))
        )
        numbers = self._sent[senders]
        self._sent[senders] += 1
        times = self._times(tick, now, senders)
        places = senders.tolist()
        made = Messages(
            [self.names[place] for place in places],
            self._render(places, numbers, times, readings[senders]),
            [self._topics[place] for place in places],
            times,
        )
        offline = spans["dropout"].active(tick)
        special = odd | offline | self._holding | self._bringing
        rows = np.flatnonzero(special[senders])
        sent = self._with_specials(made, senders, rows, tick, offline, odd, drawn, bits)
        sent.extend(self._waiting.pop(tick, Messages()))
        if tick == self.seconds:
            self._flush(sent)
        return sent

    def _times(self, tick: int, now: int, senders: Ints) -> list[int]:
        """The event times of messages sent now, by each device's clock."""
        wrong = self._spans["wrong_clock"].active(tick)[senders]
        self.counts["wrong_clock"] += int(wrong.sum())
        times: list[int] = (now + np.where(wrong, self._offset[senders], 0)).tolist()
        return times

    def _read(self, tick: int) -> Ints:
        """What every sensor reads now, in tenths of a degree; int64 (devices,)."""
        degrees, drift = self._rooms.read(), self._spans["drift"]
        drifting = np.flatnonzero(drift.active(tick))
        if drifting.size:
            begin = drift.begin[drifting]
            share = (tick - begin) / (drift.end[drifting] - begin)
            degrees[drifting] += share * self.scenario.faults.drift.degrees
        stuck = self._spans["stuck_sensor"].active(tick)
        self._frozen = np.where(stuck, self._frozen, tenths(degrees))
        return self._frozen

    def _render(
        self, places: list[int], numbers: Ints, times: list[int], readings: Ints
    ) -> list[bytes]:
        """The payloads of these places."""
        texts = self._numbers
        texts += [b"%d" % n for n in range(len(texts), int(numbers.max(initial=0)) + 1)]
        ends = (readings - COLDEST + self._rooms.relay[places] * _ON).tolist()
        stamps = {time: b',"ts":%d,"temperature":' % time for time in set(times)}
        # zip hands out the same tuple again and again: none is made for the collector to find.
        pieces = zip(
            map(self._heads.__getitem__, places),
            map(texts.__getitem__, numbers.tolist()),
            map(stamps.__getitem__, times),
            map(_ENDS.__getitem__, ends),
            strict=True,
        )
        return list(map(b"".join, pieces))

    def _with_specials(
        self, made: Messages, senders: Ints, rows: Ints, tick: int, offline: Bools, odd: Bools,
        drawn: Floats, bits: Bits,
    ) -> Messages:  # fmt: skip
        """The messages of a tick, with those of `rows` replaced by what really is sent for them."""
        sent, done = Messages(), 0
        for row, place in zip(rows.tolist(), senders[rows].tolist(), strict=True):
            sent.extend(made.part(done, row))
            done = row + 1
            message = (made.keys[row], made.data[row], made.topics[row], made.times[row])
            if offline[place]:
                self._hold(place, message)
                continue
            late_present = False
            if self._holding[place]:
                self._release(place, sent)
            if self._bringing[place]:
                late_present = self._bring(place, message, sent)
            if odd[place]:
                self._send_odd(message, float(drawn[place]), int(bits[place]), tick, sent)
            elif not late_present:
                sent.add(*message)
        sent.extend(made.part(done, len(made)))
        return sent

    def _hold(self, place: int, message: _Waiting) -> None:
        """Keep a message until the link is up; a device keeps the newest ones only."""
        held = self._held.get(place)
        if held is None:
            held = self._held[place] = deque(maxlen=self.scenario.faults.dropout.kept)
            self._holding[place] = True
        held.append(message)

    def _release(self, place: int, sent: Messages) -> None:
        self._holding[place] = False
        for message in self._held.pop(place):
            sent.add(*message)
            self.counts["dropout"] += 1

    def _bring(self, place: int, present: _Waiting, sent: Messages) -> bool:
        """Send the readings of hours ago; whether the present one was sent before them."""
        self._bringing[place] = False
        old = self._old.pop(place)
        key, _, topic, time = present
        if old.after:
            sent.add(*present)
        for number, (ago, reading) in enumerate(zip(old.ago, old.tenths, strict=True)):
            at = max(0, time - ago * SECOND_MS)
            pieces = (self._heads[place], number, at, _ENDS[reading - COLDEST])
            sent.add(key, b'%b%d,"ts":%d,"temperature":%b' % pieces, topic, at)
        self.counts["old_data"] += len(old.ago)
        return old.after

    def _send_odd(
        self, message: _Waiting, drawn: float, bits: int, tick: int, sent: Messages
    ) -> None:
        """Send what comes in place of a message, now; the rest waits for its tick."""
        fault, ticks, number = self._odd.which(drawn, bits)
        self.counts[fault] += 1
        key, data, topic, time = message
        if fault == "bad_payload":
            sent.add(key, BROKEN[number % len(BROKEN)](data), topic, time)
        elif fault == "faulty_reading":
            sent.add(key, misread(data), topic, time)
        elif fault == "elsewhere":
            data = data.replace(b"/thermostat", b"/doorbell")
            sent.add(key, data, topic.replace("/thermostat", "/doorbell"), time)
        else:
            if fault == "duplicate":
                sent.add(*message)
            later = self._waiting.setdefault(tick + ticks, Messages()) if ticks else sent
            later.add(*message)

    def _join(self, place: int) -> None:
        """Let another device take a place: a new name, its messages counted from 0."""
        self.names[place] = f"t-{self.devices + place:05}"
        self._heads[place] = self._head(place)
        self._sent[place] = 0
        self.counts["churn"] += 1

    def _flush(self, sent: Messages) -> None:
        """Send what is still held or delayed at the end of the run."""
        for place in list(self._held):
            self._release(place, sent)
        for tick in sorted(self._waiting):
            sent.extend(self._waiting[tick])
        self._waiting.clear()
