"""What a pipeline remembers: nothing that one record says may change another device's answer."""

from pathlib import Path

import pytest

from streamgauge import Pipeline, Record
from streamgauge.engine.errors import InputError, StateError, UnavailableError

DAY = 86_400_000
START = 1_767_225_600_000
TOML = """
[pipeline]
name = "small"
[record]
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "v"
threshold = 5
"""


def load(folder: Path, more: str = "", toml: str = TOML, **options):
    (folder / "small.toml").write_text(toml + more)
    return Pipeline.load(folder / "small.toml", **options)


def record(number, device, time, value, shard="s", arrival=None):
    text = b'{"device":"%s","ts":%d,"v":%d,"at":%d}'
    data = text % (device.encode(), time, value, arrival or time)
    return Record(shard, str(number), data, arrival=arrival)


def statistics(pipeline, records, size):
    found = []
    for start in range(0, len(records), size):
        outcome = pipeline.push(records[start : start + size])
        for part in outcome.statistics:
            names = [part.names[device] for device in part.device.tolist()]
            found += zip(names, part.time.tolist(), part.samples.tolist(), strict=True)
    return found


def same_however_cut(folder, records, **options):
    one = statistics(load(folder, **options), records, 1)
    assert statistics(load(folder, **options), records, len(records)) == one
    return one


def test_a_wild_clock_of_one_device_frees_no_other_one(tmp_path):
    records = [
        record(1, "a", START, 1),
        record(2, "bad", START, 1, arrival=START + 30 * DAY),
        *(record(3 + n, "b", START + n, 1) for n in range(50)),
        record(60, "a", START + 9000, 1),
    ]
    plain = [Record(r.shard_id, r.sequence_number, r.data) for r in records]
    assert same_however_cut(tmp_path, plain, arrival="at", one_shard=True)[-1] == (
        "a",
        START + 9000,
        2,
    )


def test_the_clock_of_one_shard_frees_no_device_of_another(tmp_path):
    records = [
        record(1, "a", START, 1, arrival=START),
        record(2, "b", START + 3 * DAY, 1, arrival=START + 3 * DAY),
        record(1, "a", START + 1000, 1, shard="t", arrival=START + 1000),
    ]
    assert same_however_cut(tmp_path, records)[-1] == ("a", START + 1000, 2)


def test_records_without_arrival_time_end_the_freeing(tmp_path):
    records = [
        record(1, "a", START, 1, arrival=START),
        record(2, "b", START, 1),
        record(3, "b", START + 3 * DAY, 1, arrival=START + 3 * DAY),
        record(4, "a", START + 1000, 1),
    ]
    assert same_however_cut(tmp_path, records)[-1] == ("a", START + 1000, 2)


def test_silent_devices_are_freed_where_one_clock_tells(tmp_path):
    pipeline = load(tmp_path, one_shard=True)
    first = pipeline.push([record(1, "old", START, 1, arrival=START)])
    pipeline.push([record(2, "b", START + 3 * DAY, 1, arrival=START + 3 * DAY)])
    pipeline.push([record(3, "new", START + 3 * DAY, 1, arrival=START + 3 * DAY)])
    assert len(pipeline._memory.devices) == 2
    assert first.statistics[0].names[int(first.statistics[0].device[0])] == "old"


class Switch:
    """A store of limits that can be down."""

    down = False

    def read(self, keys):
        if self.down:
            raise UnavailableError("down")
        return {}


def test_state_can_be_saved_after_a_push_that_could_not_be_read(tmp_path):
    store = Switch()
    pipeline = load(tmp_path, thresholds=store)
    pipeline.push([record(1, "a", START, 1)])
    store.down = True
    with pytest.raises(UnavailableError):
        pipeline.push([record(2 + n, f"d{n}", START, 1) for n in range(200)])
    saved = pipeline.save()
    restored = load(tmp_path)
    assert restored.restore([saved]) == []
    assert statistics(restored, [record(2, "a", START + 1, 1)], 1) == [("a", START + 1, 2)]


def test_state_is_not_saved_past_an_outcome_that_is_held(tmp_path):
    from streamgauge.engine.sinks.local import MemorySink

    sink = MemorySink()
    pipeline = load(tmp_path, toml=TOML.replace("threshold = 5", "threshold = 0"), sinks=[sink])
    sink.fail_next = 1
    with pytest.raises(UnavailableError):
        pipeline.push([record(1, "a", START, 9)])
    with pytest.raises(UnavailableError, match="push again before saving"):
        pipeline.save()
    assert len(pipeline.push([]).alerts) == 1
    assert pipeline.save()


def test_restored_state_names_the_rules_that_are_gone(tmp_path):
    both = TOML.replace("threshold = 5", "threshold = 0")
    both += both[both.index("[[rules]]") :].replace("hot", "gone")
    pipeline = load(tmp_path, toml=both)
    pipeline.push([record(1, "a", START, 9), record(2, "b", START, 9)])
    restored = load(tmp_path)
    restored.restore([pipeline.save()])
    assert restored.removed == {"gone": 2}


def test_state_that_cannot_be_taken_over_is_refused(tmp_path):
    from streamgauge.engine import state

    pipeline = load(tmp_path)
    pipeline.push([record(1, "a", START, 1)])
    saved = pipeline.save()
    with pytest.raises(StateError, match="before the first record"):
        pipeline.restore([saved])
    with pytest.raises(StateError, match="lacks"):
        load(tmp_path).restore([state.encode("full", {"pipeline": "small"})])
    with pytest.raises(StateError, match="of pipeline None"):
        load(tmp_path).restore([state.encode("full", {})])


@pytest.mark.parametrize("arrival", [-5, 10**30, -(10**30), 10**15])
def test_an_absurd_arrival_time_rejects_its_record_alone(tmp_path, arrival):
    good = record(1, "a", START, 1, arrival=START)
    wrong = record(2, "a", START, 2, arrival=arrival)
    outcome = load(tmp_path).push([good, wrong, record(3, "a", START + 1, 1, arrival=START)])
    assert [row.reason for row in outcome.rejected] == ["arrival_range"]
    assert outcome.counts.evaluated == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ShardId": None}, "ShardId: expected str, found nothing"),
        ({"SequenceNumber": 5}, "SequenceNumber: expected str, found int"),
        ({"Data": "e30="}, "Data: expected bytes, found str"),
        ({"ApproximateArrivalTimestamp": float("nan")}, "ApproximateArrivalTimestamp"),
        ({"ApproximateArrivalTimestamp": "2024"}, "found '2024'"),
    ],
)
def test_what_is_no_record_is_named(tmp_path, change, message):
    given = {"ShardId": "s", "SequenceNumber": "1", "Data": b"{}", "PartitionKey": "k"}
    with pytest.raises(InputError, match=message):
        load(tmp_path).push([given | change])


def test_the_message_of_a_late_record_does_not_depend_on_the_batch(tmp_path):
    times = (START, START - 100_000, START + 500_000)
    records = [record(n, "a", time, 1) for n, time in enumerate(times, 1)]
    whole = load(tmp_path).push(records).rejected
    single = load(tmp_path)
    assert whole == [row for one in records for row in single.push([one]).rejected]
    assert [row.reason for row in whole] == ["late"]
