"""Aggregated records packed and opened again, as this project, by hand and as others do it."""

import base64
import hashlib
import subprocess
import sys

import pytest
from aggregates import USERS, opened, piece, record, rows, seal, user
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.engine.batch import NO_TIME, Record
from streamgauge.engine.kpl import MAGIC, aggregate, deaggregate, hash_key


def test_user_records_come_out_in_order_with_their_keys_and_positions() -> None:
    users, rejected = opened(aggregate(USERS))
    assert not rejected
    expected = [(k, d, None if h is None else str(h)) for k, d, h in USERS]
    assert rows(users) == expected
    assert users.shard_id == "shard" and users.sequences == ["7"]
    assert users.record.tolist() == [0] * 4 and users.sub.tolist() == [0, 1, 2, 3]
    assert users.aggregated.all() and users.arrival.tolist() == [9] * 4


def test_plain_records_pass_as_they_are() -> None:
    payloads = [b"", b"x", MAGIC[:3], b"\x00" + MAGIC, b"{}" * 50]
    given = [record(data, str(n), f"k{n}") for n, data in enumerate(payloads)]
    users, rejected = deaggregate(given)
    assert not rejected and users.data == payloads and users.hash_keys is None
    assert users.keys == [b"k0", b"k1", b"k2", b"k3", b"k4"]
    assert users.record.tolist() == [0, 1, 2, 3, 4] and not users.sub.any()
    assert users.sequences == ["0", "1", "2", "3", "4"] and not users.aggregated.any()


def test_plain_and_aggregated_records_in_one_slice() -> None:
    given = [
        record(b"p", "1"),
        record(aggregate(USERS[:2]), "2"),
        record(MAGIC, "3"),
        Record(shard_id="shard", sequence_number="4", data=b"q", partition_key="\u00e9"),
        record(aggregate(USERS[2:3]), "5"),
    ]
    users, rejected = deaggregate(given)
    assert users.data == [b"p", b"one", b"two", b"q", b""]
    assert [str(users.position(row)) for row in range(5)] == [
        "shard:1:0", "shard:2:0", "shard:2:1", "shard:4:0", "shard:5:0",
    ]  # fmt: skip
    assert users.aggregated.tolist() == [False, True, True, False, True]
    assert users.arrival.tolist() == [9, 9, 9, NO_TIME, 9]
    assert users.keys == [b"outer", b"a", b"b", "\u00e9".encode(), b"a"]
    assert users.hash_keys == [None, None, "5", None, str((1 << 128) - 1)]
    assert [str(row.at) for row in rejected] == ["shard:3:0"]


def test_no_records() -> None:
    users, rejected = deaggregate([])
    assert len(users) == 0 and rejected == []


def test_a_record_that_its_host_has_opened_is_left_alone() -> None:
    inner = aggregate(USERS)
    given = [record(data, sub_sequence_number=n) for n, data in enumerate([b"x", inner, MAGIC])]
    users, rejected = deaggregate(given)
    assert users.data == [b"x", inner, MAGIC] and users.sub.tolist() == [0, 1, 2]
    assert users.aggregated.tolist() == [False, True, True] and not rejected


def test_records_opened_by_a_host_beside_others() -> None:
    given = [
        record(b"x", "1", sub_sequence_number=5),
        record(aggregate(USERS), "2"),
        record(MAGIC, "3"),
        record(b"y", "4", sub_sequence_number=6),
        record(b"z", "5"),
    ]
    users, _ = deaggregate(given)
    assert users.sub.tolist() == [5, 0, 1, 2, 3, 6, 0]


def test_an_aggregate_inside_an_aggregate_is_not_opened() -> None:
    inner = aggregate(USERS)
    users, rejected = opened(aggregate([("k", inner, None)]))
    assert users.data == [inner] and not rejected


def test_keys_that_are_no_utf8_are_kept() -> None:
    users, rejected = opened(aggregate([(b"\xff\xfe", b"x", None), ("\ud800", b"y", None)]))
    assert users.keys == [b"\xff\xfe", b"\xed\xa0\x80"] and not rejected
    users, _ = opened(seal(piece(1, b"k") + piece(2, b"\xff") + user(0, b"x", 0)))
    assert users.hash_keys == ["\\xff"]
    users, _ = deaggregate([record(b"x", key="\ud800")])
    assert users.keys == [b"\xed\xa0\x80"]


