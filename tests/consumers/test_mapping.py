"""A mapping is found by function and stream, switched, and waited for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from streamgauge.consumers.deploy.mapping import find, switch
from streamgauge.engine.aws import RefusedError, Service
from streamgauge.engine.errors import StreamgaugeError, UnavailableError

STREAM = "arn:aws:kinesis:eu-west-1:123456789012:stream/telemetry"
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:thermostats"


class Client:
    """Lambda's answers about one mapping: its states one after the other, the last one for ever."""

    def __init__(self, states: Iterable[str | Exception] = (), mappings: Any = ()) -> None:
        self.states = list(states)
        self.mappings = list(mappings)
        self.updates: list[bool] = []

    def list_event_source_mappings(self, Marker: str = "0") -> Any:
        at = int(Marker)
        more = {"NextMarker": str(at + 1)} if at + 1 < len(self.mappings) else {}
        return {"EventSourceMappings": self.mappings[at : at + 1], **more}

    def get_event_source_mapping(self, UUID: str) -> Any:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return {"UUID": UUID, "State": state}

    def update_event_source_mapping(self, UUID: str, Enabled: bool) -> Any:
        self.updates.append(Enabled)
        return self.get_event_source_mapping(UUID)


class Clock:
    seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def switched(client: Client, enabled: bool, seconds_max: float = 60.0) -> list[str]:
    told: list[str] = []
    clock = Clock()
    switch(Service("lambda", client), "u", enabled, seconds_max=seconds_max, told=told.append,
           now=clock.now, sleep=clock.sleep)  # fmt: skip
    return told


def error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "UpdateEventSourceMapping")


def test_it_returns_once_the_mapping_says_so() -> None:
    client = Client(["Enabled", "Disabling", "Disabling", "Disabled"])
    assert switched(client, False) == ["Disabling", "Disabling"]
    assert client.updates == [False]


def test_nothing_is_asked_of_one_that_is_so_already() -> None:
    client = Client(["Enabled"])
    assert switched(client, True) == [] and client.updates == []


def test_a_mapping_in_use_is_asked_again() -> None:
    client = Client(["Disabled", error("ResourceInUseException"), "Enabling", "Enabled"])
    assert switched(client, True) == ["Enabling"]
    assert client.updates == [True, True]


@pytest.mark.parametrize(
    ("states", "raised", "named"),
    [
        (["Enabled", "Disabling"], StreamgaugeError, "Disabling still, after 4 s"),
        (["Enabled", "Deleting"], StreamgaugeError, "is being deleted"),
        (["Enabled", error("AccessDeniedException")], RefusedError, "UpdateEventSourceMapping"),
        ([error("ResourceNotFoundException")], RefusedError, "mapping u"),
        ([error("TooManyRequestsException")], UnavailableError, "TooManyRequests"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_named(states: Any, raised: type[Exception], named: str) -> None:
    with pytest.raises(raised, match=named):
        switched(Client(states), False, 4.0)


def mapping(function: str, stream: str, uuid: str = "u") -> dict[str, str]:
    return {"UUID": uuid, "FunctionArn": function, "EventSourceArn": stream}


OTHERS = [mapping(FUNCTION + "-2", STREAM), mapping(FUNCTION, STREAM + "-2"),
          {"UUID": "kafka", "FunctionArn": FUNCTION}]  # fmt: skip


@pytest.mark.parametrize("arn", [FUNCTION, f"{FUNCTION}:live", f"{FUNCTION}:12"])
@pytest.mark.parametrize("source", [STREAM, f"{STREAM}/consumer/c:1700000000"])
@pytest.mark.parametrize("function", ["thermostats", "thermostats:live", FUNCTION])
@pytest.mark.parametrize("stream", ["telemetry", STREAM])
def test_it_is_found_whatever_it_is_called(
    arn: str, source: str, function: str, stream: str
) -> None:
    client = Client(mappings=[*OTHERS, mapping(arn, source, "found")])
    assert find(Service("lambda", client), function, stream)["UUID"] == "found"


def test_none_or_several_are_named() -> None:
    with pytest.raises(StreamgaugeError, match="function thermostats has no mapping of .*-2, "):
        find(Service("lambda", Client(mappings=OTHERS)), "thermostats", "telemetry")
    two = [mapping(FUNCTION, STREAM, "u1"), mapping(f"{FUNCTION}:live", STREAM, "u2")]
    with pytest.raises(StreamgaugeError, match="has 2 mappings of telemetry: u1, u2"):
        find(Service("lambda", Client(mappings=two)), "thermostats", "telemetry")
