"""The tests that stand beside the rules of a pipeline file: each given to its rule alone.

The messages of a case go through the engine, in their order, as user records of one shard, without
arrival times; what comes out are the changes of alert state. Limits are the rule's own: there is no
table. A record that the rule rejects is no failure by itself, but it is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from ..engine.batch import Record, Rejected
from ..rules.plan import Pipeline
from ..rules.spec_keys import CaseSpec, RuleSpec, Spec

Expected = Mapping[str, Any]  # an alert, with the keys that matter


class Ran(NamedTuple):
    """One case as it ran: of which rule and which number (from 1), what was expected, what came.

    alerts: in the order in which they came, with the keys of the alert format.
    """

    rule: str
    number: int
    expected: list[Expected]
    alerts: list[dict[str, Any]]
    rejected: list[Rejected]

    @property
    def passed(self) -> bool:
        """Whether each expected alert came, with the keys that it names, and no other."""
        return len(self.alerts) == len(self.expected) and all(
            matches(expected, alert)
            for expected, alert in zip(self.expected, self.alerts, strict=True)
        )


def matches(expected: Expected, alert: Mapping[str, Any]) -> bool:
    """Whether an alert has what is expected of it; numbers are compared by value."""
    return all(name in alert and alert[name] == value for name, value in expected.items())


def run(spec: Spec, only: str | None = None) -> Iterator[Ran]:
    """Run every case of every rule, or those of one rule, in the order of the file."""
    for rule in spec.rules:
        if only in (None, rule.name):
            for number, case in enumerate(rule.tests, 1):
                yield _ran(spec, rule, case, number)


def _ran(spec: Spec, rule: RuleSpec, case: CaseSpec, number: int) -> Ran:
    delivery = msgspec.structs.replace(spec.delivery, mode="ordered", workers=1)
    alone = msgspec.structs.replace(rule, forward=None, forward_key=None)
    pipeline = Pipeline.plan(
        msgspec.structs.replace(spec, rules=(alone,), delivery=delivery), origin=rule.name
    )
    records = [
        Record(f"test-{number}", str(at), payload)
        for at, payload in enumerate(_payloads(spec, case), 1)
    ]
    outcome = pipeline.push(records)
    return Ran(
        rule.name,
        number,
        list(case.expect),
        [msgspec.to_builtins(alert) for alert in outcome.alerts],
        list(outcome.rejected),
    )


def _payloads(spec: Spec, case: CaseSpec) -> Iterator[bytes]:
    """The bytes of each message, with the topic of the case at its place."""
    for message in case.given:
        if isinstance(message, str):
            try:
                body = json.loads(message)
            except ValueError:
                body = None
            if case.topic is None or not isinstance(body, dict):
                yield message.encode()
                continue
        else:
            body = json.loads(json.dumps(message, default=str))
        if case.topic is not None and spec.record.topic is not None:
            _put(body, spec.record.topic.split("."), case.topic)
        yield json.dumps(body, ensure_ascii=False).encode()


def _put(body: dict[str, Any], path: list[str], value: str) -> None:
    for name in path[:-1]:
        below = body.get(name)
        body[name] = body = below if isinstance(below, dict) else {}
    body[path[-1]] = value
