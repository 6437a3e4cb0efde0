"""The producer with a thread of its own: futures, room, errors, and an orderly end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import pytest
from botocore.exceptions import ClientError
from memory_kinesis import Faults, MemoryKinesis, firsts

from streamgauge.engine.aws import Service
from streamgauge.engine.errors import StreamgaugeError
from streamgauge.producers import background
from streamgauge.producers.background import BackgroundProducer, exit_on_sigterm
from streamgauge.producers.outcomes import BufferFullError, HandedBackError, Outcome, RecordError

SECONDS_MAX = 30.0  # that a test waits for what must come


def made(stream: MemoryKinesis, **more: Any) -> BackgroundProducer:
    return BackgroundProducer("s", Service("kinesis", stream), linger_seconds=0.002, **more)


class Gate(MemoryKinesis):
    """A stream whose calls wait at a gate, once it is shut."""

    def __init__(self, shards: int) -> None:
        super().__init__(shards)
        self.open_gate, self.reached = threading.Event(), threading.Event()
        self.open_gate.set()

    def put_records(self, **request: Any) -> Any:
        self.reached.set()
        assert self.open_gate.wait(SECONDS_MAX)
        return super().put_records(**request)


def test_a_future_tells_where_a_record_lies() -> None:
    stream = MemoryKinesis(2)
    with made(stream) as producer:
        future = producer.put("k", b"x", 5)
        outcome = future.result(SECONDS_MAX)
        assert outcome.placed is not None
        there = stream.committed[int(outcome.placed.sequence_number) - 1]
        assert (there.shard, there.users) == (outcome.placed.shard_id, [("k", b"x", 5)])
        assert not future.cancel()
    assert (producer.buffered_bytes, producer.buffered_records) == (0, 0)


def test_several_threads_lose_nothing_and_keys_keep_their_order() -> None:
    stream = MemoryKinesis(3, 1, Faults(refused=0.1, throttled=0.05, lost=0.02, split=0.001))
    told: list[Outcome] = []
    with made(stream, aggregate_bytes_max=500) as producer:

        def work(name: str) -> None:
            for number in range(300):
                producer.put(name, b"%d" % number, callback=told.append)

        threads = [threading.Thread(target=work, args=(f"thread-{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wanted = {f"thread-{n}": [b"%d" % number for number in range(300)] for n in range(4)}
    assert firsts(stream.users()) == firsts(stream.as_kcl()) == wanted
    assert len(told) == 1200 and all(one.placed for one in told)
    assert producer.counters.user_records_placed == 1200


def test_flush_waits_for_all_outcomes() -> None:
    stream = Gate(1)
    stream.open_gate.clear()
    with made(stream) as producer:
        futures = [producer.put("k", b"%d" % number) for number in range(5)]
        assert not producer.flush(0.0)
        stream.open_gate.set()
        assert producer.flush(SECONDS_MAX)
        assert all(future.done() for future in futures)


def test_where_there_is_no_room_a_put_waits_or_raises() -> None:
    stream = Gate(1)
    stream.open_gate.clear()
    with made(stream, buffer_bytes_max=1000, wait_for_room=False) as producer:
        futures = [producer.put("k", b"x"), producer.put("k", b"y")]
        with pytest.raises(BufferFullError, match="stream s: .* of at most 1000"):
            producer.put("k", b"z")
        stream.open_gate.set()
        wait(futures, SECONDS_MAX)
        producer.put("k", b"there is room again")
    assert len(stream.users()) == 3

    stream = Gate(1)
    stream.open_gate.clear()
    with made(stream, buffer_bytes_max=1000) as producer:
        for number in range(2):
            producer.put("k", b"%d" % number)
        third = threading.Thread(target=producer.put, args=("k", b"2"))
        third.start()
        assert stream.reached.wait(SECONDS_MAX)
        assert third.is_alive() and producer.buffered_records == 2
        stream.open_gate.set()
        third.join(SECONDS_MAX)
        assert not third.is_alive()
    assert firsts(stream.users()) == {"k": [b"0", b"1", b"2"]}


def test_records_that_cannot_be_are_told_and_the_others_go_on() -> None:
    stream = MemoryKinesis(1)
    with made(stream, record_bytes_max=100) as producer:
        with pytest.raises(RecordError, match="1 to 256"):
            producer.put("", b"x")
        too_large = producer.put("k", b"x" * 200)
        good = producer.put("k", b"x")
        assert isinstance(too_large.exception(SECONDS_MAX), RecordError)
        assert good.result(SECONDS_MAX).placed
    assert stream.users() == [("k", b"x")] and producer.buffered_bytes == 0


def test_what_is_not_put_in_time_comes_back_with_its_history() -> None:
    told: list[Outcome] = []
    with made(MemoryKinesis(1, faults=Faults(refused=1.0)), live_seconds_max=0.05) as producer:
        future = producer.put("k", b"x", callback=told.append)
        error = future.exception(SECONDS_MAX)
    assert isinstance(error, HandedBackError) and "InternalFailure" in str(error)
    (outcome,) = error.outcomes
    assert (outcome.user.data, outcome.placed) == (b"x", None) and outcome.attempts
    assert told == [outcome]


def test_close_hands_back_what_cannot_be_put() -> None:
    producer = made(MemoryKinesis(1, faults=Faults(throttled=1.0)))
    future = producer.put("k", b"x")
    producer.close(0.05)
    assert isinstance(future.exception(0), HandedBackError)
    with pytest.raises(StreamgaugeError, match="closed"):
        producer.put("k", b"y")
    producer.close()


@pytest.mark.parametrize("fails", ["callback", "late callback"])
def test_an_exception_of_a_callback_does_not_end_the_thread(
    fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = MemoryKinesis(1)

    def callback(outcome: Outcome) -> None:
        raise LookupError("the caller's")

    with made(stream) as producer:
        first = producer.put("k", b"1", callback=callback)
        assert first.result(SECONDS_MAX).placed
        if fails == "late callback":
            first.add_done_callback(callback)  # type: ignore[arg-type]
        assert producer.put("k", b"2").result(SECONDS_MAX).placed
    assert producer.counters.callback_errors == 1
    assert "a callback has failed" in caplog.text


def test_a_callback_may_put() -> None:
    stream, done = MemoryKinesis(1), threading.Event()
    with made(stream, buffer_bytes_max=1000) as producer:

        def chain(outcome: Outcome) -> None:
            number = int(outcome.user.data)
            if number == 50:
                done.set()
            else:
                producer.put("k", b"%d" % (number + 1), callback=chain)

        producer.put("k", b"0", callback=chain)
        assert done.wait(SECONDS_MAX)
    assert [data for _, data in stream.users()] == [b"%d" % n for n in range(51)]


class Refusing(MemoryKinesis):
    """A stream that is not to be written to, for now."""

    refuses = True

    def list_shards(self, **request: Any) -> Any:
        if self.refuses:
            told = {"Error": {"Code": "AccessDeniedException", "Message": "x"}}
            raise ClientError(told, "ListShards")
        return super().list_shards(**request)


def test_a_stream_that_refuses_for_good_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "REFUSED_SECONDS", 0.01)
    stream = Refusing(1)
    with made(stream) as producer:
        first = producer.put("k", b"1")
        eventually(lambda: refused(producer))
        stream.refuses = False
        assert first.result(SECONDS_MAX).placed
        eventually(lambda: not refused(producer))
    assert stream.users()[0] == ("k", b"1")


def refused(producer: BackgroundProducer) -> bool:
    """Whether a put is refused; it is a put where it is not."""
    try:
        producer.put("k", b"more")
    except StreamgaugeError as error:
        assert "kinesis:ListShards" in str(error)
        return True
    return False


def eventually(reached: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(SECONDS_MAX / 0.01)):
        if reached():
            return
        pause.wait(0.01)
    raise AssertionError("it does not come")


def test_closing_where_the_stream_refuses_for_good_ends_and_hands_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "REFUSED_SECONDS", 0.01)
    producer = made(Refusing(1))
    future = producer.put("k", b"1")
    producer.close(0.05)
    assert isinstance(future.exception(SECONDS_MAX), HandedBackError)


def test_sigterm_closes_what_is_within() -> None:
    stream, before = MemoryKinesis(1), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, exit_on_sigterm(), made(stream) as producer:
        for number in range(10):
            producer.put("k", b"%d" % number)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(SECONDS_MAX)
    assert ended.value.code == 0
    assert firsts(stream.users()) == {"k": [b"%d" % n for n in range(10)]}
    assert signal.getsignal(signal.SIGTERM) == before
