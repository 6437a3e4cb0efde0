"""Substitution templates: what is literal, what is not, and that no value breaks what it is in."""

from __future__ import annotations

import json
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.engine.errors import ConfigError
from streamgauge.rules.rule import Message, Rule
from streamgauge.rules.template import header_value, path_segment

RULE = Rule("SET @d = device SELECT * FROM '#'")
texts = st.text(st.characters(exclude_categories=["Cs"]))


def fill(text: str, payload: dict[str, object], **encode: object) -> str:
    message = Message(json.dumps(payload).encode(), "a/b", definitions=RULE.definitions)
    return RULE.template(text, "key").fill(message, **encode)  # type: ignore[arg-type]


@given(texts)
def test_a_value_stays_in_its_segment_of_a_path(value: str) -> None:
    key = fill("prefix/${device}/data", {"device": value}, encode=path_segment)
    assert key.startswith("prefix/") and key.endswith("/data") and key.count("/") == 2
    assert key.isascii() and key.isprintable()
    middle = key.removeprefix("prefix/").removesuffix("/data")
    assert not middle or posixpath.normpath(key) == key  # no dot segment


@given(texts, texts)
def test_different_values_have_different_segments(a: str, b: str) -> None:
    assert (path_segment(a) == path_segment(b)) == (a == b)
    assert (header_value(a) == header_value(b)) == (a == b)


@given(texts)
def test_a_value_breaks_no_header(value: str) -> None:
    found = fill("x-device: ${@d}", {"device": value}, encode=header_value)
    assert found.isascii() and found.isprintable()


@given(texts)
def test_literal_text_is_left_as_it_is(text: str) -> None:
    literal = text.replace("${", "$ {")
    assert fill(literal, {}) == literal


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a/${device", "column 3: error: ${ is not closed"),
        ("${'}", "${ is not closed"),
        ("${device +}", "expected a value"),
        ("${nothing()}", "function nothing() does not exist"),
        ("${*}", "expected one value"),
        ("${a, b}", "expected one value"),
        ("${@other}", "@other has no value here"),
        ("${a AS b}", "expected"),
        ("${a} ${b WHERE c}", "expected"),
    ],
)
def test_what_is_no_template_is_told(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        RULE.template(text, "p.toml: archive.key")
    assert told in str(error.value) and "p.toml: archive.key" in str(error.value)
