"""The event source mapping of a function, switched off and on; its position in the stream stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ...engine.aws import Service
from ...engine.errors import StreamgaugeError
from ...engine.sinks.base import Patience

PAGES_MAX = 100  # of mappings, a hundred each
WAIT_SECONDS_MAX = 300.0
TURN_SECONDS = 2.0  # between two looks at the state
STATES = {False: "Disabled", True: "Enabled"}


def find(service: Service, function: str, stream: str) -> dict[str, Any]:
    """The mapping of a stream to a function, whichever version or alias of it is called.

    Args:
        service: `lambda`. function: its name or ARN, with or without version or alias.
        stream: name or ARN, as the pipeline file has it.

    Raises:
        StreamgaugeError: there is none, or more than one; names what there is.
        UnavailableError: the service is busy, down or out of reach.
    """
    name = _name(function)
    of_function = [one for one in _mappings(service) if _name(one.get("FunctionArn", "")) == name]
    found = [one for one in of_function if _is_stream(one.get("EventSourceArn", ""), stream)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(one["UUID"] for one in found)
        raise StreamgaugeError(f"function {name} has {len(found)} mappings of {stream}: {listed}")
    others = ", ".join(one.get("EventSourceArn", "?") for one in of_function) or "nothing"
    raise StreamgaugeError(f"function {name} has no mapping of stream {stream}; it reads {others}")


def switch(
    service: Service,
    uuid: str,
    enabled: bool,
    *,
    seconds_max: float = WAIT_SECONDS_MAX,
    told: Callable[[str], object] = lambda state: None,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Switch a mapping and return once it says that it is; nothing is asked of one that is.

    Args:
        told: is told each state that is not the one asked for.

    Raises:
        StreamgaugeError: it is not after `seconds_max`, or it is being deleted.
        UnavailableError: the service is busy, down or out of reach.
    """
    wanted, until = STATES[enabled], now() + seconds_max
    of = f"mapping {uuid}"

    def call(operation: str, **request: Any) -> Any:
        patience = Patience(seconds_max=max(0.0, until - now()), now=now, sleep=sleep)
        return patience.insist(lambda: service.call(operation, of, UUID=uuid, **request))

    mapping = call("get_event_source_mapping")
    if mapping["State"] != wanted:
        mapping = call("update_event_source_mapping", Enabled=enabled)
    while mapping["State"] != wanted:
        told(mapping["State"])
        if mapping["State"] == "Deleting":
            raise StreamgaugeError(f"{of} is being deleted")
        if now() >= until:
            raise StreamgaugeError(f"{of} is {mapping['State']} still, after {seconds_max:g} s")
        sleep(TURN_SECONDS)
        mapping = call("get_event_source_mapping")


def _mappings(service: Service) -> list[dict[str, Any]]:
    """All of the account and region: a filter by function would not find those of an alias."""
    found: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    for _ in range(PAGES_MAX):
        page = service.call("list_event_source_mappings", "event source mappings", **more)
        found += page.get("EventSourceMappings", [])
        if not page.get("NextMarker"):
            return found
        more = {"Marker": page["NextMarker"]}
    raise StreamgaugeError(f"more than {PAGES_MAX} pages of event source mappings")


def _name(function: str) -> str:
    """The name alone: `f` of `f`, `f:live`, and an ARN with either."""
    parts = function.split(":")
    return parts[6] if function.startswith("arn:") and len(parts) > 6 else parts[0]


def _is_stream(arn: str, stream: str) -> bool:
    """Whether an event source is a stream, or one of its consumers."""
    source = arn.partition("/consumer/")[0]
    return source == stream if stream.startswith("arn:") else source.endswith(f":stream/{stream}")
