"""What the real KPL puts into a stream is read as it was put: its own program, a real server."""

from __future__ import annotations

import base64
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from servers import Ministack, need, need_jars

from streamgauge import Record
from streamgauge.engine.kpl import MAGIC, deaggregate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Unverified HTTPS request"),
]
SOURCE = Path(__file__).parent / "PutByKpl.java"
SHARDS = 4
COUNT = 4000

Put = tuple[str, int | None, bytes]


@pytest.fixture(scope="module")
def kinesis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a server over TLS, as the KPL speaks nothing else."""
    with Ministack(tmp_path_factory.mktemp("ministack"), tls=True) as server:
        config = Config(retries={"total_max_attempts": 1})
        client = boto3.client("kinesis", endpoint_url=server.url, verify=False, config=config)
        client.create_stream(StreamName="telemetry", ShardCount=SHARDS)
        yield client
        client.close()


def readings() -> list[Put]:
    """User records of many devices; the sizes cross those at which a length takes another byte."""
    draw = random.Random(7)
    sizes = [0, 1, 100, 127, 128, 300, 16_300, 16_384, 60_000]
    weights = [1, 1, 8, 8, 8, 8, 0.1, 0.1, 0.02]
    found = []
    for number in range(COUNT):
        key = draw.choice([f"t-{draw.randrange(300)}", f"gerät-{draw.randrange(9)}", "x" * 256])
        explicit = draw.choice([None, None, None, draw.randrange(1 << 128), 0, (1 << 128) - 1])
        (size,) = draw.choices(sizes, weights)
        found.append((key, explicit, b"%d " % number + draw.randbytes(size)))
    return found


def put_by_kpl(kinesis: Any, put: list[Put], folder: Path) -> list[tuple[str, str]]:
    """Have the KPL put them; shard and sequence number of each, as it tells."""
    jars = need_jars("kpl")
    compile_it = [need("javac"), "-cp", jars, "-d", folder, SOURCE]
    subprocess.run(compile_it, check=True, stdin=subprocess.DEVNULL)
    port = kinesis.meta.endpoint_url.rpartition(":")[2]
    command = [need("java"), "-Xmx256m", "-cp", f"{folder}:{jars}", "PutByKpl", "telemetry", port]
    lines = "".join(
        f"{encoded(key.encode())} {'-' if explicit is None else explicit} {encoded(data)}\n"
        for key, explicit, data in put
    )
    done = subprocess.run(
        [*command, folder], input=lines.encode(), stdout=subprocess.PIPE, check=True, timeout=180
    )
    found = [tuple(line.split(" ")) for line in done.stdout.decode().splitlines()]
    return [(shard, sequence) for shard, sequence in found]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read_back(kinesis: Any, shard: str) -> list[Record]:
    """Everything in a shard."""
    found: list[Record] = []
    where = {"StreamName": "telemetry", "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
    iterator = kinesis.get_shard_iterator(**where)["ShardIterator"]
    while True:
        answer = kinesis.get_records(ShardIterator=iterator)
        found += [
            Record(shard, row["SequenceNumber"], row["Data"], row["PartitionKey"])
            for row in answer["Records"]
        ]
        if not answer["Records"] and not answer["MillisBehindLatest"]:
            return found
        iterator = answer["NextShardIterator"]


def test_what_the_kpl_puts_is_read_as_it_was_put(kinesis: Any, tmp_path: Path) -> None:
    put = readings()
    told = put_by_kpl(kinesis, put, tmp_path)
    placed: dict[int, tuple[str, str]] = {}
    aggregates = 0
    for shard in kinesis.list_shards(StreamName="telemetry")["Shards"]:
        users, rejected = deaggregate(records := read_back(kinesis, shard["ShardId"]))
        assert not rejected
        aggregates += sum(record.data.startswith(MAGIC) for record in records)
        hash_keys = users.hash_keys or [None] * len(users)
        for row, (key, hash_key, data) in enumerate(
            zip(users.keys, hash_keys, users.data, strict=True)
        ):
            number = int(data.split(b" ", 1)[0])
            explicit = None if hash_key is None else int(hash_key)
            if not users.aggregated[row]:  # alone, so that no reader sees its hash key
                explicit = put[number][1]
            assert (key.decode(), explicit, data) == put[number]
            assert number not in placed
            placed[number] = shard["ShardId"], users.sequences[users.record[row]]
    assert [placed[number] for number in range(COUNT)] == told
    assert SHARDS < aggregates < COUNT / 20
