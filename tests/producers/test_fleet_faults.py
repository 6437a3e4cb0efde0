"""Every fault occurs, and does what it says: told by the messages alone, without the plans."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from typing import Any, NamedTuple

import msgspec
import pytest

from streamgauge.producers import rooms
from streamgauge.producers.fleet import LASTING, Fleet
from streamgauge.producers.fleet_faults import BROKEN, ODD
from streamgauge.producers.scenario import START, Delayed, Faults, Scenario
from streamgauge.producers.truth import Rule, Truth, parsed

DEVICES, SECONDS = 160, 300
NONE: dict[str, Any] = {
    name: msgspec.structs.replace(getattr(Faults(), name), share=0.0)
    for name in Faults.__struct_fields__
}
RULE = Rule("thermostats", "overheating", 30.0, 1.0, 5, "warning")


class Sent(NamedTuple):
    """A message as it was sent: the second, the payload, what it says (None: unreadable), where."""

    tick: int
    data: bytes
    said: dict[str, Any] | None
    topic: str


def faults(**given: Any) -> Faults:
    """Only these faults, each the default one with another share, or one of its own."""
    chosen = {
        name: msgspec.structs.replace(getattr(Faults(), name), share=what)
        if isinstance(what, float)
        else what
        for name, what in given.items()
    }
    return Faults(**{**NONE, **chosen})


@cache
def sent(chosen: Faults, devices: int = DEVICES, seed: int = 1) -> tuple[list[Sent], Fleet]:
    """All that a fleet with these faults sends."""
    fleet = Fleet.of(Scenario(devices=devices, seconds=SECONDS, seed=seed, faults=chosen))
    found = [
        Sent(number, data, parsed(data), topic)
        for number, tick in enumerate(fleet, 1)
        for data, topic in zip(tick.data, tick.topics, strict=True)
    ]
    return found, fleet


def by_device(messages: list[Sent]) -> dict[str, list[Sent]]:
    found: dict[str, list[Sent]] = defaultdict(list)
    for message in messages:
        assert message.said is not None
        found[message.said["device"]].append(message)
    return found


def arrival(message: Sent) -> int:
    return START + 1000 * message.tick


def truth_of(messages: list[Sent], fleet: Fleet) -> Truth:
    truth = Truth(RULE, fleet.thresholds())
    for message in messages:
        truth.take(message.data, arrival(message))
    return truth


def test_without_faults_there_is_nothing_wrong() -> None:
    messages, fleet = sent(faults())
    for device, own in by_device(messages).items():
        assert [m.said["n"] for m in own if m.said] == list(range(len(own))), device
        assert all(m.said and m.said["ts"] == arrival(m) for m in own)
        periods = {b.tick - a.tick for a, b in zip(own, own[1:], strict=False)}
        assert len(periods) == 1 and periods <= {1, 2, 5}
        assert all(m.said and m.said["topic"] == m.topic for m in own)
    assert sum(fleet.counts.values()) == 0
    truth = truth_of(messages, fleet)
    assert dict(truth.counts) == {"evaluated": len(messages)} and truth.alerts == []


def test_rooms_stay_what_rooms_are() -> None:
    readings = [m.said["temperature"] for m in sent(faults())[0] if m.said]
    assert 18 < min(readings) < 21 < max(readings) < 24
    stuck = faults(stuck_relay=1.0)
    hot = [m.said["temperature"] for m in sent(stuck)[0] if m.said]
    # No heater warms a room beyond where the leak takes all it gives.
    highest = rooms.OUTSIDE_MEAN + rooms.OUTSIDE_SWING + rooms.HEATING * rooms.LEAK_SECONDS
    assert 30 < max(hot) < highest


@pytest.mark.slow
def test_only_a_stuck_relay_crosses_the_limit() -> None:
    messages, fleet = sent(Faults(), 1500)
    truth = truth_of(messages, fleet)
    fired = {alert["device"] for alert in truth.alerts}
    assert fired and fired <= fleet.having("stuck_relay")
    stuck = fleet.having("stuck_relay")
    assert len(fired) > 0.5 * len(stuck)
    assert 0.03 < len(stuck) / 1500 < 0.09
    calm = [name for name in Faults.__struct_fields__ if name != "stuck_relay"]
    without = faults(**{name: getattr(Faults(), name) for name in calm})
    messages, fleet = sent(without)
    assert truth_of(messages, fleet).alerts == []


def test_a_stuck_sensor_repeats_itself() -> None:
    messages, fleet = sent(faults(stuck_sensor=0.1))
    for device, own in by_device(messages).items():
        values = [m.said["temperature"] for m in own if m.said]
        longest = run = 1
        for one, other in zip(values, values[1:], strict=False):
            run = run + 1 if one == other else 1
            longest = max(longest, run)
        share = longest / len(values)
        assert (share > 0.09) == (device in fleet.having("stuck_sensor")), (device, share)


def test_a_sensor_drifts_and_is_set_right() -> None:
    drift = msgspec.structs.replace(Faults().drift, share=0.1, degrees=20.0, begins=(0.1, 0.3))
    messages, fleet = sent(faults(drift=drift))
    for device, own in by_device(messages).items():
        values = [m.said["temperature"] for m in own if m.said]
        assert (max(values) > 35) == (device in fleet.having("drift"))
        assert values[-1] < 24  # the span ends before the run does


def test_a_link_drops_and_comes_back_with_what_it_held() -> None:
    messages, fleet = sent(faults(dropout=0.1))
    dropped = set()
    for device, own in by_device(messages).items():
        numbers = [m.said["n"] for m in own if m.said]
        assert numbers == list(range(len(own)))  # nothing is lost, and the order is kept
        burst = max(sum(m.tick == tick for m in own) for tick in {m.tick for m in own})
        if burst > 1:
            dropped.add(device)
            oldest = max(arrival(m) - m.said["ts"] for m in own if m.said)
            assert 5_000 < oldest < 0.13 * SECONDS * 1000
    assert dropped and dropped <= fleet.having("dropout")
    assert len(dropped) > 0.9 * len(fleet.having("dropout"))
    held = sum(arrival(m) > m.said["ts"] for m in messages if m.said)
    assert fleet.counts["dropout"] == held


def test_a_device_keeps_only_its_newest_readings() -> None:
    kept = msgspec.structs.replace(Faults().dropout, share=0.1, kept=3)
    messages, fleet = sent(faults(dropout=kept))
    lost = 0
    for own in by_device(messages).values():
        late = [m for m in own if m.said and arrival(m) > m.said["ts"]]
        assert len(late) <= 3
        numbers = [m.said["n"] for m in own if m.said]
        assert numbers == sorted(numbers)
        lost += numbers[-1] + 1 - len(numbers)
    assert lost > 20 and fleet.counts["dropout"] <= 3 * len(fleet.having("dropout"))


def test_clocks_are_ahead_behind_and_unset() -> None:
    messages, fleet = sent(faults(wrong_clock=0.1))
    offsets = defaultdict(set)
    for message in messages:
        assert message.said is not None
        offset = message.said["ts"] - arrival(message)
        if offset:
            offsets[offset].add(message.said["device"])
    assert set(offsets) == {86_400_000, -7_200_000, -START}
    assert set.union(*offsets.values()) == fleet.having("wrong_clock")
    assert len(offsets) == 3 and min(map(len, offsets.values())) >= 3
    truth = truth_of(messages, fleet)
    ahead = sum(m.said["ts"] > arrival(m) for m in messages if m.said)
    assert truth.counts["rejected"] >= ahead > 200  # as clock_skew, where arrival is known


def test_devices_leave_and_others_come() -> None:
    messages, fleet = sent(faults(churn=0.1))
    gone = [f"t-{n:05}" for n in range(DEVICES) if f"t-{n:05}" in fleet.having("churn")]
    found = by_device(messages)
    ticks = {device: [m.tick for m in own] for device, own in found.items()}
    came = [device for device in found if int(device[2:]) >= DEVICES]
    assert len(gone) == fleet.counts["churn"] == len(came) > 8  # all spans end before the run
    for device in gone:
        new = f"t-{DEVICES + int(device[2:]):05}"
        assert max(ticks[device]) < 0.91 * SECONDS
        assert max(ticks[device]) < min(ticks[new])
        assert found[new][0].said and found[new][0].said["n"] == 0
        assert found[new][0].topic == found[device][0].topic  # it is in the same place
    assert len(found) == DEVICES + len(came)


def test_old_data_is_hours_old() -> None:
    messages, fleet = sent(faults(old_data=0.1))
    found = by_device(messages)
    afterwards = 0
    for device in fleet.having("old_data"):
        own = found[device]
        old = [m for m in own if m.said and m.said["ts"] < arrival(m)]
        assert len(old) == 50 == len({m.said["ts"] for m in old if m.said})
        ages = [(arrival(m) - m.said["ts"]) / 3_600_000 for m in old if m.said]
        assert ages == sorted(ages)[::-1] and 1 <= ages[0] <= 6
        assert own[0].tick > 0.19 * SECONDS  # out of reach until then
        assert sorted(m.said["n"] for m in own if m.said) == list(range(len(own)))
        afterwards += own[0] not in old
    assert 0.2 < afterwards / len(fleet.having("old_data")) < 0.8
    assert fleet.counts["old_data"] == 50 * len(fleet.having("old_data"))
    truth = truth_of(messages, fleet)
    assert truth.counts["rejected"] == 50 * afterwards  # late: the present came before them


def test_messages_come_twice() -> None:
    messages, fleet = sent(faults(duplicate=0.05))
    seen: dict[bytes, int] = {}
    apart: list[int] = []
    for message in messages:
        if message.data in seen:
            apart.append(message.tick - seen[message.data])
        seen[message.data] = message.tick
    assert fleet.counts["duplicate"] == len(apart) == len(messages) - len(seen)
    assert set(apart) == {0, 1, 2, 3}
    assert 0.04 < len(apart) / len(seen) < 0.06
    assert truth_of(messages, fleet).counts["duplicates"] == len(apart)


@pytest.mark.parametrize(
    ("name", "fault", "rejected"),
    [("reordered", Delayed(0.05, (1, 3)), False), ("late", Delayed(0.05, (80, 95)), True)],
)
def test_messages_come_later(name: str, fault: Delayed, rejected: bool) -> None:
    messages, fleet = sent(faults(**{name: fault}))
    delays = [arrival(m) - m.said["ts"] for m in messages if m.said and arrival(m) > m.said["ts"]]
    whole = [delay // 1000 for delay in delays]
    low, high = fault.seconds
    assert set(whole) - {0} <= set(range(1, high + 1))  # at the end of the run all comes at once
    assert set(range(low, high + 1)) <= set(whole)
    still = sum(arrival(m) == START + 1000 * SECONDS for m in messages)
    assert len(delays) <= fleet.counts[name] <= len(delays) + still
    assert 0.04 < fleet.counts[name] / len(messages) < 0.06
    truth = truth_of(messages, fleet)
    assert len({m.data for m in messages}) == len(messages)
    assert (truth.counts["rejected"] > 0.5 * len(delays)) is rejected
    assert truth.counts["rejected"] == 0 or rejected


def test_payloads_are_broken_in_every_way() -> None:
    messages, fleet = sent(faults(bad_payload=0.05))
    truth = truth_of(messages, fleet)
    assert truth.counts["rejected"] == fleet.counts["bad_payload"] > 400
    good = b'{"device":"t-00001","topic":"home/1/thermostat","setpoint":21.0,"battery":89,"n":3,'
    good += b'"ts":1767600000000,"temperature":21.5,"relay":true}'
    assert parsed(good) is not None
    single = Truth(RULE, [])
    for kind, broken in enumerate(BROKEN):
        made = broken(good)
        assert single.take(made) == "rejected", kind
        assert b"\n" not in made and b"\r" not in made, kind
    assert len({broken(good) for broken in BROKEN}) == len(BROKEN)
    starts = {message.data[:5] for message in messages}
    assert starts >= {b"", b"\x00\x01\xff g", b'[{"de', b'\xef\xbb\xbf{"', b'{"dev', b'{"dee'}


def test_readings_of_a_broken_wire_are_filtered() -> None:
    messages, fleet = sent(faults(faulty_reading=0.05))
    wrong = [m for m in messages if m.said and m.said["temperature"] == -127.0]
    assert len(wrong) == fleet.counts["faulty_reading"] > 400
    assert truth_of(messages, fleet).counts["filtered"] == len(wrong)
    assert all(json.loads(m.data)["relay"] in (True, False) for m in wrong)


def test_messages_on_another_topic_are_filtered() -> None:
    messages, fleet = sent(faults(elsewhere=0.05))
    wrong = [m for m in messages if m.topic.endswith("/doorbell")]
    assert len(wrong) == fleet.counts["elsewhere"] > 400
    assert all(m.said and m.said["topic"] == m.topic for m in wrong)
    assert truth_of(messages, fleet).counts["filtered"] == len(wrong)


def test_every_fault_of_a_scenario_is_tested_here() -> None:
    assert set(LASTING) | set(ODD) == set(Faults.__struct_fields__)
    assert not set(LASTING) & set(ODD)


@pytest.mark.slow
def test_the_usual_fleet_has_them_all() -> None:
    _, fleet = sent(Faults(), 1500)
    told = set(LASTING) - {"stuck_relay", "stuck_sensor", "drift"} | set(ODD)
    assert {name for name, count in fleet.counts.items() if count} == told
    assert all(fleet.having(name) for name in LASTING)
