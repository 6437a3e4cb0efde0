"""Panes cut for several mergers: each pane once, whatever the sizes, and back the same bits."""

from __future__ import annotations

import random

import numpy as np
import pytest
from drawn_panes import PLAIN, TOML, Sent, reading, records_of, streams
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.engine import pane_parts, state
from streamgauge.engine.errors import StateError, StreamgaugeError
from streamgauge.engine.panes import Partial
from streamgauge.rules import spec as specs
from streamgauge.rules.plan_fan_out import plan_reducer

REDUCER = plan_reducer(specs.parse(TOML.format(**PLAIN)))
ROW = tuple[str, int, int, int, int, float, float, float, int | None]


def rows(partial: Partial) -> list[ROW]:
    """All panes of all rules, each with its device's name."""
    found = []
    for panes in partial.panes:
        for row in range(len(panes.device)):
            name = partial.names[int(panes.device[row])]
            numbers = (getattr(panes, column)[row].item() for column in pane_parts._COLUMNS[1:])
            found.append((name, *numbers, panes.wide.get(row)))
    return sorted(found, key=str)  # type: ignore[arg-type]


def a_partial(sent: Sent) -> Partial:
    (shard, of), *_ = sent.items()
    return REDUCER.reduce(records_of(shard, of, 1))


@settings(max_examples=examples(60))
@given(streams(), st.integers(1, 5), st.sampled_from([600, 1200, 1_000_000]))
def test_each_pane_is_in_one_part_and_the_same(sent: Sent, mergers: int, limit: int) -> None:
    partial = a_partial(sent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pane_parts, "PART_BYTES_MAX", limit)
        made = pane_parts.cut(partial, REDUCER.rules, mergers)
        assert pane_parts.cut(partial, REDUCER.rules, mergers) == made
    assert all(len(content) <= limit for of in made for content in of.contents)
    back = [(merger, pane_parts.read(content, "s", REDUCER.rules))
            for merger, of in enumerate(made) for content in of.contents]  # fmt: skip
    assert sorted((row for _, one in back for row in rows(one)), key=str) == rows(partial)
    for merger, one in back:
        assert {pane_parts.merger_of(name, mergers) for name in one.names} <= {merger}


def test_devices_are_spread_evenly_and_for_ever() -> None:
    counts = np.bincount([pane_parts.merger_of(f"d{n}", 8) for n in range(8000)], minlength=8)
    assert counts.min() > 850 and counts.max() < 1150
    # By the MD5 of the name; fixed, as state objects of years ago know their devices by it.
    assert [pane_parts.merger_of(name, 8) for name in ("a", "b", "gateway/7", "ü")] == MERGERS


MERGERS = [0, 4, 2, 6]


def test_another_making_has_another_digest_and_the_same_one_the_same() -> None:
    sent = {"s": [reading("d", 0.5, 1.0, 0.5), reading("e", 0.5, 2.0, 0.5)]}
    other = {"s": [reading("d", 0.5, 1.0, 0.5), reading("e", 0.5, 2.5, 0.5)]}
    one, same, two = (pane_parts.cut(a_partial(of), REDUCER.rules, 1)[0].digest
                      for of in (sent, sent, other))  # fmt: skip
    assert one == same != two and len(one) == 32


def test_a_rule_that_it_was_not_made_under_has_nothing() -> None:
    (made,) = pane_parts.cut(a_partial({"s": [reading("d", 0.5, 1.0, 0.5)]}), REDUCER.rules, 1)
    other = plan_reducer(specs.parse(TOML.format(**{**PLAIN, "window": 5}))).rules
    assert rows(pane_parts.read(made.contents[0], "s", other)) == []


@pytest.mark.parametrize("body", [
    {}, {"rules": [], "names": 7}, {"rules": [{"name": "hot"}], "names": []}, {"rules": 3},
])  # fmt: skip
def test_what_cannot_be_read_is_said(body: dict[str, object]) -> None:
    with pytest.raises(StateError):
        pane_parts.read(state.encode("full", body), "s", REDUCER.rules)


def test_columns_that_do_not_agree_are_refused() -> None:
    (made,) = pane_parts.cut(a_partial({"s": [reading("d", 0.5, 1.0, 0.5)]}), REDUCER.rules, 1)
    for column, value in (("pane", np.zeros(2, np.int64)), ("device", np.ones(1, np.int64))):
        _, body = state.decode(made.contents[0])
        body["rules"][0][column] = value
        with pytest.raises(StateError):
            pane_parts.read(state.encode("full", body), "s", REDUCER.rules)


def test_a_name_that_fits_no_record_is_named() -> None:
    name = "".join(random.Random(1).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=2_000_000))
    partial = a_partial({"s": [reading(name, 0.5, 1.0, 0.5)]})
    with pytest.raises(StreamgaugeError, match="a device's name"):
        pane_parts.cut(partial, REDUCER.rules, 1)
