"""The template, deployed: what is put into its stream comes out of its topic.

CloudFormation, the SAM transform, the mapping and the function's process are ministack's; the
template, the zip and what runs in it are ours. Two things it does not have, and nothing else is
left out: CodeDeploy (`Canary` is off), and the Kinesis action of IoT rules, which it only stores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import drive
import plain_kpl
import pytest
import torture
from live_cloud import SHARDS, Cloud, judged
from live_run import PLACES, TOML
from servers import Ministack

from streamgauge.consumers.deploy import mapping
from streamgauge.consumers.deploy.cloudformation import yaml
from streamgauge.consumers.deploy.package import HERE, Built
from streamgauge.consumers.deploy.template import template
from streamgauge.engine.aws import Service
from streamgauge.engine.errors import StreamgaugeError
from streamgauge.rules import spec as specs

TURNS_MAX, TURN_SECONDS = 600, 0.1
QUIET_TURNS = 20  # without an invocation, in which a paused mapping would have made one
pytestmark = pytest.mark.slow


class Stack(Cloud):
    """What a stack made: its stream, table, topic and bucket, and a queue behind the topic."""

    def __init__(self, url: str, package: Path) -> None:
        self._open(url)
        self._url = url
        self.code = f"{self.name}-code"
        self.s3.create_bucket(Bucket=self.code)
        self.s3.put_object(Bucket=self.code, Key="p.zip", Body=package.read_bytes())
        self.outputs = self._deployed()
        self.subscribe(self.outputs["Alerts"])

    def client(self, name: str) -> Any:
        return closing(boto3.client(name, endpoint_url=self._url))  # type: ignore[call-overload]

    def _deployed(self) -> dict[str, str]:
        made = template(specs.parse(TOML + PLACES), "p.toml", HERE.python)
        function = made["Resources"]["Consumer"]["Properties"]
        function["CodeUri"] = {"Bucket": self.code, "Key": "p.zip"}  # as `sam package` does
        made["Parameters"]["Canary"]["Default"] = "false"
        given = {
            "Stage": self.name, "StreamName": self.name, "ShardCount": str(len(SHARDS)),
            "ThresholdsTableName": self.name, "AlertsTopicName": self.name, "BucketName": self.name,
            "BatchSize": "50", "BatchWindowSeconds": "0",
        }  # fmt: skip
        parameters = [{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()]
        with self.client("cloudformation") as client:
            client.create_stack(
                StackName=self.name, TemplateBody=yaml(made), Parameters=parameters,
                Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            )  # fmt: skip

            def ended() -> Any:
                (told,) = client.describe_stacks(StackName=self.name)["Stacks"]
                return told if not told["StackStatus"].endswith("IN_PROGRESS") else None

            told = awaited(ended)
            events = client.describe_stack_events(StackName=self.name)["StackEvents"]
        reasons = [event.get("ResourceStatusReason") for event in events]
        assert told["StackStatus"] == "CREATE_COMPLETE", [one for one in reasons if one]
        return {one["OutputKey"]: one["OutputValue"] for one in told["Outputs"]}

    def switch(self, command: str, folder: Path) -> str:
        """What `streamgauge deploy pause` or `resume` prints."""
        (folder / "p.toml").write_text(TOML + PLACES)
        names = {"AWS_ENDPOINT_URL": self._url, "STREAMGAUGE_SOURCE__STREAM": self.name}
        arguments = ["deploy", command, "p.toml", "--function", self.outputs["Consumer"]]
        done = subprocess.run(
            [sys.executable, "-m", "streamgauge", *arguments], cwd=folder, env=os.environ | names,
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return done.stdout

    def invocations(self) -> list[dict[str, Any]]:
        """The lines of the function's log that are metrics, too."""
        group = f"/aws/lambda/torture-{self.name}"
        with self.client("logs") as client:
            found = client.filter_log_events(logGroupName=group)["events"]
        lines = [json.loads(one["message"]) for one in found if one["message"].startswith("{")]
        return [line for line in lines if line.get("event") == "invoked"]

    def count(self, name: str) -> int:
        return sum(line[name] for line in self.invocations())


def awaited(look: Callable[[], Any]) -> Any:
    """What `look` gives, once that is something."""
    pause = threading.Event()
    for _ in range(TURNS_MAX):
        if found := look():
            return found
        pause.wait(TURN_SECONDS)
    raise AssertionError("it did not come about in time")


@pytest.fixture(scope="module")
def stack(ministack: Ministack, package: Built) -> Iterator[Stack]:
    with Stack(ministack.url, package.path) as made:
        yield made


def test_what_is_put_into_the_stream_comes_out_of_the_topic(stack: Stack, tmp_path: Path) -> None:
    """The torture file, cut in two by a pause: alerts and error stream are the oracle's."""
    stack.limit(torture.thresholds())
    given = plain_kpl.read(torture.HERE / "torture.ndjson")
    stack.put(given[: len(given) // 2])
    awaited(lambda: stack.count("records") == records_of(stack))
    assert stack.switch("pause", tmp_path).endswith(": Disabled\n")
    before = len(stack.invocations())
    stack.put(given[len(given) // 2 :])
    for _ in range(QUIET_TURNS):
        threading.Event().wait(TURN_SECONDS)
        assert len(stack.invocations()) == before
    assert stack.switch("resume", tmp_path).endswith(": Enabled\n")
    awaited(lambda: stack.count("records") == records_of(stack))
    found = judged(stack, TOML, torture.thresholds())
    assert found.alerts and found.reasons and found.repeats == 0
    assert stack.count("repeated") == stack.count("failed") == 0
    assert len(found.alerts) == stack.count("alerts")
    assert len({line["request"] for line in stack.invocations()}) > 2
    print(f"a deployed stack: {found.records} records, {len(found.alerts)} alerts, as the oracle")


def records_of(stack: Stack) -> int:
    """How many user records the stream holds, by the oracle."""
    oracles = [drive.oracle_of(TOML, torture.thresholds(), [of])
               for of in stack.records().values()]  # fmt: skip
    return sum(oracle.counts["records"] for oracle in oracles)


def test_a_mapping_that_is_not_there_is_named(stack: Stack) -> None:
    with stack.client("lambda") as client:
        service = Service("lambda", client)
        with pytest.raises(StreamgaugeError, match="no mapping of stream other; it reads arn:aws"):
            mapping.find(service, stack.outputs["Consumer"], "other")
        with pytest.raises(StreamgaugeError, match="function other has no .*; it reads nothing"):
            mapping.find(service, "other", stack.name)
