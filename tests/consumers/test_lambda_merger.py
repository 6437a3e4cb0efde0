"""A merger: parts and marks in any order, each chunk once and whole, and its memory."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from drawn_panes import PLAIN, TOML, reading
from fan_drive import LAMBDA, Fan, Killed, event_of

from streamgauge import Record
from streamgauge.consumers.pane_commits import Commits
from streamgauge.consumers.pane_wire import MAGIC, End, Mark, Part, Told, hash_key, pack, unpack
from streamgauge.engine import pane_parts, state
from streamgauge.engine.errors import InputError, OrderError, StateError, StreamgaugeError
from streamgauge.rules import spec as specs
from streamgauge.rules.plan_fan_out import plan_merger, plan_reducer

FILE = TOML.format(**PLAIN) + LAMBDA.replace("mergers = 3", "mergers = 1")
SPEC = specs.parse(FILE)
SHARD = "shardId-000000000000"


def commits() -> Commits:
    return Commits(plan_merger(SPEC), 0, 1)


def told_of(
    chunk: int, *rows: tuple[bytes, int], pieces: int = 1, shard: str = SHARD, before: int = -1
) -> tuple[list[Told], End]:
    """Parts of a chunk, and what a mark says of it."""
    reducer = plan_reducer(SPEC)
    records = [Record(shard, str(chunk * 100 + n), data, "k", at) for n, (data, at) in
               enumerate(rows)]  # fmt: skip
    partial = reducer.reduce(records, before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pane_parts, "PART_BYTES_MAX", 1_000_000 if pieces == 1 else 450)
        (made,) = pane_parts.cut(partial, reducer.rules, 1)
    assert (len(made.contents) > 1) == (pieces > 1)
    parts: list[Told] = [
        Part("panes", 1, 0, shard, chunk, made.digest, n, len(made.contents), content)
        for n, content in enumerate(made.contents)
    ]
    last = records[-1].sequence_number
    return parts, End(chunk, last, partial.shard_time, len(parts), made.digest)


def mark(*ends: End, shard: str = SHARD, **more: Any) -> Mark:
    return Mark("panes", 1, 0, shard, list(ends), more.pop("shards", [SHARD]), **more)


def take(held: Commits, *told: Told) -> list[bool]:
    return [held.part(one) if isinstance(one, Part) else held.mark(one) for one in told]


def many(second: float) -> list[tuple[bytes, int]]:
    return [reading(f"device-{n}", second + n / 100, n / 7, second + 1) for n in range(20)]


@pytest.mark.parametrize("seed", range(20))
def test_any_order_and_repeats_come_to_the_same(seed: int) -> None:
    """Also with the memory saved and restored in between."""
    chunks = [told_of(n, *many(3.0 * n), pieces=2) for n in range(3)]
    straight = commits()
    take(straight, *(part for parts, _ in chunks for part in parts))
    take(straight, mark(*(end for _, end in chunks)))
    draw = random.Random(seed)
    told: list[Told] = [part for parts, _ in chunks for part in parts]
    told += [mark(end) for _, end in chunks]
    told += draw.choices(told, k=5)
    draw.shuffle(told)
    held = commits()
    for one in told:
        take(held, one)
        if draw.random() < 0.3:
            saved, held = held.save(), commits()
            assert held.restore(saved) == []
            assert held.save() == saved
    counts = {"hot": plan_counts()}
    assert held.taken == straight.taken == {SHARD: 3}
    assert held.merger.evaluate(counts) == straight.merger.evaluate(counts)
    assert take(held, *told) == [False] * len(told), "all of it was taken"


def plan_counts() -> Any:
    from streamgauge.engine.counts import RuleCounts

    return RuleCounts()


def test_a_chunk_without_one_of_its_parts_waits_and_says_so() -> None:
    parts, end = told_of(0, *many(0.0), pieces=2)
    _, after = told_of(1, *many(30.0))
    held = commits()
    assert take(held, *parts[:-1], mark(end, after)) == [True] * len(parts)
    assert held.taken == {} and held.waiting == {SHARD: 0}
    assert held.merger.watermark == held.merger.times[SHARD] < 0, "nothing can be evaluated"
    take(held, parts[-1])
    assert held.taken == {SHARD: 1} and held.waiting == {SHARD: 1}


def test_of_two_makings_of_a_chunk_the_one_that_is_marked_counts() -> None:
    old, _ = told_of(0, reading("d", 0.5, 1000.0, 0.5))
    new, end = told_of(0, reading("d", 0.5, 30.0, 0.5))
    tail, last = told_of(1, reading("e", 30.0, 1.0, 30.0))
    held = commits()
    take(held, *old, *new, *tail, mark(end, last))
    (alert,) = held.merger.evaluate({"hot": plan_counts()})[:1]
    assert alert.value == 30.0
    assert take(held, *old) == [False]


def test_a_shard_that_goes_on_after_it_was_finished_is_an_error() -> None:
    parts, end = told_of(0, reading("d", 0.5, 30.0, 0.5))
    held = commits()
    take(held, *parts, mark(end), mark(shard="child", shards=["child"], finished={SHARD: 1}))
    assert held.merger.finished == {SHARD} and set(held.merger.times) == {"child"}
    assert take(held, mark(end)) == [False], "a repeat is none"
    _, late = told_of(1, reading("d", 0.7, 30.0, 0.7))
    with pytest.raises(OrderError, match=f"chunk 1 of shard {SHARD}, which was finished"):
        take(held, mark(late))


def test_a_parent_is_finished_with_its_last_chunk_and_not_before() -> None:
    parts, end = told_of(0, reading("d", 0.5, 30.0, 0.5))
    held = commits()
    take(held, mark(shard="child", shards=["child"], finished={SHARD: 1, "empty": 0}))
    assert held.merger.finished == {"empty"} and SHARD in held.merger.times
    saved, held = held.save(), commits()
    held.restore(saved)
    take(held, mark(end), *parts)
    assert held.merger.finished == {"empty", SHARD}
    take(held, mark(end, shards=[SHARD, "empty", "child"]))
    assert set(held.merger.times) == {"child"}, "what is finished is not waited for again"


@pytest.mark.parametrize("torn", [b"", b"x" * 100, None])
def test_a_state_that_cannot_be_read_stops_the_merger(torn: bytes | None) -> None:
    fan = Fan(FILE, {SHARD: [reading("d", n, 30.0, n) for n in range(9)]})
    fan.give(SHARD, 9)
    fan.merge_some()
    objects = fan.store._objects["panes", "merger-0"]
    newest = objects[max(objects)]
    objects[max(objects)] = newest[:-1] if torn is None else torn
    records = [one.record for one in fan.kinesis.committed]
    with pytest.raises(StateError, match="merger-0: its newest state object .* put it back"):
        fan.merger()(event_of(records), None)
    objects[max(objects)] = newest
    assert fan.merger()(event_of(records), None) == {"batchItemFailures": []}


@pytest.mark.parametrize("torn", [1, 2, 3])
def test_behind_an_older_state_what_was_told_is_not_told_again(torn: int) -> None:
    rows = [reading("d", n, 30.0 if n // 4 % 2 else 1.0, n) for n in range(40)]
    fan = Fan(FILE, {SHARD: rows}, shards=1)
    held, handed = fan.merger(), 0
    for _ in range(5):
        fan.give(SHARD, 6)
        records = [one.record for one in fan.kinesis.committed]
        assert held(event_of(records[handed:]), None) == {"batchItemFailures": []}
        handed = len(records)
    objects = fan.store._objects["panes", "merger-0"]
    newest = max(objects)
    for generation in range(newest, newest - torn, -1):
        objects[generation] = b"torn"
    told = len(fan.sink.rows)
    assert told > 4 and len(objects) == 5
    _, older = state.decode(objects[newest - torn])
    assert 0 < int(older["seen"]["shardId-000000000000"]) < handed, "from there it is read again"
    fan.give(SHARD, 10)
    records = [one.record for one in fan.kinesis.committed][handed:]
    assert fan.merger()(event_of(records), None) == {"batchItemFailures": []}
    ids = [row.id for row in fan.sink.rows]  # type: ignore[union-attr]
    assert len(ids) == len(set(ids)) > told, "none is missing, and none is told twice"
    assert [line["generation"] for line in fan.said("state_unreadable")] == [
        newest - n for n in range(torn)
    ]
    assert max(objects) == newest + 1
    straight = Fan(FILE, {SHARD: rows}, shards=1)
    straight.run()
    assert sorted(ids) == sorted(one.id for one in straight.told)


def test_killed_between_the_sink_and_the_state_it_tells_the_same_again() -> None:
    fan = Fan(FILE, {SHARD: [reading("d", n, 30.0, n) for n in range(9)]})
    fan.give(SHARD, 9)
    records = [one.record for one in fan.kinesis.committed]

    def kill(name: str) -> None:
        if name == "before create":
            raise Killed

    fan.on_call = kill
    with pytest.raises(Killed):
        fan.merger()(event_of(records), None)
    first = list(fan.sink.rows)
    fan.on_call = lambda name: None
    fan.merger()(event_of(records), None)
    assert fan.sink.rows == [*first, *first] and len(first) == 1
    fan.merger()(event_of(records), None)
    assert len(fan.sink.rows) == 2


@pytest.mark.parametrize("way", ["fail_next", "lose_next"])
@pytest.mark.parametrize("place", ["sink", "store"])
def test_a_refusal_before_or_after_the_effect_reports_the_batch(way: str, place: str) -> None:
    fan = Fan(FILE, {SHARD: [reading("d", n, 30.0, n) for n in range(9)]})
    fan.give(SHARD, 9)
    records = [one.record for one in fan.kinesis.committed]
    setattr(getattr(fan, place), way, 10_000 if place == "sink" else 1)
    held = fan.merger()
    answer = held(event_of(records), None)["batchItemFailures"]
    assert answer == [{"itemIdentifier": records[0].sequence_number}]
    setattr(getattr(fan, place), way, 0)
    assert held(event_of(records), None) == {"batchItemFailures": []}
    assert len(fan.told) == 1
    line = fan.said("merged")[0]
    assert line["failed"] == 1 and line["_aws"]["CloudWatchMetrics"]


def test_a_sandbox_forgets_what_it_did_when_not_all_of_it_is_safe() -> None:
    """It was warm, and its alerts were refused: evaluated again, not taken for told."""
    fan = Fan(FILE, {SHARD: [reading("d", n, 30.0 if n > 10 else 1.0, n) for n in range(30)]})
    fan.give(SHARD, 5)
    held, first = fan.merger(), [one.record for one in fan.kinesis.committed]
    assert held(event_of(first), None) == {"batchItemFailures": []}
    fan.give(SHARD, 25)
    second = [one.record for one in fan.kinesis.committed][len(first) :]
    fan.sink.fail_next = 10_000
    assert held(event_of(second), None)["batchItemFailures"] != []
    fan.sink.fail_next = 0
    assert held(event_of(second), None) == {"batchItemFailures": []}
    assert len(fan.told) == 1


def test_a_sandbox_sees_that_another_has_gone_on() -> None:
    fan = Fan(FILE, {SHARD: [reading("d", n, 30.0, n) for n in range(30)]})
    one, other = fan.merger(), fan.merger()
    for held in (one, other, one, other):
        fan.give(SHARD, 5)
        records = [committed.record for committed in fan.kinesis.committed][-2:]
        assert held(event_of(records), None) == {"batchItemFailures": []}
    assert fan.said("fenced") == [] and len(fan.told) == 1


def test_two_invocations_at_once_fence_each_other() -> None:
    """While the panes stream is resharded a merger's records can lie in two shards."""
    fan = Fan(FILE, {SHARD: [reading("d", n, 30.0, n) for n in range(9)]})
    fan.give(SHARD, 9)
    records = [one.record for one in fan.kinesis.committed]
    first, second = fan.merger(), fan.merger()
    within = itertools.chain([True], itertools.repeat(False))

    def again(name: str) -> None:
        if name == "before create" and next(within):
            assert second(event_of(records), None) == {"batchItemFailures": []}

    fan.on_call = again
    number = records[0].sequence_number
    assert first(event_of(records), None) == {"batchItemFailures": [{"itemIdentifier": number}]}
    assert fan.said("fenced")
    fan.on_call = lambda name: None
    assert first(event_of(records), None) == {"batchItemFailures": []}
    assert len(fan.told) == 1


