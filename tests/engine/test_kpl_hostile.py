"""Every way in which an aggregated record can be broken or hostile: nothing gets lost."""

import tracemalloc

import pytest
from aggregates import USERS, opened, piece, record, rows, seal, user, varint
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.engine import kpl, wire
from streamgauge.engine.kpl import MAGIC, aggregate, deaggregate


def refused_whole(data: bytes) -> str:
    """Check that a record is rejected as one, with all its bytes; the reason."""
    users, rejected = opened(data)
    assert len(users) == 0
    (row,) = rejected
    assert (row.stage, row.data, row.rule) == ("deaggregate", data, None)
    assert (str(row.at), row.arrival_time, row.partition_key) == ("shard:7:0", 9, "outer")
    assert row.message.startswith("aggregate: ")
    return row.reason


def test_cut_at_every_byte() -> None:
    whole = aggregate(USERS)
    for size in range(4, len(whole)):
        assert refused_whole(whole[:size]) == "bad_digest"
    for size in range(4):  # too short to have the magic: no payload either
        assert opened(whole[:size])[0].data == [whole[:size]]


def test_every_bit_flipped() -> None:
    whole = aggregate(USERS)
    for bit in range(32, len(whole) * 8):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        assert refused_whole(bytes(broken)) == "bad_digest"


def test_every_bit_of_the_body_flipped_and_signed_again() -> None:
    body = aggregate(USERS)[4:-16]
    for bit in range(len(body) * 8):
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        users, rejected = opened(seal(bytes(changed)))
        assert len(users) or rejected, "nothing may get lost"
        if len(users):
            subs = [*users.sub.tolist(), *(row.at.sub_sequence_number for row in rejected)]
            assert sorted(subs) == list(range(len(subs)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (MAGIC, "bad_digest"),
        (MAGIC + b"x" * 16, "bad_digest"),
        (seal(b""), "bad_digest"),
        (MAGIC + b'{"device":"d"}' + b"x" * 16, "bad_digest"),
        (seal(b"\x00"), "bad_body"),
        (seal(b"\x0a"), "bad_body"),
        (seal(b"\x0a\xff\xff\xff\xff\x07"), "bad_body"),
        (seal(b"\x0a" + b"\xff" * 9 + b"\x7f"), "bad_body"),
        (seal(b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), "bad_body"),
        (seal(b"\x1c"), "bad_body"),
        (seal(b"\x1b" * 10_000), "bad_body"),
        (seal(b"\x23" * 10_000 + b"\x24" * 10_000), "bad_body"),
        (seal(piece(1, b"k") + piece(3, piece(3, b"x"))), "bad_body"),
        (seal(piece(1, b"k") + piece(3, b"\x08\x00")), "bad_body"),
        (seal(piece(1, b"k") + user(0, b"x") + piece(3, b"")), "bad_body"),
        (seal(piece(1, b"k") + piece(3, b"\x0a\x00" + piece(3, b"x"))), "bad_body"),
        (seal(piece(9, b"x" * 200_000)), "bad_body"),
        (seal(b"\x18\x05"), "bad_body"),
        (seal(b'{"device":"d","ts":1}'), "bad_body"),
    ],
)
def test_a_record_that_is_rejected_whole(data: bytes, reason: str) -> None:
    assert refused_whole(data) == reason


def test_a_good_group_is_an_unknown_field() -> None:
    body = piece(1, b"k") + b"\x23\x08\x01\x24" + user(0, b"x")
    users, rejected = opened(seal(body))
    assert users.data == [b"x"] and not rejected


def test_keys_alone_are_no_user_record_and_nothing_is_lost() -> None:
    users, rejected = opened(seal(piece(1, b"k") + piece(2, b"5")))
    assert len(users) == 0 and rejected == []


Y = user(0, b"y")


