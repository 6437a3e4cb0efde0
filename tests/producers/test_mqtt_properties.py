"""Properties of MQTT 5 messages in a route's SELECT, by either client; and from any bytes."""

from __future__ import annotations

import json

import pytest
import scripted_broker as broker
from bridge_rig import TOPIC, Rig, acknowledged, connected, reading
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_kinesis import MemoryKinesis
from scripted_broker import ScriptedBroker, text

from streamgauge.producers import mqtt_properties
from streamgauge.producers.mqtt_packets import ProtocolError, properties, varint
from streamgauge.rules.project import Route

SQL = """
SELECT get_mqtt_property('content_type') AS type, get_mqtt_property('response_topic') AS answer,
  get_mqtt_property('correlation_data') AS number, get_mqtt_property('format_indicator') AS form,
  get_user_properties('site') AS sites, get_user_properties() AS pairs
FROM 'home/#'
"""
ALL = (
    b"\x01\x01\x02\x00\x00\x00\x3c\x03" + text("json") + b"\x08" + text("to/me")
    + b"\x09" + text(b"\xff\x00") + b"\x26" + text("site") + text("a")
    + b"\x26" + text("é") + text("1") + b"\x26" + text("site") + text("b")
)  # fmt: skip


def test_a_route_sees_what_the_message_carries(there: ScriptedBroker) -> None:
    rig = Rig(there.url, MemoryKinesis(1))
    rig.bridge._routes = [Route(SQL, "k")]
    connected(there, rig)
    there.send(
        broker.publish(TOPIC, reading(1), 1, more=ALL),
        broker.publish(TOPIC, reading(2), 2),
        broker.publish(TOPIC, reading(3), 3, more=b"\x01\x00"),
        broker.publish(TOPIC, reading(4), more=b"\x26" + text("x") + text("")),
    )
    assert acknowledged(there, rig, 3) == [1, 2, 3]
    rig.until(lambda: rig.bridge.in_flight.open == 0 and rig.bridge.counts.received == 4)
    pairs = [{"site": "a"}, {"é": "1"}, {"site": "b"}]
    assert [json.loads(data) for _, data in rig.stream.users()] == [
        {"type": "json", "answer": "to/me", "number": "/wA=", "form": "UTF8_DATA",
         "sites": ["a", "b"], "pairs": pairs},
        {"pairs": []},
        {"form": "UNSPECIFIED_BYTES", "pairs": []},
        {"pairs": [{"x": ""}]},
    ]  # fmt: skip


def test_before_mqtt_5_nothing_is_told() -> None:
    """Not even that there are no properties of the user's own."""
    sent = Route(SQL, "k").send("home/a", b'{"n":1}', {"timestamp": 0}, b"0" * 16)
    assert sent is not None and sent.data == b"{}"


@settings(max_examples=examples(300))
@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_properties_or_a_named_error(data: bytes, whole: bool) -> None:
    held = varint(len(data)) + data if whole else data
    try:
        numbers, texts, at = properties(held, 0, len(held))
    except ProtocolError:
        return
    assert at <= len(held) and (not whole or at == len(held))
    json.dumps(mqtt_properties.of_packet(numbers, texts)).encode()


@pytest.mark.parametrize("size", range(1, len(ALL)))
def test_none_is_read_where_they_are_cut_off(size: int) -> None:
    whole = varint(len(ALL)) + ALL
    assert properties(whole, 0, len(whole))[2] == len(whole)
    with pytest.raises(ProtocolError):
        properties(varint(len(ALL)) + ALL[:size], 0, size + 1)