def test_what_nobody_here_has_written_goes_to_the_error_stream() -> None:
    fan = Fan(FILE, {SHARD: [reading("d", n, 30.0, n) for n in range(9)]})
    fan.give(SHARD, 9)
    records = [one.record for one in fan.kinesis.committed]
    strange = [Record("p", "900", b"hello", "k", 5), Record("p", "901", MAGIC + b"1\x80", "k", 5)]
    assert fan.merger()(event_of([*records, *strange]), None) == {"batchItemFailures": []}
    found = {(row.stage, row.reason, row.data) for row in fan.rows.rows}
    assert found == {("panes", "not_panes", one.data) for one in strange}
    fan.rows.fail_next = 10_000
    answer = fan.merger()(event_of([*strange]), None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "900"}]}


def test_panes_of_a_version_to_come_are_waited_for() -> None:
    fan = Fan(FILE, {SHARD: []})
    later = Record("p", "1", MAGIC + b"2...", "k", 5)
    with pytest.raises(StreamgaugeError, match="a version that is not known here"):
        fan.merger()(event_of([later]), None)
    assert fan.rows.rows == []


def test_panes_of_another_pipeline_in_the_same_stream_are_not_ours() -> None:
    parts, end = told_of(0, reading("d", 0.5, 30.0, 0.5))
    fan = Fan(FILE.replace('name = "panes"', 'name = "other"'), {SHARD: []})
    records = [Record("p", str(n), pack(one), "k", 5) for n, one in enumerate([*parts, mark(end)])]
    assert fan.merger()(event_of(records), None) == {"batchItemFailures": []}
    assert fan.store._objects.get(("other", "merger-0")) is None


def test_what_is_told_comes_back_the_same() -> None:
    parts, end = told_of(0, *many(0.0))
    for one in (*parts, mark(end, finished={"x": 3})):
        assert unpack(pack(one)) == one
    with pytest.raises(InputError, match="cannot be read"):
        unpack(pack(parts[0])[:-1])


@pytest.mark.parametrize("mergers", [1, 2, 3, 7, 1000])
def test_each_merger_has_a_hash_key_in_its_own_part_of_the_range(mergers: int) -> None:
    keys = [hash_key(one, mergers) for one in range(mergers)]
    assert [key * mergers >> 128 for key in keys] == list(range(mergers))


def test_a_changed_rule_starts_empty_and_says_so() -> None:
    fan = Fan(FILE, {SHARD: [reading("d", n, 30.0, n) for n in range(9)]})
    fan.give(SHARD, 9)
    records = [one.record for one in fan.kinesis.committed]
    fan.merger()(event_of(records), None)
    other = Fan(FILE.replace('window = "3s"', 'window = "5s"'), {SHARD: []})
    other.store = fan.store
    other.merger()(event_of(records), None)
    assert other.said("rules_start_empty")[0]["rules"] == ["hot"]
