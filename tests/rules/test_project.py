"""Routes of the bridge: what SELECT puts out, byte for byte, and partition keys."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.engine.errors import ConfigError
from streamgauge.engine.payload import Unreadable
from streamgauge.rules.project import Route, RouteError

TOPIC = "home/7/thermostat"
PAYLOAD = (
    b'{ "device": "t-7", "temperature": 21.50, "big": 12345678901234567890123, "at": {"x": 1e2} }'
)


def route(select: str, key: str = "${device}") -> Route:
    return Route(f"SELECT {select} FROM 'home/+/thermostat'", key)


def sent(select: str, payload: bytes = PAYLOAD, key: str = "k") -> bytes:
    found = route(select, key).send(TOPIC, payload)
    assert found is not None
    return found.data


def test_a_star_alone_sends_the_bytes_as_they_are() -> None:
    assert sent("*") == PAYLOAD


@pytest.mark.parametrize(
    ("select", "output"),
    [
        ("*, topic() AS topic", b'{"device":"t-7","temperature":21.50,'
         b'"big":12345678901234567890123,"at":{"x": 1e2},"topic":"home/7/thermostat"}'),
        ("device, temperature", b'{"device":"t-7","temperature":21.50}'),
        ("big AS big", b'{"big":12345678901234567890123}'),
        ("at.x AS y", b'{"y":1e2}'),
        ("at.x", b'{"x":1e2}'),
        ("topic(2) AS device", b'{"device":"7"}'),
        ("topic(9) AS device, device AS d", b'{"d":"t-7"}'),
        ("missing, at.missing, device.x", b"{}"),
        ("*, temperature AS device", b'{"device":21.50,"temperature":21.50,'
         b'"big":12345678901234567890123,"at":{"x": 1e2}}'),
        ("temperature AS device, *", b'{"device":"t-7","temperature":21.50,'
         b'"big":12345678901234567890123,"at":{"x": 1e2}}'),
        ("device AS a.b, temperature AS a.c", b'{"a":{"b":"t-7","c":21.50}}'),
        ("*, device AS at.y", b'{"device":"t-7","temperature":21.50,'
         b'"big":12345678901234567890123,"at":{"x":1e2,"y":"t-7"}}'),
        ("device AS a, temperature AS a.b", b'{"a":{"b":21.50}}'),
        ("* AS all", b'{"all":' + PAYLOAD + b"}"),
    ],
)  # fmt: skip
def test_what_select_puts_out(select: str, output: bytes) -> None:
    found = sent(select)
    assert found == output
    json.loads(found)


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(names, values, max_size=5), st.booleans(), st.integers(0, 2))
def test_a_message_goes_through_with_every_value_as_it_was(
    message: dict[str, Any], ascii: bool, indent: int
) -> None:
    payload = json.dumps(message, ensure_ascii=ascii, indent=indent or None).encode()
    found = json.loads(sent("*, topic() AS streamgauge", payload))
    assert found == {**message, "streamgauge": TOPIC}
    assert repr(found) == repr({**message, "streamgauge": TOPIC})


def test_of_equal_keys_the_last_counts() -> None:
    assert sent("a", b'{"a":1,"a":2}') == b'{"a":2}'


def test_where_leaves_messages_out() -> None:
    one = Route("SELECT * FROM 'home/#' WHERE temperature > 20", "k")
    assert one.send(TOPIC, PAYLOAD) is not None
    assert one.send(TOPIC, b'{"temperature":19}') is None
    assert one.send(TOPIC, b'{"temperature":"warm"}') is None
    assert (one.passed, one.filtered) == (1, 2)
    assert one.matches("home/7/thermostat") and not one.matches("garden/7")


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("${device}", "t-7"),
        ("${topic(2)}", "7"),
        ("fleet/${topic(1)}/${device}", "fleet/home/t-7"),
        ("${temperature}", "21.5"),
        ("fixed", "fixed"),
        ("${at.x}", "100"),
        ("$device", "$device"),
    ],
)
def test_partition_keys(template: str, key: str) -> None:
    found = route("*", template).send(TOPIC, PAYLOAD)
    assert found is not None and found.partition_key == key


@pytest.mark.parametrize(
    ("template", "payload", "told"),
    [
        ("${device}", b"{}", "expected a value, found nothing"),
        ("${device}", b'{"device":null}', "found null"),
        ("${device}", b'{"device":{}}', "found an object or array"),
        ("${device}", b'{"device":""}', "1 to 256 characters, found 0"),
        ("${device}${device}", b'{"device":"%s"}' % (b"x" * 200), "found 400"),
        ("${topic(9)}", b"{}", "found nothing"),
    ],
)
def test_messages_without_a_partition_key(template: str, payload: bytes, told: str) -> None:
    with pytest.raises(RouteError, match=told) as error:
        route("*", template).send(TOPIC, payload)
    assert error.value.reason == "partition_key"


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b'{"a":NaN}', b"{}{}", b'"text"'])
def test_payloads_that_are_none(payload: bytes) -> None:
    with pytest.raises(Unreadable):
        route("*", "k").send(TOPIC, payload)


@pytest.mark.parametrize(
    ("sql", "key", "told"),
    [
        ("SELECT * FROM 'a/#/b'", "k", '"#" may stand only'),
        ("SELECT *", "k", "expected FROM"),
        ("SELECT uper(x) AS y FROM 'a'", "k", "did you mean upper?"),
        ("SELECT * FROM 'a'", "${uper(x)}", "did you mean upper?"),
        ("SELECT * FROM 'a'", "${*}", "expected one value in ${*}"),
        ("SELECT * FROM 'a'", "${a, b}", "expected one value in ${a, b}"),
        ("SELECT * FROM 'a'", "${}", "partition_key"),
        ("SELECT VALUE x, y FROM 'a'", "k", "SELECT VALUE puts out one value"),
    ],
)
def test_what_cannot_be_is_told_at_the_start(sql: str, key: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        Route(sql, key, where="p.toml: mqtt.routes[0]")
    assert told in str(error.value) and "mqtt.routes[0]" in str(error.value)
