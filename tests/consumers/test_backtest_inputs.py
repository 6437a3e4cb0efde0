"""What the back-test reads: every line becomes one record, or is named in an error."""

import base64
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge import Pipeline, Record
from streamgauge.consumers import backtest, inputs
from streamgauge.consumers.backtest import (
    batches,
    guess_format,
    read,
    read_csv,
    read_kinesis,
    read_ndjson,
    run,
)
from streamgauge.consumers.csv_rows import Row
from streamgauge.consumers.inputs import Input
from streamgauge.consumers.totals import Totals
from streamgauge.engine.batch import NO_TIME
from streamgauge.engine.counts import Counts
from streamgauge.engine.errors import InputError
from streamgauge.engine.kpl import MAGIC

TOML = """
[pipeline]
name = "pumps"
[record]
device = "device"
time = "ts"
[[rules]]
name = "low"
sql = "SELECT * FROM '#'"
measure = "flow"
fire_when = "below"
threshold = 31.0
min_samples = 1
"""

Write = Callable[..., Input]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes a file and opens it; closed at the end of the test."""
    with ExitStack() as stack:

        def write(data: bytes, name: str = "input.ndjson") -> Input:
            path = tmp_path / name
            path.write_bytes(data)
            return stack.enter_context(closing(Input(str(path))))

        yield write


def csv_rows(source: Input) -> list[Row]:
    return list(read_csv(source, "file"))


def messages(rows: Iterable[Row]) -> list[Any]:
    return [json.loads(row.data) if not row.fault else row.line for row in rows]


def kinesis_line(sequence: str, shard: str = "shardId-000000000000") -> bytes:
    data = base64.b64encode(b"{}").decode()
    fields = {"SequenceNumber": sequence, "Data": data, "PartitionKey": "a", "ShardId": shard}
    return json.dumps({**fields, "ApproximateArrivalTimestamp": 1.5}).encode() + b"\n"


# --- lines


@given(
    lines=st.lists(st.binary(max_size=8).filter(lambda x: b"\n" not in x and b"\r" not in x)),
    ending=st.sampled_from([b"\n", b"\r\n"]),
    block=st.integers(1, 7),
    last=st.booleans(),
)
def test_lines_do_not_depend_on_the_blocks_read(
    lines: list[bytes], ending: bytes, block: int, last: bool, tmp_path_factory: Any
) -> None:
    text = b"".join(line + ending for line in lines)
    if not last and text:
        text = text.removesuffix(ending)
        if not lines[-1]:
            lines = lines[:-1]
    path = tmp_path_factory.mktemp("lines") / "input"
    path.write_bytes(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "BLOCK_BYTES", block)
        source = Input(str(path))
        assert [(source.line, line) for line in source.lines()] == list(enumerate(lines, 1))
        source.close()
        source = Input(str(path))
        assert source.peek() == text.partition(b"\n")[0]
        assert b"".join(source.lines(line_ends=True)) == text
        assert source.bytes_read == source.total == len(text)
        source.close()


def test_gz_is_unpacked_by_its_name(write: Write) -> None:
    source = write(gzip.compress(b"a\nb\n"), "input.ndjson.gz")
    assert list(source.lines()) == [b"a", b"b"]


def test_damaged_gz_is_named_after_what_could_be_read(write: Write) -> None:
    source = write(gzip.compress(b"a\n" * 1000)[:-9], "input.gz")
    with pytest.raises(InputError, match=r"input\.gz: line 1001: cannot go on"):
        list(source.lines())


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a":1}\n')))
    source = Input("-")
    assert (source.name, source.total, guess_format(source)) == ("standard input", None, "ndjson")
    assert [record.data for record in read_ndjson(source)] == [b'{"a":1}']
    assert source.bytes_read == 0
    source.close()
    assert not sys.stdin.buffer.closed


@pytest.mark.parametrize("name", [".", "missing.ndjson"])
def test_input_that_cannot_be_opened(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=": (Is a directory|No such file or directory)"):
        Input(str(tmp_path / name))


def test_lines_are_bounded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "LINE_BYTES_MAX", 100)
    source = write(b"a\n" + b"b" * 101)
    with pytest.raises(InputError, match="line 2 is longer than 100 bytes"):
        list(source.lines())
    source = write(b"b" * 101)
    with pytest.raises(InputError, match="line 1 is longer than 100 bytes"):
        source.peek()


# --- ndjson


def test_each_line_is_a_user_record(write: Write) -> None:
    source = write(b'{"a":1}\r\n\n\xff\n \n{"a":2}')
    assert list(read_ndjson(source)) == [
        Record("file", str(number), data, sub_sequence_number=0)
        for number, data in enumerate([b'{"a":1}', b"", b"\xff", b" ", b'{"a":2}'], 1)
    ]


def test_line_numbers_go_on_from_block_to_block(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 4)
    source = write(b"a\nb\nccc\n\nd\n")
    assert [(x.sequence_number, x.data) for x in read_ndjson(source)] == [
        ("1", b"a"), ("2", b"b"), ("3", b"ccc"), ("4", b""), ("5", b"d"),
    ]  # fmt: skip
    source.close()


def test_lines_in_batches_are_the_same_user_records(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 16)
    monkeypatch.setattr(backtest, "BATCH_RECORDS_MAX", 3)
    text = b'{"a":1}\r\n\n\xff\n \n' + MAGIC + b'\nx\n{"a":2}'
    singly = list(read_ndjson(write(text)))
    opened = list(batches(write(text), "ndjson"))
    assert len(opened) > 2
    assert [(u.sequences[r], d) for u in opened for r, d in zip(u.record, u.data, strict=True)] == [
        (record.sequence_number, record.data) for record in singly
    ]
    for users in opened:
        assert not users.sub.any() and not users.aggregated.any()
        assert (users.arrival == NO_TIME).all() and set(users.keys) == {b""}


# --- csv


def test_rows_become_objects(write: Write) -> None:
    source = write(
        b"\xef\xbb\xbfdevice,at.ts, flow,No.,,at.zone\r\n"
        b"p1,1500,-1.50e3,1,x,UTC\r\n"
        b'"p ""2""",, 7 ,+1,,"a,b"\r\n'
    )
    rows = csv_rows(source)
    assert [row.data for row in rows] == [
        b'{"device":"p1","at":{"ts":1500,"zone":"UTC"},"flow":-1.50e3,"No.":1}',
        b'{"device":"p \\"2\\"","flow":7,"No.":"+1","at":{"zone":"a,b"}}',
    ]
    assert [(row.shard_id, row.sequence_number) for row in rows] == [("file", "2"), ("file", "3")]


