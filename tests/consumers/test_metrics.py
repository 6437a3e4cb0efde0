"""The table of metrics: counted, merged, shown to Prometheus, and the page that is made of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamgauge import Record
from streamgauge.consumers import metrics as of
from streamgauge.consumers.metrics import METRICS, Metrics, counters, exposition, merged, reference
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

PAGE = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
LINE = re.compile(r'(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')
TOML = """
[pipeline]
name = "p"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "value"
threshold = 10.0
"""


def read(text: str) -> dict[tuple[str, str], float]:
    """An exposition by another reading of it."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            found[match[1], match[2] or ""] = float(match[3])
    return found


def test_the_page_is_made_of_the_table() -> None:
    assert reference() in PAGE.read_text()


def test_every_metric_is_named_as_prometheus_has_it() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
    text = exposition(Metrics(now=5.0).snapshot())
    assert text.count("# TYPE ") == text.count("# HELP ") == len(METRICS)
    assert read(text)["streamgauge_start_timestamp_seconds", ""] == 5.0


def test_what_a_push_gave_is_counted() -> None:
    pipeline = Pipeline.plan(specs.parse(TOML))
    texts = ['{"device":"d","ts":1,"value":20}', '{"device":"d","ts":2,"value":1}', "no"]
    rows = [Record("s", str(n), text.encode()) for n, text in enumerate(texts, 1)]
    counted = Metrics(now=0.0)
    counted.observe("s", pipeline.push(rows))
    counted.observe("s", pipeline.push(rows[:1]))
    found = read(exposition(counted.snapshot()))
    assert found["streamgauge_shard_records_total", 'shard="s"'] == 3
    assert found["streamgauge_samples_total", 'rule="hot"'] == 2
    assert found["streamgauge_unread_total", ""] == 1
    assert found["streamgauge_repeated_total", ""] == 1
    assert found["streamgauge_alerts_total", 'rule="hot",state="firing"'] == 1


def test_labels_are_escaped() -> None:
    counted = Metrics(now=0.0)
    counted.add("samples_total", 2, rule='a"b\\c\nd')
    assert '{rule="a\\"b\\\\c\\nd"} 2' in exposition(counted.snapshot())


def test_processes_are_one() -> None:
    one, two = Metrics(now=5.0), Metrics(now=3.0)
    one.add("samples_total", 2, rule="r")
    two.add("samples_total", 3, rule="r")
    two.set("shard_lag_seconds", 7, shard="s")
    whole = merged([one.snapshot(), two.snapshot()])
    assert whole["samples_total"] == {("r",): 5}
    assert whole["start_timestamp_seconds"] == {(): 3.0} and of.last_turn(whole) == 3.0
    assert counters(two.snapshot())["shard_lag_seconds"] == {}
    assert counters(two.snapshot())["samples_total"] == {("r",): 3}


def test_a_finished_shard_leaves_its_counts() -> None:
    counted = Metrics(now=0.0)
    for shard in ("a", "b"):
        counted.set("shard_lag_seconds", 1, shard=shard)
        counted.add("shard_reads_total", shard=shard)
    counted.forget("a")
    snapshot = counted.snapshot()
    assert set(snapshot["shard_lag_seconds"]) == {("b",)}
    assert set(snapshot["shard_reads_total"]) == {("a",), ("b",)}


def test_a_name_that_is_not_in_the_table_is_a_bug() -> None:
    with pytest.raises(KeyError):
        Metrics().add("unheard_of")
    with pytest.raises(AssertionError):
        Metrics().add("samples_total")
