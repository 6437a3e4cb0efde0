"""The pipeline file, read, and what must agree in it; spec_keys.py has its keys.

`load` and `parse` turn TOML into a `Spec` or raise one ConfigError with every problem found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..engine.errors import ConfigError, Problem
from .spec_keys import (
    AlertsSpec,
    ArchiveSpec,
    CaseSpec,
    DeliverySpec,
    ErrorsSpec,
    MqttSpec,
    PipelineSpec,
    RecordSpec,
    RouteSpec,
    RuleSpec,
    SourceSpec,
    Spec,
    SqlSpec,
    StateSpec,
    ThresholdsSpec,
)
from .spec_tables import Names, decode, item_name, known, override, parse_toml, read_table
from .spec_values import DURATION

_PANE = 1000  # ms: the slice of event time that the fan-out mode adds up
_PANE_STATISTICS = ("mean", "min", "max", "sum", "count")

__all__ = [
    "PipelineSpec",
    "SourceSpec",
    "RecordSpec",
    "CaseSpec",
    "RuleSpec",
    "SqlSpec",
    "ThresholdsSpec",
    "AlertsSpec",
    "ErrorsSpec",
    "ArchiveSpec",
    "StateSpec",
    "DeliverySpec",
    "RouteSpec",
    "MqttSpec",
    "Spec",
    "examine",
    "load",
    "parse",
]


def load(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Spec:
    """Read a pipeline file and the environment's overrides; ConfigError lists every problem."""
    origin = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError([Problem(origin, f"cannot be read: {reason}")]) from error
    return parse(decode(content, origin), origin, environ)


def parse(text: str, origin: str = "pipeline", environ: Mapping[str, str] | None = None) -> Spec:
    """Read the text of a pipeline file; `origin` names it in messages. ConfigError as in `load`."""
    spec, problems = examine(text, origin, environ)
    if spec is None or problems:
        raise ConfigError(problems)
    return spec


def examine(
    text: str, origin: str = "pipeline", environ: Mapping[str, str] | None = None
) -> tuple[Spec | None, list[Problem]]:
    """Read the text as far as that goes: what could be read, and every problem.

    With problems the spec is only good for looking for more of them: msgspec.UNSET stands where a
    value could not be read. It is None where the text is not TOML.
    """
    tree = parse_toml(text, origin)
    if isinstance(tree, Problem):
        return None, [tree]
    variables, problems = override(tree, Spec, environ or {}, origin)
    spec = read_table(Spec, tree, Spec, Names(origin, variables), problems)
    for check in (_names, _paths, _windows, _modes, _locations, _forwards, _broker):
        problems += (
            Problem(f"{origin}: {path}", message, hint) for path, message, hint in check(spec)
        )
    return spec, problems


# Checks of what must agree. Each yields (path, message, hint); what could not be read
# already has its problem, so it is left out here.
_Found = Iterator[tuple[str, str, str]]


def _rules(spec: Spec) -> Iterator[tuple[str, RuleSpec]]:
    """The rules that could be read, each with its path."""
    for number, rule in enumerate(spec.rules if known(spec.rules) else ()):
        yield "rules" + item_name(number, {"name": rule.name}), rule


def _names(spec: Spec) -> _Found:
    seen: set[str] = set()
    for number, (_, rule) in enumerate(_rules(spec)):
        if known(rule.name) and rule.name in seen:
            yield (
                f"rules[{number}].name",
                f'another rule is called "{rule.name}"',
                "names must differ",
            )
        seen.add(rule.name)


