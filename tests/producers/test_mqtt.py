"""The bridge against a broker of which a test says every byte: nothing acknowledged is missing."""

from __future__ import annotations

import pytest
import scripted_broker as broker
from bridge_rig import TOPIC, Rig, acknowledged, connected, reading, silence
from memory_kinesis import Faults, MemoryKinesis, firsts
from scripted_broker import ScriptedBroker

from streamgauge.engine.errors import StreamgaugeError
from streamgauge.producers.mqtt import Message
from streamgauge.producers.mqtt_broker import KEEPALIVE_SECONDS
from streamgauge.rules.project import Route


def test_messages_go_to_the_stream_and_are_acknowledged_in_their_order(
    there: ScriptedBroker,
) -> None:
    rig = Rig(there.url, MemoryKinesis(2))
    connected(there, rig)
    there.send(*(broker.publish(TOPIC, reading(n), n) for n in range(1, 6)))
    there.send(broker.publish(TOPIC, reading(6)))  # quality of service 0
    rig.turn(3)
    assert acknowledged(there, rig, 5) == [1, 2, 3, 4, 5]
    wanted = [b'{"n":%d,"t":21.50,"topic":"home/7/thermostat"}' % n for n in range(1, 7)]
    assert firsts(rig.stream.users()) == {"7": wanted}
    assert (rig.bridge.counts.received, rig.bridge.counts.records) == (6, 6)
    assert (rig.bridge.counts.acknowledged, rig.bridge.in_flight.open) == (5, 0)


def test_it_asks_for_a_session_that_lasts_and_for_as_much_as_it_takes(
    there: ScriptedBroker,
) -> None:
    first = connected(there, Rig(there.url, MemoryKinesis(1), most=77, username="u", password="p"))
    assert first.body[6] == 5  # MQTT 5
    assert not first.body[7] & 0x02  # no clean start
    assert b"\x21" + (77).to_bytes(2, "big") in first.body  # receive maximum
    assert b"\x11" + (86_400 * 7).to_bytes(4, "big") in first.body  # session expiry
    assert first.body.endswith(broker.text("u") + broker.text("p"))


def test_m9_while_the_stream_is_down_nothing_is_acknowledged_and_memory_is_bounded(
    there: ScriptedBroker,
) -> None:
    stream = MemoryKinesis(1, faults=Faults(throttled=1.0))
    rig = Rig(there.url, stream, most=10)
    connected(there, rig)
    there.send(*(broker.publish(TOPIC, reading(n), n) for n in range(1, 31)))
    rig.turn(20)
    assert acknowledged(there, rig, 0) == [] and rig.bridge.in_flight.open == 10
    assert rig.bridge.counts.received == 10, "more was read than there is room for"
    stream.faults.throttled = 0.0
    rig.clock.seconds += 6
    rig.turn(20)
    assert acknowledged(there, rig, 30) == list(range(1, 31))
    assert len(stream.users()) == 30


def test_m8_what_cannot_be_sent_goes_to_the_error_stream_before_it_is_acknowledged(
    there: ScriptedBroker,
) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)
    bad = [b"", b"not JSON", b'{"t":1}' * 2, b"\xff"]
    rig.errors.fail_next = 2
    rig.turn()
    there.send(*(broker.publish(TOPIC, data, n) for n, data in enumerate(bad, 1)))
    there.send(broker.publish("home//thermostat", reading(1), 9))  # no partition key
    rig.until(lambda: len(rig.said("waiting")) == 1)
    assert acknowledged(there, rig, 0) == []
    rig.clock.seconds += 1
    rig.until(lambda: len(rig.said("waiting")) == 2)
    rig.clock.seconds += 1
    assert acknowledged(there, rig, 5) == [1, 2, 3, 4, 9]
    rows = rig.errors.rows
    assert [row.data for row in rows] == [*bad, reading(1)]
    assert [row.partition_key for row in rows] == [TOPIC] * 4 + ["home//thermostat"]
    assert [row.reason for row in rows] == [
        "not_json", "not_json", "not_json", "not_utf8", "partition_key",
    ]  # fmt: skip
    assert len({str(row.at) for row in rows}) == 5
    assert rows[0].at.shard_id == "mqtt-bridge-1-19700101T000000.000000Z"
    assert all("home/+/thermostat" in row.message for row in rows)


