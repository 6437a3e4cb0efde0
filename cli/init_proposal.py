"""What a sample of readings suggests for a pipeline: device, time, measure and limit, and why.

Every proposal is a guess by names and values; each comes with a sentence that says what it rests
on, so that a person can overrule it.
"""

from __future__ import annotations

import bisect
import math
import re
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..engine.errors import InputError
from ..engine.times import time_of
from .init_sample import Field, Sample, number_of, words_of

WINDOW_SAMPLES = 12  # a window should hold about as many samples, so that a mean is one
_WINDOWS = (60_000, 300_000, 600_000, 1_800_000, 3_600_000, 21_600_000, 43_200_000, 86_400_000)
_DAYS_MAX = 3650  # the longest window
_SINCE, _UNTIL = 946_684_800_000, 4_102_444_800_000  # ms: the years 2000 to 2100
_SHOWN_CHARACTERS = 40  # of a device id in an explanation
_TIMES_MAX = 1000  # values of a field that are tried as times
_SHORT_ID_CHARACTERS = 5  # an id this short is hardly unique beyond its gateway

_DEVICE_WORDS = frozenset(
    "device sensor thing machine asset thermostat meter node equipment station vehicle pump robot"
    " tag probe serial mac imei eui gateway host tank valve engine".split()
)
_ID_WORDS = frozenset("id name key number no nr uid".split())
_NO_DEVICE_WORDS = frozenset(
    "message msg event request record row index seq sequence session type status state version"
    " firmware units kind level mode model location city country topic code user".split()
)
_TIME_WORDS = frozenset(
    "time timestamp ts date datetime at when created epoch measured observed utc t".split()
)
_NO_TIME_WORDS = frozenset(
    "received ingest ingested arrival processed updated inserted server last expires boot".split()
)
_MEASURE_WORDS = (
    "temperature temp value reading measurement pressure humidity flow vibration power current"
    " voltage speed rpm level co2 energy load weight distance"
).split()
_NO_MEASURE_WORDS = frozenset(
    "id lat lon lng latitude longitude battery rssi snr seq sequence count counter index version"
    " status code year month day hour port channel firmware number time ts timestamp".split()
)


@dataclass(frozen=True)
class Proposal:
    """What a sample suggests. `why` explains each part in a sentence, by the key it is about.

    device: paths; `constant` is the device that all readings are taken to be of where there is no
    such field, and the path is then one that no reading has. time: None where no field is one.
    window: ms. example: one device of the sample.
    """

    form: str
    device: tuple[str, ...]
    constant: str | None
    time: str | None
    time_unit: str
    measure: str
    window: int
    min_samples: int
    threshold: float
    clear_margin: float
    example: str
    why: Mapping[str, str]


def propose(sample: Sample, name: str) -> Proposal:
    """Propose a pipeline for a sample; `name` is the device where the readings name none.

    Raises:
        InputError: there is no number that varies, so nothing to watch.
    """
    why: dict[str, str] = {}
    time, unit = _time(sample, why)
    device = _device(sample, time, why)
    measure = _measure(sample, {time, *device}, why)
    names = _names(sample, device, name)
    times = _times(sample, time, unit)
    window = _window(names, times, why)
    held = _means(names, times, sample.column(measure), window, why)
    threshold, margin = _limit(held, why)
    return Proposal(
        form=sample.form,
        device=device or (_unused(sample),),
        constant=None if device else name,
        time=time,
        time_unit=unit,
        measure=measure,
        window=window,
        min_samples=5 if 0 < 5 * _typical(names, times) <= window else 1,
        threshold=threshold,
        clear_margin=margin,
        example=next(known for known in names if known is not None),
        why=why,
    )


def _time(sample: Sample, why: dict[str, str]) -> tuple[str | None, str]:
    """The field that is most like an event time, and its unit."""
    best: tuple[float, str, str] = (0.0, "", "")
    for path, found in sample.fields.items():
        unit = _time_unit(found)
        if unit is None or len(found.rows) < 0.95 * sample.readings:
            continue
        words = set(found.words)
        grows = [a <= b for a, b in pairwise(found.values)]
        steady = sum(grows) / len(grows) if grows else 1.0
        hinted = bool(words & _TIME_WORDS)
        if not hinted and unit != "iso8601" and steady < 0.6:
            continue  # a large number that goes up and down is no time
        score = 1 + 5 * hinted - 3 * bool(words & _NO_TIME_WORDS) + steady
        if score > best[0]:
            best = (score, path, unit)
    _, path, unit = best
    if not path:
        why["time"] = "no field looks like a time: readings get their arrival time in Kinesis"
        return None, "ms"
    first = sample.fields[path].values[0]
    reading = "is ISO 8601 text" if unit == "iso8601" else f"taken as {unit} is a date after 2000"
    why["time"] = f'"{path}" is the event time: {first!r} {reading}'
    return path, unit


