"""The hashes: published vectors, and texts of every length around a block's end."""

import hashlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from streamgauge.rules import hash_functions
from streamgauge.rules.hash_functions import FUNCTIONS, md2, md2_bytes_max

# RFC 1319, appendix A.5; the guide's example is "hello".
MD2 = {
    "": "8350e5a3e24c153df2275c9f80692773",
    "a": "32ec01ec4a6dac72c0ab96fb34c0b5d1",
    "abc": "da853b0d3f88d99b30283a69e6ded6bb",
    "hello": "a9046c73e00331af68917d3804f70655",
    "message digest": "ab4f496bfb2a530b219ff33031fe06b0",
    "abcdefghijklmnopqrstuvwxyz": "4e8ddff3650292ab5a4108c3aa47940b",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789": (
        "da33def2a42df13975352846c30338cd"
    ),
    "1234567890" * 8: "d5976f79d83d3a0dc9806c3c66f3efd8",
}
# FIPS 180-4 and RFC 1321, of "abc".
ABC = {
    "md5": "900150983cd24fb0d6963f7d28e17f72",
    "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d",
    "sha224": "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "sha384": "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
    "8086072ba1e7cc2358baeca134c825a7",
    "sha512": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
}


@pytest.mark.parametrize("text", MD2)
def test_md2_is_that_of_the_rfc(text: str) -> None:
    assert FUNCTIONS["md2"](None, [text]) == MD2[text]


def test_the_table_of_md2_is_a_permutation_that_begins_as_the_rfcs() -> None:
    table = hash_functions._substitutions()
    assert table[:8] == (41, 46, 67, 201, 162, 216, 124, 1)
    assert sorted(table) == list(range(256))


@pytest.mark.parametrize("name", ABC)
def test_other_hashes_are_those_of_their_standards(name: str) -> None:
    assert FUNCTIONS[name](None, ["abc"]) == ABC[name]


@given(st.text(), st.sampled_from(sorted(ABC)))
def test_hashes_are_of_the_utf8_bytes(text: str, name: str) -> None:
    expected = hashlib.new(name, text.encode()).hexdigest()
    assert FUNCTIONS[name](None, [text]) == expected


def test_what_is_no_string_is_hashed_as_its_text() -> None:
    for value, text in ((Decimal("10"), "10"), (True, "true"), ([1, "a"], '[1,"a"]')):
        for name in FUNCTIONS:
            assert FUNCTIONS[name](None, [value]) == FUNCTIONS[name](None, [text])


def test_md2_has_an_end() -> None:
    assert FUNCTIONS["md2"](None, ["x" * md2_bytes_max]) == md2(b"x" * md2_bytes_max)
    assert FUNCTIONS["md2"](None, ["x" * (md2_bytes_max + 1)]) is UNSET
    assert FUNCTIONS["md2"](None, ["é" * (md2_bytes_max // 2 + 1)]) is UNSET


def test_half_a_pair_has_no_hash() -> None:
    assert all(FUNCTIONS[name](None, ["\ud800"]) is UNSET for name in FUNCTIONS)
