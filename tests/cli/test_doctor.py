"""The command doctor: packages, settings, directories, and what AWS says to reading calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from streamgauge import __main__ as entry
from streamgauge.cli import doctor_checks as checks
from streamgauge.cli.demo import PIPELINE

TOPIC = "arn:aws:sns:us-east-1:123456789012:alerts"
SECRET = "canary-of-the-secret"
WRITES = ("Create", "Put", "Delete", "Update", "Publish", "Send", "Tag")


class Told:
    """What a run of the command printed."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    def line(self, name: str) -> str:
        (found,) = (line for line in self.out.splitlines() if f" {name}: " in line)
        return found

    def mended(self, name: str) -> str:
        lines = self.out.splitlines()
        return lines[lines.index(self.line(name)) + 1]

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        return {check["name"]: check for check in json.loads(self.out)["checks"]}


@pytest.fixture
def doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Told]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    def doctor(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["streamgauge", "doctor", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        assert SECRET not in out + err
        return Told(ended.value.code, out, err)

    return doctor


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "thermostats.toml"
    names = {"stream": "telemetry", "table": "limits", "topic": TOPIC, "bucket": "bucket"}
    path.write_text(PIPELINE.format(**names))
    return str(path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A cloud in this process, and the operations that are called in it."""
    from botocore.client import BaseClient

    made: list[str] = []
    real = BaseClient._make_api_call

    def noted(client: Any, operation: str, parameters: Any) -> Any:
        made.append(operation)
        return real(client, operation, parameters)

    with mock_aws():
        monkeypatch.setattr(BaseClient, "_make_api_call", noted)
        yield made


def make(*, table: tuple[str, str] = ("device", "rule"), but: str = "") -> None:
    """What the pipeline names, `but` one of it."""
    if but != "stream":
        boto3.client("kinesis").create_stream(StreamName="telemetry", ShardCount=2)
    if but != "table":
        boto3.client("dynamodb").create_table(
            TableName="limits",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": name, "KeyType": kind}
                       for name, kind in zip(table, ("HASH", "RANGE"), strict=True)],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in table],
        )  # fmt: skip
    if but != "topic":
        boto3.client("sns").create_topic(Name="alerts")
    if but != "bucket":
        boto3.client("s3").create_bucket(Bucket="bucket")


def test_what_is_there_is_told_with_its_version(doctor: Any) -> None:
    told = doctor()
    assert told.status == 0 and not told.err
    for name in ("Python", "streamgauge", "boto3", "numpy", "msgspec", "google-re2", "moto"):
        assert told.line(name).startswith("ok ")
    assert "[streamgauge demo]" not in told.line("numpy")
    assert "pytest" not in told.out  # what only developers need is no feature


def test_json_is_one_object(doctor: Any) -> None:
    told = doctor("--json")
    report = json.loads(told.out)
    assert report["ok"] is True
    assert told.checks["numpy"] == {
        "name": "numpy", "feature": checks.COMMAND, "status": "ok", "needed": True, "mend": "",
        "found": told.checks["numpy"]["found"], "wanted": "1.26 or later",
    }  # fmt: skip
    assert told.checks["moto"]["needed"] is False


def looked_at(*requirements: str) -> list[checks.Check]:
    return list(checks.packages(list(requirements)))


def test_a_package_that_is_missing_is_named_with_the_command() -> None:
    (found,) = looked_at("no-such-thing>=3.1")
    assert (found.status, found.fails) == ("missing", True)
    assert found.mend == f"{sys.executable} -m pip install --upgrade 'no-such-thing>=3.1'"


def test_what_a_feature_lacks_is_no_failure() -> None:
    (found,) = looked_at('no-such-thing>=3.1; extra == "demo"')
    assert (found.status, found.fails, found.feature) == ("missing", False, "streamgauge demo")
    assert looked_at('no-such-thing; extra == "test"') == []


def test_a_package_that_is_too_old_is_named() -> None:
    (found,) = looked_at("numpy>=1000.2")
    assert (found.status, found.wanted) == ("old", "1000.2 or later")
    assert found.mend.endswith("'numpy>=1000.2'")


@pytest.mark.parametrize(
    ("text", "told"),
    [("raise ImportError('libfoo.so: no such file')", "ImportError: libfoo.so: no such file"),
     ("import os; os.abort()", "its import ended the process")],
)  # fmt: skip
def test_a_package_that_cannot_be_imported_is_told(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    numpy, msgspec = looked_at("numpy>=1.26", "msgspec>=0.19")
    assert numpy.status == "ok"
    assert (msgspec.status, msgspec.fails) == ("broken", True) and told in msgspec.found
    assert msgspec.mend.endswith("--force-reinstall")


@pytest.mark.parametrize("broken", ["numpy", "msgspec", "boto3"])
def test_it_works_where_others_do_not(broken: str, tmp_path: Path, file: str) -> None:
    """It is for those whose installation is broken."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{broken}.py").write_text("raise ImportError('it is broken')")
    done = subprocess.run(
        [sys.executable, "-m", "streamgauge", "doctor", file, "--aws", "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "broken")},
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    told = Told(1, done.stdout, "")
    assert "it is broken" in told.checks[broken]["found"]
    assert told.checks["the rest"]["status"] == "unknown"


def test_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PYTHON_MIN", (99, 0))
    found = next(checks.machine())
    assert found.fails and found.wanted == "99.0 or later" and found.mend


def test_a_pipeline_file_with_errors(doctor: Any, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("[pipelin]\n")
    told = doctor(str(path))
    assert told.status == 1 and f"streamgauge check {path}" in told.out
    assert doctor(str(tmp_path / "gone.toml")).status == 2


def test_settings_are_told_and_nobody_is_asked(
    doctor: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    told = doctor(file)
    assert told.status == 0
    assert told.line("region").endswith("us-east-1")
    assert "by env" in told.line("credentials")
    assert "http://127.0.0.1:9" in told.line("AWS_ENDPOINT_URL_S3")
    assert "GetCallerIdentity" not in told.out


def test_no_region_and_no_credentials(
    doctor: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's own credentials are not asked for: the network is closed to this test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    told = doctor(file)
    assert told.status == 1 and "region" in told.err
    assert told.line("region").startswith("missing") and "AWS_REGION" in told.mended("region")
    assert told.line("credentials").startswith("unknown")
    assert "AWS_EC2_METADATA_DISABLED" not in os.environ
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert doctor(file).status == 0
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")
    assert "of the container" in doctor(file).line("credentials")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    told = doctor(file)
    assert told.status == 1 and "nobody" in told.line("AWS configuration")


def test_a_directory_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as root may write anywhere
    found = checks.directory("state.location", str(tmp_path / "closed" / "state"), "x")
    assert found.fails and found.mend == f"chmod u+wx {tmp_path}"


def test_directories(tmp_path: Path) -> None:
    assert checks.directory("state.location", str(tmp_path / "a" / "b"), "x").found.endswith("made")
    (tmp_path / "file").write_text("")
    found = checks.directory("state.location", str(tmp_path / "file" / "b"), "x")
    assert found.fails and "no directory" in found.found


def test_aws_is_asked_by_calls_that_only_read(doctor: Any, file: str, calls: list[str]) -> None:
    make()
    calls.clear()
    told = doctor(file, "--aws")
    assert told.status == 0, told.out
    assert "arn:aws:sts" in told.line("sts:GetCallerIdentity")
    assert "2 shards, 0 of them closed" in told.line("kinesis:ListShards")
    assert "0 records read" in told.line("kinesis:GetRecords")
    assert "device S (HASH), rule S (RANGE), active" in told.line("dynamodb:DescribeTable")
    assert "a standard topic, 0 subscriptions" in told.line("sns:GetTopicAttributes")
    assert told.out.count("nothing there") == 2
    assert "sns:Publish, s3:PutObject" in told.out
    assert len(calls) == 9 and not [name for name in calls if name.startswith(WRITES)]


@pytest.mark.parametrize(
    ("missing", "name", "mend"),
    [("stream", "kinesis:ListShards", "aws kinesis create-stream --shard-count 1 --stream-name"),
     ("table", "dynamodb:BatchGetItem", "aws dynamodb create-table --table-name limits"),
     ("bucket", "s3:ListBucket", "aws s3 mb s3://bucket")],
)  # fmt: skip
def test_what_is_not_there_is_told_and_the_rest_is_asked(
    missing: str, name: str, mend: str, doctor: Any, file: str, calls: list[str]
) -> None:
    make(but=missing)
    told = doctor(file, "--aws", "--json")
    assert told.status == 1 and json.loads(told.out)["ok"] is False
    found = told.checks[name]
    assert (found["status"], found["needed"]) == ("missing", True)
    assert found["mend"].startswith(mend)
    others = {"stream": "s3:ListBucket"}.get(missing, "kinesis:GetRecords")
    assert told.checks[others]["status"] == "ok"


def test_a_topic_that_is_not_there(doctor: Any, file: str, calls: list[str]) -> None:
    make(but="topic")
    told = doctor(file, "--aws")
    assert told.line("sns:GetTopicAttributes").startswith("missing")
    assert "aws sns create-topic --name alerts" in told.mended("sns:GetTopicAttributes")
    assert told.status == 1


def test_a_table_with_other_keys(doctor: Any, file: str, calls: list[str]) -> None:
    make(table=("device", "limit"))
    told = doctor(file, "--aws")
    assert told.status == 1
    line = told.line("dynamodb:DescribeTable")
    assert line.startswith("broken") and "wanted: device S (HASH), rule S (RANGE)" in line


def test_what_is_denied_names_the_permission(
    doctor: Any, file: str, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

    make()
    real = BaseClient._make_api_call

    def denied(client: Any, operation: str, parameters: Any) -> Any:
        if operation in ("GetRecords", "DescribeTable", "ListObjectsV2"):
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, operation)
        return real(client, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", denied)
    told = doctor(file, "--aws")
    assert told.status == 1
    assert told.line("kinesis:GetRecords").startswith("refused")
    assert "the caller needs kinesis:GetRecords" in told.mended("kinesis:GetRecords")
    assert "s3:ListBucket" in told.out
    assert told.line("dynamodb:DescribeTable").startswith("unknown")  # no consumer needs it
    assert told.line("dynamodb:BatchGetItem").startswith("ok")


def test_a_service_that_does_not_answer(
    doctor: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    told = doctor(file, "--aws")
    assert told.status == 1
    assert told.line("kinesis:ListShards").startswith("broken")
    assert "AWS_ENDPOINT_URL" in told.mended("kinesis:ListShards")
    assert doctor("--aws").status == 1  # without a file: only who the caller is


def test_the_commands_to_mend_are_made_for_a_shell(doctor: Any, calls: list[str]) -> None:
    Path("p.toml").write_text(
        PIPELINE.format(stream="arn:aws:kinesis:us-east-1:123456789012:stream/readings",
                        table="limits", topic=TOPIC + ".fifo", bucket="bucket")
    )  # fmt: skip
    told = doctor("p.toml", "--aws")
    assert told.mended("kinesis:ListShards").endswith("--stream-name readings")
    assert told.mended("sns:GetTopicAttributes").endswith("FifoTopic=true")
