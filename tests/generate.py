"""Streams that try to break an engine: drawn by hypothesis, or from a seed where they are long.

A `Case` holds a pipeline file, thresholds, Kinesis records cut into batches, and what is done to
the state after each batch. All of it grows out of a `Plan` and a list of `Event`s, plain values
that shrink well.
"""

from __future__ import annotations

import datetime
import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import strategies as st
from plain_kpl import Kinesis, User, repacked

START = 1_700_000_000_000  # ms
LAST_TIME = 253402300799999
SHARDS = ("shardId-000000000000", "shardId-000000000007")
STATISTICS = ("mean", "min", "max", "sum", "count", "stddev", "last")
NAMES: list[Any] = ["a", 7, "7", "ü", "07", -3, 10**20, "x/y", " "]
NAMES += [f"d{n}" for n in range(9_991)]

# Tokens as they stand in a message.
TIES = ["58.54", "93.12", "71.5", "0.1", "0.2", "0.3", "90", "90.0", "0", "-0", "-0.0", "2.5"]
EDGES = ["1e300", "-1e300", "1.7976931348623157e308", "-1.7976931348623157e308", "1.7e308", "1"]
EDGES += ["5e-324", "-5e-324", "2.2250738585072014e-308", "1e-310", "4e12", "3999999999999.9995"]
EDGES += [repr(s * 2.0**e) for e in (-1022, -62, -20, -10, -9, 31, 41, 42, 43, 52, 62, 63, 64, 980)
          for s in (1, -1, 1.0000000000000002)]  # fmt: skip
EDGES += [str(2**53 + 1), str(2**63), str(-(2**64) - 1), "1" + "0" * 30, "9" * 40, "1E-400"]
MISTYPED = ['"58.54"', '"hot"', '"1e2"', '""', "null", "true", "[]", "[1]", "{}", '{"value":1}']
UNFIT = ["1e999", "-1e999", "9" * 400]
EXTRAS = ["", ',"unread":1e999', r',"unread":"\ud83d\ude00"', ',"value2":7', ',"unread":{"a":[]}']
EXTRAS += [
    ',"unread":' + "9" * 500,
    r',"unr\u0065ad":"\\ud800"',
    ',"value":1e999,"value":58.54',
    ',"Value":3',
]


def damage(good: bytes) -> list[bytes]:
    """What is rejected before any rule sees it, made of a good message."""
    body = good[:-1]
    return [
        b"", b"{", b"[]", b"null", b"7", good[:-2], good + b"{}", b"[" + good + b"]", body + b",}",
        b"\xef\xbb\xbf" + good, body + b',"u":"\xff"}', body + b',"u":"\xed\xa0\x80"}',
        body + rb',"u":"\ud800"}', body + rb',"\udc00":1}', body + b',"u":NaN}',
        body + b',"u":' + b"[" * 128 + b"]" * 128 + b"}", body + b',"u":01}', body + b',"u":"\n"}',
        body + b',"device":null,"sensor":null}', body + b',"device":"","sensor":""}',
        body + b',"device":5.0,"sensor":5.0}', body + b',"ts":null}', body + b',"ts":true}',
        body + b',"ts":-1e30}', body + b',"ts":1e30}', b'{"device":"a"}', b'{"ts":1}',
        good.decode().encode("utf-16"), b"\xf3\x89\x9a\xc2" + good,
    ]  # fmt: skip


class Event(NamedTuple):
    """One reading. `again` >= 0: the bytes of an earlier one; `broken` >= 0: damaged."""

    device: int
    step: int  # index into Plan.steps
    value: str
    wait: int = 0  # index into Plan.waits
    extra: int = 0
    topic: int = 0
    again: int = -1
    broken: int = -1


