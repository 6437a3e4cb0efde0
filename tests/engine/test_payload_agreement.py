"""All ways of reading a payload agree on generated ones: well-formed, odd, broken and random."""

import json

from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from payloads import LAST_TIME, agree, message

from streamgauge.engine.payload import depth

KEYS = st.sampled_from(
    ["device", "ts", "value", "deep", "er", "x", "d\\u0065vice", "\\ud800", "", "\u00e9"]
)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.integers(0, 2 * 10**12).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(0, 3e14).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(["-0", "-0.0", "1e999", "9" * 400, "9007199254740993", "01", "NaN", "1e22"]),
)
STRINGS = st.one_of(
    st.text(max_size=6).map(json.dumps),
    st.text(max_size=6).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(['"\\ud83d\\ude00"', '"\\ude00"', '"\\\\ud800"', '"[[["', '"d"', '"\ufeff"']),
)
SCALARS = st.one_of(NUMBERS, STRINGS, st.sampled_from(["null", "true", "false"]))


def written(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(KEYS, inner), max_size=3).map(written),
    ),
    max_leaves=6,
)
DEEP = st.one_of(
    VALUES,
    VALUES.map(lambda value: f'{{"value":{value}}}'),
    VALUES.map(lambda value: f'{{"er":{{"value":{value}}}}}'),
)
PAIRS = st.lists(
    st.one_of(
        st.tuples(st.just("deep"), DEEP),
        st.tuples(st.just("value"), NUMBERS),
        st.tuples(KEYS, VALUES),
    ),
    max_size=5,
)
GOOD_HEADS = st.tuples(
    st.sampled_from(['"device":"d"', '"device":7', '"device":"\u00e9"', '"device":""']),
    st.integers(0, LAST_TIME).map(lambda ts: f'"ts":{ts}'),
).map(list)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    members = [f'"{key}":{value}' for key, value in draw(PAIRS)]
    if draw(st.integers(0, 3)):
        members = draw(st.permutations(members + draw(GOOD_HEADS)))
    data = ("{" + ",".join(members) + "}").encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        change = draw(st.sampled_from(["cut", "drop", "insert", "flip"]))
        if change == "cut":
            data = data[:at]
        elif change == "drop":
            data = data[:at] + data[at + 1 :]
        elif change == "insert":
            data = data[:at] + draw(st.binary(min_size=1, max_size=2)) + data[at:]
        elif at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
    return data


@settings(deadline=None, max_examples=examples(120))
@given(st.lists(payloads(), max_size=6))
def test_all_readings_agree_on_generated_payloads(some: list[bytes]) -> None:
    agree(some)


@settings(deadline=None, max_examples=examples(80))
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_random_bytes_are_refused_one_by_one(some: list[bytes]) -> None:
    agree([*some, b'{"device":"d","ts":1}'])


@settings(deadline=None, max_examples=examples(120))
@given(NUMBERS)
def test_a_number_has_the_same_bits_everywhere(text: str) -> None:
    agree([message(f'"value":{text}'), message(f'"deep":{{"er":{{"value":{text}}}}}', ts=text)])


@settings(deadline=None, max_examples=examples(120))
@given(
    st.lists(
        st.sampled_from(["\\\\", "\\ud83d", "\\ude00", '\\"', "[", "{", "u", "\\u0041", "d800"]),
        max_size=12,
    ).map("".join)
)
def test_escapes_and_brackets_are_told_apart(text: str) -> None:
    agree([message(f'"x":"{text}"'), message(f'"value":"{text}"')])


@settings(deadline=None, max_examples=examples(80))
@given(
    st.lists(st.sampled_from('[]{}"\\,:1'), max_size=40).map("".join),
    st.integers(0, 130),
)
def test_depth_is_that_of_the_text(noise: str, levels: int) -> None:
    inside = json.dumps(noise)
    text = f'{{"x":{"[" * levels}{inside}{"]" * levels}}}'
    assert depth(text.encode()) == levels + 1
