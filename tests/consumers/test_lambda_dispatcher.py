"""The dispatcher: a chunk is the same interval for ever, and the first that failed is reported."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any

import pytest
from drawn_panes import PLAIN, TOML, Sent, reading, setup_of, told
from fan_drive import LAMBDA, Failed, Fan, Killed, event_of
from plain_panes import PANE, PlainPanes, order

from streamgauge.consumers import lambda_chunks
from streamgauge.consumers.lambda_dispatcher import Dispatcher
from streamgauge.engine.errors import (
    OrderError,
    StateError,
    StreamgaugeError,
    UnavailableError,
)

FILE = TOML.format(**PLAIN) + LAMBDA
SHARD = "shardId-000000000000"


def a_shard(many: int = 30, shard: str = SHARD) -> Sent:
    """A device that goes up and down every few seconds."""
    rows = [reading("d", n, 23.0 if n // 5 % 2 else 19.0, n + 0.1) for n in range(many)]
    return {shard: rows}


def alerts_of(rows: Any) -> list[Any]:
    oracle = PlainPanes(setup_of(PLAIN))
    oracle.shard(list(rows))
    newest = max(at for _, at in rows)
    return order(oracle.alerts((newest - PLAIN["lateness"] * 1000 - 1) // PANE * PANE))


def judged(fan: Fan, rows: Any) -> None:
    while fan.unread:
        fan.merge_some()
    assert told(fan.told) == alerts_of(rows) != []


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of five records or so."""
    monkeypatch.setattr(lambda_chunks, "CHUNK_BYTES_MAX", 600)


@pytest.mark.parametrize("moment", ["before invoke", "after invoke", "before put", "after put",
                                    "before create", "after create"])  # fmt: skip
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("then", [3, 30], ids=["fewer records", "more records"])
def test_killed_at_any_moment_the_same_chunks_are_sent_again(
    moment: str, nth: int, then: int, small: None
) -> None:
    sent = a_shard()
    fan = Fan(FILE, sent)
    left = [nth]

    def kill(name: str) -> None:
        left[0] -= name == moment
        if left[0] == 0 and name == moment:
            raise Killed(name)

    assert fan.give(SHARD, 4) == 4
    fan.on_call = kill
    done = fan.give(SHARD, 14)
    fan.on_call = lambda name: None
    while fan.undone:
        fan.give(SHARD, then, cold=True)
    assert (done < 14) == (left[0] <= 0)  # an invocation writes two objects, not three
    assert fan.cut_once()[SHARD] == [r.sequence_number for r in fan.source.records[SHARD]]
    judged(fan, sent[SHARD])


def test_the_first_chunk_that_failed_is_reported_and_no_other_is_sent_again(small: None) -> None:
    sent = a_shard()
    fan = Fan(FILE, sent)
    whole = fan.invoke

    def failing(event: dict[str, Any]) -> dict[str, Any]:
        if event["chunk"] == 1:
            raise StreamgaugeError("out of memory")
        return whole(event)

    fan.invoke = failing  # type: ignore[method-assign]
    done = fan.give(SHARD, 30)
    first = fan.chunks[SHARD, 0][0].records
    assert done == len(first) < 15
    assert [one["chunk"] for one in fan.said("chunk_failed")] == [1]
    (line,) = fan.said("invoked")
    assert line["failed"] == 1 and line["again_from"] == str(len(first) + 1)
    fan.invoke = whole  # type: ignore[method-assign]
    fan._warm.clear()
    assert fan.give(SHARD, 30) == 30 - done
    assert {len(makings) for makings in fan.chunks.values()} == {1}
    judged(fan, sent[SHARD])


def test_a_part_of_a_chunk_has_the_whole_of_it_sent(small: None) -> None:
    """As after bisecting: what the mapping does not hand over is read from the stream."""
    sent = a_shard()
    fan = Fan(FILE, sent)
    fan.failing = 1.0
    assert fan.give(SHARD, 8) == 0
    fan.failing = 0.0
    assert fan.give(SHARD, 2, cold=True) == 2 and fan.source.reads
    assert fan.give(SHARD, 6, cold=True) == 6
    fan.give(SHARD, 30)
    assert fan.cut_once()[SHARD] == [r.sequence_number for r in fan.source.records[SHARD]]
    judged(fan, sent[SHARD])


def test_what_the_stream_does_not_have_any_more_is_said(small: None) -> None:
    fan = Fan(FILE, a_shard())
    fan.failing = 1.0
    fan.give(SHARD, 8)
    gone = fan.source.records[SHARD][1:2]
    fan.source.records = {SHARD: [r for r in fan.source.records[SHARD] if r not in gone]}
    with pytest.raises(StreamgaugeError, match=r"chunk 0 \(1 to \d\) has \d records, of which"):
        fan.dispatcher()(event_of(fan.source.records[SHARD][:1]), None)


