"""`streamgauge check --explain`: how each rule is understood and evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..engine.counts import RuleCounts
    from ..rules.compile import Compiled
    from ..rules.spec import Spec


def explained(spec: Spec, rules: dict[str, Compiled], sample: Path | None) -> Iterator[str]:
    """Yield lines about each rule: its statement as it was understood, and how it is evaluated."""
    from ..rules.sql import parse

    counts = {} if sample is None else counted(spec, sample)
    for rule in spec.rules:
        compiled = rules[rule.name]
        yield f"rule {rule.name}"
        yield f"  statement: {parse(rule.sql)}"
        yield f"  reads: {', '.join(compiled.reads) or 'no field'}"
        yield f"  WHERE: {_way(getattr(compiled.filter, 'columnar', True))}"
        yield f"  measure {rule.measure}: {_way(getattr(compiled.measure, 'columnar', True))}"
        if rule.name in counts:
            yield f"  {_share(counts[rule.name], sample)}"


def _way(columnar: bool) -> str:
    return "over columns" if columnar else "message by message"


def _share(counts: RuleCounts, sample: Path | None) -> str:
    if not counts.decoded:
        return f"of {sample}: no record could be read"
    share = counts.interpreted / counts.decoded
    return (
        f"of {sample}: {counts.decoded} records, {counts.samples} samples, {counts.filtered}"
        f" filtered; {counts.interpreted} evaluated message by message ({share:.1%})"
    )


def counted(spec: Spec, sample: Path) -> dict[str, RuleCounts]:
    """What the rules make of recorded readings; no alert goes anywhere."""
    from contextlib import closing

    from ..consumers.backtest import guess_format, read, run
    from ..consumers.inputs import Input
    from ..engine.counts import Counts
    from ..rules.plan import Pipeline

    counts = Counts()
    with closing(Input(str(sample))) as opened:
        for outcome in run(Pipeline.plan(spec), read(opened, guess_format(opened))):
            counts.add(outcome.counts)
    return counts.rules
