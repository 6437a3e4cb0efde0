"""The torture file, run with an archive: what is archived, back-tested, gives the same answer."""

from __future__ import annotations

import base64
import itertools
from pathlib import Path
from typing import Any

import drive
import plain_kpl
import pytest
from lambda_drive import TABLE, TOML, Memories, drained, event, fresh, records
from plain_kpl import Kinesis

from streamgauge.consumers import backtest
from streamgauge.consumers.archive_input import ArchiveInput
from streamgauge.engine.errors import ConfigError, UnavailableError
from streamgauge.engine.folder import Folder
from streamgauge.engine.sinks.archive import Archive
from streamgauge.engine.sinks.archive_read import read_archive
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline


def planned(one_shard: bool = True) -> Pipeline:
    return Pipeline.plan(specs.parse(TOML), TABLE, one_shard=one_shard, keep_read=one_shard)


def archived(at: Folder, form: Any, cut: int, kill: bool) -> drive.Answer:
    """Run over each shard, a push at a time; roll in between, or die with all of it staged."""
    answer = drive.Answer()
    for shard, of in records().items():
        pipeline = planned()
        archive = Archive(at, "torture", form, 2000, 0.0)
        sink = archive.shard(shard, itertools.count().__next__)
        for at_record in range(0, len(of), cut):
            outcome = pipeline.push(map(drive.record, of[at_record : at_record + cut]))
            sink.deliver(outcome.read)
            drive.take(answer, outcome)
            if kill:
                sink = archive.shard(shard, itertools.count().__next__)
            while not kill and sink.due():
                sink.roll()
    return answer


def backtested(at: Folder) -> drive.Answer:
    """As `backtest` does."""
    source = ArchiveInput(str(at.location), at, "torture")
    answer, pipeline = drive.Answer(), planned(one_shard=False)
    drive.take(answer, pipeline.push([]))
    for outcome in backtest.run(pipeline, source.read()):
        drive.take(answer, outcome)
    return answer


def same(answer: drive.Answer, stream: drive.Answer) -> None:
    assert drive.exact(answer.alerts) == drive.exact(stream.alerts)
    assert drive.exact(answer.statistics) == drive.exact(stream.statistics)
    assert drive.in_order(answer.rejected) == drive.in_order(stream.rejected)
    assert answer.counts == stream.counts


@pytest.mark.parametrize("form", ["parquet", "ndjson.gz"])
@pytest.mark.parametrize("kill", [False, True], ids=["rolled", "staged"])
@pytest.mark.parametrize("cut", [pytest.param(1, marks=pytest.mark.slow), 7, 1000])
def test_the_archive_gives_the_answer_of_the_stream(
    tmp_path: Path, form: str, kill: bool, cut: int
) -> None:
    at = Folder(tmp_path)
    stream = archived(at, form, cut, kill)
    same(backtested(at), stream)


def test_what_lambda_archives_gives_the_answer_of_the_stream(tmp_path: Path) -> None:
    """One object an invocation and hour, in final form; batches that come again change nothing."""
    at, memories = Folder(tmp_path), Memories(tmp_path)
    told = [one for of in records().values() for one in of]
    drained(lambda: fresh(memories), told, 29, cold=True)
    assert not list(at.names("_staged/"))
    held = {
        f"{row}": data
        for users, lost in read_archive(at, "torture")
        for row, data in [
            *((users.position(number), data) for number, data in enumerate(users.data)),
            *((row.at, row.data) for row in lost),
        ]
    }
    assert held == {user.position: user.data for one in told for user in plain_kpl.opened(one)}
    same(backtested(at), archived(Folder(tmp_path / "other"), "ndjson.gz", 29, kill=True))


def test_a_push_of_nothing_but_what_cannot_be_opened_is_archived() -> None:
    torn = [one for of in records().values() for one in of if opened_badly(one)]
    assert torn
    for one in torn:
        (opened,) = planned().push([drive.record(one)]).read
        assert [row.data for row in opened.lost] == [one.data] and not len(opened.users)


def opened_badly(one: Kinesis) -> bool:
    return [user.fault for user in plain_kpl.opened(one)] in (["bad_digest"], ["bad_body"])


def test_bytes_of_rejected_records_are_archived(tmp_path: Path) -> None:
    at = Folder(tmp_path)
    answer = archived(at, "parquet", 50, kill=False)
    held = {
        str(row): data
        for users, lost in read_archive(at, "torture")
        for row, data in [
            *((users.position(number), data) for number, data in enumerate(users.data)),
            *((row.at, row.data) for row in lost),
        ]
    }
    assert answer.rejected
    for row in answer.rejected:
        assert held[row["position"]] == base64.b64decode(row["data"])


class Refusing(Folder):
    """A folder that refuses so many puts."""

    refusals = 0

    def put(self, name: str, data: bytes, kind: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise UnavailableError("refused as asked")
        super().put(name, data, kind)


def test_in_lambda_no_state_passes_what_is_not_archived(tmp_path: Path) -> None:
    memories = Memories(tmp_path)
    memories.folder = at = Refusing(tmp_path)
    (shard, of), *_ = records().items()
    at.refusals = 10**9
    told = fresh(memories, now=itertools.count(step=10).__next__)(event(of[:20]), None)
    assert told == {"batchItemFailures": [{"itemIdentifier": of[0].sequence}]}
    assert memories.store.generations("torture", shard) == []
    at.refusals = 1
    assert fresh(memories)(event(of[:20]), None) == {"batchItemFailures": []}
    assert sum(len(users) + len(lost) for users, lost in read_archive(at, "torture")) == len(
        [user for one in of[:20] for user in plain_kpl.opened(one)]
    )


def test_in_lambda_parquet_needs_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamgauge.consumers.lambda_handler.installed", lambda: False)
    with pytest.raises(ConfigError, match=r"archive.format: .* pyarrow is not in the package"):
        fresh(Memories(), TOML + '[archive]\nlocation = "archive/"\n')
    fresh(Memories(), TOML + '[archive]\nlocation = "archive/"\nformat = "ndjson.gz"\n')
