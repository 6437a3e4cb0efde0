"""The quick truth says what the plain one says, which sums every window anew."""

from __future__ import annotations

import json
from typing import Any

import plain_truth
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgauge.producers import truth as quick
from streamgauge.producers.fleet import Fleet
from streamgauge.producers.scenario import START, Scenario

LIMITS = [
    {"device": "a", "rule": "r", "value": 20.0, "clear_margin": 0.5, "version": 1},
    {"device": "a", "rule": "r", "value": 22.0, "version": "x", "effective_from": 50_000},
    {"device": "b", "rule": "other", "value": -5.0},
]
VALUES = st.one_of(
    st.integers(180, 260).map(lambda tenths: tenths / 10),
    st.sampled_from([0.1, -0.0, 58.54, 1e300, -1e300, 5e-324, 199.99999999999997, -39.9, 200.0]),
    st.sampled_from([21, True, None, "21.5", "hot", [1]]),
)
STEP = st.tuples(
    st.sampled_from("aab"),
    st.sampled_from([0, 0, 1, 1000, 1000, 5000, 60_000, 70_000, 70_001, -1, -1000, -65_000]),
    VALUES,
    st.sampled_from([None, 0, 400_000, -400_000]),
)
RULES = st.builds(
    dict,
    threshold=st.sampled_from([20.0, 21.5, 58.54]),
    clear_margin=st.sampled_from([0.0, 1.0]),
    min_samples=st.integers(1, 4),
    hold=st.sampled_from([0, 2000]),
    window=st.sampled_from([1, 5_000, 60_000]),
    lateness=st.sampled_from([0, 10_000]),
    low=st.sampled_from([-40.0, -1e308]),
    high=st.sampled_from([200.0, 1e308]),
)
Step = tuple[str, int, Any, int | None]


def both(rule: dict[str, Any], payloads: list[tuple[bytes, int | None]]) -> None:
    """Hold one against the other, message by message and as a whole."""
    told = []
    for module in (quick, plain_truth):
        truth = module.Truth(module.Rule(pipeline="p", name="r", severity="s", **rule), LIMITS)
        verdicts = [truth.take(data, arrival) for data, arrival in payloads]
        bits = [{**alert, "value": alert["value"].hex()} for alert in truth.alerts]
        told.append((verdicts, bits, truth.counts, truth.rejected))
    assert told[0] == told[1]


@settings(max_examples=300)
@given(RULES, st.lists(STEP, max_size=60))
@example(
    {"threshold": 58.54, "clear_margin": 0.0, "min_samples": 1, "window": 60_000, "lateness": 0},
    [("b", 1000, 58.54, None)] * 1 + [("b", 1000 * n, 58.54, None) for n in range(1, 12)],
)
@example(  # what a huge value leaves behind when it leaves the window
    {
        "threshold": 20.0,
        "clear_margin": 0.0,
        "min_samples": 1,
        "window": 5_000,
        "lateness": 0,
        "high": 1e308,
    },
    [("b", 1000, 1e300, None), *[("b", 1000, 21.5, None)] * 8],
)
@example(  # one out of order into the newest one's window, then on
    {"threshold": 20.0, "clear_margin": 0.0, "min_samples": 2, "window": 5_000, "lateness": 10_000},
    [
        ("b", 1000, 19.0, None),
        ("b", 5000, 22.0, None),
        ("b", -1000, 24.0, None),
        ("b", 1000, 18.0, None),
        ("b", 5000, 21.0, None),
    ],
)
def test_the_quick_one_says_what_the_plain_one_says(
    rule: dict[str, Any], steps: list[Step]
) -> None:
    """Times of a device go on from where they were, mostly forward."""
    at = {"a": 100_000, "b": 100_000}
    payloads: list[tuple[bytes, int | None]] = []
    for device, step, value, offset in steps:
        time = at[device] + step
        at[device] = max(at[device], time)
        message = {"device": device, "ts": time, "topic": "home/1/thermostat", "temperature": value}
        arrival = None if offset is None else time + offset
        payloads.append((json.dumps(message).encode(), arrival))
    both(rule, payloads)


@pytest.mark.parametrize("seed", [3, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("known", [True, False])
def test_they_agree_on_a_fleet(seed: int, known: bool) -> None:
    fleet = Fleet.of(Scenario(devices=60 * (seed - 2), seconds=200, seed=seed))
    payloads = [
        (data, START + 1000 * number if known else None)
        for number, tick in enumerate(fleet, 1)
        for data in tick.data
    ]
    both({"threshold": 30.0, "clear_margin": 1.0, "min_samples": 5}, payloads)


@pytest.mark.parametrize(
    "data",
    [b"", b"[1]", b'{"a":NaN}', b'{"ts":1e999}', b'{"a":"\\ud800"}', b"\xef\xbb\xbf{}", b"\xff",
     b'{"a":"\\uD800\\u0041"}', b'{"\\udc00":1}', b'{"a":' + b"[" * 128 + b"]" * 128 + b"}"],
)  # fmt: skip
def test_what_is_no_payload(data: bytes) -> None:
    assert quick.parsed(data) is plain_truth.parsed(data) is None


@pytest.mark.parametrize("data", [b"{}", b'{"a":"\\ud83d\\ude00"}', '{"é":"\\n"}'.encode()])
def test_what_is_one(data: bytes) -> None:
    assert quick.parsed(data) == plain_truth.parsed(data) == json.loads(data)


def test_rejected_payloads_need_not_be_kept() -> None:
    rule = quick.Rule("p", "r", 1.0, 0.0, 1, "s")
    kept, light = quick.Truth(rule, []), quick.Truth(rule, [], keep_rejected=False)
    for truth in (kept, light):
        assert truth.take(b"x") == "rejected"
    assert (kept.counts, dict(kept.rejected)) == (light.counts, {b"x": 1})
    assert not light.rejected
