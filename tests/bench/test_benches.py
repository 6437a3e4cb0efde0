"""The benches run, print JSON and answer as an exact computation does. No figure is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_kpl import User
from plain_oracle import Oracle

BENCH = Path(__file__).parents[2] / "bench"
TINY = ("--records", "2000", "--devices", "20", "--repeat", "1")
LOOPS = {
    "kpl": {"naive", "orjson on aws_kinesis_agg", "orjson on streamgauge.kpl"},
    "plain": {"naive", "orjson"},
    "ndjson": {"naive", "orjson"},
}
MACHINE = {"cpu", "cores", "load_average", "system", "python", "libraries"}


@pytest.fixture
def material(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the benches share, importable as they import it."""
    monkeypatch.syspath_prepend(str(BENCH))
    import material.exact
    import material.telemetry

    return material


def run(bench: str, *arguments: str) -> tuple[dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, BENCH / f"{bench}.py", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


def assert_spread(figure: dict[str, float]) -> None:
    assert set(figure) == {"min", "median", "max"}
    assert figure["min"] <= figure["median"] <= figure["max"]


def test_every_bench_is_run_here() -> None:
    assert {path.stem for path in BENCH.glob("*.py")} == {
        "bridge",
        "consume",
        "fleet",
        "producers",
        "rules",
        "hosts",
        "hot_path",
        "imports",
        "pipeline",
        "state",
    }


@pytest.fixture(scope="module")
def pipeline_run() -> tuple[dict[str, Any], str]:
    """What the pipeline bench prints, on both streams."""
    return run("pipeline", *TINY, "--seed", "7")


def test_pipeline_bench_agrees_with_the_exact_answer(
    pipeline_run: tuple[dict[str, Any], str],
) -> None:
    report, talk = pipeline_run
    assert report["answers_agree"] is True
    assert (report["bench"], report["seed"], report["repeat"]) == ("pipeline", 7, 1)
    assert set(report["machine"]) == MACHINE
    assert [(case["input"], case["stream"]) for case in report["cases"]] == [
        (form, stream) for form in ("kpl", "plain", "ndjson") for stream in ("clean", "disturbed")
    ]
    for case in report["cases"]:
        assert case["exact"] == {"devices": 20, "alerts_differing": 0}
        assert case["alerts"] > 0 or case["input"] == "plain"
        loops = LOOPS[case["input"]]
        assert set(case["alerts_differing"]) == set(case["times_faster_than"]) == loops
        assert set(case["ns_per_record"]) == {"streamgauge", *loops}
        for figure in (*case["ns_per_record"].values(), *case["times_faster_than"].values()):
            assert_spread(figure)
    assert "kpl, 20 devices, disturbed" in talk


def test_pipeline_bench_tells_growth_and_memory(pipeline_run: tuple[dict[str, Any], str]) -> None:
    report, _ = pipeline_run
    for growth in report["growth"]:
        assert growth["records"] == 20_000
        assert len(growth["ns_per_record_of_each_part"]) == 4
        assert_spread(growth["last_to_first"])
    (memory,) = report["memory"]
    assert memory["retained_samples"] > 20 * 60
    assert memory["held_bytes"] >= 40 * memory["retained_samples"]
    assert set(report["aims_reached"].values()) <= {True, False}


def test_hot_path_bench_agrees_with_the_exact_answer() -> None:
    report, talk = run("hot_path", *TINY)
    assert report["answers_agree"] is True
    assert [part["stream"] for part in report["streams"]] == ["clean", "disturbed"]
    for part in report["streams"]:
        assert part["exact"]["alerts_differing"] == 0
        assert part["exact"]["alerts"] > 0
        stages = {"deaggregate", "decode", "filter", "window", "threshold", "alert"}
        ours = part["ns_per_record"]["streamgauge"]
        assert stages | {"push", "rest"} <= set(ours)
        for figure in ours.values():
            assert_spread(figure)
        assert set(part["statistics"]) == {"mean", "min", "max", "sum", "count", "stddev", "last"}
        for figures in part["statistics"].values():
            assert figures["differing"] == 0
            assert_spread(figures["times_faster_than_loop"])
    assert "ns per sample of the window stage, disturbed stream" in talk


@pytest.mark.slow
def test_imports_bench_runs() -> None:
    report, _ = run("imports", "--quick")
    assert report["bench"] == "imports"
    assert set(report["import_ms"]) >= {"package", "engine", "library"}


def test_telemetry_is_the_same_for_the_same_seed(material: Any) -> None:
    telemetry = material.telemetry
    one, again = (
        telemetry.aggregated(telemetry.fleet_of(3, 50).rows(0, 2_000, True)) for _ in range(2)
    )
    assert one == again
    assert one != telemetry.aggregated(telemetry.fleet_of(4, 50).rows(0, 2_000, True))


@pytest.mark.parametrize("disturbed", [False, True])
def test_telemetry_is_what_the_benches_say(material: Any, disturbed: bool) -> None:
    telemetry = material.telemetry
    rows = telemetry.fleet_of(5, 100).rows(0, 50_000, disturbed)
    sizes = [len(payload) for payload in telemetry.payloads(rows)]
    assert 95 <= np.mean(sizes) <= 99
    behind, newest = 0, np.full(100, -1)
    for device, time in zip(rows.device.tolist(), rows.time.tolist(), strict=True):
        behind += time < newest[device]
        newest[device] = max(newest[device], time)
    again = len(rows.time) - len(set(zip(rows.device.tolist(), rows.time.tolist(), strict=True)))
    assert (rows.arrival >= rows.time).all()
    assert (np.diff(rows.arrival) >= 0).all()
    if disturbed:
        assert 0.04 < behind / len(rows.time) < 0.07
        assert 0.008 < again / len(rows.time) < 0.012
    else:
        assert (behind, again) == (0, 0)


@pytest.mark.parametrize("disturbed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_exact_computation_agrees_with_the_oracle(material: Any, disturbed: bool) -> None:
    telemetry, exact = material.telemetry, material.exact
    rows = telemetry.fleet_of(6, 12).rows(0, 6_000, disturbed)
    users = [
        User(shard="s", sequence=str(number + 1), sub=0, data=data, arrival=arrival, key=b"k")
        for number, (data, arrival) in enumerate(
            zip(telemetry.payloads(rows), rows.arrival.tolist(), strict=True)
        )
    ]
    oracle = Oracle(telemetry.PIPELINE).push(users)
    told = {(a["device"], a["time"], a["state"], a["value"]) for a in oracle.alerts}
    assert len(told) > 10
    assert exact.changes_of(rows, range(12)) == told


def test_the_exact_statistics_agree_with_the_oracle(material: Any) -> None:
    telemetry, exact = material.telemetry, material.exact
    rows = telemetry.fleet_of(8, 3).rows(0, 600, True)
    users = [
        User(shard="s", sequence=str(number + 1), sub=0, data=data, arrival=None, key=b"k")
        for number, data in enumerate(telemetry.payloads(rows))
    ]
    for which in ("mean", "min", "max", "sum", "count", "stddev", "last"):
        toml = telemetry.PIPELINE.replace('statistic = "mean"', f'statistic = "{which}"')
        oracle = Oracle(toml).push(users)
        values = exact.values_of(rows, range(3), which)
        assert list(values.values()) == [row["value"] for row in oracle.statistics]


@pytest.mark.slow
def test_the_fleet_bench_holds_the_truth_against_the_engine() -> None:
    report, _ = run("fleet", "--quick", "--devices", "2000", "--seconds", "5")
    assert report["answers_agree"] is True
    checked = report["checked"]
    assert checked["alerts"] > 0 and checked["same_seed_same_bytes"]
    assert checked["alerts_differing"] == 0
    assert set(report["messages_per_second"]) == {"small", "large", "by hand", "truth"}
    assert report["bytes_per_device"] >= 0  # a small fleet may find room that was there


@pytest.mark.slow
def test_the_bench_of_the_hosts_gives_one_answer_for_every_form_of_fan_out() -> None:
    report, _ = run("hosts", "--records", "20000", "--devices", "100", "--repeat", "1")
    assert report["answers_agree"] is True
    alerts = report["alerts"]
    assert len(alerts) == 4 and all(alerts.values())
    assert set(report["times_as_fast_as_ordered"]) == set(alerts) - {"ordered"}
    assert set(report["aims_reached"]) == {"fan_out"}


def test_the_bench_of_the_rules_finds_columns_and_messages_agree() -> None:
    report, talk = run("rules", "--rows", "200", "--repeat", "1")
    assert report["answers_agree"] is True
    assert len(report["cases"]) == 10 and "two comparisons" in talk
    for case in report["cases"]:
        assert case["answers_agree"] is True
        assert_spread(case["ns_per_row"])
        assert 0.0 <= case["share_handed_over"] <= 1.0
    assert set(report["aims_reached"]) == {"two comparisons", "times_as_fast"}


@pytest.mark.slow
def test_the_bench_of_the_state_loads_what_was_saved() -> None:
    report, _ = run("state", "--samples", "20000", "--deltas", "2")
    assert report["answers_agree"] is True
    for case in report["cases"].values():
        assert case["samples"] > 1000 and case["full_bytes_per_sample"] > 0
        assert 0 < case["delta_ms"]["p50"] <= case["delta_ms"]["p99"] <= case["delta_ms"]["max"]
        assert case["load_ms"]["objects"] == 3