def _times(sample: Sample, path: str | None, unit: str) -> list[int | None]:
    """The time of each reading in ms, None where it has none that is between 2000 and 2100."""
    times = [
        None if value is None or not _finite(value) else time_of(value, unit)
        for value in (sample.column(path) if path else [None] * sample.readings)
    ]
    return [time if time is not None and _SINCE <= time < _UNTIL else None for time in times]


def _time_unit(found: Field) -> str | None:
    """The unit in which (nearly) all values are times between 2000 and 2100."""
    if found.all_are(str):
        units = ["iso8601"]
    elif found.all_are(int, float):
        units = ["s", "ms", "us", "ns"]
    else:
        return None
    for unit in units:
        values = found.values[:_TIMES_MAX]
        times = [time_of(value, unit) for value in values if _finite(value)]
        fit = sum(time is not None and _SINCE <= time < _UNTIL for time in times)
        if fit >= 0.99 * len(values):
            return unit
    return None


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _device(sample: Sample, time: str | None, why: dict[str, str]) -> tuple[str, ...]:
    """The fields that name the device: one, or two where one alone would mix devices up."""
    scores = {
        path: _device_score(found, sample.readings)
        for path, found in sample.fields.items()
        if path != time
    }
    likely = [path for path, score in scores.items() if score >= 3]
    if not likely:
        why["device"] = (
            "no field looks like a device id: all readings are taken to be of one device"
        )
        return ()
    counts = {path: len(set(sample.fields[path].values)) for path in likely}
    best = max(likely, key=lambda path: (scores[path], counts[path]))
    outer = _outer(sample, best, [path for path in likely if path != best and scores[path] >= 8])
    if outer:
        pairs = len(set(zip(sample.column(outer), sample.column(best), strict=True)))
        why["device"] = (
            f'"{outer}" and "{best}" name the device together: the same {best} occurs under '
            f"several {outer}, {pairs} devices in all"
        )
        return (outer, best)
    values = sorted({str(value)[:_SHOWN_CHARACTERS] for value in sample.fields[best].values})
    shown = ", ".join(values[:3]) + (", ..." if len(values) > 3 else "")
    why["device"] = f'"{best}" looks like a device id: {counts[best]} different in '
    why["device"] += f"{sample.readings} readings ({shown})"
    return (best,)


def _unused(sample: Sample) -> str:
    """A field that no reading has: what is set there takes the place of nothing that was read."""
    fields = {path.partition(".")[0] for path in sample.fields}
    names = ("device", *(f"device_{number}" for number in range(1, len(fields) + 2)))
    return next(name for name in names if name not in fields)


def _device_score(found: Field, readings: int) -> float:
    """How much a field is like a device id; 0 where it cannot be one."""
    distinct = len(set(found.values))
    usable = found.all_are(str, int) and len(found.rows) >= 0.95 * readings
    if not usable or any(value == "" for value in found.values):
        return 0.0
    words = set(found.words)
    owner = set(words_of(found.path.rpartition(".")[0]))
    score = 10.0 * bool(words & _DEVICE_WORDS)
    if words & _ID_WORDS:
        score += 4 + 4 * bool(owner & _DEVICE_WORDS)
    score -= 12 * bool(words & _NO_DEVICE_WORDS)
    if found.all_are(str):
        coded = [
            bool(re.search("[0-9]", v)) and len(v) <= 64 and " " not in v for v in found.values
        ]
        score += 3 * all(coded)
    elif score < 4:
        return 0.0  # a number is only an id if it is called one
    if 2 * distinct > readings >= 10:
        return 0.0  # another value in nearly every reading: that names the reading
    return score + (1 if distinct > 1 else 0)


def _outer(sample: Sample, inner: str, candidates: list[str]) -> str | None:
    """A field within which `inner` counts anew, as sensor 1, 2, 3 of each gateway do."""
    column = sample.column(inner)
    short = all(len(str(value)) <= _SHORT_ID_CHARACTERS for value in column if value is not None)
    for path in candidates if short else ():
        under: dict[Any, set[Any]] = {}
        for value, other in zip(column, sample.column(path), strict=True):
            under.setdefault(value, set()).add(other)
        if sum(len(others) > 1 for others in under.values()) >= 0.8 * len(under):
            return path
    return None


def _names(sample: Sample, device: tuple[str, ...], constant: str) -> list[str | None]:
    """The device of each reading, as the engine joins it; None where a part is absent."""
    if not device:
        return [constant] * sample.readings
    columns = [sample.column(path) for path in device]
    return [
        None if None in parts else "/".join(map(str, parts)) for parts in zip(*columns, strict=True)
    ]


