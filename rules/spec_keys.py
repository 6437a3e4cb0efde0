"""The pipeline file: every key with its type, unit, default and meaning.

The text beside each key here is the reference page's; durations are int ms and sizes int bytes in
the engine's form. AWS regions, endpoints and credentials are no keys: boto3's own chain finds them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from . import spec_values as values
from .spec_tables import EnvironmentOnly, Unit

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
    forward: Annotated[
        Annotated[str, values.STREAM] | None,
        "another Kinesis stream, which gets what SELECT puts out of each message that FROM and "
        "WHERE let through, aggregated; none: it goes nowhere",
    ] = None
    forward_key: Annotated[
        Text | None,
        "partition key of what is forwarded; ${...} holds an expression; none: the key it came by",
    ] = None
    tests: tuple[CaseSpec, ...] = ()


class SqlSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How the statements of all rules are read."""

    version: Annotated[
        Literal["2016-03-23", "2015-10-08"],
        "version of AWS IoT SQL; 2015-10-08 tells 10.0 from 10, and its rows are read one by one",
    ] = "2016-03-23"
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
    panes_stream: Annotated[
        Annotated[str, values.STREAM] | None,
        "Kinesis stream for partial panes: the fan_out mode in Lambda needs it, nothing else does",
    ] = None
    mergers: Annotated[
        int,
        values.MERGERS,
        Unit("mergers"),
        "how many parts of the fleet are merged side by side in Lambda; for the life of a state",
    ] = 4
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
