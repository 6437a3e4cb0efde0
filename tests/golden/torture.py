"""Writes the torture file and all that is expected of it: `python tests/golden/torture.py`.

One case is one function; each has devices of its own, so that a case can be read by itself. The
readings of all cases are laid out by arrival time and packed into Kinesis records, plain and
aggregated as a seed decides, with damaged and repeated ones in between.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from plain_kpl import Kinesis, User, opened, pack, read, seal, write
from plain_oracle import Oracle

HERE = Path(__file__).parent
START = 1_700_000_000_000  # ms; the times of the cases count from here
FORGET = 300_000
SHARDS = ("shardId-000000000000", "shardId-000000000001")
PUMP, MOTOR, FAN = "plant/1/pump", "plant/1/motor", "plant/1/fan"
FIRST_SEQUENCE = 10**56 - 60  # grows by a digit on the way: text would sort wrongly
PIECES = random.Random(59)  # how many user records an aggregate takes


class Reading(NamedTuple):
    arrival: int
    shard: str
    data: bytes
    key: bytes
    hash_key: int | None
    whole: bool  # the bytes are those of a Kinesis record, packed already


@dataclass
class Script:
    """The readings in the order told; `heard` is the arrival, by default a little later."""

    shard: str = SHARDS[0]
    readings: list[Reading] = field(default_factory=list)

    def say(
        self, device: Any, at: int, *, topic: str | None = PUMP, heard: int | None = None,
        **fields: Any,
    ) -> None:  # fmt: skip
        message = {"device": device, "ts": START + at, "topic": topic, **fields}
        if topic is None:
            del message["topic"]
        data = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
        self.tell(at, data, heard=heard, key=str(device).encode())

    def tell(
        self, at: int, data: bytes, *, heard: int | None = None, key: bytes = b"k",
        hash_key: int | None = None, whole: bool = False,
    ) -> None:  # fmt: skip
        arrival = START + (at // 1000 * 1000 + 1200 if heard is None else heard)
        self.readings.append(Reading(arrival, self.shard, data, key, hash_key, whole))


def equal_times(s: Script) -> None:
    """Three would-be changes at one time, twice: firing first, then resolved first."""
    told = [(0, 20), (1000, 20), (2000, 300), (2000, -39), (2000, 500), (3000, -39), (4000, -39)]
    told += [(5000, -39), (5000, 800), (5000, -38), (6000, 0), (6000, 1), (70_000, 10)]
    for at, temperature in told:
        s.say("equal-times", at, temperature=temperature)


def ties(s: Script) -> None:
    """Means that lie on their limit, where a rounded sum divided by n falls beside it."""
    for number in range(13):
        s.say("tie-58.54", number * 1000, temperature=58.54)
    for number in range(24):  # 11 in each window: 93.12 * 11 / 11 > 93.12 in float64
        s.say("tie-fire", number * 6000, temperature=93.12)
        s.say("tie-clear", number * 6000, temperature=200.5 if number < 4 else 93.12)
    for number in range(60):  # pairs around 71.5: each second mean is 71.5
        away = (number // 2 * 7 % 29 + 1) / 10 * (1 if number % 2 else -1)
        s.say("tie-71.5", number * 1000, temperature=round(71.5 + away, 1))


def clear_margin(s: Script) -> None:
    """Above, then long inside the margin and over the threshold again; cleared exactly on it."""
    told = [95.0] * 4 + [89.0] * 20 + [91.0, 92.5] * 4 + [88.25] * 13 + [88.0] * 14
    for number, temperature in enumerate(told):
        s.say("clear-margin", number * 5000, temperature=temperature)


def hold(s: Script) -> None:
    """Pending for just too short, exactly long enough, and ended by one sample not below."""
    told = [(0, 2.0), (1000, 2.25), (2999, 2.0), (3000, 2.0), (4000, 2.75), (5000, 2.99)]
    told += [(5000, 3.0), (6000, 2.0), (20_000, 2.0), (21_500, 2.5), (31_500, 2.0), (31_501, 2.0)]
    told += [(34_000, 2.0), (32_500, 1.5), (34_500, 2.0), (34_501, 2.0), (33_000, 50.0)]
    told += [(35_000, 2.0), (35_000, 1.0), (45_001, 2.0)]
    for number, (at, pressure) in enumerate(told):
        heard = max(at for at, _ in told[: number + 1])
        s.say("hold", at, pressure=pressure, heard=heard + 2000)


def silence_while_firing(s: Script) -> None:
    """Firing outlives the silence with the time of its last change; the window does not."""
    for device, silent in (("silent-firing", FORGET + 1), ("silent-edge", FORGET)):
        for at in (0, 1000, 2000):
            s.say(device, at, temperature=200)
        back = 3200 + silent
        for number, (at, temperature) in enumerate([(1500, -30), (2000, 10), (2001, 50)]):
            s.say(device, at, temperature=temperature, heard=back + number)
        for at in (back, back + 1, back + 2):
            s.say(device, at, temperature=99, heard=back + 2500)


def silence_while_pending(s: Script) -> None:
    """Pending and the newest time are forgotten, but not a millisecond too early."""
    for device, silent in (("silent-pending", FORGET + 1), ("silent-pending-edge", FORGET)):
        s.say(device, 400_000, pressure=2.0, temperature=20)
        back = 401_200 + silent
        s.say(device, 399_000, temperature=21, heard=back)
        s.say(device, back, pressure=2.0, heard=back + 1)
        s.say(device, 401_000, temperature=22, heard=back + 2)


def silence_broken(s: Script) -> None:
    """What ends a silence: every record that was decoded, and no other."""
    breakers: dict[str, Callable[[str], None]] = {
        "filtered": lambda d: s.say(d, 200_000, topic="office/1/desk", temperature=1),
        "where-false": lambda d: s.say(d, 200_000, temperature=-41),
        "mistyped": lambda d: s.say(d, 200_000, temperature="21.5"),
        "late": lambda d: s.say(d, -100_000, temperature=21.5, heard=201_200),
        "skewed": lambda d: s.say(d, 900_000, temperature=21.5, heard=201_200),
        "unreadable": lambda d: s.tell(200_000, b'{"device":"%b","ts":}' % d.encode()),
    }
    for name, breaker in breakers.items():
        device = f"silence-{name}"
        s.say(device, 0, temperature=30)
        breaker(device)
        s.say(device, -80_000, temperature=31, heard=1200 + FORGET + 1)


def repeats(s: Script) -> None:
    """A producer's repeat counts once while its sample is retained: 70 s, and then it is late."""
    for at, temperature in [(10_000, 70.0), (11_000, 71.0), (10_000, 70.0), (80_000, 72.0)]:
        s.say("repeat", at, temperature=temperature, heard=90_000)
    s.say("repeat", 10_000, temperature=70, note="other bytes, same sample", heard=90_000)
    s.say("repeat", 10_000, temperature=70.5, heard=90_000)
    s.say("repeat", 10_000, temperature=70.5, pressure=3.5, heard=90_000)
    s.say("repeat", 80_001, temperature=72.0, heard=90_000)
    s.say("repeat", 10_000, temperature=70.0, heard=90_000)
    s.say("repeat", 10_001, temperature=70.0, heard=90_000)
    for zero in (0, 0.0, -0.0):
        s.say("repeat-zero", 1000, temperature=zero)


