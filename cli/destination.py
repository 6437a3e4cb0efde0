"""`--to` and what belongs to it, for `fleet` and `replay`: options, and the place they lead to."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from ..producers.destinations import Accept, Destination

PASSWORD = "STREAMGAUGE_MQTT__PASSWORD"
GZIP_LEVEL = 4
PORTS = {"mqtt": 1883, "mqtts": 8883}


class Form(StrEnum):
    """What is written to a file or to standard output."""

    NDJSON = "ndjson"
    KINESIS = "kinesis"


class Version(IntEnum):
    """Versions of MQTT, as people count them."""

    V3 = 3
    V5 = 5


To = Annotated[
    str,
    typer.Option(metavar="WHERE", help="stdout, FILE, kinesis:STREAM or mqtt[s]://HOST[:PORT]."),
]
As = Annotated[Form, typer.Option("--as", help="What a file holds: payloads, or Kinesis records.")]
NoAggregate = Annotated[
    bool, typer.Option("--no-aggregate", help="Send each message as a Kinesis record of its own.")
]
Clients = Annotated[int, typer.Option(min=1, max=64, help="MQTT: connections, a process each.")]
Qos = Annotated[int, typer.Option(min=0, max=1, help="MQTT: quality of service.")]
MqttVersion = Annotated[int, typer.Option("--mqtt-version", help="MQTT: 5, or 3 for 3.1.1.")]
Username = Annotated[str | None, typer.Option(help=f"MQTT: the password is read from {PASSWORD}.")]
Ca = Annotated[str | None, typer.Option(metavar="FILE", help="MQTT: whom to trust, PEM.")]
Cert = Annotated[str | None, typer.Option(metavar="FILE", help="MQTT: our certificate, PEM.")]
Key = Annotated[str | None, typer.Option("--cert-key", metavar="FILE", help="MQTT: its key, PEM.")]


@dataclass(frozen=True)
class Target:
    """Where to send, checked as far as that goes without going there."""

    to: str
    form: str = Form.NDJSON
    aggregated: bool = True
    clients: int = 1
    qos: int = 1
    version: int = Version.V5
    username: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        kind = self.kind
        if kind == "kinesis" and not self.stream:
            raise typer.BadParameter("expected kinesis:STREAM", param_hint="--to")
        if kind == "mqtt":
            self.address()
        elif self.username or self.ca or self.cert or self.clients != 1:
            raise typer.BadParameter("is for mqtt:// only", param_hint="--clients, --username, TLS")
        if (self.cert is None) != (self.key is None):
            raise typer.BadParameter("belong together", param_hint="--cert and --cert-key")
        if kind in ("kinesis", "mqtt") and self.form != Form.NDJSON:
            raise typer.BadParameter("is for files and stdout", param_hint="--as")
        if self.version not in tuple(Version):
            raise typer.BadParameter("expected 5 or 3", param_hint="--mqtt-version")

    @property
    def kind(self) -> str:
        """Which destination it is: stdout, file, kinesis or mqtt."""
        if self.to in ("stdout", "-"):
            return "stdout"
        scheme = self.to.partition(":")[0]
        return {"kinesis": "kinesis", "mqtt": "mqtt", "mqtts": "mqtt"}.get(scheme, "file")

    @property
    def stream(self) -> str:
        """The name or ARN of the stream."""
        return self.to.partition(":")[2]

    @property
    def live(self) -> bool:
        """Whether messages arrive somewhere at the time they are sent."""
        return self.kind in ("kinesis", "mqtt")

    def address(self) -> tuple[str, int, bool]:
        """Host, port and whether it is TLS."""
        parts = urlsplit(self.to)
        try:
            port = parts.port or PORTS[parts.scheme]
        except ValueError:
            port = 0
        if not parts.hostname or not port or parts.username or parts.path.strip("/"):
            raise typer.BadParameter("expected mqtt[s]://HOST[:PORT]", param_hint="--to")
        return parts.hostname, port, parts.scheme == "mqtts"


class Written:
    """A file for results: under its name with `.partial` until it is whole. `.gz` is packed."""

    def __init__(self, path: str) -> None:
        """Open it; raises OSError if that cannot be done."""
        special = os.path.exists(path) and not os.path.isfile(path)
        self.path, self.name = path, path if special else f"{path}.partial"
        self._raw = open(self.name, "wb")
        self.file: BinaryIO = self._raw
        if path.endswith(".gz"):
            # Without name and time in its head, so that the same run gives the same bytes.
            packed = gzip.GzipFile("", "wb", GZIP_LEVEL, self._raw, mtime=0)
            self.file = cast(BinaryIO, packed)

    def close(self, whole: bool) -> None:
        """Close it, and give it its name if it is whole."""
        if self.file is not self._raw:
            self.file.close()
        self._raw.close()
        if whole and self.name != self.path:
            os.replace(self.name, self.path)
            self.name = self.path


@contextmanager
def opened(target: Target, accept: Accept, whole: list[bool]) -> Iterator[Destination]:
    """The destination, open inside `with`; `whole` holds a True by the end if all was sent.

    Raises:
        StreamgaugeError, OSError: it cannot be opened.
    """
    from ..producers.destinations import Lines, RecordLines, Stream

    if target.kind == "kinesis":
        from ..engine.aws import Service

        yield Stream(target.stream, Service("kinesis"), accept, target.aggregated)
        return
    if target.kind == "mqtt":
        publisher = _publisher(target, accept)
        try:
            yield publisher
        finally:
            publisher.close()
        return
    written = None if target.kind == "stdout" else Written(target.to)
    file = cast(BinaryIO, sys.stdout.buffer) if written is None else written.file
    try:
        if target.form == Form.KINESIS:
            yield RecordLines(file, accept, target.aggregated)
        else:
            yield Lines(file, accept)
    finally:
        if written is not None:
            written.close(bool(whole))


def _publisher(target: Target, accept: Accept) -> Destination:
    from ..producers.mqtt_packets import V5, V311
    from ..producers.mqtt_processes import Certificates, Publishers
    from ..producers.mqtt_publish import Publisher, Server

    host, port, tls = target.address()
    certificates = Certificates(target.ca, target.cert, target.key) if tls else None
    server = Server(
        host,
        port,
        client_id=f"streamgauge-{os.getpid()}",
        version=V5 if target.version == Version.V5 else V311,
        qos=target.qos,
        username=target.username,
        password=os.environ.get(PASSWORD),
        tls=certificates.context() if certificates else None,
    )
    if target.clients == 1:
        return Publisher(server, accept)
    return Publishers(server, target.clients, certificates, accept)
