"""Limits as lines: what is written is read back, and what is wrong is named by its line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.cli.threshold_lines import PROBLEMS_MAX, Row, content, lines, packed, read, row_of
from streamgauge.engine.errors import ConfigError
from streamgauge.engine.limits import Entry
from streamgauge.engine.stores.thresholds import FileThresholds

RULES = ("overheating", "frost")
HEADER = "device,rule,value,clear_margin,version,effective_from\n"

Limits = dict[tuple[str, str], list[Entry]]
ENTRIES = st.builds(
    Entry,
    value=st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-9),
    clear_margin=st.none() | st.sampled_from([0.0, 0.1, 2.5]),
    version=st.none()
    | st.integers(-(10**38) + 1, 10**38 - 1)
    | st.text(max_size=5)
    | st.sampled_from(["7", "null", "1.5", '"x"', " a", "=1+1", "-", "true", "[]"]),
    effective_from=st.none() | st.integers(0, 253402300799999),
)
ODD = ["=1+1", "'", "'=x", "''", "-5", "a,b", 'a"b', "a\nb", "a\r\nb", " ", "\ufeff", "null", "é"]
KEYS = st.tuples(st.text(min_size=1, max_size=9) | st.sampled_from(ODD), st.sampled_from(RULES))
LIMITS = st.dictionaries(KEYS, st.lists(ENTRIES, min_size=1, max_size=17), max_size=5)


def rows_of(limits: Limits) -> list[Row]:
    return [row_of(*name, entry) for name, entries in limits.items() for entry in entries]


@pytest.mark.parametrize("form", ["ndjson", "csv"])
@settings(max_examples=examples(50))
@given(limits=LIMITS)
def test_what_is_written_is_read_back(form: str, limits: Limits) -> None:
    found = read(lines(rows_of(limits), form), form, "f", RULES)
    assert {(one.device, one.rule): one.entries for one in found} == limits
    assert all(one.exact for one in found)


@settings(max_examples=examples(20))
@given(limits=LIMITS)
def test_the_back_test_reads_the_same(
    limits: Limits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lines") / "limits.ndjson.gz"
    path.write_bytes(packed(lines(rows_of(limits), "ndjson"), path))
    assert FileThresholds(path).read(list(limits)) == limits
    assert content(str(path)) == (lines(rows_of(limits), "ndjson"), str(path))


@settings(max_examples=examples(50))
@given(limits=LIMITS)
def test_no_cell_is_a_formula(limits: Limits) -> None:
    text = lines(rows_of(limits), "csv").decode()
    for row in list(csv.reader(io.StringIO(text, newline="")))[1:]:
        for cell in (row[0], row[1]):
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        for cell in row[2:]:
            assert not cell.startswith(("=", "+", "@", "\t", "\r"))
            assert not cell.startswith("-") or float(cell) <= 0  # a number


def test_csv_by_example() -> None:
    text = (
        "\ufeffvalue, device ,rule,site,version,effective_from,clear_margin\r\n"
        "75,t-1,overheating,north,,,\r\n"
        "\r\n"
        " -0.5 ,'=x,frost,,v2,1700000000000,0.25\r\n"
        '1e1,\'abc,frost,,"""7""",,\r\n'
        '"80","t,2",overheating,,null,,\r\n'
    )
    assert [(one.device, one.rule, one.entries, one.exact) for one in
            read(text.encode(), "csv", "f", RULES)] == [
        ("t-1", "overheating", [Entry(75.0)], False),
        ("=x", "frost", [Entry(-0.5, 0.25, "v2", 1_700_000_000_000)], True),
        ("'abc", "frost", [Entry(10.0, None, "7")], True),
        ("t,2", "overheating", [Entry(80.0)], True),
    ]  # fmt: skip


def test_ndjson_by_example() -> None:
    rows: list[Any] = [
        {"device": 7, "rule": "frost", "value": 1, "clear_margin": None, "site": "north"},
        {"device": "7", "rule": "overheating", "value": 2, "version": None},
        {"device": "t", "rule": "frost", "value": 3, "effective_from": 5},
        {"device": "t", "rule": "frost", "value": 4, "effective_from": 6},
    ]
    text = "\ufeff" + "\n \n".join(map(json.dumps, rows))
    assert [(one.device, one.rule, one.entries, one.exact, one.lines) for one in
            read(text.encode(), "ndjson", "f", RULES)] == [
        ("7", "frost", [Entry(1.0)], False, ["f:1"]),
        ("7", "overheating", [Entry(2.0)], True, ["f:3"]),
        ("t", "frost", [Entry(3.0, None, None, 5), Entry(4.0, None, None, 6)], False,
         ["f:5", "f:7"]),
    ]  # fmt: skip


GOOD = b'{"device":"a","rule":"frost","value":1}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1]", "expected one JSON object, found [1]"),
        (b"{", "expected one JSON object, found '{': "),
        (b"\xff", "expected one JSON object, found '"),
        (b"[" * 100_000, "expected one JSON object, found '[[["),
        (b'{"device":"b"}', "expected the keys device, rule and value; missing: rule, value"),
        (b'{"device":"b","rule":"frosty","value":1}', "rule: the pipeline has none called 'fro"),
        (b'{"device":"b","rule":7,"value":1}', "rule: the pipeline has none called 7 (the rules"),
        (b'{"device":"","rule":"frost","value":1}', "device: expected a text of 1 to 2,048 bytes"),
        (b'{"device":true,"rule":"frost","value":1}', "device: expected a text of 1 to 2,048 byt"),
        (b'{"device":"' + b"x" * 2049 + b'","rule":"frost","value":1}', "device: expected a text"),
        (b'{"device":"b","rule":"frost","value":"x"}', "device 'b', rule 'frost': value: expected"),
        (b'{"device":"b","rule":"frost","value":1e300}', "device 'b', rule 'frost': value: expect"),
        (b'{"device":"b","rule":"frost","value":1,"effective_from":1.5}', "device 'b', rule 'fros"),
        (GOOD.strip(), "device 'a', rule 'frost': a limit for the same time stands in f:1 already"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(line: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(GOOD + line + b"\n" + GOOD.replace(b'"a"', b'"z"'), "ndjson", "f", RULES)
    (problem,) = caught.value.problems
    assert problem.where == "f:2"
    assert problem.message.startswith(message)
    assert len(str(problem)) < 250


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("device,value\n", "f:1", f"expected a header that names {HEADER.strip()}; missing: rule"
         .replace(",", ", ").replace("  ", " ")),
        ("device,rule,value,value\n", "f:1", "expected a header that names device, rule, value, c"),
        (HEADER + "b,frost\n", "f:2", "expected 6 cells as in the header, found 2"),
        (HEADER + '"b"c,frost,1,,,\n', "f:2", "expected a row of CSV: "),
        (HEADER + '"b\n\nc,frost,1,,,\n', "f:4", "expected a row of CSV: unexpected end of data"),
        (HEADER + "b,frost,,,,\n", "f:2", "expected the keys device, rule and value; missing: val"),
        (HEADER + "b,frost,075,,,\n", "f:2", "device 'b', rule 'frost': value: expected a finite "),
        (HEADER + "b,frost,NaN,,,\n", "f:2", "device 'b', rule 'frost': value: expected a finite "),
        (HEADER + "b,frost,1,,1.5,\n", "f:2", "device 'b', rule 'frost': version: expected an int"),
        (HEADER + "b,frost,1,,,2026-01-01T00:00Z\n", "f:2", "device 'b', rule 'frost': effective_"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(text: str, where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text.encode(), "csv", "f", RULES)
    (problem,) = caught.value.problems
    assert problem.where == where
    assert problem.message.startswith(message)


def test_all_bad_lines_are_counted_and_as_many_listed_as_can_be_read() -> None:
    with pytest.raises(ConfigError) as caught:
        read(b"[]\n" * (PROBLEMS_MAX + 7), "ndjson", "f", RULES)
    assert len(caught.value.problems) == PROBLEMS_MAX + 1
    assert str(caught.value.problems[-1]) == "f: error: 7 more lines are wrong"


def test_a_history_has_seventeen_lines_at_most() -> None:
    line = b'{"device":"a","rule":"frost","value":1,"version":1}\n'
    assert len(read(line * 17, "ndjson", "f", RULES)[0].entries) == 17
    with pytest.raises(ConfigError, match="^f:18: error: .*expected at most 17 lines, found one m"):
        read(line * 18, "ndjson", "f", RULES)


def test_a_file_that_is_not_packed_is_left_as_it_is() -> None:
    assert packed(b"x", Path("a.csv")) == b"x"
    assert packed(b"x", Path("a.csv.gz")) == packed(b"x", Path("b.gz")) != b"x"
