"""The KCL host, line by line: checkpoints, the ends of a shard, children, what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kcl_drive import ASKED, EMPTY, ENDED, LOST, Script, batch, host, initialize, line
from lambda_drive import Memories, in_shards, packed
from memory_stream import MemoryStream
from plain_kpl import pack

from streamgauge import Record
from streamgauge.cli import kcl_properties
from streamgauge.consumers.kcl import to_be_opened
from streamgauge.consumers.kcl_log import listed, unlisted
from streamgauge.consumers.kcl_protocol import records_of
from streamgauge.consumers.metrics import Metrics
from streamgauge.engine.errors import InputError, StreamgaugeError, UnavailableError

((SHARD, RECORDS), *_) = in_shards(packed(1)).items()


def test_a_checkpoint_names_sequence_and_sub_sequence_number() -> None:
    ((shard, of), *_), script = in_shards(packed(1000)).items(), Script()
    script.say(host(Memories()), initialize(shard), batch(of[:1], opening=True))
    ((sequence, sub),) = script.checkpoints
    assert sequence == of[0].sequence and sub is not None and sub > 0


def test_nothing_is_noted_before_it_is_saved_and_empty_batches_save() -> None:
    clock = iter([0.0] * 40 + [100.0] * 1000)
    memories, script = Memories(), Script()
    shared = host(memories, save_seconds=30.0, now=lambda: next(clock))
    processor = script.say(shared, initialize(SHARD), batch(RECORDS[:10]))
    assert script.checkpoints == [] and memories.store.generations("torture", SHARD) == []
    for _ in range(100):
        processor.process([], 0)
    assert script.checkpoints == [(RECORDS[9].sequence, 0)]
    assert memories.store.generations("torture", SHARD) == [1]


@pytest.mark.parametrize("error", ["ThrottlingException", "KinesisClientLibDependencyException"])
def test_a_checkpoint_that_is_refused_for_now_is_asked_for_again(error: str) -> None:
    script = Script([error] * 3)
    script.say(host(Memories()), initialize(SHARD), batch(RECORDS[:10]), ENDED)
    assert script.checkpoints == [(RECORDS[9].sequence, 0), (None, None)]


def test_where_the_lease_is_lost_nothing_more_is_written() -> None:
    memories, script = Memories(), Script(["ShutdownException"])
    lines = initialize(SHARD), batch(RECORDS[:10]), batch(RECORDS[10:20]), ASKED, LOST
    processor = script.say(host(memories), *lines)
    assert script.checkpoints == [] and len(script.statuses) == len(lines)
    assert memories.store.generations("torture", SHARD) == [1]
    assert processor.lost and processor.position is None


class Slow:
    """A sink that takes rows at the sixth try alone; notes how far the daemon was at each try.

    told: answers given and lines not yet read, at each try.
    """

    def __init__(self, sink: Any, script: Script) -> None:
        self._sink, self._script = sink, script
        self._refusals = 5
        self.told: list[tuple[int, int]] = []

    def deliver(self, rows: Sequence[Any]) -> None:
        self.told.append((len(self._script.statuses), len(self._script._lines)))
        if self._refusals:
            self._refusals -= 1
            raise UnavailableError("slow")
        self._refusals = 5
        self._sink.deliver(rows)

    def flush(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        self._sink.close()


def test_while_a_sink_is_slow_no_further_batch_is_read() -> None:
    """One batch is all that a process holds, however much the daemon has to hand out."""
    batches = [batch(RECORDS[first : first + 10]) for first in range(0, len(RECORDS), 10)]
    rows = []
    for slow in (False, True):
        memories, script = Memories(), Script()
        sinks = [Slow(memories.sink, script), Slow(memories.rows, script)]
        more = {"alerts": sinks[0], "errors": sinks[1]} if slow else {}
        script.say(host(memories, **more), initialize(SHARD), *batches, ENDED)
        rows.append((memories.sink.rows, memories.rows.rows))
        if slow:
            assert all(sink.told for sink in sinks)
            for answered, left in sinks[0].told + sinks[1].told:
                assert answered + left + 1 == len(batches) + 2, "the batch in hand and no other"
    assert rows[0] == rows[1] and all(rows[0])


def test_after_lease_lost_nothing_is_saved() -> None:
    memories, script = Memories(), Script()
    script.say(host(memories, save_seconds=1e9), initialize(SHARD), batch(RECORDS[:10]), LOST)
    assert memories.store.generations("torture", SHARD) == [] and script.checkpoints == []


def test_asked_to_hand_over_it_saves_and_notes() -> None:
    memories, script = Memories(), Script()
    shared = host(memories, save_seconds=1e9)
    script.say(shared, initialize(SHARD), batch(RECORDS[:10]), ASKED, LOST)
    assert memories.store.generations("torture", SHARD) == [1]
    assert script.checkpoints == [(RECORDS[9].sequence, 0)]


def test_at_the_end_of_a_shard_what_is_not_due_is_saved_first() -> None:
    memories, script = Memories(), Script()
    shared = host(memories, save_seconds=1e9)
    script.say(shared, initialize(SHARD), batch(RECORDS[:10]), ENDED)
    assert memories.store.generations("torture", SHARD) == [1]
    assert script.checkpoints == [(None, None)]


def test_a_checkpoint_behind_an_aggregate_is_no_further_than_what_was_handed_out() -> None:
    """The KCL refuses any other: it knows nothing of the user records in it."""
    ((shard, of), *_), script = in_shards(packed(1000)).items(), Script()
    processor = script.say(host(Memories()), initialize(shard), batch(of[:1]))
    assert processor.position is not None and processor.position.sub_sequence_number > 0
    assert script.checkpoints == [(of[0].sequence, 0)]


def test_an_aggregate_is_told_from_a_message_that_looks_like_one() -> None:
    sealed = pack([(b"k", b"{}", None)])
    broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
    given = [
        Record("s", "1", broken, sub_sequence_number=0),
        Record("s", "2", sealed, sub_sequence_number=0),
        Record("s", "3", sealed, sub_sequence_number=0),  # the first of two, of one opened before
        Record("s", "3", sealed, sub_sequence_number=1),
        Record("s", "4", b"{}", sub_sequence_number=0),
    ]
    assert [one.sub_sequence_number for one in to_be_opened(given)] == [None, None, 0, 1, 0]
    memories, script = Memories(), Script()
    script.say(host(memories), initialize(SHARD), batch([RECORDS[0]._replace(data=broken)]))
    assert [row.stage for row in memories.rows.rows] == ["deaggregate"]  # type: ignore[union-attr]


def test_children_begin_with_what_their_parent_knew() -> None:
    memories, script = Memories(), Script()
    stream = MemoryStream({"parent": [], "child": []}, parents={"child": ("parent",)})
    memories.stream = stream
    renamed = [one._replace(shard="parent") for one in RECORDS]
    script.say(host(memories), initialize("parent"), batch(renamed), ENDED)
    child = script.say(host(memories), initialize("child"), EMPTY)
    parent = script.say(host(memories), initialize("parent"), EMPTY)
    assert child._pipeline is not None and parent._pipeline is not None
    devices = ["tie-58.54", "quiet"]
    for device in devices:
        assert child._pipeline.inspect(device) == parent._pipeline.inspect(device) != []
    assert memories.store.generations("torture", "child") == [1]  # for its own children


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": "!", "sequenceNumber": "1"}, "base64"),
        ({"data": "", "sequenceNumber": "x"}, "digits"),
        ({"data": ""}, "sequenceNumber"),
        ({"data": "", "sequenceNumber": "1", "subSequenceNumber": "2"}, "whole"),
    ],
)
def test_what_is_no_record_ends_the_process(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        records_of("shard", [given])


@pytest.mark.parametrize("raw", [b"{\n", b"[]\n", line(action="dance"), line()])
def test_what_is_no_message_is_not_answered(raw: bytes) -> None:
    script = Script()
    with pytest.raises(StreamgaugeError):
        script.say(host(Memories()), raw)
    assert script.statuses == []


def test_whoever_prints_does_not_print_into_the_protocol(tmp_path: Path) -> None:
    """A process of its own: a module that prints on import, by Python and by its descriptor."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Noise:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('numpy') or name.endswith('kcl_log'):\n"
        "            import os\n"
        "            print('noise', flush=True); os.write(1, b'noise')\n"
        "sys.meta_path.insert(0, Noise())\n"
    )
    (tmp_path / "p.toml").write_text("[pipeline]\nname = 'x'\n")
    done = subprocess.run(
        [sys.executable, "-m", "streamgauge.consumers.kcl_child", str(tmp_path / "p.toml")],
        input=b"", capture_output=True, env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == b"" and b"noise" in done.stderr
    assert done.returncode != 0  # the file is wrong


def test_metrics_come_back_from_a_report() -> None:
    metrics = Metrics()
    metrics.add("refused_total", shard="s", step="save")
    found = unlisted({"metrics": [*listed(metrics.snapshot()), ["of another version", [], 1]]})
    assert found == metrics.snapshot()


def test_properties_follow_from_the_pipeline_and_add_what_the_user_says(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("# mine\nMetricsLevel = SUMMARY\nmaxRecords: 500\n")
    more = kcl_properties.extra(tmp_path / "more")
    environment = {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_DYNAMODB": "http://d"}
    text = kcl_properties.properties(
        "name", "arn:aws:kinesis:r:1:stream/s", "r", "w", Path("/child"), more, environment
    )
    found = dict(one.split(" = ", 1) for one in text.splitlines())
    assert found["streamArn"] == "arn:aws:kinesis:r:1:stream/s" and "streamName" not in found
    assert found["kinesisEndpoint"] == "http://a" and found["dynamoDBEndpoint"] == "http://d"
    assert found["MetricsLevel"] == "SUMMARY" and "metricsLevel" not in found
    (tmp_path / "more").write_text("workerId = me\n")
    with pytest.raises(InputError, match="more:1"):
        kcl_properties.extra(tmp_path / "more")


def test_the_wrapper_runs_with_blanks_in_every_path(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    kcl_properties.write(folder, tmp_path / "a b" / "p.toml", "")
    text = (folder / "child").read_text()
    assert f"'{tmp_path}/a b/p.toml'" in text and os.access(folder / "child", os.X_OK)