@pytest.mark.parametrize("text", ["0", "-0", "12.50", "1e5", "1E-2", "123456789012345678901"])
def test_numeric_text_becomes_a_number_digit_by_digit(text: str, write: Write) -> None:
    source = write(f"x\n{text}\n".encode())
    assert [row.data for row in csv_rows(source)] == [f'{{"x":{text}}}'.encode()]


@pytest.mark.parametrize("text", ["5.", ".5", "+5", "007", "1_0", "NaN", "0x1", "1e", "true", "٣"])
def test_other_text_stays_text(text: str, write: Write) -> None:
    source = write(f"x\n{text}\n".encode())
    assert messages(csv_rows(source)) == [{"x": text}]


def test_what_is_no_row_keeps_its_bytes(write: Write) -> None:
    long = b"9" * 200_000
    source = write(b'a,b\n1\n1,2,3\n\n1,\xff\n"1"x,2\n"1\n2",3\n' + long + b',1\r\n5,6\n"7,\n8,9')
    rows = csv_rows(source)
    assert [(row.sequence_number, row.line) for row in rows] == [
        ("2", b"1"), ("3", b"1,2,3"), ("4", b""), ("5", b"1,\xff"), ("6", b'"1"x,2'),
        ("7", b'"1\n2",3'), ("9", long + b",1"), ("10", b"5,6"), ("11", b'"7,\n8,9'),
    ]  # fmt: skip
    assert [row.fault.split(":")[0] for row in rows] == [
        "1 cells where line 1 names 2 fields", "3 cells where line 1 names 2 fields",
        "0 cells where line 1 names 2 fields", "no UTF-8", "no row of a CSV file", "",
        "no row of a CSV file", "", "no row of a CSV file",
    ]  # fmt: skip
    assert [row.data for row in rows if row.fault] == [b""] * 7
    assert messages(row for row in rows if not row.fault) == [
        {"a": "1\n2", "b": 3},
        {"a": 5, "b": 6},
    ]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"a,b,a", "two columns give the field 'a'"),
        (b"a,a.b", "two columns give the field 'a.b'"),
        (b"a.b.c,a.b", "two columns give the field 'a.b'"),
        (b"a,\xff", "no UTF-8"),
        (b'"a', "no row of a CSV file"),
    ],
)
def test_headers_that_cannot_be(header: bytes, message: str, write: Write) -> None:
    source = write(header + b"\n1,2\n", "input.csv")
    with pytest.raises(InputError, match=f"input.csv: line 1: {message}"):
        csv_rows(source)


@pytest.mark.parametrize("data", [b"", b"a,b\n", b"a,b"])
def test_csv_without_rows(data: bytes, write: Write) -> None:
    source = write(data)
    assert csv_rows(source) == []


# --- kinesis


def test_kinesis_lines(write: Write) -> None:
    source = write(kinesis_line("10") + kinesis_line("11", "s2"))
    assert guess_format(source) == "kinesis"
    assert list(read(source, "kinesis")) == [
        Record("shardId-000000000000", "10", b"{}", "a", 1500),
        Record("s2", "11", b"{}", "a", 1500),
    ]


def sequences(write: Write, *numbers: int) -> list[str]:
    source = write(b"".join(kinesis_line(str(number)) for number in numbers))
    return [record.sequence_number for record in read_kinesis(source)]


BIG = 49590338271490256608559692538361571095921575989136588898


