"""The bench of the producers: what it reports, and that it fails where a record is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
TINY = ("--records", "3000", "--devices", "50", "--repeat", "1", "--seed", "7")
START = f"import sys; sys.path.insert(0, {str(BENCH)!r}); import producers\n"
OURS = {"streamgauge", "streamgauge, record by record", "streamgauge on botocore's bodies"}
LOSES = """
whole = producers.ours
producers.ours = lambda stream, readings, **more: whole(stream, readings[1:], **more)
"""
SPANS = """
from streamgauge.producers.shard_map import ShardMap
ShardMap.find = lambda self, key: self._shards[0].shard_id
producers.Producer.__init__.__kwdefaults__["live_seconds_max"] = 0.2
from streamgauge.producers import packer
packer.Packer.settle = lambda self, sent: [
    self._accounts.placed(parcel, told) for _, parcel, told in sent]
"""

pytestmark = pytest.mark.slow


def run(broken: str = "") -> tuple[int, dict[str, Any]]:
    code = START + broken + "\nproducers.main()"
    done = subprocess.run([sys.executable, "-c", code, *TINY], capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_all_put_what_they_were_given() -> None:
    code, report = run()
    assert (code, report["answers_agree"]) == (0, True)
    assert set(report["checked"]) == set(report["ns_per_record"]) == {
        *OURS, "aws_kinesis_agg", "boto3",
    }  # fmt: skip
    assert not any(report["checked"]["streamgauge"].values())
    assert report["checked"]["aws_kinesis_agg"]["aggregates_spanning_shards"] > 0
    assert set(report["aims_reached"]) == {"aws_kinesis_agg", "records_per_second"}


@pytest.mark.parametrize("broken", [LOSES, SPANS], ids=["a record lost", "shards mixed"])
def test_what_is_wrong_is_told(broken: str) -> None:
    code, report = run(broken)
    assert (code, report["answers_agree"]) == (1, False)
    assert any(report["checked"]["streamgauge"].values())
