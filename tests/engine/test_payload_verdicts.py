"""Every payload of the table has its verdict, the same by every way of reading it."""

import dataclasses
import re
import sys

import pytest
from payloads import CASES, GOOD, QUICK, SCHEMA, agree, bits, message, verdicts

from streamgauge.engine import decode
from streamgauge.engine.decode import Decoder


@pytest.mark.parametrize("name", CASES)
def test_a_case_has_its_verdict(name: str) -> None:
    data, expected = CASES[name]
    (verdict,) = agree([data])
    assert verdict == expected if isinstance(verdict, str) else expected == GOOD


def test_cases_do_not_disturb_each_other() -> None:
    payloads = [data for data, _ in CASES.values()]
    each = [verdicts(QUICK, [data])[0] for data in payloads]
    assert verdicts(QUICK, payloads) == each
    assert verdicts(QUICK, payloads[::-1]) == each[::-1]


def test_halves_in_neighbouring_payloads_make_no_record() -> None:
    payloads = [b'{"device":"d","ts":1}', b'{"device":"d"', b'"ts":1}', b'{"device":"d","ts":1}']
    found = verdicts(QUICK, payloads)
    assert [isinstance(verdict, str) for verdict in found] == [False, True, True, False]


def test_great_depth_is_refused_at_once() -> None:
    hostile = [b'{"device":"d","ts":1,"x":' + b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000]
    for data in hostile:
        assert verdicts(QUICK, [data]) == ["too_deep"]


def test_the_process_may_limit_the_digits_of_integers() -> None:
    before = sys.get_int_max_str_digits()
    try:
        for limit in (640, 0):
            sys.set_int_max_str_digits(limit)
            assert verdicts(QUICK, [message('"x":' + "9" * 1000)])[0][0] == "d"
            assert verdicts(QUICK, [message('"x":' + "9" * 9000)])[0][0] == "d"
            assert verdicts(QUICK, [message('"value":' + "9" * 9000)]) == ["number_range"]
    finally:
        sys.set_int_max_str_digits(before)


def test_the_table_is_not_only_of_one_kind() -> None:
    reasons = {expected for _, expected in CASES.values()}
    documented = set(re.findall(r"^\| ([a-z_0-9, ]+) \|", decode.__doc__ or "", re.MULTILINE))
    codes = {code for row in documented for code in row.split(", ") if "_" in code}
    assert codes | {"surrogate", GOOD} >= reasons
    assert len(reasons) > 12


def test_a_schema_with_a_name_that_a_struct_cannot_have_is_read_the_exact_way() -> None:
    schema = dataclasses.replace(SCHEMA, fields=('a"b', "value"))
    found = verdicts(Decoder(schema), [message('"a\\"b":5,"value":1'), b"{}"])
    assert found == [("d", 1, bits(5), bits(1)), "device_missing"]