def clocks(s: Script) -> None:
    """Clocks far ahead are rejected alone; those far behind are late, for every rule."""
    s.say("clock-ahead", 5000 + FORGET, temperature=20, heard=5000)
    s.say("clock-ahead", 6000, temperature=21, heard=6000)
    s.say("clock-skewed", 5001 + FORGET, temperature=20, heard=5000)
    s.say("clock-skewed", 6000, temperature=21, heard=6000)
    s.say("clock-behind", 7000, temperature=20, pressure=5)
    s.say("clock-behind", -START, temperature=21, pressure=5, heard=8200)
    s.say("clock-behind", 9000, temperature=22, pressure=5)
    s.say("clock-1970", -START, temperature=20, heard=8200)
    s.say("clock-1970", 9000, temperature=22)


def disorder(s: Script) -> None:
    """Out of order within lateness, a little beyond it, and one millisecond too late."""
    shuffled = sorted(range(60), key=lambda n: n + n * 7 % 10)
    for number, second in enumerate(shuffled):
        value = 80 + second * 37 % 23
        s.say("disorder", second * 1000, temperature=value, heard=number * 1000 + 12_000)
    for number, at in enumerate([0, 30_000, 80_000, 70_000, 65_000, 15_000, 10_000, 9_999]):
        s.say("straggler", at, temperature=60 + number, heard=81_000 + number)
    for number, at in enumerate([9000, 7000, 5000, 3000, 1000, 0, 8000, 6000, 4000, 2000, 10_000]):
        s.say("reversed", at, temperature=91 if number % 3 else 1200.5, heard=12_000)


