"""A spec to a Pipeline: the one place where what was declared meets the engine."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..engine import pipeline as engine
from ..engine.batch import Alert, Forward
from ..engine.decode import Decoder, Schema
from ..engine.errors import ConfigError, Problem, UnavailableError
from ..engine.judge import Rule
from ..engine.limits import ThresholdStore
from ..engine.sinks.base import Sink
from ..engine.stores.thresholds import FileThresholds, MappingThresholds
from ..engine.threshold import Thresholds
from . import spec as specs
from .compile import Compiled, compile_rule
from .forward import forwarding

Limits = ThresholdStore | Mapping[Any, Any] | str | os.PathLike[str]


class Pipeline(engine.Pipeline):
    """A pipeline file, ready to take records.

    `push` evaluates and hands alerts to `sinks`; rejected records and statistics are in the
    outcome. A sink that is down makes `push` raise UnavailableError; push the same records again
    (or none): they are not applied twice, and the outcome that could not be delivered comes first.
    """

    spec: specs.Spec
    warnings: tuple[Problem, ...] = ()
    _sinks: tuple[Sink[Alert], ...] = ()
    _held: engine.Outcome | None = None  # applied, but not handed back yet
    _owed: Sequence[Alert] = ()  # its alerts that the sinks have not acknowledged
    _told = 0  # how many of its alerts they have

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        thresholds: Limits | None = None,
        sinks: Sequence[Sink[Alert]] = (),
        *,
        constants: Mapping[str, Any] | None = None,
        arrival: str | None = None,
        one_shard: bool = False,
        now: Callable[[], float] = time.time,
    ) -> Pipeline:
        """Read a pipeline file; environment variables override its keys. No client is made.

        Args:
            path: the TOML file.
            thresholds: the table of limits: a file, a mapping of (device, rule) to a number, or a
                store. What it lacks takes the rule's own limit; None: all devices do.
            sinks: where alerts go besides the outcome.
            constants: path -> value that every message is taken to hold.
            arrival: path of the arrival time inside the message, where records carry none.
            one_shard: all records will be of one shard of a stream, so that memory of devices that
                fell silent can be freed; it changes no answer.
            now: wall clock in seconds, for refresh intervals only.

        Raises:
            ConfigError: with every problem of the file and its rules.
        """
        spec = specs.load(Path(path))
        return cls.plan(
            spec,
            thresholds,
            sinks,
            constants=constants,
            arrival=arrival,
            one_shard=one_shard,
            now=now,
            origin=str(path),
        )

    @classmethod
    def plan(
        cls,
        spec: specs.Spec,
        thresholds: Limits | None = None,
        sinks: Sequence[Sink[Alert]] = (),
        *,
        constants: Mapping[str, Any] | None = None,
        arrival: str | None = None,
        one_shard: bool = False,
        keep_read: bool = False,
        now: Callable[[], float] = time.time,
        origin: str = "pipeline",
    ) -> Pipeline:
        """Compile the rules of a spec and lay out the engine for them; see `load`.

        `keep_read`: outcomes hand over what was read, for an archive.
        """
        _refuse_unsupported(spec, origin)
        rules = compiled_rules(spec, origin)
        limits, store = thresholds_of(spec, thresholds, now)
        self = cls(
            spec.pipeline.name,
            rules.rules,
            Decoder(schema_of(spec, rules.reads, constants, arrival)),
            limits,
            allowed_lateness=spec.delivery.allowed_lateness,
            forget_after=spec.delivery.forget_after,
            drop_duplicates=spec.delivery.duplicates == "drop",
            one_shard=one_shard,
            keep_read=keep_read,
            now=now,
        )
        self.spec = spec
        self.warnings = (*rules.warnings, *_unknown_rules(store, spec))
        self._sinks = tuple(sinks)
        return self

    def push(self, records: engine.Given) -> engine.Outcome:
        """Take records in the order of their shard; deliver the alerts; give the outcome.

        Raises:
            UnavailableError: a sink is down, or a limit is unknown because its store is. Push the
                same records again.
        """
        self._deliver()
        outcome = super().push(records)
        if self._held is not None:
            outcome = self._held.followed_by(outcome)
        self._held = outcome
        self._owed = outcome.alerts[self._told :]
        self._deliver()
        self._held, self._told = None, 0
        return outcome

    def save(
        self, full: bool = True, earlier: Sequence[int] = (), handed: Sequence[Any] = ()
    ) -> bytes:
        """The next state object; see the engine's pipeline.

        Raises:
            UnavailableError: the last push was refused by a sink and its outcome not handed back:
                saving now would lose it. Push again first.
        """
        if self._held is not None:
            raise UnavailableError("the last push is not delivered: push again before saving")
        return super().save(full, earlier, handed)

    def _deliver(self) -> None:
        """Give the alerts that are owed to every sink; what a sink refuses stays owed."""
        if self._owed:
            for sink in self._sinks:
                sink.deliver(self._owed)
        self._told += len(self._owed)
        self._owed = []


class Rules(NamedTuple):
    """The rules of a spec as the engine takes them.

    reads: the paths that they read, sorted. warnings: what is legal but hardly meant.
    """

    rules: list[Rule]
    reads: tuple[str, ...]
    warnings: tuple[Problem, ...]


def compiled_rules(spec: specs.Spec, origin: str = "pipeline") -> Rules:
    """Compile the rules of a spec; ConfigError tells the problems of all of them."""
    compiled = compile_rules(spec, origin)
    forwards = forwarding(spec, origin)
    return Rules(
        [_rule(spec, *of) for of in zip(spec.rules, compiled, forwards, strict=True)],
        tuple(sorted({path for rule in compiled for path in rule.reads})),
        tuple(problem for rule in compiled for problem in rule.warnings),
    )


def schema_of(
    spec: specs.Spec,
    reads: tuple[str, ...],
    constants: Mapping[str, Any] | None = None,
    arrival: str | None = None,
) -> Schema:
    """Where things stand in a message, for rules that read these paths."""
    return Schema(
        device=spec.record.device,
        time=spec.record.time,
        time_unit=spec.record.time_unit,
        topic=spec.record.topic,
        fields=reads,
        max_clock_skew=spec.delivery.max_clock_skew,
        arrival=arrival,
        constants=dict(constants or {}),
    )


def thresholds_of(
    spec: specs.Spec, given: Limits | None, now: Callable[[], float]
) -> tuple[Thresholds, ThresholdStore | None]:
    """The limits of a spec's rules over a table, and that table."""
    defaults = [(rule.name, rule.threshold, rule.clear_margin) for rule in spec.rules]
    store = _store(given)
    return Thresholds(store, defaults, spec.thresholds.refresh / 1000, now), store


