"""From a pipeline file to a pipeline: what is refused, and what a sink that is down costs."""

from pathlib import Path

import pytest

from streamgauge import Pipeline, Record
from streamgauge.engine.errors import ConfigError, UnavailableError
from streamgauge.engine.sinks.local import MemorySink

TOML = """
[pipeline]
name = "small"
[record]
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "v"
threshold = 5
"""


def load(folder: Path, more: str = "", **options):
    (folder / "small.toml").write_text(TOML + more)
    return Pipeline.load(folder / "small.toml", **options)


def records(*values):
    return [
        Record("s", str(n), b'{"device":"a","ts":%d,"v":%d}' % (n * 1000, v))
        for n, v in enumerate(values, 1)
    ]


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ('[delivery]\nmode = "fan_out"\n', "small.toml: delivery.mode"),
        ('[source]\nout_of_range = "reject"\n', "small.toml: source.out_of_range"),
    ],
)
def test_what_would_change_the_answer_and_is_not_there_is_refused(tmp_path, more, where):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, more)
    assert [p.where.endswith(where) for p in caught.value.problems] == [True]


def test_a_sink_that_is_down_loses_neither_alerts_nor_the_outcome(tmp_path):
    sink = MemorySink()
    pipeline = load(tmp_path, sinks=[sink])
    sink.fail_next = 2
    for _ in range(2):
        with pytest.raises(UnavailableError):
            pipeline.push(records(9, 9))
    outcome = pipeline.push(records(9, 9))
    assert [alert.state for alert in outcome.alerts] == ["firing"]
    assert outcome.counts.records == 2 and outcome.counts.repeated >= 2
    assert [alert.id for alert in sink.rows] == [alert.id for alert in outcome.alerts]
    assert pipeline.push(records(9, 9)).alerts == []


def test_an_outcome_names_the_position_to_go_on_from(tmp_path):
    pipeline = load(tmp_path)
    assert pipeline.push([]).position is None
    assert str(pipeline.push(records(1, 2)).position) == "s:2:0"
    assert str(pipeline.push(records(1, 2)).position) == "s:2:0"
    two = [*records(1, 2, 3)[2:], Record("t", "7", b"x")]
    assert {s: str(at) for s, at in pipeline.push(two).positions.items()} == {
        "s": "s:3:0",
        "t": "t:7:0",
    }


class DownOnce:
    """A store of limits that knows nothing and does not answer the second time."""

    calls = 0

    def read(self, keys):
        self.calls += 1
        if self.calls == 2:
            raise UnavailableError("down")
        return {}


def test_an_outcome_held_back_survives_a_push_that_cannot_be_read(tmp_path):
    sink = MemorySink()
    pipeline = load(tmp_path, sinks=[sink], thresholds=DownOnce())
    sink.fail_next = 1
    broken = [*records(9), Record("s", "2", b"x")]
    other = Record("s", "3", b'{"device":"b","ts":1,"v":1}')
    with pytest.raises(UnavailableError):
        pipeline.push(broken)
    with pytest.raises(UnavailableError, match="down"):
        pipeline.push([other])
    outcome = pipeline.push([other])
    assert [row.reason for row in outcome.rejected] == ["not_json"]
    assert len(outcome.alerts) == len(sink.rows) == 1
    assert outcome.counts.records == 3