def test_what_the_mapping_gives_up_counts_as_empty_at_every_merger(small: None) -> None:
    """A part of it may lie in the panes stream: it is not taken."""
    sent = a_shard()
    fan = Fan(FILE, sent)
    assert fan.give(SHARD, 10) == 10
    whole = fan.invoke

    def half(event: dict[str, Any]) -> dict[str, Any]:
        whole(event)
        raise StreamgaugeError("died after it had put its parts")

    fan.invoke = half  # type: ignore[method-assign]
    assert fan.give(SHARD, 6, cold=True) == 0
    fan.invoke = whole  # type: ignore[method-assign]
    fan.at[SHARD] += 6  # the batch is in the on-failure destination
    while fan.undone:
        fan.give(SHARD, 14, cold=True)
    gone = fan.said("given_up")
    assert gone[0]["first"] == "11" and gone[-1]["last"] == "16"
    judged(fan, sent[SHARD][:10] + sent[SHARD][16:])
    assert alerts_of(sent[SHARD][:10] + sent[SHARD][16:]) != alerts_of(sent[SHARD])


def test_two_invocations_at_once_cut_once(small: None) -> None:
    """The same batch twice, one within the other: one is fenced, and nothing is cut anew."""
    sent = a_shard()
    fan = Fan(FILE, sent)
    within = [True]

    def again(name: str) -> None:
        if name == "before invoke" and within.pop() if within else False:
            fan.on_call = lambda name: None
            assert fan.dispatcher()(event_of(fan.source.records[SHARD][:14]), None) == {
                "batchItemFailures": []
            }

    fan.on_call = again
    assert fan.give(SHARD, 12) == 0 and fan.said("fenced")
    while fan.undone:
        fan.give(SHARD, 30)
    assert fan.cut_once()[SHARD] == [r.sequence_number for r in fan.source.records[SHARD]]
    judged(fan, sent[SHARD])


