"""Any schedule of crashes, outages and twins gives the answer of one uninterrupted run.

`SEED=17 pytest tests/sim` replays one seed; `SEEDS=10000` runs more than the usual ones.
"""

from __future__ import annotations

import os

import drawn
import memory_stream
import msgspec
import plain_kpl
import pytest
import torture
from simulation import Simulation, Worker

from streamgauge import Record
from streamgauge.consumers.recall import FULL_KEPT
from streamgauge.consumers.shard import FENCES_MAX, Fetched
from streamgauge.engine.batch import Position
from streamgauge.engine.errors import FencedError

QUICK = 4  # seeds that are run at all times
SEEDS = (
    [int(os.environ["SEED"])]
    if "SEED" in os.environ
    else [
        pytest.param(seed, marks=[pytest.mark.slow] if seed >= QUICK else [])
        for seed in range(int(os.environ.get("SEEDS", "100")))
    ]
)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_schedule_gives_the_same_answer(seed: int) -> None:
    run = drawn.generated(seed)
    try:
        run.torment(80)
        run.settle()
    except BaseException as error:
        error.add_note(f"replay it with: SEED={seed} pytest tests/sim")
        raise


def test_a_seed_replays_exactly() -> None:
    first, second = drawn.generated(7), drawn.generated(7)
    for run in (first, second):
        run.torment(80)
        run.settle()
    assert first.steps == second.steps
    assert first.events == second.events
    assert first.cloud.topic.messages == second.cloud.topic.messages


def tortured() -> Simulation:
    """The first shard of the torture file, all of it there, read in a few pieces."""
    toml = (torture.HERE / "torture.toml").read_text()
    records = memory_stream.by_shard(plain_kpl.read(torture.HERE / "torture.ndjson"))
    run = Simulation(1, toml, {torture.SHARDS[0]: records[torture.SHARDS[0]]}, torture.thresholds())
    run.stream.limit, run.save_seconds = 160, 0.0
    return run


@pytest.mark.slow
def test_a_crash_after_each_single_step() -> None:
    """Between any two of load, read, apply, deliver, deliver, save and prune."""
    whole = tortured()
    whole.settle()
    crashed = set()
    for number in range(1, len(whole.steps)):
        run = tortured()
        run.truths = whole.truths
        run.crash_at = lambda step, number=number: step == number
        run.settle()
        crashed.add((run.steps[number - 1], whole.steps[number]))
    assert crashed >= {
        ("load", "read"), ("read", "apply"), ("apply", "deliver"), ("deliver", "deliver"),
        ("deliver", "save"), ("save", "prune"), ("prune", "read"),
    }  # fmt: skip


def alone(seed: int = 3) -> tuple[Simulation, str]:
    """A simulation without faults, of one shard that is all there, read ten records at a time."""
    run = drawn.generated(seed)
    name = max(run.kinesis, key=lambda name: len(run.kinesis[name]))
    run.kinesis = {name: run.kinesis[name]}
    run.stream.arrived[name] = len(run.kinesis[name])
    run.stream.limit, run.save_seconds = 10, 0.0
    return run, name


def crashed(number: int) -> Simulation:
    """A process that dies in the moment of its call `number`; each has two: before and after."""
    run, _ = alone()
    run.crash_at_call(number)
    run.settle()
    return run


@pytest.mark.slow
def test_a_crash_inside_each_single_call() -> None:
    """Also between the look at what is there and the write, and before an answer is back."""
    whole, _ = alone()
    moments = whole.crash_at_call(0)
    whole.settle()
    for number in range(1, len(moments) + 1):
        run = crashed(number)
        assert run.deaths == 1
        assert run.figures()[1:4] == (0, 0, 0)
    assert set(moments) >= {
        ("GetShardIterator", False), ("GetRecords", True), ("BatchGetItem", True),
        ("PublishBatch", False), ("PublishBatch", True), ("PutObject", False), ("PutObject", True),
        ("ListObjectsV2", False), ("ListObjectsV2", True), ("DeleteObjects", True),
    }  # fmt: skip


@pytest.mark.slow
def test_an_owner_that_is_stopped_inside_any_call_has_lost() -> None:
    """While it stands there another one takes the shard over, and goes past it or just begins."""
    whole, _ = alone()
    moments = whole.crash_at_call(0)
    whole.settle()
    fenced = 0
    for number in range(1, len(moments) + 1):
        run, name = alone()

        def others(number: int = number, run: Simulation = run, name: str = name) -> None:
            worker = Worker(run, name)
            for _ in range([5, 12, 30][number % 3]):
                run.step(worker)

        run.crash_at_call(number, others)
        run.settle()
        fenced += run.events.count("fenced")
    assert fenced > len(moments) / 6


