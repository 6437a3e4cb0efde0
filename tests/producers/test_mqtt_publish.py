"""The publisher against a broker that misbehaves: nothing lost, acceptance told once."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fake_broker import Broker, Faults

from streamgauge.engine.errors import UnavailableError
from streamgauge.producers import mqtt_publish
from streamgauge.producers.messages import Messages
from streamgauge.producers.mqtt_packets import V5, V311
from streamgauge.producers.mqtt_processes import Certificates, Publishers
from streamgauge.producers.mqtt_publish import Publisher, Refused, Server


def messages(count: int, first: int = 0) -> Messages:
    numbers = range(first, first + count)
    return Messages(
        [f"t-{n % 7}" for n in numbers],
        [b'{"n":%d}' % n for n in numbers],
        [f"home/{n % 7}/thermostat" for n in numbers],
    )


def publisher(broker: Broker, told: list[bytes], **server: object) -> Publisher:
    known = {"client_id": "c", **server}
    return Publisher(
        Server("127.0.0.1", broker.port, **known),  # type: ignore[arg-type]
        told.extend,
        sleep=lambda seconds: None,
    )


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("qos", [0, 1])
def test_every_message_arrives_once_and_in_order(version: int, qos: int) -> None:
    told: list[bytes] = []
    with Broker() as broker:
        out = publisher(broker, told, version=version, qos=qos)
        sent = messages(5_000)
        out.send(sent.part(0, 3_000))
        out.send(sent.part(3_000, 5_000))
        out.drain()
        assert (out.sent, out.accepted, out.refused, out.unfinished) == (5_000, 5_000, 0, 0)
        out.close()
    assert broker.taken == [
        (topic, data, qos) for topic, data in zip(sent.topics, sent.data, strict=True)
    ]
    assert told == sent.data
    assert (broker.versions, broker.goodbyes, out.reconnects) == ([version], 1, 0)


def test_a_connection_that_breaks_loses_nothing() -> None:
    told: list[bytes] = []
    faults = Faults(drop=[3, 500, 1])
    with Broker(faults) as broker:
        out = publisher(broker, told)
        for first in range(0, 2_000, 400):
            out.send(messages(400, first))
        out.drain()
        out.close()
    wanted = messages(2_000).data
    assert sorted(told) == sorted(wanted)  # each is accepted once
    assert set(broker.payloads()) == set(wanted)
    assert max(Counter(broker.payloads()).values()) > 1  # what was on its way comes again
    assert out.reconnects == 3
    first_seen = list(dict.fromkeys(broker.payloads()))
    assert first_seen == wanted  # and before what had not been sent


def test_at_qos_0_a_broken_connection_is_made_anew() -> None:
    told: list[bytes] = []
    with Broker(Faults(drop=[2])) as broker:
        out = publisher(broker, told, qos=0)
        out.send(messages(50))
        while not out.reconnects:  # until the end of the connection is seen
            out.tend()
        out.send(messages(150, 50))
        out.drain()
        out.close()
    assert (out.accepted, out.refused, out.unfinished) == (200, 0, 0)
    assert broker.payloads()[-150:] == messages(150, 50).data


def test_what_is_refused_is_counted_and_not_told() -> None:
    told: list[bytes] = []
    codes = {b'{"n":3}': 0x97, b'{"n":5}': 0x87, b'{"n":6}': 0x10}  # 0x10: nobody subscribes
    with Broker(Faults(codes=codes)) as broker:
        out = publisher(broker, told)
        out.send(messages(10))
        out.drain()
        out.close()
    assert (out.accepted, out.refused) == (8, 2)
    assert set(messages(10).data) - set(told) == {b'{"n":3}', b'{"n":5}'}


def test_no_more_are_in_flight_than_either_side_allows() -> None:
    for allowed, faults in ((20, Faults(together=20)), (7, Faults(together=7, receive_max=7))):
        with Broker(faults) as broker:
            out = publisher(broker, [], in_flight_max=20)
            out.send(messages(140))
            assert out.unfinished <= allowed
            out.drain()
            out.close()
        assert broker.most == allowed  # acknowledgements came newest first, and all were right
        assert out.accepted == 140


def test_a_topic_or_size_that_a_broker_hangs_up_on_is_not_sent() -> None:
    told: list[bytes] = []
    with Broker(Faults(packet_bytes_max=200)) as broker:
        out = publisher(broker, told)
        topics = ["a/b", "a/+", "#", "", "a\0b", "a", "x" * 70_000]
        data = [b"1", b"2", b"3", b"4", b"5", b"6" * 300, b"7"]
        out.send(Messages(["k"] * 7, data, topics))
        out.drain()
        out.close()
    assert (told, out.refused) == ([b"1"], 6)


@pytest.mark.parametrize(("version", "code"), [(V5, 0x86), (V5, 0x87), (V311, 4), (V311, 5)])
def test_a_broker_that_refuses_for_good_ends_it(version: int, code: int) -> None:
    with Broker(Faults(welcome=[code])) as broker:
        out = publisher(broker, [], version=version, username="u", password="secret")
        with pytest.raises(Refused, match=f"0x{code:02x}") as refused:
            out.send(messages(1))
    assert "secret" not in str(refused.value)
    assert broker.connects == [("c", "u", "secret")]


def test_a_quality_that_is_not_granted_ends_it() -> None:
    with Broker(Faults(qos_max=0)) as broker:
        with pytest.raises(Refused, match="QoS 0 at most"):
            publisher(broker, []).send(messages(1))
        out = publisher(broker, [], qos=0)
        out.send(messages(1))
        out.drain()
        out.close()
    assert out.accepted == 1


def test_a_broker_that_is_busy_is_asked_again() -> None:
    told: list[bytes] = []
    with Broker(Faults(drop=[1], welcome=[0, 0x89, 0x88])) as broker:
        out = publisher(broker, told)
        out.send(messages(3))
        out.drain()
        out.close()
    assert sorted(told) == messages(3).data
    assert len(broker.connects) == 4


def test_no_broker_at_the_start_is_told_at_once() -> None:
    with Broker() as broker:
        port = broker.port
    out = Publisher(Server("127.0.0.1", port), sleep=lambda seconds: None)
    with pytest.raises(UnavailableError, match="cannot connect"):
        out.send(messages(1))


def test_a_broker_that_stays_away_ends_it_in_time() -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    with Broker(Faults(drop=[1], welcome=[0, *[0x88] * 100])) as broker:
        out = Publisher(Server("127.0.0.1", broker.port), now=lambda: clock[0], sleep=sleep)
        with pytest.raises(UnavailableError, match="since 120 s"):
            out.send(messages(1))
            out.drain()
        out.close()
    assert 120 < clock[0] < 135
    assert len(broker.connects) < 25


@pytest.mark.slow
def test_a_broker_that_takes_nothing_is_given_up() -> None:
    with Broker(Faults(drop=[1] * 100)) as broker:
        out = publisher(broker, [])
        with pytest.raises(UnavailableError, match="10 connections broke"):
            out.send(messages(5))
            out.drain()
        out.close()
    assert len(broker.connects) == 11


def test_a_broker_that_owes_acknowledgements_is_left() -> None:
    clock = [0.0]
    with Broker(Faults(mute=1)) as broker:
        out = Publisher(
            Server("127.0.0.1", broker.port), now=lambda: clock[0], sleep=lambda seconds: None
        )
        out.send(messages(2))
        out.tend()
        assert out.reconnects == 0
        clock[0] += mqtt_publish.SILENT_SECONDS_MAX + 1
        out.drain()
        out.close()
    assert (out.accepted, out.reconnects) == (2, 1)


def test_an_idle_connection_is_kept_alive() -> None:
    clock = [0.0]
    with Broker() as broker:
        out = Publisher(Server("127.0.0.1", broker.port), now=lambda: clock[0])
        out.tend()  # before the first message there is no connection to keep
        out.send(messages(1))
        out.drain()
        for _ in range(4):
            clock[0] += mqtt_publish.KEEP_ALIVE_SECONDS / 2 + 1
            out.tend()
            out.tend()
        arrive(lambda: broker.pings == 4)
        out.close()
    assert broker.pings == 4 and out.reconnects == 0


def arrive(there: Callable[[], bool]) -> None:
    """Wait for what the thread of the broker is to see."""
    pause = threading.Event()
    for _ in range(1000):
        if there():
            return
        pause.wait(0.01)


def self_signed(folder: Path) -> tuple[str, str]:
    """A certificate of this machine that is its own authority, and its key: names of files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=20_000))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(paths[0]), str(paths[1])


