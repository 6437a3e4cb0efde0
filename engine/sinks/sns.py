"""Alerts to an SNS topic, ten a call.

The message is the alert as it stands in files; rule, device, state and severity are message
attributes too, for filter policies. A topic that is FIFO gets the alert's id as the message
deduplication id, and one message group for each (rule, device), whose alerts arrive in their order;
a standard topic keeps none.

The caller needs sns:Publish. Limits and codes are those of the SNS API (PublishBatch).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

import msgspec

from ..aws import WAIT, Service
from ..batch import Alert
from ..errors import StreamgaugeError, UnavailableError
from ..limits import shown

ENTRIES_MAX = 10  # of one call
BATCH_BYTES_MAX = 256 << 10  # of one call, messages and attributes
ATTRIBUTES = ("rule", "device", "state", "severity")
ENTRY_BYTES_MORE = 512  # names and types of attributes, ids; generously
TEXT_BYTES_MAX = 16 << 10  # of one text in a message; escaped it may become six times as long
ATTRIBUTE_BYTES_MAX = 1024
ACCEPTED_MAX = 100_000  # ids remembered of rows that will come again

# What XML 1.0, and so an SQS queue behind the topic, does not take, and DEL. JSON text has no
# control characters, but may have the others.
_ESCAPED = {code: f"\\u{code:04x}" for code in (0x7F, 0xFFFE, 0xFFFF)}
_ENCODED = {code: quote(chr(code)) for code in (*range(0x20), *_ESCAPED)}

Entry = dict[str, Any]  # one of a call, as boto3 takes it


class SnsAlerts:
    """A Sink of alerts that publishes them to one topic.

    Of a batch that is accepted in part only the rest is sent again by the next `deliver` of the
    same rows, whatever is delivered in between. Where an answer was lost the same ids come again.
    """

    def __init__(self, topic: str, service: Service) -> None:
        """Take the topic's ARN and the service `sns`; nothing is called yet."""
        self.topic = topic
        self.fifo = topic.endswith(".fifo")
        self._service = service
        self._accepted: dict[str, None] = {}  # ids of rows that will come again, oldest first

    def deliver(self, rows: Sequence[Alert]) -> None:
        """Publish all rows.

        Raises:
            UnavailableError: some were refused for now; what was accepted is remembered.
            StreamgaugeError: the topic can never take a row; says which and why.
        """
        refused: list[str] = []
        held: set[str] = set()  # groups of which a row was refused: later ones must not pass it
        todo = [row for row in rows if row.id not in self._accepted]
        try:
            for batch in self._batches(todo, held):
                causes = self._publish(batch, held)
                refused += causes
                if len(causes) == len(batch):  # it takes nothing now: wait before the next call
                    break
            if refused:
                raise UnavailableError(f"topic {self.topic}: not all accepted: {refused[0]}")
            for row in rows:
                self._accepted.pop(row.id, None)
        finally:
            self._forget()

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: the service belongs to the caller."""

    def _batches(
        self, rows: Iterable[Alert], held: set[str]
    ) -> Iterator[list[tuple[Alert, Entry]]]:
        """The rows of each call with their entries; those of a group that is held are left out."""
        batch: list[tuple[Alert, Entry]] = []
        size = 0
        for turn in self._turns(rows):
            for row, group in turn:
                if group in held:
                    continue
                entry = self._entry(row, group)
                more = _size(entry)
                if batch and (len(batch) == ENTRIES_MAX or size + more > BATCH_BYTES_MAX):
                    yield batch
                    batch, size = [], 0
                batch.append((row, {"Id": str(len(batch)), **entry}))
                size += more
            if batch:
                yield batch
                batch, size = [], 0

    def _turns(self, rows: Iterable[Alert]) -> list[list[tuple[Alert, str]]]:
        """The rows with their message groups, empty on a standard topic, in their order.

        On a FIFO topic the first of each group, then the second of each, and so on: none of a group
        is sent before it is known what became of the one before it.
        """
        if not self.fifo:
            return [[(row, "") for row in rows]]
        turns: list[list[tuple[Alert, str]]] = []
        taken: dict[str, int] = {}
        for row in rows:
            group = _group(row)
            turn = taken[group] = taken.get(group, -1) + 1
            if turn == len(turns):
                turns.append([])
            turns[turn].append((row, group))
        return turns

    def _publish(self, batch: list[tuple[Alert, Entry]], held: set[str]) -> list[str]:
        """Make one call; why each entry was refused that was, its group being held from now on."""
        answer = self._service.call(
            "publish_batch",
            f"topic {self.topic}",
            TopicArn=self.topic,
            PublishBatchRequestEntries=[entry for _, entry in batch],
        )
        accepted = {entry["Id"] for entry in answer.get("Successful", ())}
        failed = {entry["Id"]: entry for entry in answer.get("Failed", ())}
        causes: list[str] = []
        faults: list[str] = []
        for row, entry in batch:
            if entry["Id"] in accepted:
                self._accepted[row.id] = None
                continue
            told = failed.get(entry["Id"], {})
            code = told.get("Code", "no answer")
            causes.append(f"alert {row.id}: {code}: {told.get('Message', 'no message')}")
            if told.get("SenderFault") and code not in WAIT:
                faults.append(f"{causes[-1]} (rule {row.rule}, device {shown(row.device)})")
            held.update(filter(None, [entry.get("MessageGroupId")]))
        if faults:
            raise StreamgaugeError(f"topic {self.topic} refuses {faults[0]}")
        return causes

    def _entry(self, row: Alert, group: str) -> Entry:
        """All of an entry but its Id."""
        entry: Entry = {
            "Message": message(row),
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": attribute(getattr(row, name))}
                for name in ATTRIBUTES
            },
        }
        if group:
            entry["MessageGroupId"] = group
            entry["MessageDeduplicationId"] = row.id
        return entry

    def _forget(self) -> None:
        """Forget the oldest of too many accepted ids: that costs a repeat, never a row."""
        for known in list(islice(self._accepted, max(0, len(self._accepted) - ACCEPTED_MAX))):
            del self._accepted[known]


def message(row: Alert) -> str:
    """The alert as JSON in characters that every subscriber can take.

    A text of more than TEXT_BYTES_MAX, which only a device or the version of a threshold can be, is
    cut, and its length stands in `device_bytes` or `threshold_version_bytes`: an alert that no
    topic takes would stop the shard.
    """
    fields: dict[str, Any] = msgspec.to_builtins(row)
    for name in ("device", "threshold_version"):
        text = fields[name]
        if isinstance(text, str) and (size := len(text.encode())) > TEXT_BYTES_MAX:
            fields[name] = _cut(text, TEXT_BYTES_MAX)
            fields[f"{name}_bytes"] = size
    return msgspec.json.encode(fields).decode().translate(_ESCAPED)


def attribute(text: str) -> str:
    """A text as the value of a message attribute: percent-encoded where it is unsafe, cut."""
    return _cut(_cut(text, ATTRIBUTE_BYTES_MAX).translate(_ENCODED), ATTRIBUTE_BYTES_MAX)


def _cut(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode("utf-8", "ignore")


def _group(row: Alert) -> str:
    """The message group: a hash, as a device may have any length and characters."""
    text = msgspec.json.encode([row.pipeline, row.rule, row.device])
    return hashlib.sha256(text).hexdigest()


def _size(entry: Entry) -> int:
    """The bytes of an entry, not too few."""
    values = [value["StringValue"] for value in entry["MessageAttributes"].values()]
    return ENTRY_BYTES_MORE + sum(len(text.encode()) for text in [entry["Message"], *values])
