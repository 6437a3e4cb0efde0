"""What the demo puts into its stream: real telemetry, aggregated as the KPL does, and some dirt."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.errors import StreamgaugeError
from ..engine.kpl import aggregate, hash_key

EXAMPLE = Path(__file__).parent.parent / "examples" / "machine-temperature"
READINGS = "machine-temperature-system-failure.csv"
DEVICE = "machine"
SHARDS = 2
USERS_MAX = 20  # user records an aggregate: 100 minutes of readings, well within what is retained
SENT_TWICE = 100  # every so many records, one is sent again, as after an answer that was lost
PUT_MAX = 500  # records of one PutRecords call

BROKEN = (  # payloads of the kinds that devices and gateways have been seen to send
    b'{"device":"machine","timestamp":"2013-12-05 10:02:00","val',
    b'{"device":"machine","timestamp":"2013-12-19 08:00:00","value":NaN}',
    b'{"device":"machine","timestamp":"2013-12-24 12:00:00","value":"81.3"}',
    b'{"device":"machine","timestamp":"next Tuesday","value":81.3}',
    b'{"timestamp":"2014-01-09 16:40:00","value":80.9}',
    b'{"device":"machine","timestamp":"2014-01-15 00:00:00","note":"\xb0F","value":88.1}',
    b"[81.3, 81.4, 81.6]",
    b"\x00\x01\x02\xff gateway restarted",
)


class Message(NamedTuple):
    """A user record to be sent."""

    key: str
    data: bytes


@dataclass
class Sent:
    """What was sent: the payload of every user record in order, and the broken ones of them."""

    payloads: list[bytes] = field(default_factory=list)
    broken: list[bytes] = field(default_factory=list)
    records: int = 0  # Kinesis records


@contextmanager
def in_process() -> Iterator[Any]:
    """A Kinesis client of a service that is in this process: no network, no account.

    Raises:
        StreamgaugeError: moto is not installed.
    """
    with ExitStack() as stack:
        stack.enter_context(_fake_account())
        try:
            from moto import mock_aws
        except ImportError:
            raise StreamgaugeError(
                "the demo's in-process stream needs moto: pip install 'streamgauge[demo]'"
            ) from None
        stack.enter_context(mock_aws())
        from ..engine.aws import make_client

        yield make_client("kinesis")


@contextmanager
def _fake_account() -> Iterator[None]:
    """No setting of the shell leads to a real account, or past the service in this process."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    os.environ.update(
        AWS_ACCESS_KEY_ID="testing",
        AWS_SECRET_ACCESS_KEY="testing",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    )
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(before)


def messages() -> list[Message]:
    """The machine's readings in their order, with the broken payloads spread among them.

    Raises:
        StreamgaugeError: the data are not there.
    """
    path = EXAMPLE / READINGS
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [(row["timestamp"], row["value"]) for row in csv.DictReader(file)]
    except OSError as error:
        raise StreamgaugeError(f"the demo's readings: {path}: {error.strerror}") from error
    text = '{{"device":"{}","timestamp":"{}","value":{}}}'
    found = [Message(DEVICE, text.format(DEVICE, *row).encode()) for row in rows]
    apart = len(found) // (len(BROKEN) + 1)
    for number, data in reversed(list(enumerate(BROKEN, 1))):
        found.insert(number * apart, Message(f"gateway-{number}", data))
    return found


def send(client: Any, stream: str, told: Iterable[Message]) -> Sent:
    """Make the stream and put the messages into it, aggregated; some records are sent twice."""
    client.create_stream(StreamName=stream, ShardCount=SHARDS)
    sent = Sent()
    entries: list[dict[str, Any]] = []
    for users in _aggregates(told):
        sent.records += 1
        again = sent.records % SENT_TWICE == 0
        data = aggregate([(key, data, None) for key, data in users])
        for _ in range(1 + again):
            entries.append({"Data": data, "PartitionKey": users[0].key})
            sent.payloads += [data for _, data in users]
            sent.broken += [data for _, data in users if data in BROKEN]
        sent.records += again
    for start in range(0, len(entries), PUT_MAX):
        answer = client.put_records(StreamName=stream, Records=entries[start : start + PUT_MAX])
        if answer["FailedRecordCount"]:
            raise StreamgaugeError("the in-process stream refused records")
    return sent


def _aggregates(told: Iterable[Message]) -> Iterator[list[Message]]:
    """Messages of one shard together, in their order, at most USERS_MAX."""
    buffers: dict[int, list[Message]] = {}
    for message in told:
        shard = hash_key(message.key.encode()) * SHARDS >> 128
        buffer = buffers.setdefault(shard, [])
        buffer.append(message)
        if len(buffer) == USERS_MAX:
            yield buffers.pop(shard)
    yield from buffers.values()
