"""docs/migrate-kinesis-agg.md: its code runs as printed, and each difference it names is there.

The library runs in a process of its own: its import changes sys.path and sys.modules.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from streamgauge.engine.kpl import MAGIC, aggregate, deaggregate, hash_key

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "migrate-kinesis-agg.md"
HALF = 1 << 127
SPLIT = HALF - 1, (1 << 128) - 1  # the last hash keys of two shards

CHILD = """
import base64, json, sys
before = list(sys.path), set(sys.modules)
given = json.load(sys.stdin)
seen, puts = [], []

def work(key, data):
    seen.append([key, data.decode("latin-1") if isinstance(data, bytes) else "text: " + data])

class Client:
    def put_record(self, StreamName, Data, PartitionKey, ExplicitHashKey=None):
        hash_key = None if ExplicitHashKey is None else str(ExplicitHashKey)
        puts.append([PartitionKey, hash_key, base64.b64encode(Data).decode()])

exec(given["code"])
raised = ""
try:
    if given["name"] == "handler":
        handler({"Records": given["records"]}, None)
    elif given["name"] == "consume":
        for record in given["records"]:
            record["Data"] = base64.b64decode(record["Data"])
        consume(given["records"])
    else:
        produce(Client(), ((key, data.encode()) for key, data in given["records"]))
except Exception as error:
    raised = type(error).__name__
sys.path, path = before[0], list(sys.path)
left = sorted(m for m in set(sys.modules) - before[1] if m in ("messages_pb2", "config_pb2"))
print(json.dumps({"seen": seen, "puts": puts, "raised": raised,
                  "path_changed": path != before[0], "modules": left}))
"""


def code(title: str) -> str:
    """A block of the document, by the comment in its first line."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if block.startswith(f"# {title}\n"))
    return str(found)


def old(title: str, name: str, records: list[Any]) -> dict[str, Any]:
    """What came of an old block: what its work was called with, what it put, what it raised."""
    given = {"code": code(f"old: {title}"), "name": name, "records": records}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD],
        input=json.dumps(given), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    found["said"] = done.stderr
    return found


def new(title: str, name: str, *arguments: Any) -> tuple[list[Any], list[Any]]:
    """What came of a new block: what its work, and what its keep was called with."""
    seen: list[Any] = []
    kept: list[Any] = []
    names: dict[str, Any] = {
        "work": lambda key, data: seen.append([key, data.decode("latin-1")]),
        "keep": lambda at, reason, data: kept.append((str(at), reason, data)),
    }
    exec(compile(code(f"new: {title}"), title, "exec"), names)
    names[name](*arguments)
    return seen, kept


def event(*data: bytes) -> list[dict[str, Any]]:
    return [
        {
            "eventID": f"shardId-0:{number}",
            "kinesis": {
                "kinesisSchemaVersion": "1.0", "partitionKey": "outer",
                "sequenceNumber": str(number), "approximateArrivalTimestamp": 1.5,
                "data": base64.b64encode(one).decode(),
            },
        }
        for number, one in enumerate(data, 1)
    ]  # fmt: skip


def answer(*data: bytes) -> list[dict[str, Any]]:
    """The same records as GetRecords gives them, the data in base64 for the way to the child."""
    return [
        {"SequenceNumber": str(number), "PartitionKey": "outer",
         "ApproximateArrivalTimestamp": 1.5, "Data": base64.b64encode(one).decode()}
        for number, one in enumerate(data, 1)
    ]  # fmt: skip


def signed(body: bytes) -> bytes:
    return MAGIC + body + hashlib.md5(body).digest()


def user(fields: bytes) -> bytes:
    return b"\x1a" + bytes([len(fields)]) + fields


GOOD = aggregate([("a", b"1", None), ("b", b"2", None)])
KEYS = b"\x0a\x01a"
BAD_INDEX = signed(
    KEYS + user(b"\x08\x00\x1a\x011") + user(b"\x08\x07\x1a\x012") + user(b"\x08\x00\x1a\x013")
)
BAD_HASH_KEY = signed(
    KEYS + b"\x12\x015" + user(b"\x08\x00\x10\x09\x1a\x011") + user(b"\x08\x00\x10\x00\x1a\x012")
)


def test_good_records_come_out_the_same() -> None:
    given = (b"plain", GOOD)
    wanted = [["outer", "plain"], ["a", "1"], ["b", "2"]]
    assert old("in a Lambda function", "handler", event(*given))["seen"] == wanted
    lambda_ = new("in a Lambda function", "handler", {"Records": event(*given)}, None)
    assert lambda_ == (wanted, [])
    records = [
        {"SequenceNumber": str(number), "PartitionKey": "outer", "Data": one}
        for number, one in enumerate(given, 1)
    ]
    assert new("with boto3", "consume", records, "shardId-0") == (wanted, [])


def test_a_bad_index() -> None:
    there = old("in a Lambda function", "handler", event(BAD_INDEX, b"next"))
    assert there["seen"] == [["a", "1"], ["outer", "next"]] and not there["raised"]
    assert base64.b64encode(BAD_INDEX[4:-16]).decode() in there["said"]  # the payload, in a log
    seen, kept = new("in a Lambda function", "handler", {"Records": event(BAD_INDEX)}, None)
    assert (seen, kept) == ([["a", "1"], ["a", "3"]], [("shardId-0:1:1", "key_index", b"2")])


def test_a_bad_hash_key_index() -> None:
    there = old("in a Lambda function", "handler", event(b"first", BAD_HASH_KEY, b"next"))
    assert (there["seen"], there["raised"]) == ([["outer", "first"]], "IndexError")
    given = {"Records": event(b"first", BAD_HASH_KEY, b"next")}
    seen, kept = new("in a Lambda function", "handler", given, None)
    assert seen == [["outer", "first"], ["a", "2"], ["outer", "next"]]
    assert kept == [("shardId-0:2:0", "key_index", b"1")]


