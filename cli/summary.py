"""The summary of a back-test, for a person: what became of every record, rule by rule."""

from __future__ import annotations

from collections.abc import Iterator

from ..consumers.totals import Totals
from ..engine.batch import Verdict
from ..engine.counts import Counts, RuleCounts

REASONS = {  # why a filter held a record back
    Verdict.TOPIC_MISSING: "the record has no topic",
    Verdict.TOPIC_MISMATCH: "the topic does not match FROM",
    Verdict.WHERE_FALSE: "WHERE is false",
    Verdict.WHERE_UNDEFINED: "WHERE is Undefined: a field it reads is absent or of no use to it",
}
RULE_COLUMNS = ("decoded", "samples", "filtered", "duplicates", "rejected", "late", "alerts")
REASONS_SHOWN_MAX = 5


def summary(totals: Totals, origin: str, seconds: float, *, whole: bool = True) -> str:
    """The whole text: counts, the check of the accounting, a table of the rules, alerts.

    Args:
        totals: of the whole input.
        origin: what was read ("readings.ndjson as ndjson").
        seconds: how long it took.
        whole: False where something was read before: what still fires cannot be told then.
    """
    counts = totals.counts
    rate = f", {round(counts.records / seconds):,} a second" if seconds > 0 else ""
    lines = [f"{plural(counts.records, 'record')} from {origin} in {seconds:.1f} s{rate}", ""]
    lines += _verdicts(counts)
    if counts.repeated:
        lines.append(f"  {counts.repeated:>12,}  repeated (read before; outside the sum)")
    lines += ["", *_table(counts.rules), "", _alerts(totals, whole)]
    if totals.reasons:
        most = totals.reasons.most_common(REASONS_SHOWN_MAX)
        shown = ", ".join(f"{stage}: {reason} {times:,}" for (stage, reason), times in most)
        more = len(totals.reasons) - len(most)
        lines.append(f"rejected for: {shown}{f' and {more} other reasons' if more else ''}")
    return "\n".join(lines) + "\n"


def accounting_faults(totals: Totals) -> list[str]:
    """What does not add up; empty unless the engine is at fault."""
    counts = totals.counts
    faults = []
    verdicts = counts.evaluated + counts.filtered + counts.duplicates + counts.rejected
    if counts.records != verdicts:
        faults.append(f"{counts.records:,} records have {verdicts:,} verdicts")
    for name, rule in counts.rules.items():
        if rule.decoded != counts.records - totals.unread:
            read = counts.records - totals.unread
            faults.append(f"rule {name} saw {rule.decoded:,} of {read:,} decoded records")
        parts = rule.samples + rule.filtered + rule.duplicates + rule.rejected
        if rule.decoded != parts:
            faults.append(f"rule {name}: {rule.decoded:,} decoded records, {parts:,} verdicts")
    return faults


def warnings(totals: Totals) -> Iterator[str]:
    """What a person should look at: no record, none readable, a filter that let nothing through."""
    counts = totals.counts
    if not counts.records:
        yield "the input holds no record"
    elif totals.unread == counts.records:
        (stage, reason), times = totals.reasons.most_common(1)[0]
        yield (
            f"no record could be read; the most frequent reason is {stage}: {reason} ({times:,})"
        )
    for name, rule in counts.rules.items():
        if rule.decoded and rule.filtered == rule.decoded:
            verdict, times = rule.reasons.most_common(1)[0]
            yield (
                f"the filter of rule {name} let nothing through; the most frequent reason is:"
                f" {REASONS[verdict]} ({times:,} of {plural(rule.decoded, 'record')})"
            )


def plural(number: int, noun: str) -> str:
    """A number with its noun: 1 record, 2 records."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _verdicts(counts: Counts) -> list[str]:
    late = f" (late: {counts.late:,})" if counts.late else ""
    return [
        f"  {counts.evaluated:>12,}  evaluated",
        f"  {counts.filtered:>12,}  filtered",
        f"  {counts.duplicates:>12,}  duplicates",
        f"  {counts.rejected:>12,}  rejected{late}",
        f"  {counts.records:>12,}  records = the sum of these: every record is accounted for",
    ]


def _table(rules: dict[str, RuleCounts]) -> list[str]:
    """The rules as rows under a heading, each column as wide as it must be."""
    rows = [
        [name, *(f"{getattr(rule, column):,}" for column in RULE_COLUMNS)]
        for name, rule in rules.items()
    ]
    heading = ["rule", *RULE_COLUMNS]
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    return [
        "  " + row[0].ljust(widths[0]) + "".join(
            f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)
        )
        for row in [heading, *rows]
    ]  # fmt: skip


def _alerts(totals: Totals, whole: bool) -> str:
    alerts = totals.counts.alerts
    if not alerts:
        return "no alert"
    states = totals.states
    firing = states["firing"] - states["resolved"]
    changes = ", ".join(f"{times:,} {state}" for state, times in sorted(states.items()))
    still = f"; {firing:,} still firing at the end" if whole else ""
    return f"{plural(alerts, 'alert')}: {changes}{still}"
