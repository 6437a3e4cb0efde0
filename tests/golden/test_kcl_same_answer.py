"""The torture file through the KCL host, line by line: the oracle's alerts, however disturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kcl_drive import EMPTY, ENDED, Script, batch, host, initialize
from lambda_drive import Memories, compare, in_shards, packed, streamed, told
from plain_kpl import Kinesis, opened

from streamgauge import Alert
from streamgauge.engine.errors import FencedError, StreamgaugeError, UnavailableError


def openable(records: list[Kinesis]) -> list[Kinesis]:
    """Without what a daemon that opens aggregates does not hand on: empty, or bad in a part."""
    found = []
    for one in records:
        users = opened(one)
        alone = len(users) == 1 and users[0].data == one.data
        if users and (alone or not any(user.fault for user in users)):
            found.append(one)
    return found


@pytest.mark.parametrize("size", [pytest.param(7, marks=pytest.mark.slow), 100])
@pytest.mark.parametrize("make", [told, lambda: packed(1), lambda: packed(1000)],
                         ids=["as told", "plain", "aggregated"])  # fmt: skip
def test_the_alerts_are_the_oracle_s(make: Callable[[], list[Kinesis]], size: int) -> None:
    check_same_answer(make(), size, opening=False)


@pytest.mark.parametrize("make", [told, lambda: packed(1000)], ids=["as told", "aggregated"])
def test_of_a_daemon_that_opens_aggregates_too(make: Callable[[], list[Kinesis]]) -> None:
    """A state may be handed over by one, and the protocol is the same."""
    check_same_answer(openable(make()), 100, opening=True)


def check_same_answer(records: list[Kinesis], size: int, opening: bool) -> None:
    memories = Memories()
    for shard, of in in_shards(records).items():
        script = Script()
        pieces = [batch(of[at : at + size], opening=opening) for at in range(0, len(of), size)]
        script.say(host(memories), initialize(shard), *pieces, EMPTY, ENDED)
        assert script.checkpoints[-1] == (None, None)
        assert len(script.statuses) == len(pieces) + 3
    compare(memories, records)


@pytest.mark.parametrize("save_seconds", [0.0, 1e9], ids=["saved each time", "never saved"])
def test_a_life_for_each_batch(save_seconds: float) -> None:
    """The process ends without a word; the next one begins at the last checkpoint."""
    memories, records = Memories(), told()
    for shard, of in in_shards(records).items():
        script = Script()
        for at in range(0, len(of), 40):
            noted: Any = script.checkpoints[-1] if script.checkpoints else None
            first = 0 if noted is None else at
            shared = host(memories, save_seconds=save_seconds)
            script.say(shared, initialize(shard, noted), batch(of[first : at + 40], noted))
        assert bool(script.checkpoints) == (save_seconds == 0.0)
    compare(memories, records)


@pytest.mark.parametrize("opening", [True, False], ids=["the old one first", "the new one first"])
def test_workers_of_two_versions_take_turns(opening: bool) -> None:
    """As in a rolling upgrade and back: daemons that open aggregates, and daemons that do not."""
    memories, records = Memories(), openable(packed(1000))
    for shard, of in in_shards(records).items():
        script, size = Script(), max(len(of) // 9, 1)
        for at in range(0, len(of), size):
            noted: Any = script.checkpoints[-1] if script.checkpoints else None
            given = batch(of[: at + size], noted, opening=opening)
            script.say(host(memories), initialize(shard, noted), given)
            opening = not opening
        assert {bool(sub) for _, sub in script.checkpoints} == {True, False}
    compare(memories, records)


def test_a_sink_that_is_down_holds_state_and_checkpoint_back() -> None:
    """S4, S5: refused for a while it is asked again; for good, the process ends, nothing noted."""
    records = packed(5)
    (shard, of), *_ = in_shards(records).items()
    for refusals, good in ((4, True), (1 << 30, False)):
        memories, script, clock = Memories(), Script(), Clock()
        memories.sink.fail_next = refusals
        shared = host(memories, now=clock.now)
        lines = initialize(shard), batch(of), ENDED
        if good:
            script.say(shared, *lines, sleep=clock.sleep)
            assert clock.seconds > 0 and script.checkpoints[-1] == (None, None)
            compare(memories, of)
            continue
        with pytest.raises(UnavailableError):
            script.say(shared, *lines, sleep=clock.sleep)
        assert script.checkpoints == [] and memories.store.generations("torture", shard) == []


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_an_unreadable_state_is_read_again_up_to_the_checkpoint_and_told_to_nobody() -> None:
    memories, records = Memories(), packed(5)
    memories.stream = streamed(records)
    (shard, of), *_ = in_shards(records).items()
    script = Script()
    script.say(host(memories), initialize(shard), batch(of[:10]), batch(of[10:20]))
    before = len(memories.sink.rows), len(memories.rows.rows)
    objects = memories.store._objects["torture", shard]
    objects[max(objects)] = b"torn"
    noted: Any = script.checkpoints[-1]
    script.say(host(memories), initialize(shard, noted), EMPTY)
    assert (len(memories.sink.rows), len(memories.rows.rows)) == before
    script.say(host(memories), initialize(shard, script.checkpoints[-1]), batch(of[20:]), ENDED)
    compare(memories, of)


def test_behind_a_checkpoint_within_an_aggregate_the_rest_of_it_is_told() -> None:
    """As another program may have left it; with no state at all, all is read again before."""
    records = packed(1000)
    (shard, of), *_ = in_shards(records).items()
    (whole_run := Memories()).stream = streamed(records)
    Script().say(host(whole_run), initialize(shard), batch(of))
    alerts = {row.id: row.last_position for row in whole_run.sink.rows if isinstance(row, Alert)}
    within = {str(at).split(":")[1] for at in alerts.values() if not str(at).endswith(":0")}
    assert within, "no alert lies behind the first user record of its aggregate"
    for sequence in sorted(within, key=int)[:2]:
        noted = sequence, 0
        wanted = {id for id, at in alerts.items() if after(at, noted)}
        memories = Memories()
        memories.stream = streamed(records)
        Script().say(host(memories), initialize(shard, noted), batch(of, noted))
        assert {row.id for row in memories.sink.rows if isinstance(row, Alert)} == wanted


def after(position: str | None, noted: tuple[str, int]) -> bool:
    _, sequence, sub = str(position).rsplit(":", 2)
    return (int(sequence), int(sub)) > (int(noted[0]), noted[1])


def test_who_finds_another_s_state_ends_without_a_checkpoint() -> None:
    memories, records = Memories(), told()
    (shard, of), *_ = in_shards(records).items()

    def other(event: str, **fields: Any) -> None:
        if event == "shard_started":
            memories.store.create("torture", shard, 1, b"another owner's")

    script = Script()
    with pytest.raises(FencedError):
        script.say(host(memories, log=other), initialize(shard), batch(of[:20]))
    assert script.checkpoints == [] and script.statuses == ["initialize"]


def test_what_fails_is_never_told_to_have_gone_well() -> None:
    memories, records = Memories(), told()
    (shard, of), *_ = in_shards(records).items()
    script = Script(["IllegalArgumentException"])
    with pytest.raises(StreamgaugeError, match="IllegalArgumentException"):
        script.say(host(memories), initialize(shard), batch(of[:20]))
    assert script.statuses == ["initialize"] and script.checkpoints == []