def test_a_wrong_digest() -> None:
    cut = GOOD[:-1]
    there = old("in a Lambda function", "handler", event(cut))
    assert there["seen"] == [["outer", cut.decode("latin-1")]]
    seen, kept = new("in a Lambda function", "handler", {"Records": event(cut)}, None)
    assert (seen, kept) == ([], [("shardId-0:1:0", "bad_digest", cut)])


def test_no_hash_key_beside_one() -> None:
    data = aggregate([("a", b"1", 5), ("b", b"2", None)])
    reading = code("old: with boto3").replace(
        'work(record["kinesis"]["partitionKey"], record["kinesis"]["data"])',
        'work(record["kinesis"]["partitionKey"], record["kinesis"]["explicitHashKey"])',
    )
    given = {"code": reading, "name": "consume", "records": answer(data)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD],
        input=json.dumps(given), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["seen"] == [["a", "text: 5"], ["b", "text: 5"]]
    from streamgauge import Record

    users, _ = deaggregate([Record("s", "1", data, "k")])
    assert users.hash_keys == ["5", None]


def test_data_is_bytes() -> None:
    there = old("with boto3", "consume", answer(b"plain", GOOD))
    assert there["seen"] == [["outer", "plain"], ["a", "MQ=="], ["b", "Mg=="]]


def test_the_import() -> None:
    there = old("in a Lambda function", "handler", [])
    assert there["path_changed"] and there["modules"] == ["config_pb2"]


class Client:
    """A stream of two shards in memory; every third entry is refused once."""

    def __init__(self) -> None:
        self.put: list[tuple[int, bytes]] = []
        self.seen = 0

    def list_shards(self, **_: Any) -> Any:
        first = (0, HALF)
        return {
            "Shards": [
                {"ShardId": f"shardId-{n}", "SequenceNumberRange": {"StartingSequenceNumber": "1"},
                 "HashKeyRange": {"StartingHashKey": str(first[n]), "EndingHashKey": str(last)}}
                for n, last in enumerate(SPLIT)
            ]
        }  # fmt: skip

    def put_records(self, Records: list[Any], **_: Any) -> Any:
        return {"Records": [self.take(entry) for entry in Records], "FailedRecordCount": 0}

    def take(self, entry: Any) -> Any:
        self.seen += 1
        if self.seen % 3 == 0:
            return {"ErrorCode": "InternalFailure", "ErrorMessage": "try again"}
        shard = int(int(entry["ExplicitHashKey"]) >= HALF)
        self.put.append((shard, entry["Data"]))
        return {"ShardId": f"shardId-{shard}", "SequenceNumber": str(len(self.put))}

    def users(self) -> list[tuple[int, bytes, bytes]]:
        """Shard, key and data of every user record, in the order of the puts."""
        from streamgauge import Record

        found = []
        for number, (shard, data) in enumerate(self.put):
            users, _ = deaggregate([Record("s", str(number), data, "lone")])
            found += [(shard, *pair) for pair in zip(users.keys, users.data, strict=True)]
        return found


READINGS = [(f"device-{number % 40}", f"reading {number} " + "x" * 200) for number in range(2000)]


def produced() -> Client:
    client = Client()
    readings = [(key, data.encode()) for key, data in READINGS]
    names: dict[str, Any] = {}
    exec(compile(code("new: the producer"), "producer", "exec"), names)
    names["produce"](client, readings)
    return client


def test_an_aggregate_keeps_to_one_shard() -> None:
    (put,) = old("one aggregator", "produce", [list(pair) for pair in READINGS])["puts"]
    from streamgauge import Record

    users, _ = deaggregate([Record("s", "1", base64.b64decode(put[2]), "k")])
    assert {hash_key(key) >= HALF for key in users.keys} == {False, True}
    aggregates = [data for _, data in produced().put if data.startswith(MAGIC)]
    assert len(aggregates) > 2
    for data in aggregates:
        users, _ = deaggregate([Record("s", "1", data, "k")])
        assert len({hash_key(key) >= HALF for key in users.keys}) == 1


def test_what_is_refused_goes_again() -> None:
    client = produced()
    assert client.seen > len(client.put)
    found: dict[bytes, list[bytes]] = {}
    for _, key, data in client.users():
        found.setdefault(key, []).append(data)
    wanted: dict[bytes, list[bytes]] = {}
    for name, text in READINGS:
        wanted.setdefault(name.encode(), []).append(text.encode())
    assert found == wanted


def test_sizes() -> None:
    (put,) = old("one aggregator", "produce", [list(pair) for pair in READINGS])["puts"]
    assert len(base64.b64decode(put[2])) > 400_000
    sizes = [len(data) for _, data in produced().put]
    assert 50_000 < max(sizes) <= 51_200


def test_the_summary_is_the_one_shown() -> None:
    mixed = aggregate([("a", b"1", 5), ("b", b"2", None)])
    lines = "".join(
        json.dumps({"ShardId": "s", **one}) + "\n"
        for one in answer(b"plain", GOOD, GOOD[:-1], BAD_INDEX, mixed)
    )
    done = subprocess.run(
        [sys.executable, "-m", "streamgauge", "decode", "--compare", "aws-kinesis-agg"],
        input=lines, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr in DOCUMENT.read_text()
    kinds = {json.loads(line)["kind"] for line in done.stdout.splitlines()}
    assert kinds == {"dropped", "garbled", "passed_on"}
