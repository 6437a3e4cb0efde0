"""The pipeline file: every key with its type, unit, default and meaning, and what must agree.

`load` and `parse` turn TOML into a `Spec` or raise one ConfigError with every problem found. The
text beside each key here is the reference page's; durations are int ms and sizes int bytes in the
engine's form. AWS regions, endpoints and credentials are no keys: boto3's own chain finds them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from ..engine.errors import ConfigError, Problem
from . import spec_values as values
from .spec_tables import (
    EnvironmentOnly,
    Names,
    Unit,
    decode,
    item_name,
    known,
    override,
    parse_toml,
    read_table,
)
from .spec_values import DURATION

_PANE = 1000  # ms: the slice of event time that the fan-out mode adds up
_PANE_STATISTICS = ("mean", "min", "max", "sum", "count")

Text = Annotated[str, values.TEXT]
Name = Annotated[str, values.NAME]
DottedPath = Annotated[str, values.PATH]
Location = Annotated[str, values.LOCATION]
Duration = Annotated[int, values.DURATION]
Length = Annotated[int, values.LENGTH]
Count = Annotated[int, values.COUNT]


class PipelineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the pipeline is called."""

    name: Annotated[Name, "part of alert ids and of the names of state and archive objects"]


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where records come from."""

    stream: Annotated[
        Annotated[str, values.STREAM] | None,
        "Kinesis stream to read; none: the file can be back-tested and embedded, not run",
    ] = None
    format: Annotated[Literal["json"], "how a user record's payload is written"] = "json"
    out_of_range: Annotated[
        Literal["evaluate", "reject"],
        "user records whose hash key lies outside the shard (the KCL drops them)",
    ] = "evaluate"


class RecordSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where to find things in a message, as dotted paths."""

    device: Annotated[
        tuple[str, ...],
        values.PATHS,
        'device id: text, or an integer taken as its decimal text; several are joined with "/"',
    ] = ("device",)
    time: Annotated[
        DottedPath | None, "event time of the reading; none: the Kinesis arrival time"
    ] = None
    time_unit: Annotated[
        Literal["s", "ms", "us", "ns", "iso8601"],
        "unit of `time` since 1970 UTC; iso8601: text, where no zone means UTC",
    ] = "ms"
    topic: Annotated[
        DottedPath | None,
        "MQTT topic that FROM and topic() see; none: FROM is not applied, topic() is Undefined",
    ] = None


class CaseSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Tests of the rule above: what `streamgauge test` gives to it, and what must come out."""

    given: Annotated[
        tuple[dict[str, Any] | str, ...],
        values.MESSAGES,
        "messages in the order of arrival, each a table or its payload as text",
    ]
    topic: Annotated[
        Text | None, "put into every message at the path of `record.topic`; none: as given"
    ] = None
    expect: Annotated[
        tuple[dict[str, Any], ...],
        values.CHANGES,
        "the changes of alert state in order, with the keys that matter; []: no alert",
    ]


class RuleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to watch: one table for each rule, at least one. Names must differ."""

    name: Annotated[Name, "names the rule in alerts, thresholds, state and environment variables"]
    sql: Annotated[Text, "AWS IoT SQL statement that filters and shapes the messages"]
    measure: Annotated[DottedPath, "the number to watch: a path in the output of SELECT"]
    window: Annotated[
        Length, "how far back from each sample the statistic looks, both ends included"
    ] = 60_000
    statistic: Annotated[
        Literal["mean", "min", "max", "sum", "count", "stddev", "last"],
        "what is computed over the window, exactly; stddev is the population's",
    ] = "mean"
    fire_when: Annotated[
        Literal["above", "below"], "the side of the threshold, strictly, that is an alert"
    ] = "above"
    threshold: Annotated[
        float,
        values.NUMBER,
        Unit("the statistic's"),
        "limit of devices without an item of their own",
    ]
    clear_margin: Annotated[
        float,
        values.MARGIN,
        Unit("the statistic's"),
        "hysteresis: how far back from the threshold an alert resolves",
    ] = 0.0
    min_samples: Annotated[
        Count, Unit("samples"), "fewer than these in the window never start an alert"
    ] = 1
    hold: Annotated[
        Duration, "how long the statistic must stay beyond the threshold before the alert fires"
    ] = 0
    severity: Annotated[Text, "passed on in alerts; your own words"] = "warning"
    tests: tuple[CaseSpec, ...] = ()


class SqlSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How the statements of all rules are read."""

    version: Annotated[Literal["2016-03-23"], "version of AWS IoT SQL"] = "2016-03-23"
    int_division: Annotated[
        Literal["int", "decimal"], "whether 7 / 2 of two integers is 3 or 3.5"
    ] = "int"
    undefined_logic: Annotated[
        Literal["strict", "kleene"],
        "strict: AND, OR with Undefined are Undefined; kleene: FALSE AND Undefined is FALSE",
    ] = "strict"


class ThresholdsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of single devices, kept outside the file."""

    table: Annotated[
        Annotated[str, values.TABLE] | None,
        "DynamoDB table, keys device and rule; none: every device has its rule's `threshold`",
    ] = None
    refresh: Annotated[Length, "how old a limit may be before it is read again"] = 10_000


class AlertsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where changes of alert state go."""

    sns_topic: Annotated[
        Annotated[str, values.TOPIC] | None, "SNS topic; none: alerts go to stdout"
    ] = None


class ErrorsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where records go that could not be processed, with their original bytes."""

    location: Annotated[Location, "directory or S3 prefix of the error stream"] = "errors/"


class ArchiveSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of everything read, for later back-tests; without this table there is none."""

    location: Annotated[Location, "directory or S3 prefix"]
    format: Annotated[Literal["parquet", "ndjson.gz"], "format of the objects"] = "parquet"
    max_bytes: Annotated[int, values.SIZE, "an object is closed at this size, compressed"] = (
        64 << 20
    )
    max_age: Annotated[Length, "an object is closed this long after its first record"] = 60_000


class StateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where windows, alert states and positions are kept over a restart."""

    location: Annotated[Location, "directory or S3 prefix of the state objects"] = "state/"
    save_every: Annotated[
        Length, "how often the local and the KCL host write a full state object"
    ] = 30_000


class DeliverySpec(msgspec.Struct, frozen=True, kw_only=True):
    """Order, lateness and how long a silent device is remembered."""

    mode: Annotated[
        Literal["ordered", "fan_out"],
        "ordered: evaluated at every sample; fan_out: over whole panes of 1 s, for throughput",
    ] = "ordered"
    workers: Annotated[Count, Unit("processes"), "processes on one machine"] = 1
    allowed_lateness: Annotated[
        Duration, "how far out of order a sample may come and still find its whole window"
    ] = 10_000
    max_clock_skew: Annotated[
        Duration, "a reading further ahead of its arrival time than this is rejected"
    ] = 300_000
    forget_after: Annotated[
        Length, "silence after which a device starts anew; at least window + allowed_lateness"
    ] = 86_400_000
    duplicates: Annotated[
        Literal["drop", "keep"],
        "readings of one device with equal time and value, while the first is retained",
    ] = "drop"


class RouteSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the bridge forwards: one table for each route."""

    sql: Annotated[Text, "AWS IoT SQL statement whose FROM is subscribed to"]
    partition_key: Annotated[Text, "partition key of the record; ${...} holds an expression"]


class MqttSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The broker that `streamgauge bridge` reads; nothing else does."""

    url: Annotated[str, values.BROKER, "address of the broker; mqtts is TLS"]
    client_id: Annotated[Text | None, "MQTT client id; none: the name of the pipeline"] = None
    share: Annotated[Name | None, "$share group, for several bridges side by side"] = None
    qos: Annotated[Literal[0, 1], "quality of service subscribed with"] = 1
    ca: Annotated[Text | None, "file of the authorities to trust; none: the system's"] = None
    cert: Annotated[Text | None, "file of the client's certificate, with `key`"] = None
    key: Annotated[Text | None, "file of the client's private key, with `cert`"] = None
    username: Annotated[Text | None, "user name"] = None
    password: Annotated[
        Annotated[str, values.SECRET] | None,
        EnvironmentOnly(),
        "never in the file: only by STREAMGAUGE_MQTT__PASSWORD",
    ] = None
    max_in_flight: Annotated[
        int, values.IN_FLIGHT, Unit("messages"), "unacknowledged messages held at once"
    ] = 2000
    routes: tuple[RouteSpec, ...]


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline file. Durations are int ms, sizes int bytes, paths as the user wrote them."""

    pipeline: PipelineSpec
    source: SourceSpec = SourceSpec()
    record: RecordSpec = RecordSpec()
    rules: tuple[RuleSpec, ...]
    sql: SqlSpec = SqlSpec()
    thresholds: ThresholdsSpec = ThresholdsSpec()
    alerts: AlertsSpec = AlertsSpec()
    errors: ErrorsSpec = ErrorsSpec()
    archive: ArchiveSpec | None = None
    state: StateSpec = StateSpec()
    delivery: DeliverySpec = DeliverySpec()
    mqtt: MqttSpec | None = None


def load(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Spec:
    """Read a pipeline file and the environment's overrides; ConfigError lists every problem."""
    origin = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError([Problem(origin, f"cannot be read: {reason}")]) from error
    return parse(decode(content, origin), origin, environ)


def parse(text: str, origin: str = "pipeline", environ: Mapping[str, str] | None = None) -> Spec:
    """Read the text of a pipeline file; `origin` names it in messages. ConfigError as in `load`."""
    spec, problems = examine(text, origin, environ)
    if spec is None or problems:
        raise ConfigError(problems)
    return spec


