"""The bridge's end, its memory and its sessions: what is known again, and what is whose."""

from __future__ import annotations

from typing import Any

import pytest
import scripted_broker as broker
from botocore.exceptions import ClientError
from bridge_rig import TOPIC, TURNS_MAX, Rig, acknowledged, connected, reading, silence
from memory_kinesis import Faults, MemoryKinesis
from scripted_broker import ScriptedBroker

from streamgauge.engine.errors import StreamgaugeError
from streamgauge.producers import mqtt, mqtt_quick
from streamgauge.producers.mqtt_broker import CONNECT_SECONDS_MAX, KEEPALIVE_SECONDS
from streamgauge.producers.mqtt_filters import filters_by_identifier
from streamgauge.producers.mqtt_quick import QuickLink
from streamgauge.rules.project import Route


def test_the_end_waits_for_outcomes_and_acknowledges_them(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)
    there.send(*(broker.publish(TOPIC, reading(n), n) for n in (1, 2)))
    rig.until(lambda: rig.bridge.counts.received == 2)
    assert rig.bridge.finish(rig.link, 60.0)
    rig.link.close()
    packets = there.received()
    assert [one.packet_id for one in packets if one.type == broker.PUBACK] == [1, 2]
    assert packets[-1].type == broker.DISCONNECT


def test_what_is_handed_back_at_the_end_is_the_broker_s_or_in_the_error_stream(
    there: ScriptedBroker,
) -> None:
    rig = Rig(there.url, MemoryKinesis(1, faults=Faults(throttled=1.0)))
    connected(there, rig)
    there.send(broker.publish(TOPIC, reading(1), 1), broker.publish(TOPIC, reading(2)))
    rig.until(lambda: rig.bridge.counts.received == 2)
    assert not rig.bridge.finish(rig.link, 2.0)
    assert [one for one in there.received() if one.type == broker.PUBACK] == []
    (row,) = rig.errors.rows
    assert (row.reason, row.data, row.partition_key) == ("not_put", reading(2), TOPIC)
    assert row.message.startswith("stream: not put: ")
    assert (rig.bridge.in_flight.open, rig.bridge.in_flight.bytes) == (0, 0)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_what_a_resumed_session_sends_again_is_known_and_put_once(
    there: ScriptedBroker, settled: bool, kept: bool
) -> None:
    stream = MemoryKinesis(1, faults=Faults(throttled=1.0))
    rig = Rig(there.url, stream)
    connected(there, rig)
    there.send(*(broker.publish(TOPIC, reading(n), n) for n in (1, 2, 3)))
    rig.until(lambda: rig.bridge.counts.received == 3)
    there.cut()
    rig.until(lambda: not rig.link.connected)
    if settled:
        stream.faults.throttled = 0.0
        rig.clock.seconds += 6
        rig.until(lambda: rig.bridge.in_flight.open == 0)
    rig.clock.seconds += 60
    connected(there, rig, session=kept)
    stream.faults.throttled = 0.0
    rig.clock.seconds += 6
    # 2 is another message by now, 3 is one that looks like a repeat and is none.
    again = [(1, reading(1), True), (2, reading(22), False), (3, reading(33), True)]
    there.send(*(broker.publish(TOPIC, data, n, dup) for n, data, dup in again))
    assert acknowledged(there, rig, 3) == [1, 2, 3]
    put = [int(data.split(b",")[0][5:]) for _, data in stream.users()]
    assert sorted(put) == sorted([1, 2, 3, 22, 33] + ([] if kept else [1]))
    assert rig.bridge.counts.recognised == int(kept)
    there.send(broker.publish(TOPIC, reading(1), 1, True))  # it was acknowledged: a new one
    assert acknowledged(there, rig, 1) == [1]
    assert len(stream.users()) == 6 + (not kept)


def test_routes_whose_filters_overlap_take_a_message_once_each(there: ScriptedBroker) -> None:
    """However the broker does it: a copy for each subscription, or one for both."""
    narrow, wide = "home/+/thermostat", "home/#"
    rig = Rig(there.url, MemoryKinesis(1))
    routes = [Route(f"SELECT n FROM '{narrow}'", "k"), Route(f"SELECT t FROM '{wide}'", "k")]
    rig.bridge._routes = routes
    rig.link._filters = filters_by_identifier([narrow, wide])
    connected(there, rig)
    there.send(broker.suback(there.receive()))
    there.send(
        broker.publish(TOPIC, reading(1), 1, filters=(narrow,)),
        broker.publish(TOPIC, reading(1), 2, filters=(wide,)),
        broker.publish(TOPIC, reading(2), 3, filters=(narrow, wide)),
        broker.publish(TOPIC, reading(3), 4),  # of a broker that does not say
        broker.publish(TOPIC, reading(4), 5, filters=("removed/since",)),
    )
    assert acknowledged(there, rig, 5) == [1, 2, 3, 4, 5]
    wanted = [b'{"n":%d}' % n for n in (1, 2, 3, 4)] + [b'{"t":21.50}'] * 4
    assert sorted(data for _, data in rig.stream.users()) == wanted