@pytest.mark.parametrize(
    "body",
    [
        user(0, b"x") + piece(1, b"k") + user(0, b"y"),
        piece(3, piece(3, b"x") + b"\x08\x00") + user(0, b"y") + piece(1, b"k"),
        piece(1, b"k", 5) + piece(3, b"\x88\x80\x00\x80\x80\x00" + piece(3, b"x", 4)) + Y,
        piece(1, b"k") + piece(3, b"\x08\x05\x08\x00" + piece(3, b"z") + piece(3, b"x")) + Y,
        piece(1, b"k") + piece(3, b"\x08\x00" + piece(3, b"x") + piece(4, b"\x0a\x01t")) + Y,
        piece(9, b"?") + piece(1, b"k") + b"\x48\x01" + user(0, b"x") + user(0, b"y") + b"\x4d1234",
    ],
    ids=["table last", "odd order", "long varints", "repeated scalars", "tags", "unknown"],
)  # fmt: skip
def test_odd_but_valid_bodies(body: bytes) -> None:
    users, rejected = opened(seal(body))
    assert rows(users) == [(b"k", b"x", None), (b"k", b"y", None)] and not rejected


def test_an_index_out_of_range_rejects_its_user_record_alone() -> None:
    absent = (1 << 64) - 1
    body = piece(1, b"k") + piece(2, b"5")
    body += user(0, b"0", 0) + user(1, b"1") + user(0, b"2", 1) + user(absent, b"3")
    body += user(0, b"4", absent) + user(9, b"5", 9) + user(0, b"6") + user(1 << 40, b"7", 0)
    users, rejected = opened(seal(body))
    assert rows(users) == [(b"k", b"0", "5"), (b"k", b"6", None)]
    assert users.sub.tolist() == [0, 6]
    found = [(row.at.sub_sequence_number, row.data, row.reason) for row in rejected]
    assert found == [(n, b"%d" % n, "key_index") for n in (1, 2, 3, 4, 5, 7)]
    assert rejected[0].message == "key index 1: the table of the aggregate holds 1"
    assert rejected[1].message == "explicit hash key index 1: the table of the aggregate holds 1"
    assert [row.partition_key for row in rejected] == ["outer", "k", "outer", "k", "outer", "outer"]


@pytest.mark.parametrize("index", [0, (1 << 64) - 1])
def test_an_explicit_index_without_a_table_is_out_of_range(index: int) -> None:
    users, rejected = opened(seal(piece(1, b"k") + user(0, b"x") + user(0, b"y", index)))
    assert users.data == [b"x"] and users.hash_keys is None
    assert [row.data for row in rejected] == [b"y"]


def test_one_bad_aggregate_among_500() -> None:
    good = aggregate([("k", b"%d" % n, None) for n in range(10)])
    bad = seal(piece(1, b"k") + b"".join(user(n == 4, b"%d" % n) for n in range(10)))
    given = [record(bad if n == 250 else good, str(n)) for n in range(500)]
    users, rejected = deaggregate(given)
    assert len(users) == 4999
    assert [str(row.at) for row in rejected] == ["shard:250:4"]
    assert users.position(2504) == ("shard", "250", 5)


def test_rejected_records_stand_in_order() -> None:
    bad = seal(piece(1, b"k") + user(3, b"0") + user(0, b"1") + user(3, b"2"))
    given = [record(bad, "1"), record(MAGIC, "2"), record(bad, "3"), record(MAGIC, "4")]
    users, rejected = deaggregate(given)
    assert users.data == [b"1", b"1"]
    assert [str(row.at)[6:] for row in rejected] == ["1:0", "1:2", "2:0", "3:0", "3:2", "4:0"]


INDEXES = st.integers(0, 2)
HOSTILE = st.one_of(
    st.binary(max_size=80),
    st.lists(
        st.one_of(
            st.sampled_from([b"\x0a", b"\x12", b"\x1a", b"\x08", b"\x10", b"\x1b", b"\x1c"]),
            st.integers(0, 200).map(varint),
            st.integers(0, (1 << 70)).map(varint),
            st.binary(max_size=4),
            st.builds(piece, st.integers(1, 5), st.binary(max_size=6)),
            st.builds(user, INDEXES, st.binary(max_size=4), st.none() | INDEXES),
        ),
        max_size=12,
    ).map(b"".join),
)  # fmt: skip


