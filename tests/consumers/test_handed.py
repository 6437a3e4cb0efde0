"""Numbers that a mapping has handed over: what is remembered, and what that proves."""

from __future__ import annotations

import random

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.consumers.handed import (
    BATCHES_MAX,
    NUMBERS_MAX,
    Handed,
    followed,
    noted,
    passed_over,
    read,
)
from streamgauge.engine import state

BASE = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898


def numbers(*small: int) -> list[str]:
    return [str(BASE + one) for one in small]


def test_a_number_between_those_that_were_handed_over_was_passed_over() -> None:
    known = followed((), numbers(1, 3, 5), -1)
    assert passed_over(known, numbers(2, 4, 6), BASE + 5) == str(BASE + 2)
    assert passed_over(known, numbers(6, 8), BASE + 5) is None
    assert passed_over(known, numbers(1, 3, 5), BASE + 5) is None


def test_before_the_first_that_is_known_nothing_can_be_said() -> None:
    known = followed((), numbers(10, 12), -1)
    assert passed_over(known, numbers(2, 9, 10, 12), BASE + 12) is None
    assert passed_over((), numbers(2), BASE + 12) is None


def test_the_bounds_are_kept_and_the_last_batch_is_whole() -> None:
    known: tuple[Handed, ...] = ()
    for at in range(0, 3000, 10):
        known = followed(known, numbers(*range(at, at + 10)), BASE + at - 1)
    assert len(known) == BATCHES_MAX + 1
    large = numbers(*range(3000, 3000 + 3 * NUMBERS_MAX))
    known = followed(known, large, BASE + 2999)
    assert [len(of.hashes) for of in known[-1:]] == [3 * NUMBERS_MAX]
    known = followed(known, numbers(9000), BASE + 5999)
    assert [len(of.hashes) for of in known] == [1], "the large one is beyond the bound"


def test_repeats_alone_change_nothing() -> None:
    known = followed((), numbers(1, 2), -1)
    assert followed(known, numbers(1, 2), BASE + 2) == known


def test_it_comes_back_from_a_state_object() -> None:
    known = followed(followed((), numbers(1, 2), -1), numbers(5), BASE + 2)
    kind, body = state.decode(state.encode("full", {"handed": noted(known)}))
    assert read(body["handed"]) == known and kind == "full"


@pytest.mark.parametrize("found", [None, 7, [[1]], [["x", b"\0" * 4]], [["1", b"\0\0\0"]], {}])
def test_what_cannot_be_read_is_not_known(found: object) -> None:
    assert read(found) == ()


@settings(max_examples=examples(200))
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 60))
def test_one_lane_is_never_accused(seed: int, size: int, count: int) -> None:
    """Batches in order, each again from anywhere that a mapping may retry from."""
    draw = random.Random(seed)
    of = numbers(*sorted(draw.sample(range(10 * count), count)))
    known: tuple[Handed, ...] = ()
    last = -1
    for start in range(0, count, size):
        batch = of[start : start + size]
        for _ in range(draw.randrange(1, 4)):  # whole, or from a failed record on
            undone = sum(int(one) <= last for one in batch)
            tried = batch[draw.randint(0, min(undone, len(batch) - 1)) :]
            assert passed_over(known, tried, last) is None
            done = tried[: draw.randrange(1, len(tried) + 1)]
            known, last = followed(known, done, last), max(last, int(done[-1]))
        rest = [one for one in batch if int(one) > last]
        if rest:
            known, last = followed(known, rest, last), int(rest[-1])
