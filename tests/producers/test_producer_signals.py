"""What a signal's handler raises in the middle of a put."""

from __future__ import annotations

import sys
from functools import partial
from itertools import count
from types import FrameType
from typing import Any

import pytest
from memory_kinesis import MemoryKinesis, producer

FILES = ("aggregator.py", "packer.py", "buffer.py")


class Signal(BaseException):
    """What a handler of a signal may raise between any two steps of the interpreter."""


def interrupted(call: Any, step: int) -> bool:
    """Whether a call was cut off at its step of that number, and not through before."""
    left = step

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if not left:
                raise Signal
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Signal:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("explicit", [None, 5])
@pytest.mark.parametrize("already", [0, 2])
def test_a_signal_in_a_put_leaves_nothing_that_is_waited_for_in_vain(
    explicit: int | None, already: int
) -> None:
    """A record is taken whole, or not at all; the others keep their keys, and flush ends."""
    for step in count(1):
        stream, told = MemoryKinesis(2), list[Any]()
        made = producer(stream, linger_seconds=3600.0)
        wanted = [(f"k{n}", b"%d" % n) for n in range(already)]
        for key, data in wanted:
            made.put(key, data, explicit, callback=told.append)
        put = partial(made.put, "cut", b"cut", explicit, callback=told.append)
        cut = interrupted(put, step)
        wanted += [("cut", b"cut")] * (made.counters.user_records_put - already)
        assert made.buffered_bytes == sum(400 + len(data) + 4 * len(key) for key, data in wanted)
        made.put("after", b"after", explicit and explicit + 1, callback=told.append)
        assert made.flush(5.0)
        assert sorted(stream.users()) == sorted([*wanted, ("after", b"after")])
        assert len(told) == len(wanted) + 1 and made.buffered_records == 0
        if not cut:
            break
    assert step > 100