def window_ends(s: Script) -> None:
    """Both ends belong to the window: 60,000 ms and 10,000 ms are in it, one more is not."""
    for at, temperature in [(0, 100), (60_000, 50), (120_001, 75), (180_001, 25.5), (240_001, 7)]:
        s.say("window-end", at, temperature=temperature)
    for at, pressure in [(0, 9.5), (10_000, 3.5), (20_001, 2.75), (30_001, 2.0)]:
        s.say("window-end", at, pressure=pressure)


def numbers(s: Script) -> None:
    """Magnitudes that cost a float its neighbours; the quiet devices must not notice."""
    pump = [1e300, 1, 0.1, 5e-324, 2.5e-310, -0.0, 4e12, 4e12 + 0.5, 2**53 + 1, 10**30, 0.2, 1e-9]
    motor = [1e300, 1.0, -1e300, 5e-324, 0.1, 0.2, -0.3, 1e16, -1e16, 123456789.125, 2**-62, -7]
    for second, (temperature, load) in enumerate(zip(pump, motor, strict=True)):
        s.say("huge", second * 1000, temperature=temperature)
        s.say("quiet", second * 1000, temperature=20.1 + second / 10)
        s.say("motor-huge", second * 1000, topic=MOTOR, electric={"load": load})
        s.say("motor-quiet", second * 1000, topic=MOTOR, electric={"load": 0.1})
    for second, temperature in enumerate([2.0**90, 2.0**37, 2.0**37, 2.0**-10, 58.54]):
        s.say("absorbed", second * 1000, temperature=temperature)  # 2**37 twice is one last place
    for second, temperature in enumerate([2.0, 2.0**-52, 2.0**-75, 0.0]):
        s.say("last-bit", second * 1000, temperature=temperature)  # a hair above half way
    top = 1.7e308
    for at, load in [(0, top), (1000, top), (1000, -top), (1000, top), (2000, 2e6), (12_500, 0.5)]:
        s.say("motor-overflow", at, topic=MOTOR, electric={"load": load})


def wobble(s: Script) -> None:
    """Deviations: none of a constant, none of one sample, and those of odd magnitudes."""
    told = [58.54] * 4 + [80.0, 30.25, 58.54, 1e300, 1.0, 1e-300, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 7]
    for second, speed in enumerate(told):
        s.say("fan", second * 1000, topic=FAN, speed=speed)
    for second, speed in enumerate([1 + 2**-40, 1 - 2**-40, -(2**-53), -(2**-53)]):
        s.say("fan-last-bit", second * 1000, topic=FAN, speed=speed)  # a hair above half way
    for speed in ("7", None, True, [7], {"of": 7}):
        s.say("fan-mistyped", 1000, topic=FAN, speed=speed)
    s.say("fan-mistyped", 1000, topic=FAN)
    s.say("fan-mistyped", 2000, topic=FAN, speed=3, pressure=50)


def mistyped(s: Script) -> None:
    """Measures that are no number: WHERE converts text, and what passes it is rejected."""
    for temperature in ("21.5", "-41", "hot", "1e2", " 7", "", None, True, [21.5], {"c": 21.5}):
        s.say("mistyped", 1000, temperature=temperature)
    s.say("mistyped", 1000)
    s.say("mistyped", 1000, temperature="21.5", pressure=5)
    s.say("mistyped", 2000, topic=MOTOR, electric=7)
    s.say("mistyped", 2000, topic=MOTOR, electric={"load": "7"})
    for topic in (None, 7, "plant", "plant/1/2/pump", "plant/pump", "$plant/1/pump", "plant//pump"):
        s.say("topics", 3000, topic=topic, temperature=20, pressure=5)


def devices(s: Script) -> None:
    """A whole number and its decimal text are one device; everything else is no device."""
    for number, device in enumerate([7, "7", 7, "07", -7, 0, 10**29 + 1, "dévice", " "]):
        s.say(device, number * 1000, temperature=30 + number)
    s.tell(1000, _message(r'"device":"d\u00e9vice"', 'temperature":31'))
    s.tell(1000, _message(r'"d\u0065vice":"escaped key"', 'temperature":31'))
    for device in ("5.0", "1e3", "true", "[]", "{}"):
        s.tell(2000, _message(f'"device":{device}', 'temperature":31'))
    s.tell(2000, _message('"gadget":"d"', 'temperature":31'))


