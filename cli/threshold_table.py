"""The table that a pipeline file names, opened for `streamgauge thresholds`, and its arguments."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import typer

from ..engine.aws import Service
from ..engine.batch import LAST_TIME
from ..engine.errors import ConfigError, Problem
from ..engine.limits import shown
from ..engine.sinks.base import Patience
from ..engine.stores.threshold_attributes import DEVICE_BYTES_MAX, can_be_key
from ..engine.stores.threshold_items import ThresholdItems
from ..engine.times import time_of
from ..rules.spec import RuleSpec, Spec, load
from ..rules.spec_values import nearest

PATIENCE_SECONDS_MAX = 60.0  # with a table that is busy or down
REFRESHES = 2  # by the end of the second every consumer has read a change, wherever it began
ALWAYS, NOW = "always", "now"


class Opened(NamedTuple):
    """A pipeline file, the table that it names, and patience with that."""

    spec: Spec
    items: ThresholdItems
    patience: Patience

    @property
    def rules(self) -> list[str]:
        """The names of the rules."""
        return [rule.name for rule in self.spec.rules]

    def soonest(self) -> int:
        """From when a change that is written now is in force, unless told otherwise: int ms."""
        return now() + REFRESHES * self.spec.thresholds.refresh


def opened(
    file: Path,
    *,
    dry_run: bool = False,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Opened:
    """Read the pipeline file and make no call yet.

    Args:
        file: the pipeline file. dry_run: nothing is to be written. waiting: goes around each pause.

    Raises:
        ConfigError: the file is wrong, or names no table.
    """
    spec = load(file)
    if spec.thresholds.table is None:
        message = "expected the name or ARN of a DynamoDB table, found none"
        problem = Problem(f"{file}: thresholds.table", message, 'table = "thresholds"')
        raise ConfigError([problem])

    def sleep(seconds: float) -> None:
        with waiting():
            time.sleep(seconds)

    by = os.environ.get("USER") or os.environ.get("LOGNAME") or ""
    items = ThresholdItems(
        spec.thresholds.table, Service("dynamodb"), updated_by=by, dry_run=dry_run
    )
    return Opened(spec, items, Patience(seconds_max=PATIENCE_SECONDS_MAX, sleep=sleep))


def now() -> int:
    """The present, int ms."""
    return time.time_ns() // 1_000_000


def rule_named(spec: Spec, name: str | None) -> RuleSpec:
    """The rule of this name, or the only one; a usage error names the nearest."""
    names = [rule.name for rule in spec.rules]
    if name is None and len(names) > 1:
        raise typer.BadParameter(f"expected one of {', '.join(names)}", param_hint="--rule")
    if name is not None and name not in names:
        near = nearest(name, names)
        hint = f"did you mean {near!r}?" if near else f"the rules are {', '.join(names)}"
        message = f"the pipeline has no rule {name!r} ({hint})"
        raise typer.BadParameter(message, param_hint="--rule")
    return spec.rules[0 if name is None else names.index(name)]


def check_device(device: str) -> None:
    """Refuse what can be no device in a table."""
    if not can_be_key(device, "r"):
        message = f"expected a text of 1 to {DEVICE_BYTES_MAX:,} bytes, found {shown(device)}"
        raise typer.BadParameter(message, param_hint="DEVICE")


def time_named(text: str, option: str) -> int:
    """A time of the command line as int ms."""
    found = int(text) if text.isascii() and text.isdecimal() else time_of(text, "iso8601")
    if found is None or not 0 <= found <= LAST_TIME:
        message = f"expected ms since 1970, or a time such as 2026-01-31T10:00:00Z, found {text!r}"
        raise typer.BadParameter(message, param_hint=option)
    return found


def start_named(text: str | None, soonest: Callable[[], int]) -> Callable[[], int | None]:
    """What gives the start of a change at the moment when it is written; None: always."""
    if text is None:
        return soonest
    if text == NOW:
        return now
    start = None if text == ALWAYS else time_named(text, "--effective-from")
    return lambda: start
