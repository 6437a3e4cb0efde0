"""The table of metrics: counted, merged, shown to Prometheus, and the page that is made of it."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge import Record
from streamgauge.consumers import metrics as of
from streamgauge.consumers.bridge_metrics import BRIDGE_METRICS
from streamgauge.consumers.metrics import METRICS, Metrics, counters, exposition, merged
from streamgauge.consumers.metrics_reference import reference
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
    """An exposition by another reading of it: by lines, each series below its HELP and TYPE."""
    found: dict[tuple[str, str], float] = {}
    told: list[str] = []
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("#"):
            _, what, name, rest = line.split(" ", 3)
            told = [name, "HELP"] if what == "HELP" else [*told, what]
            assert told[0] == name and rest
            assert what == "HELP" or (told[1:] == ["HELP", "TYPE"] and rest in ("counter", "gauge"))
            continue
        match = LINE.fullmatch(line)
        assert match, line
        assert told == [match[1], "HELP", "TYPE"], line
        assert (match[1], match[2] or "") not in found, line
        found[match[1], match[2] or ""] = float(match[3])
    return found


def labels(text: str) -> dict[str, str]:
    """The labels of a series, unescaped, a character after the other."""
    found, rest = {}, text
    while rest:
        name, _, rest = rest.removeprefix(",").partition('="')
        value = ""
        while rest[0] != '"':
            if rest[0] == "\\":
                value, rest = value + {"\\": "\\", '"': '"', "n": "\n"}[rest[1]], rest[2:]
            else:
                value, rest = value + rest[0], rest[1:]
        found[name], rest = value, rest[1:]
    return found


def test_the_page_is_made_of_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "write it anew: python -m streamgauge.consumers.metrics_reference > docs/metrics.md"
    )


def test_the_examples_of_the_page_name_what_there_is() -> None:
    names = {of.PREFIX + metric.name for metric in (*METRICS, *BRIDGE_METRICS)}
    assert set(re.findall(rf"\b{of.PREFIX}\w+", reference())) == names


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


def test_a_counter_of_a_rule_begins_at_zero() -> None:
    counted = Metrics(now=0.0)
    counted.observe("s", Pipeline.plan(specs.parse(TOML)).push([]))
    found = read(exposition(counted.snapshot()))
    of_rule = {key for key in found if 'rule="hot"' in key[1]}
    assert len(of_rule) == 8 and {found[key] for key in of_rule} == {0.0}
    assert found["streamgauge_worker_deaths_total", ""] == 0.0


@given(st.text(), st.text())
def test_labels_are_escaped(shard: str, step: str) -> None:
    counted = Metrics(now=0.0)
    counted.add("refused_total", 2, shard=shard, step=step)
    lines = exposition(counted.snapshot())
    (line,) = re.findall(r"^streamgauge_refused_total\{(.*)\} 2$", lines, re.MULTILINE | re.DOTALL)
    assert "\n" not in line and labels(line) == {"shard": shard, "step": step}


def test_numbers_are_told_whole() -> None:
    counted = Metrics(now=1764187200.123)
    for _ in range(3):
        counted.add("samples_total", 10**17 + 1, rule="r")
    text = exposition(counted.snapshot())
    assert "start_timestamp_seconds 1764187200.123\n" in text
    assert 'samples_total{rule="r"} 300000000000000003\n' in text


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


SERIES = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"])), st.integers(0, 9)
)


@given(st.lists(SERIES, min_size=1, max_size=4))
def test_counters_of_processes_add_up(parts: list[dict[tuple[str, str], int]]) -> None:
    snapshots = []
    for part in parts:
        counted = Metrics(now=0.0)
        for (rule, state), number in part.items():
            counted.add("alerts_total", number, rule=rule, state=state)
        snapshots.append(counted.snapshot())
    before = [dict(one["alerts_total"]) for one in snapshots]
    whole = merged(snapshots)
    for key in {key for part in parts for key in part}:
        assert whole["alerts_total"][key] == sum(part.get(key, 0) for part in parts)
    assert [one["alerts_total"] for one in snapshots] == before
    again = merged([merged(snapshots[:1]), *snapshots[1:]])
    assert again == whole == merged(reversed(snapshots))


def test_a_snapshot_is_taken_while_another_thread_writes() -> None:
    counted, done = Metrics(now=0.0), threading.Event()

    def write() -> None:
        for number in range(20_000):
            counted.add("shard_reads_total", shard=str(number))
            counted.set("shard_lag_seconds", number, shard=str(number % 100))
            if number % 50 == 0:
                counted.forget(str(number % 100))
        done.set()

    writing = threading.Thread(target=write)
    writing.start()
    last = 0
    while not done.is_set():
        reads = counted.snapshot()["shard_reads_total"]
        assert last <= len(reads) and set(reads.values()) <= {1}
        last = len(reads)
    writing.join()
    assert len(counted.snapshot()["shard_reads_total"]) == 20_000


@pytest.mark.parametrize(
    ("name", "given_labels"),
    [
        ("unheard_of", {}),
        ("samples_total", {}),
        ("samples_total", {"shard": "s"}),
        ("samples_total", {"rule": "r", "shard": "s"}),
        ("shard_lag_seconds", {"shard": "s"}),  # a gauge is set, not added to
    ],
)
def test_what_is_not_in_the_table_is_a_bug(name: str, given_labels: dict[str, str]) -> None:
    with pytest.raises(AssertionError):
        Metrics(now=0.0).add(name, **given_labels)


def test_a_value_that_is_none_is_a_bug() -> None:
    counted = Metrics(now=0.0)
    for value in (-1, float("nan"), float("inf")):
        with pytest.raises(AssertionError):
            counted.add("repeated_total", value)
    with pytest.raises(AssertionError):
        counted.set("shard_lag_seconds", float("inf"), shard="s")
    with pytest.raises(AssertionError):
        counted.set("repeated_total", 1)
