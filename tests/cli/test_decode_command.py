"""`streamgauge decode`: user records and rejected records out of files, and the comparison."""

import base64
import gzip
import hashlib
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamgauge import Record
from streamgauge import __main__ as entry
from streamgauge.cli.decode_compare import Library
from streamgauge.engine.errors import StreamgaugeError
from streamgauge.engine.kpl import MAGIC, aggregate

USERS: list[tuple[str | bytes, bytes, int | None]] = [
    ("a", b'{"device":"a"}', None),
    ("b", b"\xff", 5),
]


def line(data: bytes, number: int = 1, shard: str = "s-1") -> bytes:
    keys = {
        "ShardId": shard,
        "SequenceNumber": str(number),
        "ApproximateArrivalTimestamp": 1.5,
        "Data": base64.b64encode(data).decode(),
        "PartitionKey": "outer",
    }
    return json.dumps(keys).encode() + b"\n"


def bad_index() -> bytes:
    body = b"\x0a\x01k" + b"\x1a\x05\x08\x00\x1a\x010" + b"\x1a\x05\x08\x01\x1a\x011"
    body += b"\x1a\x05\x08\x00\x1a\x012"
    return MAGIC + body + hashlib.md5(body).digest()


class Result:
    """How a run of the command ended."""

    def __init__(self, status: int, out: bytes, err: str) -> None:
        self.status = status
        self.rows = [json.loads(text) for text in out.splitlines()]
        self.err = err


@pytest.fixture
def decode(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    def decode(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "argv", ["streamgauge", "decode", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfdbinary.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, out, err.decode())

    return decode


def test_user_records_of_a_file(decode: Any, tmp_path: Path) -> None:
    file = tmp_path / "records.ndjson"
    file.write_bytes(line(b"plain", 1) + line(aggregate(USERS), 2) + line(b"other", 1, "s-2"))
    done = decode("--input", str(file))
    assert done.status == 0
    keys = ["shard_id", "sequence_number", "sub_sequence_number", "aggregated", "partition_key",
            "explicit_hash_key", "data"]  # fmt: skip
    assert [list(row) for row in done.rows] == [keys] * 4
    assert [list(row.values())[:6] for row in done.rows] == [
        ["s-1", "1", 0, False, "outer", None],
        ["s-1", "2", 0, True, "a", None],
        ["s-1", "2", 1, True, "b", "5"],
        ["s-2", "1", 0, False, "outer", None],
    ]
    data = [base64.b64decode(row["data"]) for row in done.rows]
    assert data == [b"plain", b'{"device":"a"}', b"\xff", b"other"]
    assert done.err == (
        "3 Kinesis records: 4 user records (2 of them from aggregates), 0 rejected\n"
    )


def test_packed_files_and_standard_input(decode: Any, tmp_path: Path) -> None:
    file = tmp_path / "records.ndjson.gz"
    file.write_bytes(gzip.compress(line(b"x")))
    expected = decode("--input", str(file)).rows
    assert len(expected) == 1
    assert decode("--input", "-", stdin=line(b"x")).rows == expected
    assert decode(stdin=line(b"x")).rows == expected
    assert decode(stdin=line(b"x")[:-1]).rows == expected
    assert decode(stdin=line(b"x").replace(b"\n", b"\r\n")).rows == expected
    assert decode(stdin=b"").rows == []


def test_what_cannot_be_opened_stands_in_its_place(decode: Any) -> None:
    broken = aggregate(USERS)[:-1]
    lines = [line(b"x", 1), line(broken, 2), line(bad_index(), 3), line(b"y", 4)]
    done = decode(stdin=b"".join(lines))
    assert done.status == 0
    found = [(row["sequence_number"], row["sub_sequence_number"], row.get("reason"),
              base64.b64decode(row["data"])) for row in done.rows]  # fmt: skip
    assert found == [
        ("1", 0, None, b"x"),
        ("2", 0, "bad_digest", broken),
        ("3", 0, None, b"0"),
        ("3", 1, "key_index", b"1"),
        ("3", 2, None, b"2"),
        ("4", 0, None, b"y"),
    ]
    assert done.rows[1]["stage"] == "deaggregate" and done.rows[1]["position"] == "s-1:2:0"
    assert done.err.endswith("4 user records (2 of them from aggregates), 2 rejected\n")


def test_a_bad_line_ends_it_with_file_and_line(decode: Any, tmp_path: Path) -> None:
    file = tmp_path / "records.ndjson"
    file.write_bytes(line(b"x", 1) + b"{}\n" + line(b"y", 2))
    done = decode("--input", str(file))
    assert done.status == 1
    assert f"{file}: line 2: no Kinesis record" in done.err
    gone = decode("--input", str(tmp_path / "gone"))
    assert gone.status == 1 and "gone" in gone.err and "Traceback" not in gone.err


def test_wrong_usage(decode: Any) -> None:
    assert decode("--compare", "nothing").status == 2
    assert decode("extra").status == 2


def test_help_has_an_example(decode: Any, capfdbinary: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["streamgauge", "decode", "--help"])
    with pytest.raises(SystemExit):
        entry.main()
    out = capfdbinary.readouterr().out.decode()
    assert "Example: streamgauge decode --input" in out and "aws-kinesis-agg" in out


def compare(lines: bytes) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "streamgauge", "decode", "--compare", "aws-kinesis-agg"],
        input=lines, capture_output=True, check=False,
    )  # fmt: skip
    return (
        done.returncode,
        [json.loads(row) for row in done.stdout.splitlines()],
        done.stderr.decode(),
    )


