"""The bridge while it has no room: its links stay, come back, and are silent without harm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scripted_broker as broker
from bridge_rig import CLIENTS, TOPIC, Rig, acknowledged, connected, reading
from memory_kinesis import Faults, MemoryKinesis
from scripted_broker import ScriptedBroker

from streamgauge.producers.mqtt_broker import KEEPALIVE_SECONDS
from streamgauge.producers.mqtt_quick import QuickLink


@pytest.fixture
def there() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as found:
        yield found
        Rig.close_all()


def full(there: ScriptedBroker) -> Rig:
    """A bridge that has no room: its stream takes nothing."""
    rig = Rig(there.url, MemoryKinesis(1, faults=Faults(throttled=1.0)), most=1)
    connected(there, rig)
    there.send(broker.publish(TOPIC, reading(1), 1))
    rig.until(lambda: rig.bridge.full)
    return rig


def test_a_link_outlasts_a_stream_that_is_down(
    there: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers to its pings lie behind messages that there is no room for."""
    monkeypatch.setattr(Rig, "client", QuickLink)
    rig = full(there)
    for _ in range(20):
        rig.clock.seconds += KEEPALIVE_SECONDS
        rig.turn(3)
        assert [one.type for one in there.received()] == [broker.PINGREQ]
        there.send(broker.packet(13, 0, b""))
    assert not rig.said("disconnected")
    there.send(broker.publish(TOPIC, reading(2), 2))
    rig.stream.faults.throttled = 0.0
    rig.clock.seconds += 6
    assert acknowledged(there, rig, 2) == [1, 2]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_link_comes_back_while_there_is_no_room(
    there: ScriptedBroker, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    monkeypatch.setattr(Rig, "client", CLIENTS[client])
    rig = full(there)
    there.cut()
    for _ in range(5):  # paho sees it as it reads, the other as it pings
        rig.clock.seconds += KEEPALIVE_SECONDS
        if rig.link.connected:
            rig.link.turn(0.02, reading=client == "paho")
            rig.link.turn(0.02, reading=False)
    assert not rig.link.connected
    connected(there, rig, session=True)
    assert rig.bridge.full and rig.bridge.counts.received == 1


def test_a_message_before_the_connection_is_granted_ends_it(
    there: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its acknowledgement would be that of another in the session that is granted next."""
    monkeypatch.setattr(Rig, "client", QuickLink)
    rig = Rig(there.url, MemoryKinesis(1))
    rig.until(lambda: rig.trying)
    there.accept()
    there.send(broker.publish(TOPIC, reading(1), 1), broker.connack(True))
    rig.until(lambda: bool(rig.said("disconnected")))
    assert rig.bridge.counts.received == 0