def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=cert)
    server_side.load_cert_chain(cert, key)
    server_side.verify_mode = ssl.CERT_REQUIRED
    told: list[bytes] = []
    with Broker(tls=server_side) as broker:
        out = publisher(broker, told, tls=Certificates(cert, cert, key).context())
        out.send(messages(20_000))
        out.drain()
        out.close()
        with pytest.raises(UnavailableError, match="certificate verify failed"):
            publisher(broker, [], tls=ssl.create_default_context()).send(messages(1))
    assert told == messages(20_000).data


@pytest.mark.slow
@pytest.mark.parametrize("tell", [True, False])
def test_several_processes_send_each_key_in_order(tell: bool) -> None:
    told: list[bytes] = []
    sent = messages(6_000)
    with Broker() as broker:
        out = Publishers(Server("127.0.0.1", broker.port), 2, accept=told.extend if tell else None)
        for first in range(0, 6_000, 500):
            out.send(sent.part(first, first + 500))
            out.tend()
        out.drain()
        assert (out.sent, out.accepted, out.refused) == (6_000, 6_000, 0)
        out.close()
    assert sorted(told) == (sorted(sent.data) if tell else [])
    assert {client for client, _, _ in broker.connects} == {
        "streamgauge-fleet-0", "streamgauge-fleet-1",
    }  # fmt: skip
    for topic in set(sent.topics):
        own = [data for t, data in zip(sent.topics, sent.data, strict=True) if t == topic]
        assert [data for t, data, _ in broker.taken if t == topic] == own


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_told() -> None:
    with Broker(Faults(welcome=[0x87] * 2)) as broker:
        out = Publishers(Server("127.0.0.1", broker.port), 2)
        with pytest.raises(Exception, match="0x87"):
            out.send(messages(100))
            out.drain()
        out.close()
