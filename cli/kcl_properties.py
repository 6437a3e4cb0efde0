"""What the MultiLangDaemon is told: its properties, the wrapper of its children, its log format.

Source of the keys: awslabs/amazon-kinesis-client, `software.amazon.kinesis.multilang.config`.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from ..engine.errors import InputError

DEFAULTS = {  # may be replaced by --properties
    "AwsCredentialsProvider": "DefaultCredentialsProvider",
    "metricsLevel": "NONE",  # CloudWatch costs by the metric; ours are at --listen
    "retrievalMode": "POLLING",  # enhanced fan-out costs by the consumer and byte
    "idleTimeBetweenReadsInMillis": "500",  # a shard answers five a second to all who read it
    "failoverTimeMillis": "6000",
    "leaseAssignmentIntervalMillis": "3000",
    "shardSyncIntervalMillis": "10000",
    "parentShardPollIntervalMillis": "2000",
    "workerMetricsReporterFreqInMillis": "3000",  # leases are dealt out after the first report
    "shutdownGraceMillis": "7000",
}
OURS = (
    "executableName", "streamName", "streamArn", "applicationName", "workerId",
    "initialPositionInStream", "initialPositionInStreamExtended", "processingLanguage",
    "callProcessRecordsEvenForEmptyRecordList",
)  # fmt: skip
LINE = re.compile(r"\s*([A-Za-z][\w.]*)\s*[=:]\s*(.*?)\s*")
LOGBACK = """<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><charset>UTF-8</charset>
      <pattern>%level\t%logger{0}\t%replace(%msg %ex{3}){'[\\r\\n\\t]+', ' '}%nopex%n</pattern>
    </encoder>
  </appender>
  <logger name="software.amazon.kinesis.multilang.DrainChildSTDERRTask" level="OFF"/>
  <root level="WARN"><appender-ref ref="OUT"/></root>
</configuration>
"""


def extra(path: Path | None) -> dict[str, str]:
    """The lines of a properties file of the user's; InputError names one that cannot be.

    Lines that go on after a backslash and escapes are not known.
    """
    found: dict[str, str] = {}
    text = "" if path is None else path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(("#", "!")):
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path}:{number}: expected KEY = VALUE")
        key = match[1]
        if key.lower() in map(str.lower, OURS):
            raise InputError(f"{path}:{number}: {key}: it follows from the pipeline file")
        found[key] = match[2]
    return found


def properties(
    name: str,
    stream: str,
    region: str,
    worker: str,
    child: Path,
    more: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
) -> str:
    """The text of the properties file.

    Args:
        name: of the pipeline, which names the tables of the KCL.
        stream: its name or ARN. region: of AWS. worker: the id of this worker.
        child: the wrapper that starts the process of a shard.
        more: keys that replace or add to DEFAULTS.
        environment: where endpoints are looked for, as boto3 does.
    """
    values = dict(DEFAULTS)
    for service, key in (("KINESIS", "kinesisEndpoint"), ("DYNAMODB", "dynamoDBEndpoint")):
        url = environment.get(f"AWS_ENDPOINT_URL_{service}", environment.get("AWS_ENDPOINT_URL"))
        if url:
            values[key] = url
    taken = {key.lower() for key in more}
    values = {key: value for key, value in values.items() if key.lower() not in taken}
    values |= {
        "regionName": region,
        **more,
        "executableName": str(child),
        "streamArn" if stream.startswith("arn:") else "streamName": stream,
        "applicationName": name,
        "workerId": worker,
        "processingLanguage": f"python/{sys.version_info.major}.{sys.version_info.minor}",
        "initialPositionInStream": "TRIM_HORIZON",
        "callProcessRecordsEvenForEmptyRecordList": "true",  # saves are due without data, too
    }
    return "".join(f"{key} = {_escaped(value)}\n" for key, value in values.items())


def _escaped(value: str) -> str:
    """A value as java.util.Properties reads it."""
    return value.replace("\\", "\\\\").encode("ascii", "backslashreplace").decode()


def write(folder: Path, pipeline: Path, text: str) -> None:
    """Write all files of the daemon into a folder: app.properties, logback.xml and child.

    The KCL splits the name of its executable at blanks; so it gets that of a script without any.
    """
    (folder / "app.properties").write_text(text)
    (folder / "logback.xml").write_text(LOGBACK)
    module = f"{__package__.partition('.')[0]}.consumers.kcl_child"
    parts = [sys.executable, "-P", "-m", module, str(pipeline), str(folder)]
    child = folder / "child"
    child.write_text(f"#!/bin/sh\nexec {shlex.join(parts)}\n")
    child.chmod(0o700)
