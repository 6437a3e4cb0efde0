"""Two memories become one: each device goes on with the copy that knows it best."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamgauge import Record
from streamgauge.engine import state
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

START, DAY = 1_700_000_000_000, 86_400_000
TOML = """
[pipeline]
name = "p"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "value"
statistic = "last"
threshold = 10.0
"""
SPEC = specs.parse(TOML)


def pipeline(*objects: bytes) -> Pipeline:
    made = Pipeline.plan(SPEC, one_shard=True)
    if objects:
        assert made.restore(objects) == []
    return made


def reading(shard: str, number: int, device: str, at: int, value: float) -> Record:
    message = {"device": device, "ts": START + at, "value": value}
    return Record(shard, str(number), json.dumps(message).encode(), device, START + at)


def after(shard: str, *readings: tuple[str, int, float], parent: bytes | None = None) -> bytes:
    """The last state of a shard in which these (device, ms, value) were read."""
    made = pipeline() if parent is None else pipeline(parent)
    for number, given in enumerate(readings, 1):
        made.push([reading(shard, number, *given)])
    return made.save()


def merged(one: bytes, other: bytes) -> Pipeline:
    made = pipeline()
    made.inherit(pipeline(one), pipeline(other))
    return made


def known(made: Pipeline, device: str) -> list[Any]:
    return [(row["time"] - START, row["value"], row["samples"]) for row in made.inspect(device)]


def without(saved: bytes, *keys: str) -> bytes:
    """The object as a version wrote it that did not know these keys."""
    kind, body = state.decode(saved)
    return state.encode(kind, {key: value for key, value in body.items() if key not in keys})


OLD = ("homes", "home", "earlier")


def both_ways(one: bytes, other: bytes, device: str) -> Any:
    found = known(merged(one, other), device)
    assert found == known(merged(other, one), device)
    return found


def test_devices_of_either_go_on() -> None:
    one, other = after("A", ("a", 0, 1.0), ("a", 5, 2.0)), after("B", ("b", 3, 3.0))
    assert both_ways(one, other, "a") == [(5, 2.0, 2)]
    assert both_ways(one, other, "b") == [(3, 3.0, 1)]
    made = merged(one, other)
    outcome = made.push([reading("C", 1, "b", 9, 20.0), reading("C", 2, "a", 9, 20.0)])
    assert [a.first_position for a in outcome.alerts] == ["B:1:0", "A:1:0"]
    assert set(made.positions) == {"A", "B", "C"}


def test_what_is_freed_follows_the_later_clock() -> None:
    one, other = after("A", ("a", 0, 1.0)), after("B", ("b", 3 * DAY, 1.0))
    for pair in ((one, other), (other, one)):
        made = merged(*pair)
        made.push([])
        assert made.inspect("a") == [] and known(made, "b")


@pytest.mark.parametrize("strip", [False, True], ids=["ours", "of the version before"])
def test_of_a_device_in_both_the_later_arrival_holds_whole(strip: bool) -> None:
    one, other = after("A", ("d", 0, 1.0), ("d", 1, 1.0)), after("B", ("d", 2, 2.0))
    if strip:
        one, other = without(one, *OLD), without(other, *OLD)
    assert both_ways(one, other, "d") == [(2, 2.0, 1)]


def test_of_equal_arrival_the_first_holds() -> None:
    one, other = after("A", ("d", 0, 1.0)), after("B", ("d", 0, 2.0))
    assert known(merged(one, other), "d") == [(0, 1.0, 1)]


def test_the_child_that_has_heard_a_device_since_the_split_knows_it_better() -> None:
    """Also where its clock does not say so: arrival times of two shards may go back a little."""
    parent = after("P", ("d", 10, 1.0))
    heard = after("A", ("d", 9, 2.0), parent=parent)
    not_heard = after("B", ("other", 50, 1.0), parent=parent)
    assert both_ways(heard, not_heard, "d") == [(10, 1.0, 2)]
    made = merged(not_heard, heard)
    assert len(made.push([reading("C", 1, "d", 9, 2.0)]).alerts) == 0
    assert known(made, "d") == [(10, 1.0, 2)]  # the repeat is known


def test_an_old_copy_does_not_bring_back_what_was_resolved_and_forgotten() -> None:
    """Firing at the split, resolved in one child and forgotten there, never heard in the other."""
    parent = after("P", ("d", 0, 20.0))
    home = after("A", ("d", 1, 1.0), ("x", 4 * DAY, 1.0), ("x", 5 * DAY, 1.0), parent=parent)
    assert known(pipeline(home), "d") == []  # forgotten by right
    other = after("B", ("y", 5 * DAY, 1.0), parent=parent)
    assert pipeline(other).firing == {"hot": 1}
    for pair in ((home, other), (other, home)):
        made = merged(*pair)
        assert made.firing == {"hot": 0} and made.inspect("d") == []
        (alert,) = made.push([reading("C", 1, "d", 6 * DAY, 30.0)]).alerts
        assert alert.state == "firing"


def test_what_fires_is_kept_where_nobody_knows_better() -> None:
    parent = after("P", ("d", 0, 20.0))
    one = after("A", ("x", 5 * DAY, 1.0), parent=parent)
    other = after("B", ("y", 5 * DAY, 1.0), parent=parent)
    made = merged(one, other)
    (alert,) = made.push([reading("C", 1, "d", 6 * DAY, 1.0)]).alerts
    assert alert.state == "resolved"


def test_a_merged_memory_is_saved_and_merged_again() -> None:
    parent = after("P", ("d", 0, 20.0), ("e", 0, 1.0))
    one, other = after("A", ("d", 5, 30.0), parent=parent), after("B", parent=parent)
    made = merged(other, one)
    made.push([reading("C", 1, "e", 7, 2.0)])
    whole = pipeline(made.save(), made.save(full=False))
    for device, found in (("d", [(5, 30.0, 2)]), ("e", [(7, 2.0, 2)])):
        assert known(whole, device) == known(made, device) == found
    last = both_ways(made.save(), after("D", ("d", 3, 1.0), parent=other), "d")
    assert last == [(5, 30.0, 2)]


def test_the_version_before_reads_ours_and_we_read_its() -> None:
    """It took the keys that it knew and left the rest alone."""
    saved = after("A", ("d", 0, 20.0), ("e", 1, 1.0))
    kind, body = state.decode(saved)
    later = state.encode(kind, {**body, "of a later version": [1]})
    for data in (without(saved, *OLD), later):
        made = pipeline(data)
        assert known(made, "d") == [(0, 20.0, 1)] and made.firing == {"hot": 1}
        (alert,) = made.push([reading("A", 9, "d", 5, 1.0)]).alerts
        assert alert.first_position == "A:1:0"


def test_homes_of_the_version_before_are_known_where_there_was_one_shard() -> None:
    parent = without(after("P", ("d", 0, 20.0)), *OLD)
    home = after("A", ("d", 1, 1.0), ("x", 4 * DAY, 1.0), ("x", 5 * DAY, 1.0), parent=parent)
    other = after("B", ("y", 5 * DAY, 1.0), parent=parent)
    assert merged(home, other).firing == {"hot": 0}
    unknown = without(after("B", ("y", 5 * DAY, 1.0), parent=parent), *OLD)
    assert merged(home, unknown).firing == {"hot": 1}  # never guessed
