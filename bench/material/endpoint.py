"""A stand-in for the endpoint of Kinesis, which writes answers that were made before.

It runs as a process of its own, so that its work is not counted with that of the one who reads, and
imports nothing that takes long. A folder holds the bodies of GetRecords: `<stream>/<number>.json`,
one shard a stream. Every other stream takes PutRecords, has `PUT_SHARDS` shards, and is kept in
`<stream>.ndjson`, an entry a line and when it came, where its name begins with `kept`. It listens
on 127.0.0.1, prints its port, and ends when its standard input does, as when the parent is gone, or
after `SECONDS_MAX`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECONDS_MAX = 3600.0
END_SECONDS_MAX = 10.0
ANSWER_BYTES_MAX = 10 << 20  # of the data in one answer of GetRecords
ANSWER_RECORDS_MAX = 10_000
TARGET = "Kinesis_20131202."
PUT_SHARDS = 4
HASH_KEYS = 1 << 128


def write(folder: Path, stream: str, records: Sequence[Mapping[str, Any]], many: int) -> int:
    """Write the answers that give these records, `many` in each; returns how many answers."""
    (folder / stream).mkdir()
    parts = [records[first : first + many] for first in range(0, len(records), many)]
    for number, part in enumerate(parts):
        assert len(part) <= ANSWER_RECORDS_MAX, "more than the service would give"
        assert sum(len(record["Data"]) for record in part) <= ANSWER_BYTES_MAX
        answer = {
            "MillisBehindLatest": len(parts) - number - 1,
            "Records": [_written(record) for record in part],
        }
        if number + 1 < len(parts):  # there is none at the end of a closed shard
            answer["NextShardIterator"] = iterator(stream, number + 1)
        (folder / stream / f"{number}.json").write_text(json.dumps(answer, separators=(",", ":")))
    return len(parts)


def iterator(stream: str, number: int) -> str:
    """Where the answer of this number is read."""
    return f"{stream}/{number}"


def _written(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as it stands in an answer."""
    arrival: datetime = record["ApproximateArrivalTimestamp"]
    return {
        "ApproximateArrivalTimestamp": arrival.timestamp(),
        "Data": base64.b64encode(record["Data"]).decode(),
        "PartitionKey": record["PartitionKey"],
        "SequenceNumber": record["SequenceNumber"],
    }


@contextmanager
def running(folder: Path, shard: str) -> Iterator[str]:
    """Serve the answers in a folder while this lasts; gives the URL of the endpoint."""
    command = [sys.executable, "-I", __file__, str(folder), shard]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            port = process.stdout.readline().decode().strip()
            if not port:
                raise RuntimeError("the endpoint did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            try:
                process.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()


class Handler(BaseHTTPRequestHandler):
    """One connection: three operations, each answered out of memory."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    bodies: dict[str, bytes]
    shard: str
    folder: Path
    lock = threading.Lock()

    def do_POST(self) -> None:
        """Answer a call."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers.get("X-Amz-Target", "").removeprefix(TARGET)
        status, body = 200, self._answer(operation, request)
        if body is None:
            status, body = 400, b'{"__type":"InvalidArgumentException","message":"not known here"}'
        self.send_response(status)
        self.send_header("x-amzn-RequestId", "00000000-0000-0000-0000-000000000000")
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, operation: str, request: Mapping[str, Any]) -> bytes | None:
        """The body of an answer; None for what this endpoint does not know."""
        if operation == "GetRecords":
            return self.bodies.get(request["ShardIterator"])
        to_read = iterator(request["StreamName"], 0) in self.bodies
        if operation == "PutRecords" and not to_read:
            return self._put(request["StreamName"], request["Records"])
        if operation == "ListShards":
            names = [self.shard] if to_read else list(map(_put_shard, range(PUT_SHARDS)))
            return json.dumps({"Shards": _shards(names)}).encode()
        if not to_read:
            return None
        if operation == "GetShardIterator" and request["ShardIteratorType"] == "TRIM_HORIZON":
            return json.dumps({"ShardIterator": iterator(request["StreamName"], 0)}).encode()
        return None

    def _put(self, stream: str, entries: Sequence[Mapping[str, Any]]) -> bytes | None:
        """Take entries, each into the shard of its hash key."""
        told = []
        if not all(entry.get("ExplicitHashKey", "0").isdecimal() for entry in entries):
            return None
        for number, entry in enumerate(entries):
            key = entry.get("ExplicitHashKey")
            digest = hashlib.md5(entry["PartitionKey"].encode(), usedforsecurity=False).digest()
            place = int.from_bytes(digest, "big") if key is None else int(key)
            shard = _put_shard(place * PUT_SHARDS // HASH_KEYS)
            told.append({"ShardId": shard, "SequenceNumber": str(number + 1)})
        if stream.startswith("kept"):
            with self.lock, open(self.folder / f"{stream}.ndjson", "a", encoding="utf-8") as file:
                at = time.monotonic()
                file.writelines(json.dumps({**entry, "At": at}) + "\n" for entry in entries)
        return json.dumps({"FailedRecordCount": 0, "Records": told}).encode()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _put_shard(number: int) -> str:
    return f"shardId-{number:012}"


def _shards(names: Sequence[str]) -> list[dict[str, Any]]:
    """The list of shards, whose ranges share all hash keys out between them."""
    ends = [HASH_KEYS * number // len(names) for number in range(len(names) + 1)]
    return [
        {
            "ShardId": name,
            "HashKeyRange": {
                "StartingHashKey": str(ends[number]),
                "EndingHashKey": str(ends[number + 1] - 1),
            },
            "SequenceNumberRange": {"StartingSequenceNumber": "1"},
        }
        for number, name in enumerate(names)
    ]


def serve(folder: Path, shard: str) -> None:
    """Answer until standard input ends; the body of the process."""
    Handler.bodies = {
        iterator(path.parent.name, int(path.stem)): path.read_bytes()
        for path in folder.glob("*/*.json")
    }
    Handler.shard, Handler.folder = shard, folder
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        worker = threading.Thread(target=server.serve_forever, daemon=True)
        worker.start()
        limit = threading.Timer(SECONDS_MAX, server.shutdown)
        limit.daemon = True
        limit.start()
        ended = threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True)
        ended.start()
        print(server.server_port, flush=True)
        worker.join()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
