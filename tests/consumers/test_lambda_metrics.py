"""What an invocation tells: a line that CloudWatch makes metrics of, and nothing of a payload."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lambda_drive import TOML, Memories, event, fresh, in_shards, told

from streamgauge.consumers import lambda_handler
from streamgauge.consumers.lambda_metrics import METRICS
from streamgauge.engine.errors import InputError
from streamgauge.engine.sinks.local import StdoutSink

ROOT = Path(__file__).parent.parent.parent
EMF_VALUES_MAX = 100  # of one directive, by the specification


class Context:
    aws_request_id = "request-1"


def lines(memories: Memories, *events: Any, context: Any = None, **more: Any) -> list[Any]:
    """The lines of the log, as they are written."""
    written: list[str] = []

    def log(event: str, **fields: object) -> None:
        written.append(json.dumps({"event": event, **fields}))

    held = fresh(memories, log=log, **more)
    for given in events:
        held(given, context)
    return [json.loads(line) for line in written]


def test_each_batch_is_a_line_of_the_embedded_metric_format() -> None:
    memories, of = Memories(), next(iter(in_shards(told()).values()))
    first, again = lines(memories, event(of[:40]), event(of[20:60]), wall=lambda: 2e9)
    assert first["event"] == "invoked" and first["shard"] == of[0].shard
    (directive,) = first["_aws"]["CloudWatchMetrics"]
    assert first["_aws"]["Timestamp"] == 2_000_000_000_000
    assert directive["Namespace"] == "streamgauge" and directive["Dimensions"] == [["pipeline"]]
    named = {one["Name"]: one["Unit"] for one in directive["Metrics"]}
    assert len(named) <= EMF_VALUES_MAX
    assert named == {metric.name: metric.unit for metric in METRICS}
    assert all(type(first[name]) in (int, float) for name in named)
    assert first["pipeline"] == "torture"
    verdicts = ("evaluated", "filtered", "duplicates", "rejected")
    assert first["records"] == sum(first[name] for name in verdicts) > 0
    assert first["iterator_age"] == 2_000_000_000_000 - (of[39].arrival or 0)
    assert first["state_bytes"] > 0 and first["save"] >= 0
    assert first["failed"] == first["fenced"] == first["repeated"] == 0
    assert again["repeated"] > 0
    told_alerts = first["alerts"] + again["alerts"]
    assert told_alerts == len(memories.sink.rows) > 0


def test_what_is_not_measured_is_not_told() -> None:
    memories, of = Memories(), next(iter(in_shards(told()).values()))
    memories.stream.records = {}  # a shard that is not listed yet
    *_, line = lines(memories, event(of[:3]), now=iter(range(10**9)).__next__)
    assert (
        line["event"] == "invoked" and line["failed"] == 1 and line["again_from"] == of[0].sequence
    )
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    named = {one["Name"] for one in directive["Metrics"]}
    assert {"iterator_age", "state_bytes", "save"}.isdisjoint(named | line.keys())
    assert line["records"] == 0


def test_a_batch_that_comes_again_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what was applied and delivered, where the state object was not written."""
    monkeypatch.setattr(lambda_handler, "PIECE_RECORDS", 10)
    memories, of = Memories(), next(iter(in_shards(told()).values()))
    memories.store.fail_next = 1
    _, refused, done = lines(memories, event(of[:40]), event(of[:40]))
    (alone,) = lines(Memories(), event(of[:40]))
    names = {metric.name for metric in METRICS} - {"iterator_age", "save"}
    assert refused["failed"] == 1 and refused["records"] == refused["alerts"] == 0
    assert {name: done[name] for name in names} == {name: alone[name] for name in names}


def test_the_age_of_a_record_from_the_future_is_none() -> None:
    of = next(iter(in_shards(told()).values()))
    (line,) = lines(Memories(), event(of[:40]), wall=lambda: 1.0)
    assert line["iterator_age"] == 0


def test_every_line_names_pipeline_and_request() -> None:
    memories, of = Memories(), next(iter(in_shards(told()).values()))
    memories.sink.fail_next = 1000
    found = lines(memories, event(of), context=Context(), now=iter(range(10**9)).__next__)
    assert {line["event"] for line in found} == {"unavailable", "invoked"}
    assert {(line["pipeline"], line["request"]) for line in found} == {("torture", "request-1")}


def test_a_line_is_one_line_of_json_whatever_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    lambda_handler.log("waiting", cause="a\nb\x1b[31m\u2028", shard="s")
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "\x1b" not in out and "\u2028" not in out
    line = json.loads(out)
    assert list(line)[:2] == ["time", "event"] and line["cause"] == "a\nb\x1b[31m\u2028"


def test_a_payload_is_in_no_line() -> None:
    memories, of = Memories(), next(iter(in_shards(told()).values()))
    text = json.dumps(lines(memories, event(of)))
    assert len(memories.rows.rows) > 0
    for row in memories.rows.rows:
        shown = row.data.decode("ascii", "replace")  # type: ignore[union-attr]
        assert len(shown) < 12 or json.dumps(shown)[1:-1] not in text


def test_a_tumbling_window_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="TumblingWindowInSeconds"):
        fresh(Memories())({"Records": [], "window": {}, "state": {}}, None)


def test_the_document_lists_every_metric() -> None:
    text = (ROOT / "docs" / "lambda.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (Count|Bytes|Milliseconds) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [tuple(metric) for metric in METRICS]


def test_nothing_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    """A file that names all of AWS: no client, no boto3, no protobuf before the first record."""
    edges = (
        '[source]\nstream = "telemetry"\n[thresholds]\ntable = "limits"\n[alerts]\n'
        'sns_topic = "arn:aws:sns:eu-west-1:123456789012:alerts"\n'
        '[errors]\nlocation = "s3://bucket/errors/"\n[state]\nlocation = "s3://bucket/state/"\n'
    )
    (tmp_path / "pipeline.toml").write_text(
        TOML.replace('[source]\nstream = "telemetry"\n', "") + edges
    )
    code = (
        "import sys; from streamgauge.consumers.lambda_handler import handler\n"
        "assert handler({'Records': []}, None) == {'batchItemFailures': []}\n"
        "late = ('boto3', 'botocore', 'google.protobuf', 'typer', 'rich', 'pyarrow', 're2')\n"
        "assert [name for name in late if name in sys.modules] == []\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_alerts_without_a_topic_get_past_what_the_runtime_puts_around_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its client does so, and that takes no bytes."""
    wrapper = SimpleNamespace(buffer=sys.stdout.buffer, flush=sys.stdout.flush, write=None)
    memories = Memories()
    memories.alerts = lambda: StdoutSink(wrapper)  # type: ignore[assignment, arg-type, return-value]
    (line,) = lines(memories, event(next(iter(in_shards(told()).values()))))
    written = capsys.readouterr().out.splitlines()
    assert len(written) == line["alerts"] > 0
    assert all(json.loads(one)["pipeline"] == "torture" for one in written)
