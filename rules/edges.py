"""What a pipeline file names outside this process: sinks and stores, made when first asked for.

The one table from a location to the class that serves it. A module that meets AWS is imported only
where a location needs it, and no client is made before the first call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..engine.aws import Service
from ..engine.batch import Alert, Rejected
from ..engine.limits import ThresholdStore
from ..engine.sinks.base import Sink
from ..engine.state import StateStore
from .spec import Spec

if TYPE_CHECKING:
    from ..engine.folder import Place
    from ..engine.sinks.archive import Archive

BUCKET = "s3://"


class Edges:
    """The sinks and stores of one pipeline file; each service is shared by all that call it."""

    def __init__(self, spec: Spec, services: Mapping[str, Service] | None = None) -> None:
        """Make nothing yet; `services` by boto3's name of them are used instead of our own."""
        self._spec = spec
        self._services = dict(services or {})

    def service(self, name: str) -> Service:
        """The service of this name, the same one each time."""
        return self._services.setdefault(name, Service(name))

    def alerts(self) -> Sink[Alert]:
        """Where alerts go: the topic, else standard output."""
        topic = self._spec.alerts.sns_topic
        if topic is None:
            from ..engine.sinks.local import StdoutSink

            return StdoutSink()
        from ..engine.sinks.sns import SnsAlerts

        return SnsAlerts(topic, self.service("sns"))

    def errors(self) -> Sink[Rejected]:
        """The error stream."""
        location, pipeline = self._spec.errors.location, self._spec.pipeline.name
        if location.startswith(BUCKET):
            from ..engine.sinks.errors_s3 import ErrorBucket

            return ErrorBucket(location, pipeline, self.service("s3"))
        from ..engine.sinks.errors_directory import ErrorDirectory

        return ErrorDirectory(location, pipeline)

    def archive(self) -> Archive | None:
        """Where all that is read is archived; None where the file asks for no archive."""
        asked = self._spec.archive
        if asked is None:
            return None
        from ..engine.sinks.archive import Archive

        return Archive(
            self.place(asked.location),
            self._spec.pipeline.name,
            asked.format,
            asked.max_bytes,
            asked.max_age / 1000,
        )

    def place(self, location: str) -> Place:
        """The objects below a location."""
        from ..engine.folder import place

        return place(location, self.service("s3") if location.startswith(BUCKET) else None)

    def states(self) -> StateStore:
        """Where state objects lie."""
        location = self._spec.state.location
        if location.startswith(BUCKET):
            from ..engine.stores.s3 import BucketStates

            return BucketStates(location, self.service("s3"))
        from ..engine.stores.directory import DirectoryStates

        return DirectoryStates(location)

    def thresholds(self) -> ThresholdStore | None:
        """The table of limits; None where every device has its rule's own."""
        table = self._spec.thresholds.table
        if table is None:
            return None
        from ..engine.stores.dynamodb import TableThresholds

        return TableThresholds(table, self.service("dynamodb"))