class Never(Executor):
    """Workers that do not answer."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        return Future()


def test_workers_that_do_not_answer_in_time_are_reported() -> None:
    fan = Fan(FILE, a_shard())
    held = Dispatcher(fan.spec, fan.invoke, fan, stream=lambda _: fan.source,  # type: ignore[arg-type]
                      writer=fan.writer(), threads=Never(), **fan._common())  # fmt: skip
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 5010, aws_request_id="r")
    answer = held(event_of(fan.source.records[SHARD]), context)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert fan.said("chunk_failed")[0]["cause"] == "no time was left"
    assert fan.give(SHARD, 30) == 30


def test_marks_that_cannot_be_told_are_told_with_the_next() -> None:
    sent = a_shard()
    fan = Fan(FILE, sent)
    fan.kinesis.faults.refused = 1.0
    assert fan.give(SHARD, 20) == 0
    assert fan.said("unavailable") or fan.said("chunk_failed")
    fan.heal()
    fan._warm.clear()
    assert fan.give(SHARD, 30) == 30
    judged(fan, sent[SHARD])


def test_each_record_is_counted_once_however_often_its_batch_comes(small: None) -> None:
    """What is not recorded is sent again, and counted then; what is, is not."""
    fan = Fan(FILE, a_shard())
    creates = iter(range(10))

    def refuse(name: str) -> None:
        if name == "before create" and next(creates) == 1:  # of what workers have said
            raise UnavailableError("refused")

    fan.on_call = refuse
    assert fan.give(SHARD, 30) == 0
    fan.on_call = lambda name: None
    fan.kinesis.faults.refused = 1.0
    fan.give(SHARD, 30)
    fan.heal()
    assert fan.give(SHARD, 30) == 30
    assert sum(line.get("records", 0) for line in fan.said("invoked")) == 30
    (last,) = fan.said("invoked")[-1:]
    assert {"records", "iterator_age", "failed", "fenced"} <= last.keys() and last["_aws"]


def test_lanes_are_seen() -> None:
    """A factor above 1: records that lie before what is cut, and were never handed over."""
    fan = Fan(FILE, a_shard())
    records = fan.source.records[SHARD]
    fan.dispatcher()(event_of(records[0:20:2]), None)
    with pytest.raises(OrderError, match="ParallelizationFactor 1"):
        fan.dispatcher()(event_of(records[1:20:2]), None)


def test_lanes_at_once_are_seen(small: None) -> None:
    """One lane's batch lies before another's, which takes it for given up: nothing is skipped."""
    fan = Fan(FILE, a_shard())
    records = fan.source.records[SHARD]

    def overtake(name: str) -> None:
        if name == "before invoke":
            fan.on_call = lambda name: None
            fan.dispatcher()(event_of(records[10:20]), None)

    fan.on_call = overtake
    assert fan.give(SHARD, 10) == 0 and fan.said("fenced") and fan.said("given_up")
    for warm in (fan.dispatcher(), fan._warm["dispatcher"]):
        with pytest.raises(OrderError, match="record 1 comes again.*ParallelizationFactor 1"):
            warm(event_of(records[:10]), None)


def test_a_shard_that_goes_on_after_its_children_is_an_error() -> None:
    child = "shardId-000000000001"
    fan = Fan(FILE, a_shard() | a_shard(10, child), parents={child: (SHARD,)})
    assert fan.give(SHARD, 20) == 20
    assert fan.give(child, 5) == 5
    assert fan.hand("dispatcher", fan.source.records[SHARD][12:20], cold=True) == 8  # a repeat
    with pytest.raises(OrderError, match="after those of its children"):
        fan.dispatcher()(event_of(fan.source.records[SHARD][20:]), None)
    with pytest.raises(Failed):
        fan.hand("dispatcher", fan.source.records[SHARD][20:])


def test_what_was_given_up_at_the_end_of_a_shard_holds_its_children_up_no_longer() -> None:
    child = "shardId-000000000001"
    rows = [reading("d", n, 23.0 if n // 5 % 2 else 19.0, n + 0.1) for n in range(60)]
    fan = Fan(FILE, {SHARD: rows[:30], child: rows[30:]}, parents={child: (SHARD,)})
    assert fan.give(SHARD, 20) == 20
    fan.failing = 1.0
    assert fan.give(SHARD, 10) == 0
    fan.failing, fan.at[SHARD] = 0.0, 30  # the batch is in the on-failure destination
    assert fan.give(child, 30, cold=True) == 30
    assert [one["shard"] for one in fan.said("given_up")] == [SHARD]
    while fan.unread:
        fan.merge_some()
    assert told(fan.told) == alerts_of(rows[:20] + rows[30:])


def test_a_sandbox_forgets_what_it_did_when_not_all_of_it_is_safe(small: None) -> None:
    """It was warm, and its object was refused: what it had cut was not recorded."""
    sent = a_shard()
    fan = Fan(FILE, sent)
    assert fan.give(SHARD, 5) == 5

    def refuse(name: str) -> None:
        if name == "before create":
            raise UnavailableError("refused")

    def kill(name: str) -> None:
        if name == "after invoke":
            fan.on_call = lambda name: None
            raise Killed

    fan.on_call = refuse
    assert fan.give(SHARD, 2) == 0
    fan.on_call = kill
    assert fan.give(SHARD, 2) == 0
    fan.store.lose_next = 1
    assert fan.give(SHARD, 7) == 0
    while fan.undone:
        assert fan.give(SHARD, 9)
    assert fan.said("fenced") == []
    assert fan.cut_once()[SHARD] == [r.sequence_number for r in fan.source.records[SHARD]]
    judged(fan, sent[SHARD])


def test_another_number_of_mergers_is_refused_by_both() -> None:
    fan = Fan(FILE, a_shard())
    assert fan.give(SHARD, 20) == 20
    while fan.unread:
        fan.merge_some()
    other = Fan(FILE.replace("mergers = 3", "mergers = 4"), a_shard())
    other.store, other.kinesis = fan.store, fan.kinesis
    with pytest.raises(StateError, match="cut for 3 mergers; delivery.mergers is 4 now"):
        other.dispatcher()(event_of(fan.source.records[SHARD][20:]), None)
    records = [one.record for one in fan.kinesis.committed[-1:]]
    with pytest.raises(StateError, match=r"merger-\d: its newest state object cannot be read"):
        other.merger()(event_of(records), None)


def test_a_list_of_chunks_that_cannot_be_read_stops_the_shard() -> None:
    fan = Fan(FILE, a_shard())
    fan.give(SHARD, 20)
    objects = fan.store._objects["panes", f"chunks-{SHARD}"]
    objects[max(objects)] = objects[max(objects)][:-1]
    with pytest.raises(StateError, match=rf"chunks-{SHARD}: its newest state .* put it back"):
        fan.dispatcher()(event_of(fan.source.records[SHARD][20:]), None)


def test_old_objects_are_removed() -> None:
    fan = Fan(FILE, a_shard())
    while fan.undone:
        fan.give(SHARD, 1)
    assert len(fan.store._objects["panes", f"chunks-{SHARD}"]) <= 18
