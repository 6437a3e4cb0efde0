"""The template of the fan-out mode, deployed: three functions and two streams, run for real.

CloudFormation, the SAM transform, both mappings, the invocations of workers and the processes of
the functions are ministack's; what runs in them is the packaged code. Readings are put while time
passes, since arrival times decide what is late; the oracle is run over the stream as read back.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import plain_kpl
import pytest
from drawn_panes import PLAIN, TOML, setup_of
from live_cloud import SHARDS, Cloud
from live_run import PLACES
from plain_kpl import Kinesis
from plain_panes import PANE, PlainPanes, order
from servers import Ministack

from streamgauge.consumers.deploy.cloudformation import yaml
from streamgauge.consumers.deploy.package import HERE, Built
from streamgauge.consumers.deploy.template import template
from streamgauge.rules import spec as specs

SHAPE = {**PLAIN, "window": 2, "lateness": 2}
STREAMS = 'panes_stream = "panes"\nmergers = 3\n[source]\nstream = "telemetry"\n'
FILE = TOML.format(**SHAPE) + STREAMS + PLACES
TURNS_MAX, TURN_SECONDS = 900, 0.1
SECONDS = 8  # that readings are put for
DEVICES = 6
pytestmark = pytest.mark.slow


class Stack(Cloud):
    """What the template made, and a queue behind its topic."""

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
        made = template(specs.parse(FILE), "p.toml", HERE.python)
        for role in ("Dispatcher", "Worker", "Merger"):
            code = {"Bucket": self.code, "Key": "p.zip"}
            made["Resources"][role]["Properties"]["CodeUri"] = code
        made["Parameters"]["Canary"]["Default"] = "false"
        given = {
            "Stage": self.name, "StreamName": self.name, "ShardCount": str(len(SHARDS)),
            "PanesStreamName": f"{self.name}-panes", "PanesShardCount": "2",
            "ThresholdsTableName": self.name, "AlertsTopicName": self.name, "BucketName": self.name,
            "BatchSize": "20", "BatchWindowSeconds": "0",
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

    def lines(self, role: str) -> list[dict[str, Any]]:
        """What a function has written into its log."""
        group = f"/aws/lambda/panes-{self.name}-{role}"
        with self.client("logs") as client:
            found = client.filter_log_events(logGroupName=group)["events"]
        return [json.loads(one["message"]) for one in found if one["message"].startswith("{")]


def awaited(look: Callable[[], Any]) -> Any:
    """What `look` gives, once that is something."""
    pause = threading.Event()
    for _ in range(TURNS_MAX):
        if found := look():
            return found
        pause.wait(TURN_SECONDS)
    raise AssertionError("it did not come about in time")


@pytest.fixture(scope="module")
def stack(
    ministack: Ministack, package: Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The same package with another pipeline file in it."""
    path = tmp_path_factory.mktemp("fan") / "p.zip"
    with zipfile.ZipFile(package.path) as given, zipfile.ZipFile(path, "w") as made:
        for info in given.infolist():
            data = FILE.encode() if info.filename == "pipeline.toml" else given.read(info)
            made.writestr(info, data)
    with Stack(ministack.url, path) as held:
        yield held


def reading(device: int, behind: int) -> bytes:
    """A reading of this moment or some time ago; devices are hot every other two seconds."""
    now = time.time_ns() // 1_000_000
    hot = (now // 2000 + device) % 2
    message = {"device": f"d{device}", "ts": now - behind, "v": 25.5 if hot else 18.25}
    return json.dumps(message).encode()


def fill(stack: Stack) -> None:
    """Readings of all devices over both shards, plain and aggregated, some of them late."""
    pause = threading.Event()
    for turn in range(SECONDS * 4):
        for number, shard in enumerate(SHARDS):
            behind = 8000 if turn % 7 == 3 else 0
            datas = [reading(device, behind) for device in range(number, DEVICES)]
            if turn % 2:
                datas = [plain_kpl.pack([(b"k", data, None) for data in datas])]
            stack.put(Kinesis(shard, "", data, "k", None) for data in datas)
        pause.wait(0.25)
    pause.wait(SHAPE["lateness"] + 3)  # type: ignore[arg-type, operator]
    stack.put(Kinesis(shard, "", reading(0, 0), "k", None) for shard in SHARDS)


def oracle_of(stack: Stack) -> tuple[list[Any], list[bytes]]:
    """What plain Python makes of the stream as it is read back."""
    oracle, ends = PlainPanes(setup_of(SHAPE)), []
    for records in stack.records().values():
        rows = [(u.data, u.arrival) for one in records for u in plain_kpl.opened(one)]
        oracle.shard(rows)
        ends.append(max(at for _, at in rows if at is not None))
    last = (min(ends) - int(SHAPE["lateness"]) * 1000 - 1) // PANE * PANE  # type: ignore[call-overload]
    return order(oracle.alerts(last)), sorted(oracle.late)


def test_what_is_put_into_the_stream_comes_out_of_the_topic(stack: Stack) -> None:
    fill(stack)
    wanted, late = oracle_of(stack)
    assert len(wanted) > DEVICES and late
    awaited(lambda: len({one["id"] for one in stack.receive()}) >= len(wanted))
    found = {one["id"]: one for one in stack.received}.values()
    told = order([(a["device"], a["time"], a["state"], a["value"], a["samples"]) for a in found])
    assert told == wanted
    rows = {(row["position"], row["rule"]): row for row in stack.rejected()}.values()
    assert sorted(base64.b64decode(row["data"]) for row in rows) == late
    merged = [line for line in stack.lines("merger") if line["event"] == "merged"]
    assert {line["merger"] for line in merged} == {0, 1, 2}
    invoked = [line for line in stack.lines("dispatcher") if line["event"] == "invoked"]
    assert sum(line["failed"] for line in invoked) == 0
    chunks = [line for line in stack.lines("worker") if line["event"] == "chunk_reduced"]
    assert sum(line["records"] for line in chunks) == sum(line["records"] for line in invoked)
    print(f"deployed: {len(chunks)} chunks by workers, {len(told)} alerts, {len(late)} late")
