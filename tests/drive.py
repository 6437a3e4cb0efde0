"""The one place where tests push records through a pipeline and gather what comes out.

`run` drives `streamgauge.Pipeline` over batches, with its state saved, and the pipeline killed and
restored, where asked; `compare` holds the answer against the plain oracle's, floats by their bits.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from plain_kpl import Kinesis, opened
from plain_oracle import Oracle

from streamgauge import Pipeline, Record

CHANGE = ("pipeline", "rule", "device", "state", "time")  # what an alert's id is made of
DELTAS_MAX = 12  # state objects restored at once: the first is full


@dataclass
class Answer:
    """All that a run gave, as plain values."""

    alerts: list[dict[str, Any]] = field(default_factory=list)
    statistics: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)


def loader(
    folder: Path, toml: str, thresholds: Iterable[dict[str, Any]], one_shard: bool = False
) -> Callable[[], Pipeline]:
    """What makes a fresh pipeline of these files, as often as it is called."""
    path, table = folder / "pipeline.toml", folder / "thresholds.ndjson"
    path.write_text(toml, encoding="utf-8")
    table.write_text("".join(json.dumps(item) + "\n" for item in thresholds), encoding="utf-8")
    return lambda: Pipeline.load(path, thresholds=table, one_shard=one_shard)


def record(given: Kinesis) -> Record:
    return Record(
        shard_id=given.shard,
        sequence_number=given.sequence,
        data=given.data,
        partition_key=given.key,
        arrival=given.arrival,
    )


def run(
    load: Callable[[], Pipeline], batches: Sequence[Sequence[Kinesis]], saves: Sequence[str] = ()
) -> Answer:
    """Push the batches in order.

    `saves` says what happens after each: "full" or "delta" writes a state object, and "+kill" goes
    on in a fresh pipeline with nothing but the objects written so far. A delta needs a full one
    before it, so the first is full, and so is one after every few deltas.
    """
    pipeline, answer, objects = load(), Answer(), []
    take(answer, pipeline.push([]))
    for number, batch in enumerate(batches):
        take(answer, pipeline.push([record(given) for given in batch]))
        kind, _, kill = (saves[number] if number < len(saves) else "").partition("+")
        if kind:
            full = kind == "full" or len(objects) % DELTAS_MAX == 0
            objects = [pipeline.save(full=full)] if full else [*objects, pipeline.save(full=False)]
        if kill:
            pipeline = load()
            assert pipeline.restore(objects) == []
    return answer


def take(answer: Answer, outcome: Any) -> None:
    """Add one outcome to the answer."""
    answer.alerts += msgspec.json.decode(msgspec.json.encode(outcome.alerts))
    rows = [
        (index, number, {"rule": s.rule, "device": s.names[device], "time": time, "value": value,
                         "samples": samples})
        for number, s in enumerate(outcome.statistics)
        for index, device, time, value, samples in zip(
            *(column.tolist() for column in (s.index, s.device, s.time, s.value, s.samples)),
            strict=True,
        )
    ]  # fmt: skip
    answer.statistics += [row for _, _, row in sorted(rows, key=lambda row: row[:2])]
    answer.rejected += [row.line() for row in outcome.rejected]
    add(answer.counts, outcome.counts.as_dict())


def add(total: dict[str, Any], more: dict[str, Any]) -> None:
    for name, number in more.items():
        if isinstance(number, dict):
            add(total.setdefault(name, {}), number)
        else:
            total[name] = total.get(name, 0) + number


def exact(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with every float as the text of its bits."""
    return [
        {key: value.hex() if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    ]


def oracle_of(
    toml: str, thresholds: Iterable[dict[str, Any]], batches: Iterable[Iterable[Kinesis]]
) -> Oracle:
    """The oracle's answer to the same records."""
    users = (user for batch in batches for given in batch for user in opened(given))
    return Oracle(toml, thresholds).push(users)


def compare(answer: Answer, oracle: Oracle) -> None:
    """Assert that the answer is the oracle's: alerts and statistics in order and to the bit.

    Of a payload with several faults any of them will do as the reason.
    """
    assert exact(answer.statistics) == exact(oracle.statistics)
    # A change has one id, and no other change has it; after a silence the same one may come again.
    ids = {tuple(alert[name] for name in CHANGE): alert["id"] for alert in answer.alerts}
    assert len({alert["id"] for alert in answer.alerts}) == len(set(ids.values())) == len(ids)
    assert exact(without_id(answer.alerts)) == exact(oracle.alerts)
    assert [kept(row) for row in in_order(answer.rejected)] == [
        {
            "position": row["position"],
            "rule": row["rule"],
            "arrival_time": row["user"].arrival,
            "data": base64.b64encode(row["user"].data).decode(),
        }
        for row in in_order(oracle.rejected)
    ]
    pairs = zip(in_order(answer.rejected), in_order(oracle.rejected), strict=True)
    assert [(a, o) for a, o in pairs if a["reason"] not in o["faults"]] == []
    assert answer.counts == oracle.totals()


def kept(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("position", "rule", "arrival_time", "data")}


def in_order(rejected: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By position; the reasons of one aggregate may be told before those of its neighbours."""
    return sorted(rejected, key=lambda row: (row["position"], row["rule"] or ""))


def without_id(alerts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "id"} for row in alerts]


def check_case(folder: Path, case: Any) -> Answer:
    """Run a generated case and compare; the answer, for more to be said of it."""
    shards = {given.shard for batch in case.batches for given in batch}
    load = loader(folder, case.toml, case.thresholds, one_shard=len(shards) == 1)
    answer = run(load, case.batches, case.saves)
    compare(answer, oracle_of(case.toml, case.thresholds, case.batches))
    return answer