def test_the_reference_agrees_on_good_input() -> None:
    users = [(f"k{n % 3}", b"%d" % n, n) for n in range(20)]
    good = line(b"plain") + line(aggregate(users), 2) + line(aggregate(USERS[:1]), 3)
    status, rows, err = compare(good)
    assert (status, rows) == (0, [])
    assert err.endswith("differences to aws-kinesis-agg: 0 dropped, 0 garbled, 0 passed on\n")


def test_the_reference_differs_on_bad_input() -> None:
    bad = line(aggregate(USERS)[:-1], 1) + line(bad_index(), 2) + line(aggregate(USERS), 3)
    status, rows, err = compare(bad + line(aggregate([(b"\xff", b"x", None)]), 4))
    assert status == 1
    found = [(row["kind"], row["sequence_number"], row["sub_sequence_number"], row["field"],
              row["streamgauge"]) for row in rows]  # fmt: skip
    assert found[:4] == [
        ("passed_on", "1", 0, "record", "rejected: bad_digest"),
        ("dropped", "2", 1, "record", "rejected: key_index"),
        ("dropped", "2", 2, "record", "a user record"),
        ("garbled", "3", 0, "explicit_hash_key", None),
    ]
    assert all(row["sequence_number"] == "4" for row in rows[4:]) and len(rows) > 4
    kinds = Counter(row["kind"] for row in rows)
    assert err.endswith(
        f"{kinds['dropped']} dropped, {kinds['garbled']} garbled, {kinds['passed_on']} passed on\n"
    )


def test_the_library_stays_out_of_this_process(decode: Any) -> None:
    path = list(sys.path)
    done = decode("--compare", "aws-kinesis-agg", stdin=line(aggregate(USERS)[:-1]))
    assert done.status == 1 and [row["kind"] for row in done.rows] == ["passed_on"]
    assert sys.path == path and "messages_pb2" not in sys.modules


def test_the_death_of_the_library_s_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with Library() as library:
        library._process.kill()
        library._process.wait()
        with pytest.raises(StreamgaugeError, match="ended on the records from s:7 on"):
            library.open([Record("s", "7", b"x", "k")])


def test_without_the_library_it_says_how_to_have_it(
    decode: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "aws_kinesis_agg.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = decode("--compare", "aws-kinesis-agg", stdin=line(b"x"))
    assert done.status == 1 and "pip install 'streamgauge[interop]'" in done.err