def compile_rules(spec: specs.Spec, origin: str = "pipeline") -> list[Compiled]:
    """Compile every rule of a spec; ConfigError tells the problems of all of them."""
    compiled: list[Compiled] = []
    problems: list[Problem] = []
    for rule in spec.rules:
        try:
            compiled.append(
                compile_rule(
                    rule.sql,
                    rule.measure,
                    where=f"{origin}: rules.{rule.name}",
                    has_topic=spec.record.topic is not None,
                    int_division=spec.sql.int_division,
                    undefined_logic=spec.sql.undefined_logic,
                    version=spec.sql.version,
                    rule_name=rule.name,
                )
            )
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return compiled


def fingerprint(spec: specs.Spec, rule: specs.RuleSpec) -> str:
    """What the windows of a rule depend on, as 32 hex digits: state of another one is not its."""
    parts = (
        [rule.sql, rule.measure, rule.window, rule.statistic, rule.fire_when],
        spec.record,
        spec.sql,
        [spec.delivery.allowed_lateness, spec.delivery.duplicates],
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _refuse_unsupported(spec: specs.Spec, origin: str) -> None:
    """Settings that would change the answer are refused while they are not there, never ignored."""
    problems = []
    if spec.delivery.mode != "ordered":
        where = f"{origin}: delivery.mode"
        problems.append(Problem(where, 'only "ordered" is supported yet', 'mode = "ordered"'))
    if spec.source.out_of_range != "evaluate":
        where = f"{origin}: source.out_of_range"
        problems.append(Problem(where, 'only "evaluate" is supported yet'))
    if problems:
        raise ConfigError(problems)


def _rule(
    spec: specs.Spec, rule: specs.RuleSpec, compiled: Compiled, forward: Forward | None
) -> Rule:
    return Rule(
        name=rule.name,
        filter=compiled.filter,
        measure=compiled.measure,
        measure_path=rule.measure,
        window=rule.window,
        statistic=rule.statistic,
        fire_when=rule.fire_when,
        threshold=rule.threshold,
        clear_margin=rule.clear_margin,
        min_samples=rule.min_samples,
        hold=rule.hold,
        severity=rule.severity,
        fingerprint=fingerprint(spec, rule),
        forward=forward,
        interpreted=compiled.interpreted,
    )


def _unknown_rules(store: ThresholdStore | None, spec: specs.Spec) -> Iterator[Problem]:
    """Limits of rules that the pipeline does not have: a misspelt name would go unseen."""
    if isinstance(store, FileThresholds):
        names = {rule.name for rule in spec.rules}
        for rule in sorted(set(store.rules) - names):
            message = f"limits of rule {rule!r}, which the pipeline does not have"
            hint = f"its rules are {', '.join(sorted(names))}"
            yield Problem("thresholds", message, hint, severity="warning")


def _store(given: Limits | None) -> ThresholdStore | None:
    if given is None or isinstance(given, Mapping):
        return None if given is None else MappingThresholds(given)
    if isinstance(given, str | os.PathLike):
        return FileThresholds(given)
    return given