KEYS = st.binary(max_size=8) | st.sampled_from([b"a", b"b", b"k" * 300])
EXPLICIT = st.none() | st.integers(0, (1 << 128) - 1) | st.sampled_from([0, 1])
DATA = st.binary(max_size=20) | st.sampled_from([b"", b"x" * 127, b"x" * 128, b"\x1a" * 300])
MANY = st.lists(st.tuples(KEYS, DATA, EXPLICIT), min_size=1, max_size=30)


@settings(deadline=None, max_examples=examples(100))
@given(MANY)
def test_what_was_packed_comes_out(some: list[tuple[bytes, bytes, int | None]]) -> None:
    users, rejected = opened(aggregate(some))
    assert not rejected
    assert rows(users) == [(k, d, None if h is None else str(h)) for k, d, h in some]
    assert users.sub.tolist() == list(range(len(some)))


@settings(deadline=None, max_examples=examples(60))
@given(MANY)
def test_an_own_writer_and_this_one_write_the_same_bytes(
    some: list[tuple[bytes, bytes, int | None]],
) -> None:
    keys = list(dict.fromkeys(key for key, _, _ in some))
    hashes = list(dict.fromkeys(explicit for _, _, explicit in some if explicit is not None))
    body = b"".join(piece(1, key) for key in keys)
    body += b"".join(piece(2, str(explicit).encode()) for explicit in hashes)
    for key, data, explicit in some:
        body += user(keys.index(key), data, None if explicit is None else hashes.index(explicit))
    assert aggregate(some) == seal(body)


@pytest.mark.parametrize("size", [(1 << 14) - 1, 1 << 14, (1 << 21) - 1, 1 << 21, 9 << 20])
def test_lengths_around_the_borders_of_a_varint(size: int) -> None:
    users, rejected = opened(aggregate([("k", b"x" * size, None), ("k", b"y", 1)]))
    assert list(map(len, users.data)) == [size, 1] and not rejected


def test_what_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="at least one"):
        aggregate([])
    for explicit in (-1, 1 << 128):
        with pytest.raises(ValueError, match="outside"):
            aggregate([("k", b"", explicit)])


def test_hash_keys() -> None:
    assert hash_key(b"key") == int(hashlib.md5(b"key").hexdigest(), 16)
    assert hash_key(b"key", "0") == 0
    assert hash_key(b"key", str((1 << 128) - 1)) == (1 << 128) - 1
    for odd in ("", "-1", "x", "1.0", " 1", str(1 << 128), "9" * 5000, "\u0661"):
        assert hash_key(b"key", odd) == hash_key(b"key")


# --- the library that others use ----------------------------------------------------------------

COMPARE = """
import sys
from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records
import base64
for line in sys.stdin:
    data = base64.b64decode(line)
    rows = deaggregate_records({"kinesis": {"kinesisSchemaVersion": "1.0", "sequenceNumber": "1",
        "partitionKey": "p", "approximateArrivalTimestamp": 1, "data": base64.b64encode(data)}})
    print([(row["kinesis"]["partitionKey"], row["kinesis"].get("explicitHashKey"),
        base64.b64decode(row["kinesis"]["data"])) for row in rows])
packer = RecordAggregator()
for n in range(50):
    packer.add_user_record(f"k{n % 7}", b"data %d" % n, str(n % 3))
print([base64.b64encode(packer.clear_and_get().get_contents()[2])])
"""


def test_the_reference_library_reads_and_writes_the_same() -> None:
    """In a process of its own: its import puts modules of common names in front of sys.path."""
    packs = [
        [("k", b"one", None)],
        [(f"k{n % 5}", b"x" * n, None) for n in range(200)],
        [("\u00e9", b"", n) for n in range(3)],
    ]
    lines = [base64.b64encode(aggregate(pack)).decode() for pack in packs]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPARE],
        input="\n".join(lines), capture_output=True, text=True, check=True,
    )  # fmt: skip
    *theirs, packed = map(eval, done.stdout.splitlines())
    for pack, found in zip(packs, theirs, strict=True):
        assert found == [(k, None if h is None else str(h), d) for k, d, h in pack]
        ours = opened(aggregate(pack))[0]
        assert [(k.decode(), h, d) for k, d, h in rows(ours)] == found
    users, rejected = opened(base64.b64decode(packed[0]))
    assert not rejected
    assert rows(users) == [(b"k%d" % (n % 7), b"data %d" % n, str(n % 3)) for n in range(50)]
    assert "aws_kinesis_agg" not in sys.modules