def _paths(spec: Spec) -> _Found:
    record = spec.record
    time = record.time if known(record) and known(record.device, record.time) else None
    for device in record.device if time is not None else ():
        outer, inner = sorted((device, str(time)), key=len)
        if outer == inner:
            yield "record.time", f'"{time}" is where the device is: one value cannot be both', ""
        elif inner.startswith(outer + "."):
            what = "device" if outer == device else "time"
            message = f'"{outer}" cannot hold "{inner}": it is the {what}, not an object'
            yield "record.time", message, ""
    for path, rule in _rules(spec):
        for number, case in enumerate(rule.tests if known(rule.tests) else ()):
            if known(record) and known(case.topic, record.topic):
                if case.topic is not None and record.topic is None:
                    message = "a topic is given, but there is no record.topic to put it at"
                    yield f"{path}.tests[{number}].topic", message, ""


def _windows(spec: Spec) -> _Found:
    delivery = spec.delivery
    if not known(delivery) or not known(delivery.forget_after, delivery.allowed_lateness):
        return
    for path, rule in _rules(spec):
        if known(rule.window) and delivery.forget_after < rule.window + delivery.allowed_lateness:
            least = rule.window + delivery.allowed_lateness
            yield (
                "delivery.forget_after",
                f"{DURATION.show(delivery.forget_after)} is less than the window of {path} and "
                f"allowed_lateness together, {DURATION.show(least)}",
                f"forget_after = {DURATION.show(least)} or more",
            )


def _modes(spec: Spec) -> _Found:
    if not known(spec.delivery) or spec.delivery.mode != "fan_out":
        return
    panes = spec.delivery.panes_stream
    others = [rule.forward for _, rule in _rules(spec) if known(rule.forward)]
    others += [spec.source.stream] if known(spec.source) and known(spec.source.stream) else []
    if known(panes) and panes and _stream(panes) in [_stream(one) for one in others if one]:
        message = "records are read from or forwarded to this stream: panes need one of their own"
        yield "delivery.panes_stream", message, f'panes_stream = "{_stream(panes)}-panes"'
    for path, rule in _rules(spec):
        if known(rule.statistic) and rule.statistic not in _PANE_STATISTICS:
            listed = ", ".join(_PANE_STATISTICS)
            message = f'"{rule.statistic}" cannot be added up from panes in the fan_out mode'
            yield f"{path}.statistic", message, f'one of {listed}, or delivery.mode = "ordered"'
        if known(rule.window) and rule.window % _PANE:
            message = "the fan_out mode adds up panes of 1s: a window must be whole seconds"
            yield f"{path}.window", message, ""


def _locations(spec: Spec) -> _Found:
    used: dict[str, str] = {}
    for name in ("errors", "state", "archive"):
        section = getattr(spec, name)
        if not known(section) or section is None or not known(section.location):
            continue
        place = os.path.normpath(section.location)
        if place in used:
            yield f"{name}.location", f"{used[place]}.location is the same place", ""
        used[place] = name


def _forwards(spec: Spec) -> _Found:
    source = spec.source.stream if known(spec.source) else None
    for path, rule in _rules(spec):
        if not known(rule.forward, rule.forward_key):
            continue
        if rule.forward is None and rule.forward_key is not None:
            yield f"{path}.forward_key", "nothing is forwarded", "set `forward` to a stream"
        if rule.forward and known(source) and source and _stream(rule.forward) == _stream(source):
            message = "this is the stream that is read: a record would come again for ever"
            yield f"{path}.forward", message, ""


def _stream(name: str) -> str:
    """The name of a stream that may be given by its ARN."""
    return name.rpartition("/")[2]


def _broker(spec: Spec) -> _Found:
    mqtt = spec.mqtt
    if mqtt is None or not known(mqtt):
        return
    if known(mqtt.cert, mqtt.key) and (mqtt.cert is None) != (mqtt.key is None):
        given, lacking = ("cert", "key") if mqtt.key is None else ("key", "cert")
        yield f"mqtt.{given}", f"mqtt.{lacking} is missing: they come together", ""
    for name in ("ca", "cert", "key"):
        if known(mqtt.url, getattr(mqtt, name)) and mqtt.url.startswith("mqtt:"):
            if getattr(mqtt, name) is not None:
                yield f"mqtt.{name}", "only used with TLS, but mqtt.url is not", "mqtts://..."
