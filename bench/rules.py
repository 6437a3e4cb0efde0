"""What does a rule cost for each row, over columns and message by message?

Ten typical rules are applied to batches of 10,000 rows that a decoder has made columns of: WHERE
and the measure. Beside them runs the exact evaluator, message by message over the same columns: it
is what the columns hand over to, and what a rule would cost without them. Each rule also tells
which share of its rows had to be handed over. Every verdict and every measure of the two are
compared; one that differs ends the run with status 1.

CPU time of one process, in turn, rule by rule. Prints one JSON object, a table on stderr.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import numpy as np
from material import timing

from streamgauge.engine.batch import Batch, Kind, Record, Verdict
from streamgauge.engine.decode import Decoder, Schema
from streamgauge.engine.devices import Devices
from streamgauge.engine.kpl import deaggregate
from streamgauge.rules.compile import Compiled, compile_rule
from streamgauge.rules.filter import verdict_of
from streamgauge.rules.interpret import Dialect, evaluate
from streamgauge.rules.message import Row
from streamgauge.rules.sql import parse
from streamgauge.rules.tree import Star

ROWS = 10_000
AIM_NS = 5.0  # of a filter of two comparisons
AIM_RATIO = 20.0
least_seconds = 0.05  # of one measurement

# name: (statement, measure, whether the columns that it reads are homogeneous)
RULES: dict[str, tuple[str, str, bool]] = {
    "two comparisons": (
        "SELECT * WHERE temperature > -40 AND temperature < 200", "temperature", True),
    "arithmetic": (
        "SELECT * FROM '#' WHERE temperature * 1.8 + 32 > 70.5", "temperature", True),
    "computed measure": (
        "SELECT (fahrenheit - 32) * 5 / 9 AS celsius FROM '#'", "celsius", True),
    "CASE": (
        "SELECT CASE mode WHEN 'heat' THEN temperature + 1 WHEN 'cool' THEN temperature - 1 "
        "ELSE temperature END AS t FROM '#'", "t", True),
    "topic(n)": (
        "SELECT * FROM 'home/+/thermostat' WHERE topic(2) <> 'room-7'", "temperature", True),
    "text functions": (
        "SELECT * FROM '#' WHERE startswith(lower(mode), 'he') AND length(firmware) = 5",
        "temperature", True),
    "regexp": (
        "SELECT * FROM '#' WHERE regexp_matches(firmware, '^1\\.[2-9]')", "temperature", True),
    "IN": (
        "SELECT * FROM '#' WHERE mode IN ['heat', 'cool'] AND temperature > 20",
        "temperature", True),
    "nested SELECT": (
        "SELECT get((SELECT VALUE v FROM readings WHERE n = 'in'), 0) AS v FROM '#'", "v", False),
    "heterogeneous": ("SELECT * FROM '#' WHERE mixed > 20", "temperature", False),
}  # fmt: skip


def payloads(rows: int, seed: int) -> list[bytes]:
    """Messages of thermostats, hundredths of a degree, a few modes and firmwares."""
    random = np.random.default_rng(seed)
    temperature = np.round(random.normal(21.0, 4.0, rows), 2).tolist()
    modes = random.choice(["heat", "cool", "off", "HEAT"], rows).tolist()
    firmware = random.choice(["1.1.9", "1.2.0", "1.10.3", "2.0.1"], rows).tolist()
    rooms = random.integers(0, 500, rows).tolist()
    encode = msgspec.json.encode
    columns = zip(temperature, modes, firmware, rooms, strict=True)
    return [
        encode(
            {
                "device": f"t-{room}",
                "ts": 1_700_000_000_000 + row,
                "topic": f"home/room-{room}/thermostat",
                "temperature": t,
                "fahrenheit": round(t * 1.8 + 32, 2),
                "mode": mode,
                "firmware": firm,
                "mixed": [t, str(t), None, True, t][row % 5],
                "readings": [{"n": "in", "v": t}, {"n": "out", "v": t / 2}],
            }
        )
        for row, (t, mode, firm, room) in enumerate(columns)
    ]


def batch_for(rule: Compiled, messages: list[bytes]) -> Batch:
    """The messages as the decoder makes columns of what a rule reads."""
    schema = Schema(("device",), "ts", "ms", topic="topic", fields=rule.reads)
    records = [Record("shard", str(number), data) for number, data in enumerate(messages)]
    users, _ = deaggregate(records)
    batch, unread = Decoder(schema).decode(users, Devices())
    assert not unread and len(batch) == len(messages)
    return batch


def by_columns(rule: Compiled, batch: Batch) -> tuple[Any, Any]:
    """Verdict and measure of each row, as a pipeline has them."""
    return rule.filter(batch), rule.measure(batch)


def by_messages(sql: str, measure: str, batch: Batch) -> tuple[list[Any], list[Any]]:
    """The same by the exact evaluator, message by message; the measure where the row passes."""
    query = parse(sql).query
    items = {item.alias[-1] if item.alias else "": item.value for item in query.items}
    node = None if isinstance(query.items[0].value, Star) else items[measure]
    dialect, message = Dialect(), Row(batch)
    verdicts, values = [], []
    for row in range(len(batch)):
        message.move(row)
        passed = Verdict.PASS
        if query.where is not None:
            passed = verdict_of(evaluate(query.where, message, dialect))
        verdicts.append(passed)
        value = message.value(measure) if node is None else evaluate(node, message, dialect)
        values.append(value)
    return verdicts, values


def agree(rule: Compiled, sql: str, measure: str, batch: Batch) -> bool:
    """Whether both say the same of every row."""
    verdicts, column = by_columns(rule, batch)
    exact, values = by_messages(sql, measure, batch)
    numbers = [float(value) for value in values]
    return bool(
        verdicts.tolist() == [int(verdict) for verdict in exact]
        and (column.kind == Kind.NUMBER).all()
        and column.number.tolist() == numbers
    )


def measured(work: Callable[..., Any], *given: Any) -> float:
    """Seconds of CPU of one call, of as many as take `least_seconds` together."""
    calls = 1
    while True:
        taken, _ = timing.cpu_seconds(partial(repeated, work, given, calls))
        if taken >= least_seconds:
            return taken / calls
        calls *= 4


def repeated(work: Callable[..., Any], given: tuple[Any, ...], calls: int) -> None:
    """Call some work again and again."""
    for _ in range(calls):
        work(*given)


def case_of(name: str, messages: list[bytes], repeat: int) -> dict[str, Any]:
    """What one rule costs, columns and messages in turn."""
    sql, measure, homogeneous = RULES[name]
    rule = compile_rule(sql, measure, has_topic=True)
    batch = batch_for(rule, messages)
    same, rows = agree(rule, sql, measure, batch), len(messages)
    columns, exact = [], []
    for _ in range(repeat):
        columns.append(measured(by_columns, rule, batch) / rows * 1e9)
        exact.append(measured(by_messages, sql, measure, batch) / rows * 1e9)
    return {
        "rule": name,
        "sql": sql,
        "measure": measure,
        "homogeneous": homogeneous,
        "ns_per_row": timing.spread(columns),
        "rows_per_second": round(1e9 / sorted(columns)[len(columns) // 2]),
        "exact_ns_per_row": timing.spread(exact),
        "times_as_fast": timing.ratios(exact, columns),
        "share_handed_over": share(rule),
        "answers_agree": same,
    }


def main() -> None:
    """Run every rule, `repeat` times in turn with its baseline."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="2,000 rows, 2 repeats")
    options = parser.parse_args()
    rows, repeat = (2_000, 2) if options.quick else (options.rows, options.repeat)
    messages = payloads(rows, options.seed)
    cases = [case_of(name, messages, repeat) for name in RULES]
    lines = [("rule", "ns a row", "exact ns", "ratio", "handed over")]
    for case in cases:
        figures = [case[key]["median"] for key in ("ns_per_row", "exact_ns_per_row")]
        ratio, handed = case["times_as_fast"]["median"], f"{case['share_handed_over']:.0%}"
        lines.append((case["rule"], *figures, ratio, handed))
    timing.table(f"{rows:,} rows a batch, CPU time", lines)
    aims = {
        "two comparisons": cases[0]["ns_per_row"]["median"] <= AIM_NS,
        "times_as_fast": all(
            case["times_as_fast"]["median"] >= AIM_RATIO for case in cases if case["homogeneous"]
        ),
    }
    head = timing.header("rules", __doc__.split("\n")[0], rows=rows, repeat=repeat)
    agreed = all(case["answers_agree"] for case in cases)
    timing.finish({**head, "cases": cases, "aims_reached": aims}, agreed)


def share(rule: Compiled) -> float:
    """The share of rows that only the exact evaluator could tell."""
    found = [rule.counts, *filter(None, [getattr(rule.measure, "counts", None)])]
    return max(counts.interpreted / max(counts.rows, 1) for counts in found)


if __name__ == "__main__":
    main()