@dataclass(frozen=True)
class Plan:
    """What a case declares; `scale` is the length in ms that all times are of the order of."""

    scale: int
    windows: tuple[int, ...]
    lateness: int
    rules: tuple[str, ...]
    forget_more: int = 0
    skew: int = 0
    keep: bool = False
    arrivals: bool = False
    unit: str = "ms"
    joined: bool = False
    topics: bool = False

    @property
    def forget_after(self) -> int:
        return max(self.windows) + self.lateness + self.forget_more

    @property
    def steps(self) -> list[int]:
        """Where the next event time may lie, seen from the device's last or from the arrival."""
        window, kept, scale = self.windows[0], self.windows[-1] + self.lateness, self.scale
        edges = [window, self.lateness, kept, self.forget_after, self.skew]
        near = [at + by for at in edges for by in (0, 1, -1)]
        ahead = [0, 0, 1, scale, scale // 3, 3 * scale, 40 * scale]
        return ahead + near + [-at for at in ahead + near]

    @property
    def waits(self) -> list[int]:
        return [0, 0, 0, 1, self.scale, self.forget_after, self.forget_after + 1, -1]

    def toml(self) -> str:
        device = '["gateway", "sensor"]' if self.joined else '"device"'
        topic = 'topic = "topic"\n' if self.topics else ""
        return (
            f'[pipeline]\nname = "generated"\n\n[source]\nstream = "telemetry"\n\n'
            f'[record]\ndevice = {device}\ntime = "ts"\ntime_unit = "{self.unit}"\n{topic}\n'
            + "\n".join(self.rules)
            + f'\n[delivery]\nallowed_lateness = "{self.lateness}ms"\n'
            f'max_clock_skew = "{self.skew}ms"\nforget_after = "{self.forget_after}ms"\n'
            f'duplicates = "{"keep" if self.keep else "drop"}"\n'
        )


@dataclass(frozen=True)
class Case:
    toml: str
    thresholds: list[dict[str, Any]]
    batches: list[list[Kinesis]]
    saves: list[str]  # after each batch: "", "full", "delta", and whether "+kill" follows


def rule_text(
    number: int, window: int, statistic: str, fire_when: str, threshold: float, margin: float,
    min_samples: int, hold: int, where: str, source: str,
) -> str:  # fmt: skip
    items = "*" if number % 2 == 0 else "device, ts, value AS reading"
    return (
        f'[[rules]]\nname = "rule{number}"\n'
        f"sql = \"SELECT {items} FROM '{source}'{where and ' WHERE ' + where}\"\n"
        f'measure = "{"value" if items == "*" else "reading"}"\nwindow = "{window}ms"\n'
        f'statistic = "{statistic}"\nfire_when = "{fire_when}"\nthreshold = {threshold!r}\n'
        f'clear_margin = {margin!r}\nmin_samples = {min_samples}\nhold = "{hold}ms"\n'
    )


TOPICS = ['"a/b"', '"a/c"', '"a"', '"$a/b"', "7", ""]
SOURCES = ["#", "a/+", "a/b", "a/#"]
WHERES = ["", "value > -40", "value < 200", "value > -40 AND value < 200", "value2 > 1"]
LIMITS = [58.54, 93.12, 71.5, 0.0, 2.5, 90.0, 1e300, 1.0]


def time_token(at: int, unit: str, odd: int) -> str:
    """A time in ms as a token of a unit, finer than ms by a little where the unit can be."""
    if unit == "s":
        return f"{at // 1000}.{at % 1000:03d}" if at % 1000 else str(at // 1000)
    if unit == "us":
        return str(at * 1000 + (0, 499, 500, -500)[odd % 4])
    if unit == "ns":
        return str(at * 1_000_000 + (0, 499_999, 500_000, -500_000)[odd % 4])
    if unit == "iso8601":
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=at)
        text = moment.isoformat(sep="T "[odd % 2], timespec="milliseconds")
        return f'"{text}{("", "Z", "+00:00")[odd % 3]}"'
    return (str(at), f"{at}.0", f"{at}.25", str(at))[odd % 4]


def message(plan: Plan, event: Event, at: int) -> bytes:
    name = json.dumps(NAMES[event.device], ensure_ascii=False)
    device = f'"gateway":"g","sensor":{name}' if plan.joined else f'"device":{name}'
    value = f',"value":{event.value}' if event.value else ""
    topic = TOPICS[event.topic] if plan.topics else ""
    topic = f',"topic":{topic}' if topic else ""
    at_text = time_token(at, plan.unit, event.extra)
    return f'{{{device},"ts":{at_text}{topic}{value}{EXTRAS[event.extra]}}}'.encode()


def users_of(plan: Plan, events: list[Event], shards: int = 1) -> list[User]:
    """The user records that the events tell of, one Kinesis record each."""
    last: dict[str, int] = {}
    clock, told = START, []
    for number, event in enumerate(events):
        clock += plan.waits[event.wait]
        name = str(NAMES[event.device])
        at = (clock if plan.arrivals else last.get(name, START)) + plan.steps[event.step]
        at = min(max(at, 0), LAST_TIME)
        last[name] = at
        data = message(plan, event, at)
        if event.again >= 0 and told:
            before = told[-1 - event.again % len(told)]
            data, name = before.data, before.key.decode()
        elif event.broken >= 0:
            faults = damage(data)
            data = faults[event.broken % len(faults)]
        shard = SHARDS[sum(name.encode()) % shards]
        arrival = clock if plan.arrivals else None
        told.append(User(shard, str(number), 0, data, name.encode(), arrival))
    return told


def case_of(
    plan: Plan, thresholds: list[dict[str, Any]], users: list[User], pieces: Iterator[int],
    again: Callable[[], int], cuts: Iterator[int], saves: Iterator[str],
) -> Case:  # fmt: skip
    """Packed, some records handed over again, cut into batches."""
    records: list[Kinesis] = []
    for record in repacked(users, pieces, first=90):
        records.append(record)
        back = again()
        if 0 < back <= len(records):
            records.append(records[-back])
    batches, at = [], 0
    while at < len(records):
        size = next(cuts)
        batches.append(records[at : at + size])
        at += size
    return Case(plan.toml(), thresholds, batches, list(itertools.islice(saves, len(batches))))


# Drawn by hypothesis.
def numbers() -> st.SearchStrategy[str]:
    return st.one_of(
        st.sampled_from(TIES),
        st.integers(-400, 2000).map(lambda n: f"{n / 10:.1f}"),
        st.sampled_from(EDGES),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.integers(-(2**70), 2**70).map(str),
    )


def values(odd: bool) -> st.SearchStrategy[str]:
    kinds = [numbers(), numbers(), numbers()]
    return st.one_of(*kinds, st.sampled_from([*MISTYPED, *UNFIT, ""])) if odd else numbers()


def events(plan: Plan, devices: int, size: int) -> st.SearchStrategy[list[Event]]:
    device = st.integers(0, devices - 1)
    reading = st.tuples(
        device,
        st.integers(0, len(plan.steps) - 1),
        values(odd=True),
        st.integers(0, len(plan.waits) - 1) if plan.arrivals else st.just(0),
        st.integers(0, len(EXTRAS) - 1),
        st.integers(0, len(TOPICS) - 1) if plan.topics else st.just(0),
        st.sampled_from([-1] * 9 + [0, 1, 5]),
        st.sampled_from([-1] * 12 + list(range(29))),
    )
    quiet = st.tuples(
        device,
        st.sampled_from([0, 2, 3, 4, 7, 24, 26]),
        st.sampled_from([*TIES, "100", "-20"]),
        st.sampled_from([0, 3, 4]),
    )
    told = st.one_of(quiet, quiet, reading).map(lambda event: Event(*event))
    return st.lists(told, max_size=size)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    scale = draw(st.sampled_from([1, 7, 1000, 60_000]))
    lengths = st.sampled_from([1, scale, max(scale // 2, 1), 3 * scale])
    windows = tuple(draw(st.lists(lengths, min_size=1, max_size=3)))
    topics = draw(st.booleans())
    rules = [
        rule_text(
            number, window, draw(st.sampled_from(STATISTICS)),
            draw(st.sampled_from(["above", "below"])), draw(st.sampled_from(LIMITS)),
            draw(st.sampled_from([0.0, 0.5, 2.0])), draw(st.integers(1, 4)),
            draw(st.sampled_from([0, 0, 1, scale // 2, scale])), draw(st.sampled_from(WHERES)),
            draw(st.sampled_from(SOURCES)) if topics else "#",
        )
        for number, window in enumerate(windows)
    ]  # fmt: skip
    return Plan(
        scale=scale,
        windows=windows,
        lateness=draw(st.sampled_from([0, 1, scale, 5 * scale])),
        rules=tuple(rules),
        forget_more=draw(st.sampled_from([0, 1, scale])),
        skew=draw(st.sampled_from([0, scale, 300_000])),
        keep=draw(st.booleans()),
        arrivals=draw(st.booleans()),
        unit=draw(st.sampled_from(["ms", "ms", "ms", "s", "us", "ns", "iso8601"])),
        joined=draw(st.sampled_from([False, False, True])),
        topics=topics,
    )


@st.composite
def limits(draw: st.DrawFn, plan: Plan) -> list[dict[str, Any]]:
    """Items of the thresholds table, each with a time of its own or always in force."""
    keys = st.tuples(st.sampled_from(["a", "7", "ü", "d0"]), st.integers(0, len(plan.windows) - 1))
    found = []
    for device, number in draw(st.lists(keys, max_size=6, unique=True)):
        since = st.sampled_from(
            [None, *(START + n * plan.scale + d for n in range(4) for d in (0, 1))]
        )
        for version, start in enumerate(draw(st.lists(since, min_size=1, max_size=4, unique=True))):
            item = {"device": f"g/{device}" if plan.joined else device, "rule": f"rule{number}"}
            item |= {"value": draw(st.sampled_from(LIMITS))}
            item |= draw(st.sampled_from([{}, {"version": version}, {"version": f"v{version}"}]))
            item |= draw(st.sampled_from([{}, {"clear_margin": 0.25}, {"clear_margin": None}]))
            found.append(item if start is None else item | {"effective_from": start})
    return found


SAVES = ["", "", "full", "delta", "full+kill", "delta+kill", "delta+kill"]


@st.composite
def cases(draw: st.DrawFn, size: int = 60) -> Case:
    plan = draw(plans())
    devices = draw(st.sampled_from([1, 1, 2, 5, 40]))
    told = users_of(plan, draw(events(plan, devices, size)), draw(st.sampled_from([1, 1, 2])))
    few = st.lists(st.integers(1, 9), min_size=1, max_size=5)
    backs = itertools.cycle(draw(st.lists(st.sampled_from([0, 0, 0, 1, 3]), min_size=1)))
    return case_of(
        plan,
        draw(limits(plan)),
        told,
        itertools.cycle(draw(few)),
        lambda: next(backs),
        itertools.cycle(draw(st.one_of(few, st.just([10_000])))),
        itertools.cycle(draw(st.lists(st.sampled_from(SAVES), min_size=1, max_size=4))),
    )


# Drawn from a seed, for streams too long to shrink.
def seeded(
    seed: int, devices: int, count: int, plan: Plan, odd: float = 0.1, shards: int = 1
) -> Case:
    """A long stream: mostly in order, with the share `odd` of everything else."""
    rng = random.Random(seed)
    steps, waits = range(len(plan.steps)), range(len(plan.waits))
    told = []
    for number in range(count):
        device = number if number < devices else rng.randrange(devices)
        value = f"{rng.randrange(500, 1300) / 10:.1f}"
        event = Event(device, rng.choice([2, 3, 3, 4]), value, rng.choice([0, 3]))
        if rng.random() < odd:
            token = rng.choice([*TIES, *EDGES, *MISTYPED, *UNFIT])
            event = event._replace(value=token, wait=rng.choice(waits))
        if rng.random() < odd:
            event = event._replace(step=rng.choice(steps), extra=rng.randrange(len(EXTRAS)))
        if rng.random() < odd / 4:
            event = event._replace(again=rng.randrange(40), broken=rng.choice([-1, -1, 3]))
        told.append(event)
    return case_of(
        plan,
        [],
        users_of(plan, told, shards),
        iter(lambda: rng.choice([1, 2, 30, 400]), None),
        lambda: rng.choice([0] * 20 + [1, 5]),
        iter(lambda: rng.choice([1, 7, 100, 1000]), None),
        iter(lambda: rng.choice(SAVES), None),
    )


def scripted(readings: Iterable[tuple[Any, int, Any]], batch: int, toml: str) -> Case:
    """A stream of (device, ms after the start, value token) as told, nothing aggregated."""
    records = [
        Kinesis("s", str(number + 1), f'{{"device":"{d}","ts":{START + at},"value":{v}}}'.encode())
        for number, (d, at, v) in enumerate(readings)
    ]
    batches = [records[at : at + batch] for at in range(0, len(records), batch)]
    often = max(len(batches) // 9, 1)
    saves = ["delta+kill" if at % often == 0 else "" for at in range(len(batches))]
    return Case(toml, [], batches, saves)
