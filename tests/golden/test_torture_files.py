"""The committed torture file and its answers are what their script makes, no more and no less."""

from __future__ import annotations

import json
from typing import Any

import plain_kpl
import pytest
import torture
from plain_oracle import Oracle

TOML = (torture.HERE / "torture.toml").read_text()


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(TOML, torture.thresholds()).push(torture.users())


def states(oracle: Oracle, device: str) -> list[str]:
    return [alert["state"] for alert in oracle.alerts if alert["device"] == device]


def test_file_is_what_the_script_makes(tmp_path: Any) -> None:
    made = tmp_path / "made.ndjson"
    plain_kpl.write(made, torture.laid_out())
    assert made.read_text() == (torture.HERE / "torture.ndjson").read_text()
    assert torture.thresholds() == torture.THRESHOLDS


@pytest.mark.parametrize("name", ["alerts.ndjson", "statistics.ndjson", "rejected.ndjson"])
def test_answers_are_the_oracle_s(name: str) -> None:
    made = torture.expected(torture.users())[f"torture.{name}"]
    assert (torture.HERE / f"torture.{name}").read_text() == made


def test_counts_are_the_oracle_s(oracle: Oracle) -> None:
    assert json.loads((torture.HERE / "torture.counts.json").read_text()) == oracle.totals()


def test_every_user_record_has_one_verdict(oracle: Oracle) -> None:
    total = oracle.totals()
    verdicts = ("evaluated", "filtered", "duplicates", "rejected")
    assert total["records"] == sum(total[name] for name in verdicts)
    assert all(total.values())


def test_file_holds_what_it_is_for(oracle: Oracle) -> None:
    records = plain_kpl.read(torture.HERE / "torture.ndjson")
    sizes = {len(plain_kpl.opened(record)) for record in records}
    assert {0, 1, 2, 8} <= sizes
    assert len({len(record.sequence) for record in records}) == 2
    assert len({record.shard for record in records}) == 2
    reasons = {row["reason"] for row in oracle.rejected}
    assert reasons >= {
        "not_utf8", "byte_order_mark", "not_json", "too_deep", "surrogate", "not_object",
        "number_range", "device_missing", "device_type", "time_missing", "time_type", "time_range",
        "clock_skew", "measure_missing", "measure_type", "late", "overflow", "bad_digest",
        "bad_body", "key_index",
    }  # fmt: skip


def test_cases_end_as_told(oracle: Oracle) -> None:
    assert states(oracle, "equal-times") == ["firing", "resolved", "firing", "resolved"]
    assert states(oracle, "tie-58.54") == states(oracle, "tie-71.5") == []
    assert states(oracle, "tie-fire") == []
    assert states(oracle, "tie-clear") == states(oracle, "clear-margin") == ["firing", "resolved"]
    assert states(oracle, "silent-firing") == ["firing", "resolved", "firing"]
    assert states(oracle, "silent-edge") == ["firing"]
    assert states(oracle, "silent-pending") == []
    assert states(oracle, "silent-pending-edge") == ["firing"]
    late = {row["user"].data.split(b'"')[3] for row in oracle.rejected if row["reason"] == "late"}
    broken = {b"silence-filtered", b"silence-where-false", b"silence-mistyped", b"silence-late"}
    assert broken <= late
    assert not {b"silence-skewed", b"silence-unreadable"} & late