def test_m8_a_bug_in_a_route_ends_nothing(
    there: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)

    def fails(route: Route, topic: str, payload: bytes, *more: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(Route, "send", fails)
        there.send(broker.publish(TOPIC, reading(1), 1))
        rig.until(lambda: rig.bridge.counts.received == 1)
    there.send(broker.publish(TOPIC, reading(2), 2))
    assert acknowledged(there, rig, 2) == [1, 2]
    (row,) = rig.errors.rows
    assert (row.reason, row.data) == ("failed", reading(1)) and "a bug" in row.message
    assert len(rig.stream.users()) == 1


def test_where_leaves_out_and_other_topics_are_acknowledged(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)
    there.send(broker.publish(TOPIC, b'{"t":500}', 1), broker.publish("garden", b"x", 2))
    rig.turn(2)
    assert acknowledged(there, rig, 2) == [1, 2]
    assert (rig.bridge.counts.filtered, rig.errors.rows, rig.stream.users()) == (2, [], [])


def test_a_record_over_the_limit_goes_to_the_error_stream(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)
    large = reading(1, ',"pad":"%s"' % ("x" * (1 << 20)))
    there.send(broker.publish(TOPIC, large, 1), broker.publish(TOPIC, reading(2), 2))
    rig.turn(60)
    assert acknowledged(there, rig, 2) == [1, 2]
    assert [(row.reason, row.data) for row in rig.errors.rows] == [("record", large)]
    assert len(rig.stream.users()) == 1


def test_m3_after_a_cut_nothing_of_the_old_connection_is_acknowledged_in_the_new(
    there: ScriptedBroker,
) -> None:
    stream = MemoryKinesis(1, faults=Faults(throttled=1.0))
    rig = Rig(there.url, stream)
    connected(there, rig)
    there.send(*(broker.publish(TOPIC, reading(n), n) for n in (1, 2, 3)))
    rig.turn(2)
    there.cut()
    rig.until(lambda: not rig.link.connected)
    assert rig.said("disconnected")
    rig.clock.seconds += 60
    connected(there, rig, session=True)
    # The broker numbers as it likes: what was 1 and 2 is 7 and 1 by now.
    there.send(
        broker.publish(TOPIC, reading(1), 7, again=True),
        broker.publish(TOPIC, reading(2), 1, again=True),
    )
    stream.faults.throttled = 0.0
    rig.clock.seconds += 6
    rig.turn(4)
    assert acknowledged(there, rig, 2) == [7, 1]
    there.send(broker.publish(TOPIC, reading(3), 2, again=True))
    rig.turn(3)
    assert acknowledged(there, rig, 1) == [2]
    assert rig.bridge.counts.repeated == 3 and rig.link.tries.connection == 2
    numbers = firsts(rig.stream.users())["7"]
    assert [data.split(b",")[0] for data in numbers] == [b'{"n":1', b'{"n":2', b'{"n":3']


def test_m3_a_half_open_link_is_seen_by_its_silence(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)
    silence(rig, KEEPALIVE_SECONDS)
    rig.turn(2)
    assert [one.type for one in there.received()] == [broker.PINGREQ]
    there.send(broker.packet(13, 0, b""))
    rig.turn(2)
    silence(rig, KEEPALIVE_SECONDS)
    rig.turn(2)
    assert [one.type for one in there.received()] == [broker.PINGREQ]
    silence(rig, KEEPALIVE_SECONDS)
    rig.until(lambda: not rig.link.connected)
    assert rig.said("disconnected")


def test_m6_who_is_taken_over_comes_back_ever_more_slowly(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    for _ in range(6):
        connected(there, rig)
        there.send(broker.packet(broker.DISCONNECT, 0, bytes([broker.TAKEN_OVER, 0])))
        rig.until(lambda: not rig.link.connected)
        rig.clock.seconds = max(rig.clock.seconds, rig.link.tries.at)
    waits = [one["seconds"] for one in rig.said("disconnected")]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert rig.link.tries.reconnects == {"Session taken over": 6}
    connected(there, rig)
    rig.clock.seconds += 31  # it has lasted
    there.cut()
    rig.until(lambda: not rig.link.connected)
    assert rig.said("disconnected")[-1]["seconds"] == 0.2


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00", b"\xf0\x00", b"\x30\xff\xff\xff\xff\x7f", b"\x30\x01\x00",
        b"\x32\x05\x00\x01a\x00\x01", b"\x36\x07\x00\x01a\x00\x01\x00x", b"\x90\x00",
        b"\x20\x00", b"\x40\x01\x00", b"\x30\x04\x00\x05ab", b"\x32\x04\x00\x01a\x00",
        b"\x30\x05\x00\x01a\xff\xff", b"\x62\x02\x00\x01", b"\xe0\x01\x8e",
    ],
)  # fmt: skip
def test_m7_no_malformed_packet_ends_the_bridge(data: bytes, there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)
    there.send(data)
    rig.turn(3)
    there.cut()
    rig.turn(2)
    rig.clock.seconds += 60
    connected(there, rig)
    there.send(broker.publish(TOPIC, reading(1), 1))
    rig.turn(3)
    assert acknowledged(there, rig, 1) == [1]
    assert rig.link.tries.connection == 2 and len(rig.stream.users()) >= 1