def _message(device: str, rest: str, at: str = f"{START + 1000}") -> bytes:
    return f'{{{device},"ts":{at},"topic":"{PUMP}","{rest}}}'.encode()


def payloads(s: Script) -> None:
    """Bytes that are no message, and odd ones that are."""
    good = '"device":"odd"'
    for number, rest in enumerate(
        [
            'temperature":NaN', 'temperature":-Infinity', 'temperature":1e999',
            'temperature":21,"unread":1e999', 'temperature":01', 'temperature":+1',
            'temperature":1.', 'temperature":21,"unread":"\\ud800"', 'temperature":22,"unread":"'
            '\\ud83d\\ude00"', 'temperature":23,"unread":"\\\\ud800"', 'temperature":24,}',
            'temperature":25,"temperature":26', 'temperature":1e999,"temperature":26.5',
            'temperature":27,"unread":"\t"',
            'temperature":28,"deep":' + "[" * 127 + "]" * 127,
            'temperature":29,"deep":' + "[" * 128 + "]" * 128,
            'temperature":30,"unread":' + "9" * 5000, 'temperature":' + "9" * 400,
            'temperature":1' + "0" * 308, 'temperature":3e1', 'temperature":1E-400',
            'temperature":32,"unread":{"temperature":1e999}', 'temperature":33} {"a":1',
            'temperature":34,"unread":"\\x41"', 'temperature":35,"device":"odd-last"',
        ]
    ):  # fmt: skip
        s.tell(3000, _message(good, rest, f"{START + 1000 + number * 1000}"), heard=30_000)
    for data in (b"", b" ", b"[]", b"7", b'"text"', b"null", b"{", b"{}x", b"\x00", b"{'a':1}"):
        s.tell(4000, data)
    whole = _message(good, 'temperature":36', f"{START + 30_000}")
    for data in (b"\xef\xbb\xbf" + whole, whole[:-1] + b',"unread":"\xff"}', whole.decode().encode(
        "utf-16"), whole[:-1] + b',"unread":"\xed\xa0\x80"}', b" \r\n\t" + whole + b"\r\n",
        whole[:-1] + b',"unread":"\xc0\xaf"}', whole[:-3]):  # fmt: skip
        s.tell(30_000, data)
    times = ["null", "true", '"1700000001000"', "-1", "253402300800000", "253402300799999.5", "[]"]
    times += [f"{START}.5", f"{START + 1}.5", f"{START / 1000}e3", f"{START + 3}.0", "-0.25"]
    for at in times:
        s.tell(5000, _message('"device":"odd-time"', 'temperature":37', at))
    s.tell(5000, b'{"device":"odd-time","temperature":37}')


def history(s: Script) -> None:
    """Limits that change on the way: at the event time, or the arrival where that is earlier."""
    for second in range(0, 30, 2):
        s.say("history", second * 1000, temperature=80 + second % 4, heard=second * 1000 + 400)
        s.say("history-ahead", second * 1000 + 9000, temperature=80, heard=second * 1000 + 400)
        s.say("history-always", second * 1000, temperature=70, pressure=2.2)


def damaged(s: Script) -> None:
    """Aggregates that cannot be read, or not wholly, and some that only look so."""
    good = [(b"k%d" % n, _say(f"within-{n}", 40 + n), n * 7 or None) for n in range(4)]
    body = pack(good)[4:-16]
    nested = [(b"outer", pack(good[:2]), None), (b"outer", _say("beside-nested", 44), None)]
    odd_key = [(b"\xff\xfe", _say("odd-key", 45), 2**128 - 1)]
    wholes = [
        pack(good)[:-1] + b"x", pack(good)[:-30], pack(good, bad_index=[1, 3]), pack(nested),
        pack([]), pack(odd_key), seal(b"\x1a\x7fcut short"), seal(body[:-3]), seal(b"")[:12],
        seal(b"")[:20], pack(good), pack([(b"one", _say("alone", 46), None)]),
        pack([(b"e", b"", None), (b"e", _say("after-empty", 47), None)]),
        seal(b"\x0a\x01k" + b"\x1a\x02\x08\x00"), seal(b"\x0a\x01k"),
    ]  # fmt: skip
    for number, data in enumerate(wholes):
        s.tell(6000, data, heard=7000 + 300 * number, whole=True)


