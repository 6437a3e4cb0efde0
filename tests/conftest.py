"""What every test runs under: no real account, no network beyond this machine, no clock limit.

The same holds under `make test`, under bare pytest and in an editor.
"""

import functools
import ipaddress
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader
from hypothesis import HealthCheck, settings

AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


def isolate_environment() -> None:
    """Fake credentials, and no override of a pipeline file left over from the shell."""
    for name in list(os.environ):
        if name.startswith("AWS_") or (name.startswith("STREAMGAUGE_") and "__" in name):
            del os.environ[name]
    os.environ.update(AWS)


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: a connection to another machine is a bug of the test that makes it."""
    if event != "socket.connect" or not isinstance(arguments[1], tuple):
        return
    host = arguments[1][0]
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        loopback = False
    if not loopback:
        raise RuntimeError(f"a test may not connect to {host}")


class Shared(MetaPathFinder):
    """Finds the modules that several tests share, by their bare names; sys.path stays as it is."""

    homes = {
        "aggregates": "engine/aggregates.py",
        "drawn_sql": "rules/drawn_sql.py",
        "sql_cases": "rules/sql_cases.py",
        "bridge_rig": "producers/bridge_rig.py",
        "archives": "engine/archives.py",
        "archived": "sim/archived.py",
        "cloud": "sim/cloud.py",
        "drawn": "sim/drawn.py",
        "drawn_panes": "golden/drawn_panes.py",
        "drive": "drive.py",
        "effort": "effort.py",
        "fan_drive": "golden/fan_drive.py",
        "fake_broker": "producers/fake_broker.py",
        "fault_proxy": "servers/fault_proxy.py",
        "fault_table": "sim/fault_table.py",
        "generate": "generate.py",
        "language_values": "rules/language_values.py",
        "kinesis_endpoint": "producers/kinesis_endpoint.py",
        "kcl_drive": "golden/kcl_drive.py",
        "kcl_opening": "servers/kcl_opening.py",
        "kinesis_local": "servers/kinesis_local.py",
        "kcl_run": "servers/kcl_run.py",
        "lambda_drive": "golden/lambda_drive.py",
        "lambda_mapping": "golden/lambda_mapping.py",
        "live": "sim/live.py",
        "live_cloud": "servers/live_cloud.py",
        "live_run": "servers/live_run.py",
        "memory_bucket": "sim/memory_bucket.py",
        "memory_kinesis": "producers/memory_kinesis.py",
        "memory_reading": "sim/memory_reading.py",
        "memory_service": "sim/memory_service.py",
        "memory_stream": "sim/memory_stream.py",
        "memory_table": "sim/memory_table.py",
        "memory_topic": "sim/memory_topic.py",
        "messages": "rules/messages.py",
        "mosquitto": "servers/mosquitto.py",
        "payloads": "engine/payloads.py",
        "plain_kpl": "golden/plain_kpl.py",
        "plain_panes": "golden/plain_panes.py",
        "plain_oracle": "golden/plain_oracle.py",
        "plain_payload": "golden/plain_payload.py",
        "plain_truth": "producers/plain_truth.py",
        "resharding": "sim/resharding.py",
        "scripted_broker": "producers/scripted_broker.py",
        "servers": "servers/servers.py",
        "simulation": "sim/simulation.py",
        "sink_cases": "engine/sink_cases.py",
        "torture": "golden/torture.py",
    }

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        home = self.homes.get(name)
        return spec_from_file_location(name, Path(__file__).parent / home) if home else None


@functools.cache
def load_file(path: str) -> Any:
    """As botocore's, once a file: each client reads the tables of its service anew."""
    return read_file(JSONFileLoader(), path)


read_file = JSONFileLoader.load_file
JSONFileLoader.load_file = lambda self, path: load_file(path)  # type: ignore[method-assign]

sys.meta_path.append(Shared())
isolate_environment()
sys.addaudithook(refuse_network)

# A busy machine is slow at random, so time is never a reason to fail; the blob replays a failure.
settings.register_profile(
    "streamgauge", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("streamgauge"), max_examples=20)


def pytest_configure(config: pytest.Config) -> None:
    """`make quick` tries properties with fewer examples; see effort.py."""
    settings.load_profile("quick" if config.option.markexpr == "not slow" else "streamgauge")