def examine(
    text: str, origin: str = "pipeline", environ: Mapping[str, str] | None = None
) -> tuple[Spec | None, list[Problem]]:
    """Read the text as far as that goes: what could be read, and every problem.

    With problems the spec is only good for looking for more of them: msgspec.UNSET stands where a
    value could not be read. It is None where the text is not TOML.
    """
    tree = parse_toml(text, origin)
    if isinstance(tree, Problem):
        return None, [tree]
    variables, problems = override(tree, Spec, environ or {}, origin)
    spec = read_table(Spec, tree, Spec, Names(origin, variables), problems)
    for check in (_names, _paths, _windows, _modes, _locations, _broker):
        problems += (
            Problem(f"{origin}: {path}", message, hint) for path, message, hint in check(spec)
        )
    return spec, problems


# Checks of what must agree. Each yields (path, message, hint); what could not be read
# already has its problem, so it is left out here.
_Found = Iterator[tuple[str, str, str]]


def _rules(spec: Spec) -> Iterator[tuple[str, RuleSpec]]:
    """The rules that could be read, each with its path."""
    for number, rule in enumerate(spec.rules if known(spec.rules) else ()):
        yield "rules" + item_name(number, {"name": rule.name}), rule


def _names(spec: Spec) -> _Found:
    seen: set[str] = set()
    for number, (_, rule) in enumerate(_rules(spec)):
        if known(rule.name) and rule.name in seen:
            yield (
                f"rules[{number}].name",
                f'another rule is called "{rule.name}"',
                "names must differ",
            )
        seen.add(rule.name)


def _paths(spec: Spec) -> _Found:
    record = spec.record
    time = record.time if known(record) and known(record.device, record.time) else None
    for device in record.device if time is not None else ():
        outer, inner = sorted((device, str(time)), key=len)
        if outer == inner:
            yield "record.time", f'"{time}" is where the device is: one value cannot be both', ""
        elif inner.startswith(outer + "."):
            what = "device" if outer == device else "time"
            message = f'"{outer}" cannot hold "{inner}": it is the {what}, not an object'
            yield "record.time", message, ""
    for path, rule in _rules(spec):
        for number, case in enumerate(rule.tests if known(rule.tests) else ()):
            if known(record) and known(case.topic, record.topic):
                if case.topic is not None and record.topic is None:
                    message = "a topic is given, but there is no record.topic to put it at"
                    yield f"{path}.tests[{number}].topic", message, ""


def _windows(spec: Spec) -> _Found:
    delivery = spec.delivery
    if not known(delivery) or not known(delivery.forget_after, delivery.allowed_lateness):
        return
    for path, rule in _rules(spec):
        if known(rule.window) and delivery.forget_after < rule.window + delivery.allowed_lateness:
            least = rule.window + delivery.allowed_lateness
            yield (
                "delivery.forget_after",
                f"{DURATION.show(delivery.forget_after)} is less than the window of {path} and "
                f"allowed_lateness together, {DURATION.show(least)}",
                f"forget_after = {DURATION.show(least)} or more",
            )


def _modes(spec: Spec) -> _Found:
    if not known(spec.delivery) or spec.delivery.mode != "fan_out":
        return
    for path, rule in _rules(spec):
        if known(rule.statistic) and rule.statistic not in _PANE_STATISTICS:
            listed = ", ".join(_PANE_STATISTICS)
            message = f'"{rule.statistic}" cannot be added up from panes in the fan_out mode'
            yield f"{path}.statistic", message, f'one of {listed}, or delivery.mode = "ordered"'
        if known(rule.window) and rule.window % _PANE:
            message = "the fan_out mode adds up panes of 1s: a window must be whole seconds"
            yield f"{path}.window", message, ""


def _locations(spec: Spec) -> _Found:
    used: dict[str, str] = {}
    for name in ("errors", "state", "archive"):
        section = getattr(spec, name)
        if not known(section) or section is None or not known(section.location):
            continue
        place = os.path.normpath(section.location)
        if place in used:
            yield f"{name}.location", f"{used[place]}.location is the same place", ""
        used[place] = name


def _broker(spec: Spec) -> _Found:
    mqtt = spec.mqtt
    if mqtt is None or not known(mqtt):
        return
    if known(mqtt.cert, mqtt.key) and (mqtt.cert is None) != (mqtt.key is None):
        given, lacking = ("cert", "key") if mqtt.key is None else ("key", "cert")
        yield f"mqtt.{given}", f"mqtt.{lacking} is missing: they come together", ""
    for name in ("ca", "cert", "key"):
        if known(mqtt.url, getattr(mqtt, name)) and mqtt.url.startswith("mqtt:"):
            if getattr(mqtt, name) is not None:
                yield f"mqtt.{name}", "only used with TLS, but mqtt.url is not", "mqtts://..."