@pytest.mark.parametrize(
    "numbers",
    [(1, 1), (1, 2, 2, 3), (1, 2, 3, 1, 2, 3, 4), (1, 2, 3, 2, 1, 3, 1, 4, 4), (BIG, BIG + 5, BIG)],
)
def test_repeats_are_passed_on(numbers: tuple[int, ...], write: Write) -> None:
    assert sequences(write, *numbers) == [str(number) for number in numbers]


@pytest.mark.parametrize(
    "numbers", [(2, 1), (1, 3, 2), (1, 2, 4, 2, 3), (BIG + 2, BIG), (1, 3, 5, 1, 2), (5, 5, 4)]
)
def test_going_back_to_what_was_never_read(numbers: tuple[int, ...], write: Write) -> None:
    message = (
        rf"input\.ndjson: line {len(numbers)}: sequence number {numbers[-1]} .* never|not read"
    )
    with pytest.raises(InputError, match=message):
        sequences(write, *numbers)


def test_shards_have_orders_of_their_own(write: Write) -> None:
    source = write(
        b"".join([kinesis_line("5", "a"), kinesis_line("1", "b"), kinesis_line("6", "a")])
    )
    assert len(list(read_kinesis(source))) == 3


@given(st.lists(st.integers(0, 12), max_size=40))
def test_order_is_checked_as_a_set_would(numbers: list[int]) -> None:
    from streamgauge.consumers.backtest import _Numbers

    shard, seen = _Numbers(), set[int]()
    for number in numbers:
        expected = number in seen or number > max(seen, default=-1)
        assert shard.take(number) is expected
        if not expected:
            break
        seen.add(number)


# --- formats


@pytest.mark.parametrize(
    ("name", "data", "form"),
    [
        ("a.csv", b'{"a":1}', "csv"),
        ("a.csv.gz", gzip.compress(b"a\n", mtime=0), "csv"),
        ("a.ndjson", b'{"SequenceNumber":"1"}', "ndjson"),
        ("a.ndjson.gz", gzip.compress(kinesis_line("1")), "kinesis"),
        ("a.json", kinesis_line("1"), "kinesis"),
        ("a", b"\xff\n", "ndjson"),
        ("a", b"", "ndjson"),
    ],
)
def test_formats_are_guessed(name: str, data: bytes, form: str, write: Write) -> None:
    source = write(data, name)
    assert guess_format(source) == form


# --- run


def lines(count: int) -> list[Record]:
    return [
        Record("file", str(n), json.dumps({"device": "p", "ts": n, "flow": 40 - n}).encode())
        for n in range(1, count + 1)
    ]


@pytest.fixture
def load(tmp_path: Path) -> Callable[[], Pipeline]:
    path = tmp_path / "pumps.toml"
    path.write_text(TOML)
    return lambda: Pipeline.load(path)


def test_batches_are_bounded_by_records_and_by_bytes(load: Callable[[], Pipeline]) -> None:
    records = lines(10)
    sizes = [outcome.counts.records for outcome in run(load(), records, batch_records=4)]
    assert sizes == [4, 4, 2]
    bound = len(records[0].data) + 1
    sizes = [outcome.counts.records for outcome in run(load(), records, batch_bytes=bound)]
    assert sizes == [2] * 5


def test_totals_do_not_depend_on_the_batches(load: Callable[[], Pipeline]) -> None:
    records = [*lines(20), Record("file", "21", b"no"), Record("file", "22", b"")]
    sums = []
    for size in (1, 7, 100):
        totals = Totals(Counts(["low"]))
        for outcome in run(load(), records, batch_records=size):
            totals.add(outcome)
        sums.append((totals.counts.as_dict(), totals.reasons, totals.states, totals.unread))
    assert sums[0] == sums[1] == sums[2]
    assert sums[0][0]["records"] == 22
    assert sums[0][2:] == ({"firing": 1}, 2)


def test_rejected_rows_carry_their_lines(load: Callable[[], Pipeline], write: Write) -> None:
    source = write(b"device,ts,flow\np,1,x\np,2\np,3,40\n,4,1\n")
    (outcome,) = run(load(), read(source, "csv"))
    assert sorted((row.at.sequence_number, row.rule, row.data) for row in outcome.rejected) == [
        ("2", "low", b"p,1,x"), ("3", None, b"p,2"), ("5", None, b",4,1"),
    ]  # fmt: skip
    reasons = {row.at.sequence_number: (row.reason, row.message) for row in outcome.rejected}
    assert reasons["3"] == ("csv", "2 cells where line 1 names 3 fields")
    assert reasons["2"][0] != "csv"
    assert outcome.counts.samples == 1


def test_a_line_is_never_opened_as_an_aggregate(load: Callable[[], Pipeline], write: Write) -> None:
    line = MAGIC + b"what could be an aggregate with a wrong digest"
    (outcome,) = run(load(), read(write(line), "ndjson"))
    assert [(row.stage, row.data) for row in outcome.rejected] == [("decode", line)]