def _measure(sample: Sample, taken: set[str | None], why: dict[str, str]) -> str:
    """The number that is most worth watching."""
    scores: dict[str, float] = {}
    for path, found in sample.fields.items():
        numbers = found.numbers
        rare = len(numbers) < 0.9 * len(found.rows) or 2 * len(numbers) < sample.readings
        if path in taken or rare or len(set(numbers)) < 2:
            continue
        words = found.words
        hints = [_MEASURE_WORDS.index(word) for word in words if word in _MEASURE_WORDS]
        score = 10 - min(hints) / 10 if hints else 0.0
        score += 2 * (float in map(type, found.values)) + (len(set(numbers)) >= 10)
        score -= 8 * bool(set(words) & _NO_MEASURE_WORDS)
        score -= 4 * all(a < b for a, b in pairwise(numbers))  # it only grows: a counter
        if _time_unit(found) is None and measurable(path):
            scores[path] = score
    if not scores:
        listed = ", ".join(sample.fields) or "none"
        raise InputError(
            f"no field holds a number that varies, so there is nothing to watch; fields: {listed} "
            "(a number in quotes is text, which a measure cannot be)"
        )
    best = max(scores, key=lambda path: scores[path])
    numbers = sample.fields[best].numbers
    why["measure"] = f'"{best}" is a number that varies, from {min(numbers):g} to {max(numbers):g}'
    others = [path for path in sorted(scores, key=lambda path: -scores[path]) if path != best]
    if others:
        why["measure"] += "; others: " + ", ".join(others[:5])
    return best


def measurable(path: str) -> bool:
    """Whether a rule can have this path as its measure."""
    from ..engine.errors import ConfigError
    from ..rules.compile import compile_rule

    try:
        compile_rule("SELECT * FROM '#'", path, has_topic=False)
    except ConfigError:
        return False
    return True


def _typical(names: list[str | None], times: list[int | None]) -> float:
    """The usual time from one reading of a device to its next, ms; 0 where that is unknown."""
    last: dict[str, int] = {}
    gaps = []
    for name, time in zip(names, times, strict=True):
        if name is not None and time is not None:
            if name in last and time > last[name]:
                gaps.append(time - last[name])
            last[name] = time
    return statistics.median(gaps) if gaps else 0.0


def _window(names: list[str | None], times: list[int | None], why: dict[str, str]) -> int:
    """A round length that holds about `WINDOW_SAMPLES` samples."""
    gap = _typical(names, times)
    least = gap * WINDOW_SAMPLES
    window = next((length for length in _WINDOWS if length >= least), None)
    if window is None:
        days = math.ceil(least / _WINDOWS[-1])
        window = min(days, _DAYS_MAX) * _WINDOWS[-1]
    why["window"] = "how often a device reports is unknown"
    if gap:
        samples = window / gap
        why["window"] = (
            f"a device reports about every {gap / 1000:g} s: the window holds about {samples:.0f}"
        )
    return window


def _means(
    names: list[str | None],
    times: list[int | None],
    values: list[Any],
    window: int,
    why: dict[str, str],
) -> list[float]:
    """The mean over the window at each reading, roughly; without times the readings themselves."""
    rows = [
        (time, name, value)
        for time, name, value in zip(times, names, map(number_of, values), strict=True)
        if name is not None and value is not None
    ]
    timed = [(time, name, value) for time, name, value in rows if time is not None]
    if not timed:
        why["threshold"] = "readings"
        return [value for _, _, value in rows]
    why["threshold"] = "means over the window"
    means = []
    held: dict[str, deque[tuple[int, float]]] = {}
    for time, name, value in sorted(timed):
        inside = held.setdefault(name, deque())
        inside.append((time, value))
        while inside[0][0] < time - window:
            inside.popleft()
        means.append(math.fsum(number / len(inside) for _, number in inside))
    return means


def _limit(values: list[float], why: dict[str, str]) -> tuple[float, float]:
    """A threshold that about one in a hundred values passes, and a margin to fall back by."""
    ordered = sorted(values)
    high = _rounded(ordered[math.ceil(0.99 * len(ordered)) - 1], 4)
    middle = ordered[len(ordered) // 2]
    passing = len(ordered) - bisect.bisect_right(ordered, high)
    why["threshold"] = (
        f"{passing} of {len(ordered)} {why['threshold']} in the sample are above; "
        f"their median is {middle:.4g}"
    )
    return high, _rounded(max(0.0, high / 5 - middle / 5), 2)


def _rounded(value: float, digits: int) -> float:
    """A number of few digits, as a person would write it."""
    rounded = float(f"{value:.{digits}g}")
    return rounded if math.isfinite(rounded) else value