def until(run: Simulation, worker: Worker, step: str) -> None:
    """Step until `step` was done once more."""
    assert any(run.step(worker) and run.steps[-1] == step for _ in range(100))


def test_a_torn_state_falls_back_to_the_one_before() -> None:
    run, name = alone()
    worker = Worker(run, name)
    for _ in range(3):
        until(run, worker, "prune")
    run.damage(name, 3, run.objects(name)[3][:-1])
    run.events.clear()
    worker = Worker(run, name)
    run.step(worker)
    assert run.events == ["state_unreadable", "shard_started"]
    assert worker.pushes == run.histories[name].behind[2]
    until(run, worker, "save")
    assert max(run.objects(name)) == 4
    run.settle()


def test_a_state_torn_at_any_byte_falls_back_to_the_one_before() -> None:
    run, name = alone()
    worker = Worker(run, name)
    for _ in range(2):
        until(run, worker, "save")
    whole = run.objects(name)[2]
    for size in range(0, len(whole), 7):
        run.damage(name, 2, whole[:size])
        run.events.clear()
        worker = Worker(run, name)
        run.step(worker)
        assert run.events == ["state_unreadable", "shard_started"]
        assert worker.pushes == run.histories[name].behind[1]
    until(run, worker, "save")
    assert max(run.objects(name)) == 3
    run.settle()


def test_without_a_readable_state_it_starts_anew_and_says_so() -> None:
    run, name = alone()
    worker = Worker(run, name)
    until(run, worker, "save")
    run.damage(name, 1, b"SGSTATE")
    run.events.clear()
    worker = Worker(run, name)
    run.step(worker)
    assert run.events == ["state_unreadable", "state_incomplete", "shard_started"]
    assert worker.shard.position is None
    run.settle()


def test_of_two_owners_one_wins() -> None:
    """The one that finds its number taken reloads, and gives up if that goes on."""
    run, name = alone()
    first, second = Worker(run, name), Worker(run, name)
    until(run, first, "read")
    until(run, second, "read")
    for times in range(1, FENCES_MAX + 1):
        until(run, first, "save")
        until(run, second, "save")
        assert run.events.count("fenced") == times
        assert sorted(run.objects(name)) == list(range(1, times + 1))[-FULL_KEPT:]
        until(run, second, "load")
        assert second.pushes == run.histories[name].behind[times]
        until(run, second, "apply")
    until(run, first, "save")
    with pytest.raises(FencedError):
        for _ in range(10):
            second.shard.step()
    run.settle()


def test_an_answer_lost_on_its_way_is_no_other_owner() -> None:
    run, name = alone()
    worker = Worker(run, name)
    until(run, worker, "apply")
    run.cloud.states.lose_next = 1
    run.settle()
    assert "fenced" not in run.events
    until(run, worker, "save")
    assert run.events[-1] == "fenced"  # this one did come too late


class Endless:
    """A stream without end in which each device speaks a few times and then never again."""

    batch = 5000
    spoken = 5

    def iterator(self, shard_id: str, position: Position | None, inclusive: bool) -> str:
        return "0"

    def read(self, shard_id: str, iterator: str) -> Fetched:
        start = int(iterator)
        records = []
        for number in range(start, start + self.batch):
            time = 1_700_000_000_000 + 10 * number
            message = {"device": f"d{number // self.spoken}", "ts": time, "value": number % 97}
            records.append(
                Record(shard_id, str(number + 1), msgspec.json.encode(message), "k", time)
            )
        return Fetched(records, str(start + self.batch), 1)


TOML = """
[pipeline]
name = "endless"
[record]
device = "device"
time = "ts"
[[rules]]
name = "r"
sql = "SELECT * FROM '#'"
measure = "value"
window = "1s"
threshold = 1000.0
[delivery]
allowed_lateness = "1s"
forget_after = "10s"
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_stream() -> None:
    """Twice the records and twice the devices, and as much room as before."""
    run = Simulation(1, TOML, {"s": []})
    run.reader = Endless()
    run.save_seconds = 1.0
    worker = Worker(run, "s")
    sizes = []
    for turn in range(48):
        until(run, worker, "apply")
        worker.pushes.clear()
        if turn >= 16:
            memory = worker.shard._pipeline._memory
            window = memory.rules["r"].window
            log = memory.log._held  # grows to a limit, then to half of that and on
            sizes.append((len(memory.devices.names), window.rings.bytes, log))
    early, late = sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :]
    for before, after in zip(zip(*early, strict=True), zip(*late, strict=True), strict=True):
        assert max(after) <= 1.05 * max(before)
    assert max(devices for devices, _, _ in sizes) < 48 * Endless.batch / Endless.spoken / 10
    assert len(run.objects("s")) <= FULL_KEPT + 1