def test_a_broker_without_identifiers_is_not_asked_for_them(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    rig.until(lambda: rig.trying)
    there.accept()
    there.send(broker.packet(broker.CONNACK, 0, b"\x00\x00\x02\x29\x00"))
    rig.until(lambda: rig.link.connected)
    rig.turn(2)
    asked = there.receive()
    assert (asked.type, asked.body[2]) == (broker.SUBSCRIBE, 0)  # no properties


def test_the_bytes_on_their_way_are_bounded_too(
    there: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "BYTES_MAX", 2500)
    stream = MemoryKinesis(1, faults=Faults(throttled=1.0))
    rig = Rig(there.url, stream)
    connected(there, rig)
    large = ',"pad":"%s"' % ("x" * 1000)
    there.send(*(broker.publish(TOPIC, reading(n, large), n) for n in range(1, 9)))
    rig.turn(20)
    assert rig.bridge.full and rig.bridge.counts.received == 3
    stream.faults.throttled = 0.0
    rig.clock.seconds += 6
    assert acknowledged(there, rig, 8) == list(range(1, 9))
    assert rig.bridge.in_flight.bytes == 0


def test_a_stream_that_refuses_for_good_ends_the_bridge_and_nothing_is_acknowledged(
    there: ScriptedBroker,
) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)

    def gone(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "PutRecords")

    rig.stream.list_shards = rig.stream.put_records = gone  # type: ignore[assignment]
    there.send(broker.publish(TOPIC, reading(1), 1))
    with pytest.raises(StreamgaugeError, match="ResourceNotFoundException"):
        rig.turn(TURNS_MAX)
    rig.bridge.acknowledge(rig.link)
    rig.link.turn(0.0, reading=False)
    assert [one for one in there.received() if one.type == broker.PUBACK] == []
    assert rig.errors.rows == []


def test_while_there_is_no_room_the_link_is_kept(there: ScriptedBroker) -> None:
    """Nothing is read then, also no answer to a ping: that says nothing of the broker."""
    stream = MemoryKinesis(1, faults=Faults(throttled=1.0))
    rig = Rig(there.url, stream, most=2)
    connected(there, rig)
    there.send(*(broker.publish(TOPIC, reading(n), n) for n in (1, 2, 3)))
    rig.until(lambda: rig.bridge.full)
    for _ in range(12):
        silence(rig, KEEPALIVE_SECONDS / 2 + 0.1)
        rig.turn(2)
        there.send(broker.packet(13, 0, b""))  # what a broker answers, which may wait unread
    assert rig.link.connected and not rig.said("disconnected")
    assert broker.PINGREQ in [one.type for one in there.received()]
    stream.faults.throttled = 0.0
    rig.clock.seconds += 6
    assert acknowledged(there, rig, 3) == [1, 2, 3]


def test_a_broker_that_does_not_answer_a_subscription_is_left(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    rig.until(lambda: rig.trying)
    there.accept()
    there.send(broker.connack())
    rig.until(lambda: rig.link.connected)
    rig.turn(2)
    assert there.receive().type == broker.SUBSCRIBE
    rig.clock.seconds += CONNECT_SECONDS_MAX
    rig.until(lambda: not rig.link.connected)
    rig.clock.seconds += 60
    connected(there, rig)


def test_no_more_is_received_than_there_is_room_for(
    there: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No broker bounds what it sends with quality 0, nor does one that lies."""
    monkeypatch.setattr(mqtt_quick, "RECEIVE_BYTES", 1000)
    rig = Rig(there.url, MemoryKinesis(1), most=1)
    connected(there, rig)
    there.send(*(broker.publish(TOPIC, reading(n)) for n in range(200)))
    rig.turn(50)
    assert 0 < rig.bridge.counts.received < 200
    if isinstance(rig.link, QuickLink):
        assert len(rig.link._in) < 1000
    rig.until(lambda: rig.bridge.counts.received == 200)


def test_a_long_message_is_looked_at_once(
    there: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at with every piece that comes, one of many MiB takes minutes."""
    looks = []
    parse = QuickLink._parse
    monkeypatch.setattr(QuickLink, "_parse", lambda link: looks.append(1) or parse(link))
    monkeypatch.setattr(mqtt_quick, "RECEIVE_BYTES", 1000)
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)
    looks.clear()
    large = broker.publish(TOPIC, reading(1, ',"pad":"%s"' % ("x" * 60_000)), 1)
    there.send(large[:1])
    rig.turn()
    there.send(large[1:], broker.publish(TOPIC, reading(2), 2))
    assert acknowledged(there, rig, 2) == [1, 2]
    assert len(looks) <= 5


def test_messages_of_quality_0_do_not_wait_for_an_acknowledgement(there: ScriptedBroker) -> None:
    """One that waits for long, as for an error stream that is down, would hold all after it."""
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)
    rig.errors.fail_next = 1_000
    there.send(broker.publish(TOPIC, b"none", 1))
    there.send(*(broker.publish(TOPIC, reading(n)) for n in range(50)))
    rig.until(lambda: len(rig.stream.users()) == 50)
    assert (len(rig.bridge.in_flight), rig.bridge.in_flight.open) == (1, 1)
