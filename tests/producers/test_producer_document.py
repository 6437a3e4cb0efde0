"""docs/producer.md: its examples run as printed, and it names what there is."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from memory_kinesis import MemoryKinesis

from streamgauge.engine import aws
from streamgauge.producers import aggregator, kinesis, rate
from streamgauge.producers.outcomes import Counters

TEXT = (Path(__file__).parents[2] / "docs" / "producer.md").read_text(encoding="utf-8")


class Telemetry(MemoryKinesis):
    """A stream that does not look at its name."""

    def list_shards(self, **request: Any) -> Any:
        return super().list_shards(**{**request, "StreamName": "s"})


def test_the_examples_run_as_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Telemetry(2)
    monkeypatch.setattr(aws, "make_client", lambda name: stream)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        exec(compile(block, "producer.md", "exec"), names)
    assert capsys.readouterr().out == "100 records are in the stream\n"
    assert len(stream.users()) == 103 and names["lost"] == []


def test_every_counter_is_told() -> None:
    section = TEXT.partition("## Counters")[2].partition("## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert listed == [field.name for field in dataclasses.fields(Counters)]


def test_defaults_are_those_of_the_code() -> None:
    settings = inspect.signature(aggregator.Producer).parameters
    for name, shown in (
        ("aggregate_bytes_max", 51_200), ("aggregate_users_max", 10_000), ("linger_seconds", 0.1),
        ("live_seconds_max", 900), ("record_bytes_max", 1 << 20), ("rate", 1.5),
    ):  # fmt: skip
        assert settings[name].default == shown and f"`{name}`" in TEXT
    assert (rate.RECORDS_PER_SECOND, kinesis.CALL_BYTES_MAX) == (1000, 5 << 20)
    assert aggregator.EXIT_SECONDS_MAX == 9.0 and "within nine seconds" in TEXT
