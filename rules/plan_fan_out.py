"""A spec to the two halves of the fan-out mode: what reduces chunks, and what merges them."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..engine.decode import Decoder
from ..engine.errors import ConfigError, Problem
from ..engine.pane_merger import Merger
from ..engine.panes import Reducer
from . import spec as specs
from .plan import Limits, compiled_rules, schema_of, thresholds_of

FAN_OUT = "fan_out"


def plan_reducer(spec: specs.Spec, origin: str = "pipeline") -> Reducer:
    """What reduces chunks to panes; ConfigError where the rules cannot be compiled."""
    _check(spec, origin)
    rules = compiled_rules(spec, origin)
    schema = schema_of(spec, rules.reads)
    return Reducer(rules.rules, Decoder(schema), spec.delivery.allowed_lateness)


def plan_merger(
    spec: specs.Spec,
    thresholds: Limits | None = None,
    *,
    now: Callable[[], float] = time.time,
    origin: str = "pipeline",
) -> Merger:
    """What merges panes and judges them; `thresholds` and `now` are as of Pipeline.load."""
    _check(spec, origin)
    return Merger(
        spec.pipeline.name,
        compiled_rules(spec, origin).rules,
        thresholds_of(spec, thresholds, now)[0],
        allowed_lateness=spec.delivery.allowed_lateness,
        forget_after=spec.delivery.forget_after,
        now=now,
    )


def _check(spec: specs.Spec, origin: str) -> None:
    if spec.delivery.mode != FAN_OUT:
        where = f"{origin}: delivery.mode"
        raise ConfigError([Problem(where, f'expected "{FAN_OUT}", found "{spec.delivery.mode}"')])