@settings(deadline=None, max_examples=examples(300))
@given(HOSTILE)
def test_hostile_bodies_signed_with_a_good_digest(body: bytes) -> None:
    users, rejected = opened(seal(body))
    whole = [row for row in rejected if row.reason != "key_index"]
    if whole:
        assert len(users) == 0 and [row.data for row in rejected] == [seal(body)]
    else:
        subs = [*users.sub.tolist(), *(row.at.sub_sequence_number for row in rejected)]
        assert sorted(subs) == list(range(len(subs)))


@settings(deadline=None, max_examples=examples(60))
@given(st.binary(max_size=40))
def test_random_bytes_behind_the_magic(data: bytes) -> None:
    assert refused_whole(MAGIC + data) == "bad_digest"


# --- caps ---------------------------------------------------------------------------------------


def tiny(count: int) -> bytes:
    return b"\x1a\x04\x08\x00\x1a\x00" * count


def test_a_mebibyte_of_empty_user_records() -> None:
    body = piece(1, b"k") + tiny(174_757)
    data = seal(body)
    assert len(data) <= 1 << 20
    users, rejected = opened(data)
    assert len(users) == 174_757 and not rejected
    assert users.sub[-1] == 174_756 and set(users.keys) == {b"k"}


def test_the_memory_that_empty_user_records_take() -> None:
    data = seal(piece(1, b"k") + tiny(100_000))
    tracemalloc.start()
    users, _ = opened(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(users) == 100_000 and peak < 10 * len(data)


def test_a_dense_body_in_pieces_is_read_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = b"".join(user(n % 3, b"", None if n % 2 else 0) for n in range(30_000))
    body = inside + piece(1, b"a") + piece(1, b"b") + piece(2, b"5") + piece(9, b"?" * 200)
    assert len(list(wire.pieces(body))) > 2 and b"".join(wire.pieces(body)) == body
    pieced = opened(seal(body))
    monkeypatch.setattr(wire, "PIECE_BYTES", 1 << 30)
    whole = opened(seal(body))
    assert rows(pieced[0]) == rows(whole[0]) and pieced[1] == whole[1]
    assert len(pieced[0]) == 20_000 and len(pieced[1]) == 10_000


@pytest.mark.parametrize(
    "end", [b"\x1a\x04\x08", b"\x0a\xff\xff\xff\xff\xff\x01", b"\x1b", b"\x1a\x02\x08\x00", b"\x00"]
)
def test_a_dense_body_with_a_bad_end_is_rejected_whole(end: bytes) -> None:
    assert refused_whole(seal(piece(1, b"k") + tiny(30_000) + end)) == "bad_body"


@pytest.mark.parametrize("other", [b"\x48\x01", piece(20, b"x" * 9), b"\x23\x08\x01\x24"])
def test_a_dense_body_may_hold_other_fields(other: bytes) -> None:
    body = piece(1, b"k") + tiny(20_000) + other + tiny(20_000)
    users, rejected = opened(seal(body))
    assert len(users) == 40_000 and not rejected


def test_a_dense_body_is_not_cut_inside_a_field_that_looks_like_fields() -> None:
    looks = piece(20, b"?" + tiny(2_944))
    assert looks[:5] == b"\xa2\x01\x81\x8a\x01"  # read as fields, each seems to end in the next
    users, rejected = opened(seal(piece(1, b"k") + tiny(10_000) + looks + tiny(20_000)))
    assert len(users) == 30_000 and not rejected


def test_more_user_records_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kpl, "USER_RECORDS_MAX", 20_000)
    assert len(opened(seal(piece(1, b"k") + tiny(20_000)))[0]) == 20_000
    assert refused_whole(seal(piece(1, b"k") + tiny(20_001))) == "too_many_records"


@pytest.mark.slow
def test_the_largest_record_of_a_stream_cannot_hold_more() -> None:
    assert refused_whole(seal(piece(1, b"k") + tiny((10 << 20) // 6 - 10))) == "too_many_records"


def test_a_larger_record_than_a_stream_takes() -> None:
    assert refused_whole(MAGIC + b"x" * kpl.AGGREGATE_BYTES_MAX) == "too_large"
