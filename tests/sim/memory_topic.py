"""An SNS topic in memory, with the faults of the real one, behind clients shaped like boto3's.

`MemoryTopic` is the topic and what its subscribers get; `client()` makes a client of it, so that
the real `Service` and `SnsAlerts` run over it. test_memory_topic.py holds it against moto.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from memory_service import MemoryService, Refusal, fail

TOPIC = "arn:aws:sns:us-east-1:123456789012:alerts"
ENTRIES_MAX = 10
BATCH_BYTES_MAX = 256 << 10
DEDUPLICATION_SECONDS = 300
ABSENT = Refusal("NotFound", 404, "Topic does not exist")
EMPTY = Refusal("EmptyBatchRequest", 400, "The batch request doesn't contain any entries.")
MANY = Refusal("TooManyEntriesInBatchRequest", 400, "The batch request contains more entries.")
SAME = Refusal("BatchEntryIdsNotDistinct", 400, "Two or more batch entries have the same Id.")
LONG = Refusal("BatchRequestTooLong", 400, "The length of all the batch messages is too long.")
INVALID = "InvalidParameter"
THROTTLED = "Throttled"
NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Entry = dict[str, Any]


class Message(NamedTuple):
    """What a subscriber gets, and when."""

    entry: Entry
    at: float

    @property
    def text(self) -> str:
        text: str = self.entry["Message"]
        return text


class MemoryTopic(MemoryService):
    """One topic, standard or FIFO by its name.

    messages: what a subscriber gets, in this order. accepted: the entries it was promised for, of a
    FIFO topic also those that were not delivered because their deduplication id had been seen
    within DEDUPLICATION_SECONDS. sent: entries of each call that was looked at. refused: how likely
    an entry is refused that could be taken. refuses: gives the code for an entry that is refused,
    and whether that is the sender's fault.
    """

    def __init__(self, arn: str = TOPIC, **how: Any) -> None:
        self.arn = arn
        self.fifo = arn.endswith(".fifo")
        self.messages: list[Message] = []
        self.accepted: list[Entry] = []
        self.sent: list[int] = []
        self.refuses: Callable[[Entry], tuple[str, bool] | None] = lambda entry: None
        self._seen: dict[str, float] = {}  # deduplication ids, and when
        super().__init__(**how)

    def heal(self) -> None:
        super().heal()
        self.refused = 0.0

    def client(self) -> MemoryTopicClient:
        """A client with the credentials that are to be had now."""
        return MemoryTopicClient(self, self.credentials)

    def take(self, entry: Entry) -> None:
        """Accept an entry, and deliver it unless it has been."""
        self.accepted.append(entry)
        if self.fifo:
            since = self._seen.get(entry["MessageDeduplicationId"])
            if since is not None and self.now() - since < DEDUPLICATION_SECONDS:
                return
            self._seen[entry["MessageDeduplicationId"]] = self.now()
        self.messages.append(Message(entry, self.now()))

    def refusal(self, entry: Entry) -> tuple[str, bool] | None:
        """Why an entry is refused, and whether that is the sender's fault; None: it is not."""
        if NO_XML.search(entry["Message"]) or not entry["Message"]:
            return INVALID, True
        if self._drawn(self.refused):
            return THROTTLED, False
        return self.refuses(entry)


class MemoryTopicClient:
    """The part of boto3's SNS client that alerts need."""

    def __init__(self, topic: MemoryTopic, credentials: int) -> None:
        self._topic = topic
        self._credentials = credentials

    def publish_batch(
        self, *, TopicArn: str, PublishBatchRequestEntries: Sequence[Entry]
    ) -> dict[str, Any]:
        topic, entries = self._topic, PublishBatchRequestEntries
        with topic.call("PublishBatch", self._credentials, writes=True):
            refusal = _refusal(topic, TopicArn, entries)
            if refusal is not None:
                fail("PublishBatch", refusal)
            topic.sent.append(len(entries))
            answer: dict[str, Any] = {"Successful": [], "Failed": []}
            for entry in entries:
                refused = topic.refusal(entry)
                if refused is None:
                    topic.take(entry)
                    given = {"Id": entry["Id"], "MessageId": f"m{len(topic.accepted)}"}
                    answer["Successful"].append(given)
                    continue
                code, fault = refused
                failed = {"Id": entry["Id"], "Code": code, "Message": code, "SenderFault": fault}
                answer["Failed"].append(failed)
            return answer


def _refusal(topic: MemoryTopic, arn: str, entries: Sequence[Entry]) -> Refusal | None:
    """Why a whole call is refused."""
    for entry in entries:
        for name, value in entry.get("MessageAttributes", {}).items():
            if not value.get("StringValue"):
                return Refusal(INVALID, 400, f"The message attribute {name} has no value")
    if arn != topic.arn:
        return ABSENT
    if not entries:
        return EMPTY
    if len(entries) > ENTRIES_MAX:
        return MANY
    if len({entry["Id"] for entry in entries}) < len(entries):
        return SAME
    if sum(map(_size, entries)) > BATCH_BYTES_MAX:
        return LONG
    for name in ("MessageGroupId", "MessageDeduplicationId") if topic.fifo else ():
        if not all(entry.get(name) for entry in entries):
            return Refusal(INVALID, 400, f"The {name} parameter is required")
    return None


def _size(entry: Entry) -> int:
    texts = [entry["Message"]]
    for name, value in entry.get("MessageAttributes", {}).items():
        texts += [name, value["DataType"], value.get("StringValue", "")]
    return sum(len(text.encode()) for text in texts)