def _say(device: str, temperature: float) -> bytes:
    message = {"device": device, "ts": START + 6000, "topic": PUMP, "temperature": temperature}
    return json.dumps(message).encode()


FIRST_SHARD = (
    equal_times, ties, clear_margin, silence_while_firing, silence_broken, repeats, clocks,
    disorder, window_ends, numbers, mistyped, devices, payloads, history, damaged,
)  # fmt: skip
SECOND_SHARD = (hold, silence_while_pending, wobble)

THRESHOLDS: list[dict[str, Any]] = [
    {"device": "tie-58.54", "rule": "overheating", "value": 58.54, "version": 1},
    {"device": "tie-fire", "rule": "overheating", "value": 93.12, "version": 1},
    {"device": "tie-clear", "rule": "overheating", "value": 95.12, "version": "summer"},
    {"device": "tie-71.5", "rule": "overheating", "value": 71.5, "clear_margin": 0},
    {"device": "history-always", "rule": "low_pressure", "value": 2.1, "version": 9},
    {"device": "history-always", "rule": "overheating", "value": 69.5, "clear_margin": 0.25},
    {"device": "absent", "rule": "overheating", "value": 1.0, "version": 1},
]
for _name in ("history", "history-ahead"):
    for _version, (_from, _value, _margin) in enumerate(
        [(20_000, 60.0, 1.0), (5_000, 100.0, None), (10_000, 79.0, None), (26_000, 81.5, 0.0)]
    ):
        THRESHOLDS.append(
            {"device": _name, "rule": "overheating", "value": _value, "version": _version + 1}
            | {"effective_from": START + _from}
            | ({} if _margin is None else {"clear_margin": _margin})
        )


def laid_out() -> list[Kinesis]:
    """All cases, by arrival, as Kinesis records; some are handed over twice or three times."""
    readings: list[Reading] = []
    for shard, cases in zip(SHARDS, (FIRST_SHARD, SECOND_SHARD), strict=True):
        for case in cases:
            script = Script(shard)
            case(script)
            readings += script.readings
    readings.sort(key=lambda reading: reading.arrival)
    records: list[Kinesis] = []
    while readings:
        first, size = readings[0], PIECES.choice([1, 1, 2, 3, 5, 8])
        alike = [r for r in readings[:size] if r[:2] == first[:2] and not r.whole]
        group = alike if alike == readings[: len(alike)] and not first.whole else []
        del readings[: max(len(group), 1)]
        data = pack([(r.key, r.data, r.hash_key) for r in group]) if len(group) > 1 else first.data
        sequence = str(FIRST_SEQUENCE + len(records) * 3)
        key = "a" if len(group) > 1 else first.key.decode()
        records.append(Kinesis(first.shard, sequence, data, key, first.arrival))
        if len(records) % 40 == 39:
            again = records[-30:-20] if len(records) % 80 == 39 else records[-2:]
            records += again
    return records


def thresholds() -> list[dict[str, Any]]:
    lines = (HERE / "torture-thresholds.ndjson").read_text().splitlines()
    return [json.loads(line) for line in lines]


def users() -> list[User]:
    """The user records of the committed file, repeats included."""
    return [user for record in read(HERE / "torture.ndjson") for user in opened(record)]


def expected(told: list[User]) -> dict[str, str]:
    """The name and text of each file of answers."""
    oracle = Oracle((HERE / "torture.toml").read_text(), thresholds()).push(told)
    rejected = [{k: row[k] for k in ("position", "rule", "reason")} for row in oracle.rejected]
    rows = {"alerts": oracle.alerts, "statistics": oracle.statistics, "rejected": rejected}
    texts = {
        f"torture.{name}.ndjson": "".join(json.dumps(row) + "\n" for row in found)
        for name, found in rows.items()
    }
    return texts | {"torture.counts.json": json.dumps(oracle.totals(), indent=2) + "\n"}


def main() -> None:
    lines = "".join(json.dumps(item) + "\n" for item in THRESHOLDS)
    (HERE / "torture-thresholds.ndjson").write_text(lines)
    write(HERE / "torture.ndjson", laid_out())
    for name, text in expected(users()).items():
        (HERE / name).write_text(text)


if __name__ == "__main__":
    main()
