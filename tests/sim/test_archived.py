"""Any schedule of crashes, outages and twins leaves an archive that is the stream, once.

`SEED=17 pytest tests/sim/test_archived.py` replays one seed; `SEEDS=10000` runs more.
"""

from __future__ import annotations

import os

import drawn
import pytest
from archived import Archived
from simulation import Worker

QUICK = 6  # seeds that are run at all times
SEEDS = (
    [int(os.environ["SEED"])]
    if "SEED" in os.environ
    else [
        pytest.param(seed, marks=[pytest.mark.slow] if seed >= QUICK else [])
        for seed in range(int(os.environ.get("SEEDS", "60")))
    ]
)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_schedule_leaves_an_archive_that_is_the_stream(seed: int) -> None:
    run = drawn.generated(seed, Archived)
    try:
        run.torment(80)
        run.settle()
    except BaseException as error:
        error.add_note(f"replay it with: SEED={seed} pytest tests/sim/test_archived.py")
        raise


def alone() -> tuple[Archived, str]:
    """A simulation without faults, of one shard that is all there, read ten records at a time."""
    run = drawn.generated(3, Archived)
    name = max(run.kinesis, key=lambda name: len(run.kinesis[name]))
    run.kinesis = {name: run.kinesis[name]}
    run.stream.arrived[name] = len(run.kinesis[name])
    run.stream.limit, run.save_seconds = 10, 0.0
    run.max_bytes = 600
    return run, name


@pytest.mark.slow
def test_a_crash_after_each_single_step_costs_no_record() -> None:
    whole, _ = alone()
    whole.settle()
    assert whole.steps.count("roll") > 10
    for number in range(1, len(whole.steps)):
        run, _ = alone()
        run.truths = whole.truths
        run.crash_at = lambda step, number=number: step == number  # type: ignore[misc]
        run.settle()
        assert run.overlaps == 0


@pytest.mark.slow
def test_a_crash_inside_each_single_call_costs_no_record() -> None:
    whole, _ = alone()
    moments = whole.crash_at_call(0)
    whole.settle()
    for number in range(1, len(moments) + 1):
        run, _ = alone()
        run.truths = whole.truths
        run.crash_at_call(number)
        run.settle()
        assert run.deaths == 1 and run.overlaps == 0


def test_a_shard_that_is_read_to_its_end_leaves_nothing_staged() -> None:
    run, name = alone()
    run.max_bytes, run.max_age = 1 << 20, 1000.0
    run.stream.closed = {name}
    worker = Worker(run, name)
    while not worker.shard.finished:
        assert run.step(worker)
    assert not list(run.place().names("_staged/"))
    assert run.held(name) == run.truly(name)


def test_a_stop_leaves_staged_what_the_next_run_rolls() -> None:
    run, name = alone()
    run.max_bytes, run.max_age = 1 << 20, 1000.0
    worker = Worker(run, name)
    while not (worker.shard.at_tip and worker.shard.idle):
        assert run.step(worker)
    assert list(run.place().names("_staged/")) and run.held(name) == run.truly(name)
    run.settle()


def test_other_shards_come_first_between_two_steps_of_rolling() -> None:
    run, name = alone()
    worker = Worker(run, name)
    while run.steps[-1:] != ["roll"] or worker.shard.due() != worker.shard.roll:
        run.clock += 0.25
        assert run.step(worker)
    assert worker.shard.ready_at == run.clock
