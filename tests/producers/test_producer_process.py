"""A producer's process that is killed or told to stop, against an endpoint over HTTP (P5, P6)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import kinesis_endpoint
import pytest
from kinesis_endpoint import serving
from memory_kinesis import Faults, MemoryKinesis, firsts

pytestmark = pytest.mark.slow
STOP_SECONDS_MAX = 10.0
PROGRAM = """
import itertools, os
from streamgauge.engine.aws import Service
from streamgauge.producers.background import BackgroundProducer, exit_on_sigterm

def done(outcome):
    if outcome.placed is not None:
        os.write(1, b"acknowledged %b\\n" % outcome.user.data)  # whole lines, from two threads

with exit_on_sigterm(), BackgroundProducer(
    "s", Service("kinesis"), buffer_bytes_max=200_000, rate=None
) as producer:
    for number in itertools.count():
        data = b"%d" % number
        producer.put(f"device-{number % 7}", data, callback=done)
        os.write(1, b"put %d\\n" % number)
"""


@contextmanager
def producing(stream: MemoryKinesis) -> Iterator[subprocess.Popen[str]]:
    """A process that puts into the stream without end; it is ended with this."""
    with serving(stream) as url:
        env = {**os.environ, "AWS_ENDPOINT_URL": url}
        command = [sys.executable, "-c", PROGRAM]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


def read(process: subprocess.Popen[str], acknowledged: int, lines: int = 0) -> list[list[str]]:
    """Lines of the process, so many, and until it has told so many acknowledged records."""
    assert process.stdout is not None
    found: list[list[str]] = []
    while acknowledged > 0 or len(found) < lines:
        line = process.stdout.readline()
        assert line.endswith("\n"), "the process has ended"
        found.append(line.split())
        acknowledged -= found[-1][0] == "acknowledged"
    return found


def numbers(lines: list[list[str]], what: str) -> list[int]:
    return [int(line[1]) for line in lines if len(line) == 2 and line[0] == what]


@pytest.mark.parametrize("acknowledged", [1, 300, 3000])
def test_p5_killed_with_open_aggregates_nothing_acknowledged_is_missing(acknowledged: int) -> None:
    stream = MemoryKinesis(3, acknowledged, Faults(refused=0.05, throttled=0.05, lost=0.0))
    with producing(stream) as process:
        lines = read(process, acknowledged)
        process.kill()
        assert process.stdout is not None
        lines += [line.split() for line in process.stdout.read().splitlines()]
        process.wait()
        with kinesis_endpoint.LOCK:
            there = {int(data) for _, data in stream.users()}
    assert set(numbers(lines, "acknowledged")) <= there


def test_p6_sigterm_puts_what_was_taken_and_exits_with_0() -> None:
    stream = MemoryKinesis(3, 6, Faults(refused=0.05, throttled=0.05))
    with producing(stream) as process:
        lines = read(process, 500)
        process.terminate()
        assert process.stdout is not None
        lines += [line.split() for line in process.stdout.read().splitlines()]
        assert process.wait(timeout=60) == 0
    put = numbers(lines, "put")
    assert set(put) <= {int(data) for _, data in stream.users()}
    assert set(put) <= set(numbers(lines, "acknowledged"))
    wanted: dict[str, list[bytes]] = {}
    for number in range(max(int(data) for _, data in stream.users()) + 1):
        wanted.setdefault(f"device-{number % 7}", []).append(b"%d" % number)
    assert firsts(stream.users()) == wanted


def test_p6_where_the_stream_is_down_it_still_ends_in_time() -> None:
    stream = MemoryKinesis(1)
    with producing(stream) as process:
        read(process, 100)
        with kinesis_endpoint.LOCK:
            stream.faults.throttled = 1.0
            there = len(stream.users())
        last = there
        while last < there + 100:  # some are taken that cannot be put
            (last,) = numbers(read(process, 0, lines=1), "put") or [last]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
