"""What a rule puts out of the messages that it lets through, as records for another stream."""

from __future__ import annotations

from ..engine.batch import NO_TIME, Batch, Forward, Forwarded, Ints, Sent, Unsendable, key_text
from ..engine.errors import ConfigError, Problem
from ..engine.payload import Unreadable
from .message import topic_texts
from .project import KEY_CHARACTERS_MAX, Keyed, RouteError
from .spec import RuleSpec, Spec

RECORD_BYTES_MAX = 1 << 20  # data and key of one Kinesis record


def forwarding(spec: Spec, origin: str = "pipeline") -> list[Forward | None]:
    """For each rule of a spec the function that makes what it forwards; None where it does not.

    ConfigError tells the problems of all rules.
    """
    found: list[Forward | None] = []
    problems: list[Problem] = []
    for rule in spec.rules:
        try:
            found.append(_forward(spec, rule, f"{origin}: rules.{rule.name}"))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def output_of(spec: Spec, rule: RuleSpec, where: str) -> Keyed:
    """The SELECT of a rule as a function of one message, with its key; ConfigError as above."""
    return Keyed(
        rule.sql,
        rule.forward_key,
        where=where,
        key_name="forward_key",
        int_division=spec.sql.int_division,
        undefined_logic=spec.sql.undefined_logic,
        version=spec.sql.version,
    )


def _forward(spec: Spec, rule: RuleSpec, where: str) -> Forward | None:
    stream = rule.forward
    if stream is None:
        return None
    output, keyed = output_of(spec, rule, where), rule.forward_key is not None

    def forward(batch: Batch, rows: Ints) -> Sent:
        sent: list[Forwarded] = []
        failed: list[Unsendable] = []
        users, topics = batch.users, topic_texts(batch)
        for row, at in zip(rows.tolist(), batch.row[rows].tolist(), strict=True):
            arrival = int(users.arrival[at])
            context = {} if arrival == NO_TIME else {"timestamp": arrival}
            seed = str(users.position(at)).encode()
            try:
                key, data = output.of(topics[row], users.data[at], context, seed)
            except (RouteError, Unreadable) as error:
                reason = getattr(error, "reason", "record")
                failed.append(Unsendable(row, reason, f"forward to {stream}: {error}"))
                continue
            key = key if keyed else key_text(users.keys[at])[:KEY_CHARACTERS_MAX]
            if not key:  # an aggregate may hold such a record; no stream takes it alone
                why = f"forward to {stream}: the record's partition key is empty"
                failed.append(Unsendable(row, "partition_key", why))
                continue
            size = len(key.encode()) + len(data)
            if size > RECORD_BYTES_MAX:
                what = f"{size} bytes with its key, expected at most {RECORD_BYTES_MAX}"
                failed.append(Unsendable(row, "record", f"forward to {stream}: {what}"))
                continue
            sent.append(Forwarded(rule.name, stream, users.position(at), key, data))
        return sent, failed

    return forward
