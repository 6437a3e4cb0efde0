"""`run` with an archive, `backtest` of it, `archive ls` and `compact`, as they are called."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from moto import mock_aws

from streamgauge import __main__ as entry
from streamgauge.engine.aws import make_client
from streamgauge.engine.folder import Folder
from streamgauge.engine.sinks.archive import Archive

TOML = """
[pipeline]
name = "p"
[source]
stream = "telemetry"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "value"
window = "1s"
threshold = 10.0
[archive]
location = "LOCATION"
format = "FORM"
"""
START = 1_700_000_000_000
PLACES = ["archive", "s3://bucket/archive/"]
FORMS = ["parquet", "ndjson.gz"]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stream and a bucket in this process, and a directory to be in."""
    monkeypatch.chdir(tmp_path)
    with mock_aws():
        made = make_client("kinesis")
        made.create_stream(StreamName="telemetry", ShardCount=2)
        make_client("s3").create_bucket(Bucket="bucket")
        yield made


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process: (exit status, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamgauge", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


def write(location: str, form: str) -> None:
    Path("p.toml").write_text(TOML.replace("LOCATION", location).replace("FORM", form))


def put(client: Any, count: int) -> None:
    for number in range(count):
        message: dict[str, Any] = {
            "device": f"d{number % 5}",
            "ts": START + 10_000 * number,
            "value": number % 20,
        }
        client.put_record(
            StreamName="telemetry",
            Data=json.dumps(message).encode(),
            PartitionKey=message["device"],
        )
    client.put_record(StreamName="telemetry", Data=b"\xff", PartitionKey="x")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("location", PLACES, ids=["directory", "s3"])
def test_a_back_test_of_the_archive_gives_the_alerts_of_the_run(
    client: Any, call: Call, location: str, form: str
) -> None:
    write(location, form)
    put(client, 40)
    status, out, err = call("run", "p.toml", "--until-end")
    assert status == 0, err
    live = sorted(out.splitlines())
    assert live
    status, out, err = call("backtest", "p.toml", "--input", location, "--rejected", "r.ndjson")
    assert status == 0 and sorted(out.splitlines()) == live
    assert "41 records" in err and "as archive" in err
    assert json.loads(Path("r.ndjson").read_text())["data"] == "/w=="
    status, out, _ = call("archive", "ls", location, "--json")
    (line,) = map(json.loads, out.splitlines())
    assert (status, line["pipeline"], line["shards"], line["staged"]) == (0, "p", 2, 0)
    assert line["objects"] == 2 and line["bytes"] > 0


def test_a_file_of_the_run_is_a_table(client: Any, call: Call) -> None:
    write("archive", "parquet")
    put(client, 40)
    call("run", "p.toml", "--until-end")
    query = (
        "SELECT count(*), count(DISTINCT (shard_id, sequence_number)) FROM 'archive/p/**/*.parquet'"
    )
    assert duckdb.sql(query).fetchall() == [(41, 41)]


def filled(form: Any = "ndjson.gz") -> None:
    """Small objects, in an hour that is long over."""
    from archives import push

    sink = Archive(Folder("archive"), "p", form, 1, 1.0).final()
    for number in range(1, 8):
        sink.deliver([push(number, number)])


def test_small_objects_of_an_old_hour_are_merged(client: Any, call: Call) -> None:
    write("archive", "ndjson.gz")
    filled()
    assert "7 objects" in call("archive", "ls", "archive")[1]
    status, out, err = call("archive", "compact", "p.toml")
    assert (status, out) == (
        0, "p  2023-11-15 08:00Z  shardId-000000000000: 7 objects merged into 1\n",
    )  # fmt: skip
    assert err.startswith("7 objects merged into 1, ")
    assert call("archive", "compact", "archive") == (0, "", "nothing to merge\n")
    line = json.loads(call("archive", "ls", "p.toml", "--json")[1])
    assert (line["hour"], line["objects"]) == ("2023-11-15T08", 1)


def test_what_is_staged_is_rolled_where_asked(client: Any, call: Call) -> None:
    from archives import push

    write("archive", "ndjson.gz")
    sink = Archive(Folder("archive"), "p", "ndjson.gz", 1, 1.0).shard("shardId-000000000000")
    sink.deliver([push(1, 3)])
    assert "1 staged" in call("archive", "ls", "archive")[1]
    assert call("archive", "compact", "p.toml")[2] == "nothing to merge\n"
    assert call("archive", "compact", "p.toml", "--staged")[0] == 0
    assert "staged" not in call("archive", "ls", "archive")[1]
    status, _, err = call("archive", "compact", "archive", "--staged")
    assert status == 2 and "needs a pipeline file" in err


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["archive", "ls", "absent"], 2, "no pipeline file and no directory"),
        (["archive", "ls", "none.toml"], 1, "archive: error: expected the table [archive]"),
        (["archive", "compact", "p.toml", "--max-bytes", "much"], 2, "expected a size"),
        (["backtest", "p.toml", "--input", "."], 1, "no archive is there"),
    ],
)
def test_what_cannot_be_done_is_said(
    client: Any, call: Call, arguments: list[str], status: int, told: str
) -> None:
    write("archive", "parquet")
    Path("none.toml").write_text(Path("p.toml").read_text().partition("[archive]")[0])
    found, _, err = call(*arguments)
    assert found == status and told in err


def test_an_archive_of_several_pipelines_is_chosen_by_name(client: Any, call: Call) -> None:
    write("archive", "ndjson.gz")
    filled()
    other = Path("p.toml").read_text().replace('name = "p"', 'name = "q"')
    Path("q.toml").write_text(other)
    assert "7 records" in call("backtest", "q.toml", "--input", "archive")[2]  # the only one
    Path("archive/r").mkdir()
    for path in Path("archive/p").rglob("*.gz"):
        copy = Path("archive/r") / path.relative_to("archive/p")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    status, _, err = call("backtest", "q.toml", "--input", "archive")
    assert status == 1 and "archives of p, r, and none of q" in err
    assert "7 records" in call("backtest", "p.toml", "--input", "archive")[2]


def test_parquet_without_pyarrow_is_refused_before_anything_is_read(
    client: Any, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("archive", "parquet")
    monkeypatch.setattr("streamgauge.consumers.hosting.installed", lambda: False)
    status, _, err = call("run", "p.toml", "--until-end")
    assert status == 1 and "archive.format: error: Parquet needs pyarrow" in err


def test_a_pipe_is_not_archived(client: Any, call: Call) -> None:
    write("archive", "ndjson.gz")
    Path("in").write_text("{}\n")
    status, _, err = call("run", "p.toml", "--input", "in")
    assert status == 1 and "p.toml: archive: error: what comes through a pipe" in err


def test_the_query_of_the_document_runs(client: Any, call: Call) -> None:
    write("archive", "parquet")
    put(client, 40)
    client.put_record(StreamName="telemetry", Data=b"no JSON", PartitionKey="x")
    call("run", "p.toml", "--until-end")
    document = (Path(__file__).parents[2] / "docs" / "archive.md").read_text(encoding="utf-8")
    query = document.partition("```sql\n")[2].partition("```")[0]
    found = duckdb.sql(query.replace("thermostats", "p").partition("WHERE")[0] + "GROUP BY 1")
    counts = {device: count for device, count, _ in found.fetchall()}
    assert counts == {f"d{number}": 8 for number in range(5)} | {None: 2}
    assert duckdb.sql(query.replace("thermostats", "p")).fetchall() == []  # of another year