def test_m5_a_message_that_comes_twice_is_put_twice_and_counted(there: ScriptedBroker) -> None:
    """The consumer takes a device's repeat once: the bridge has no memory of what was."""
    rig = Rig(there.url, MemoryKinesis(1))
    connected(there, rig)
    there.send(broker.publish(TOPIC, reading(1), 1), broker.publish(TOPIC, reading(1), 1, True))
    rig.turn(3)
    assert acknowledged(there, rig, 2) == [1, 1]
    assert (rig.bridge.counts.repeated, len(rig.stream.users())) == (1, 2)


def test_a_broker_that_is_not_there_is_tried_again() -> None:
    gone = ScriptedBroker()
    gone.close()
    rig = Rig(gone.url, MemoryKinesis(1))
    rig.until(lambda: rig.link.tries.reconnects.get("unreachable", 0) >= 4)
    assert 1.3 < sum(rig.clock.slept) < 1.6
    assert max(rig.clock.slept) <= 0.021  # others have their turns


def test_a_client_that_is_refused_at_first_is_told(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    rig.turn()
    there.accept()
    there.send(broker.connack(reason=0x86))
    with pytest.raises(StreamgaugeError, match="refuses us: Bad user name or password"):
        rig.turn(3)


def test_a_topic_that_is_refused_at_first_is_told(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    rig.turn()
    there.accept()
    there.send(broker.connack())
    rig.turn(2)
    there.send(broker.suback(there.receive(), reason=0x87))
    with pytest.raises(StreamgaugeError, match="refuses topic home/.*: Not authorized"):
        rig.turn(3)


def test_shared_subscriptions(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1), share="bridges")
    rig.turn()
    there.accept()
    there.send(broker.connack())
    rig.turn(2)
    assert b"$share/bridges/home/+/thermostat\x01" in there.receive().body


def test_a_topic_that_is_no_text_goes_to_the_error_stream() -> None:
    rig = Rig("mqtt://127.0.0.1:1", MemoryKinesis(1))
    rig.bridge.take(Message("home/\\xff", b"x", 1, readable=False))
    rig.bridge.turn()
    assert [(row.reason, row.data) for row in rig.errors.rows] == [("topic", b"x")]
