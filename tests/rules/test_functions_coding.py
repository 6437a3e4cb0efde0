"""encode and decode: what goes in comes out, and what is no base64 is Null."""

import base64
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from streamgauge.engine.payload import DEPTH_MAX
from streamgauge.rules.coding_functions import FUNCTIONS, encoded_chars_max
from streamgauge.rules.values import exact, text_chars_max

documents = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)  # fmt: skip


def encode(value: Any) -> Any:
    return FUNCTIONS["encode"](None, [value, "base64"])


def decode(text: Any) -> Any:
    return FUNCTIONS["decode"](None, [text, "base64"])


@given(st.binary())
def test_bytes_are_encoded_as_they_are(data: bytes) -> None:
    assert encode(data) == base64.b64encode(data).decode()


@given(st.text().filter(lambda text: not text.strip()[:1].isdigit()))
def test_a_text_comes_back(text: str) -> None:
    try:
        expected = exact(json.loads(text, parse_constant=lambda name: text))
    except ValueError:
        expected = text
    assert decode(encode(text)) == expected


@given(documents)
def test_a_document_comes_back_as_a_value(document: Any) -> None:
    found = decode(base64.b64encode(json.dumps(document).encode()).decode())
    assert found == exact(document)
    assert type(found) is type(exact(document))


@given(st.binary(min_size=1))
def test_padding_may_be_missing(data: bytes) -> None:
    encoded = base64.b64encode(data).decode()
    assert decode(encoded.rstrip("=")) == decode(encoded)


@pytest.mark.parametrize(
    "text",
    ["a", "abc!", "ab\ncd", " YWJj", "ab=c", "ab===", "=", "YQ=", "YWJj=", "é", "_-8=", "gA==",
     "/////w"],
)  # fmt: skip
def test_what_cannot_be_decoded_is_null(text: str) -> None:
    assert decode(text) is None


@pytest.mark.parametrize("text", ["hello", "NaN", "1e400", "{", '"\\ud800"', "\ufeff1", "01", ""])
def test_what_is_no_document_stays_a_text(text: str) -> None:
    assert decode(encode(text)) == text


def test_depth_has_an_end() -> None:
    deep = "[" * DEPTH_MAX + "]" * DEPTH_MAX
    assert type(decode(encode(deep))) is list
    assert decode(encode(f"[{deep}]")) == f"[{deep}]"
    deepest = "[" * (text_chars_max // 2)
    assert decode(encode(deepest)) == deepest


def test_the_longest_payload_comes_back() -> None:
    data = b"\xc3\xa9" * (text_chars_max // 2)
    assert len(encode(data)) == encoded_chars_max
    assert decode(encode(data)) == data.decode()
    assert encode(data + b"x") is UNSET
    assert encode("é" * (text_chars_max // 2 + 1)) is UNSET
    assert decode("A" * (encoded_chars_max + 1)) is UNSET


@pytest.mark.parametrize("scheme", ["proto", "BASE64", "", Decimal(64), None, UNSET, ["base64"]])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_there_is_one_scheme(name: str, scheme: Any) -> None:
    assert FUNCTIONS[name](None, ["YQ==", scheme]) is UNSET
