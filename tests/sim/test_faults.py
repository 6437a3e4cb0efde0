"""The faults that must be survived, one row each, and the table of what came of it.

Every row is a run of eight simulated minutes with the fault in its middle. Nothing may be lost, no
alert missing or spurious, and of messages that came twice there are no more than the row allows.

    pytest -s tests/sim/test_faults.py          prints the table
    SEEDS=100 pytest tests/sim/test_faults.py   runs more than the usual seeds
    SEED=17 pytest tests/sim/test_faults.py     replays one
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import live
import pytest
from cloud import Cloud
from fault_table import Fault, Table
from live import Live
from memory_service import FOREVER, Odds, Refusal
from memory_stream import Faults
from memory_topic import ENTRIES_MAX
from simulation import Crash, History, Worker

from streamgauge.engine.errors import UnavailableError

RECOVERY_SECONDS_MAX = 10.0
BEGIN, END = 100.0, 400.0  # seconds: five minutes
SEEDS = (
    [int(os.environ["SEED"])]
    if "SEED" in os.environ
    else list(range(int(os.environ.get("SEEDS", "3"))))
)


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table(FAULTS, len(SEEDS))
    yield made
    print(f"\n{made}")


# Workers and the stream.


def killed(run: Live) -> int:
    """Between any two steps, and inside any call, before and after it takes effect."""

    def kill(operation: str, done: bool) -> None:
        if run.random.random() < 0.01:
            raise Crash

    deaths: list[Worker] = []

    def crash() -> None:
        deaths.append(run.random.choice(run.workers))
        run.crash(deaths[-1])

    def inside_calls() -> None:
        for service in run.cloud.services:
            service.on_call = kill

    run.at(BEGIN, inside_calls)
    for _ in range(20):
        run.at(run.random.uniform(BEGIN, END), crash)
    run.at(END, run.ended)
    run.finish()
    assert run.events.count("shard_started") > 20
    return run.replayed


def stopped(run: Live) -> int:
    """A worker is stopped inside a call for a minute, while another one takes its shard over."""

    def stop() -> None:
        victim = run.random.choice(run.workers)
        left = run.random.randint(1, 30)

        def meet(operation: str, done: bool) -> None:
            nonlocal left
            left -= run.stepping is victim
            if run.stepping is not victim or left > 0:
                return
            run.cloud.heal()
            others = [one for one in run.workers if one is not victim]
            run.workers = [*others, Worker(run, victim.shard.shard_id)]
            run.go(run.clock + 60)
            run.workers.append(victim)

        for service in run.cloud.services:
            service.on_call = meet

    for seconds in (BEGIN, BEGIN + 100, BEGIN + 200):
        run.at(seconds, stop)
    run.at(END, run.ended)
    run.finish()
    assert run.events.count("fenced") >= 1, "the stopped one was told that it has lost"
    return run.replayed


def handed_over_again(run: Live) -> int:
    copies = run.random.choice([2, 3])
    run.stream.faults, run.stream.limit = Faults(again=0.2, copies=copies), 5
    run.at(END, run.ended)
    figures = run.finish()
    repeated = sum(answer.counts["repeated"] for answer in run.answers.values())
    assert repeated > copies * figures.accepted
    return 0


def read_anew(run: Live) -> int:
    objects = run.cloud.states.objects
    before: dict[str, bytes] = {}

    def back() -> None:
        objects.clear()
        objects.update(before)
        for history in run.histories.values():
            history.torn = True
        run.ended()
        run.crash_all()

    run.at(BEGIN, lambda: before.update(objects))
    run.at(END, back)
    run.finish()
    assert run.replayed > 100
    ids = list(run.cloud.alerts())
    run.replay()
    assert list(run.cloud.alerts()) == ids
    return run.replayed


def expired_iterators(run: Live) -> int:
    run.at(BEGIN, lambda: setattr(run.stream, "faults", Faults(expired=0.5)))
    run.at(END, run.ended)
    run.finish()
    assert sum(kind == "AFTER_SEQUENCE_NUMBER" for kind, _ in run.cloud.kinesis.iterators) > 100
    return 0


def reads_refused(run: Live) -> int:
    lags: list[float] = []

    def refuse() -> None:
        run.cloud.kinesis.odds = Odds(throttled=0.4, failed=0.2, down=0.1, lost=0.1)
        run.stream.faults, run.stream.limit = Faults(empty=0.5), 3

    def look() -> None:
        for worker in run.workers:
            lags.extend(worker.metrics.snapshot()["shard_lag_seconds"].values())

    run.at(BEGIN, refuse)
    for seconds in range(int(BEGIN) + 10, int(END), 10):
        run.at(seconds, look)
    run.at(END, lambda: (setattr(run.stream, "limit", 1000), run.ended()))
    run.finish()
    assert max(lags) > 0
    lags.clear()
    look()
    assert lags == [0, 0]
    return 0


def torn_states(run: Live) -> int:
    def tear(all_of_them: bool) -> None:
        worker = run.random.choice(run.workers)
        name = worker.shard.shard_id
        objects = run.objects(name)
        for generation in objects if all_of_them else [max(objects)]:
            size = run.random.randrange(len(objects[generation]))
            run.damage(name, generation, objects[generation][:size])
        run.crash(worker)

    for seconds in range(int(BEGIN), int(END), 70):  # there are two saves in between
        run.at(seconds, lambda last=seconds + 70 >= END: tear(last))
    run.at(END, run.ended)
    run.finish()
    assert run.events.count("state_unreadable") >= 7
    assert run.events.count("state_incomplete") == 1, "else there is one before it"
    return run.replayed


# Sinks and stores.


def published(run: Live, begin: float, end: float) -> list[dict[str, Any]]:
    """The alerts that a subscriber got within a time."""
    return [json.loads(m.text) for m in run.cloud.topic.messages if begin < m.at < end]


def table_throttled(run: Live) -> int:
    run.at(BEGIN, lambda: setattr(run.cloud.table, "odds", Odds(throttled=1.0)))
    run.at(END, run.ended)
    run.finish()
    assert "waiting" not in run.events, "limits are known, so nothing waits"
    before, after = published(run, 0, BEGIN), published(run, END + live.REFRESH + 5, FOREVER)
    assert before and after and not any(alert.get("stale") for alert in before + after)
    within = published(run, BEGIN + live.REFRESH + 5, END)
    assert len(within) > 50 and all(alert["stale"] is True for alert in within)
    assert {alert["threshold"] for alert in within if alert["rule"] == "hot"} == {86.5, live.OWN}
    return 0


def table_down_at_the_start(run: Live) -> int:
    held: list[Any] = []

    def cold() -> None:
        if run.random.random() < 0.5:
            run.cloud.states.objects.clear()
            run.histories = {name: History() for name in live.SHARDS}
        run.crash_all()

    def look() -> None:
        for worker in run.workers:
            assert worker.shard.refused is not None and worker.shard.refused.step == "apply"
        held.append([worker.shard.position for worker in run.workers])

    run.at(BEGIN, lambda: setattr(run.cloud.table, "down_until", END))
    run.at(BEGIN + 30, cold)
    run.at(BEGIN + 40, look)
    run.at(END - 1, look)
    run.at(END, run.ended)
    run.finish()
    assert published(run, BEGIN + 31, END) == []
    assert held[0] == held[1]
    return run.replayed


def limits_changed(run: Live) -> int:
    """Through lost answers, with workers killed before and after the change applies."""
    run.at(20, lambda: setattr(run.cloud.table, "lag_seconds", 3.0))
    left: list[str] = []

    def change() -> None:
        if not left:
            left.append(live.device(run.random.randrange(2), run.random.randrange(live.DEVICES)))
            run.cloud.table.lose_next = run.random.choice([0, 1])
        try:
            run.set_limit(left[0], run.random.choice([84.5, 88.0, 92.25, 97.5]))
            left.clear()
        except UnavailableError:
            run.at(run.clock + 1, change)

    for seconds in range(40, int(END), 7):
        run.at(seconds, change)
    for seconds in range(45, int(END), 20):
        run.at(seconds, lambda: run.crash(run.random.choice(run.workers)))
    run.finish()
    versions = {alert["threshold_version"] for alert in run.cloud.alerts().values()}
    assert versions >= {None, 1, 2}
    ids = list(run.cloud.alerts())
    run.replay()
    assert list(run.cloud.alerts()) == ids
    return run.replayed


def topic_throttled(run: Live) -> int:
    """After a gap in the stream, so that a device has several alerts in one push."""

    def throttle() -> None:
        run.cloud.topic.odds, run.cloud.topic.refused = Odds(throttled=0.3), 0.5

    run.at(BEGIN, throttle)
    run.at(BEGIN, lambda: setattr(run.cloud.kinesis, "down_until", BEGIN + 120))
    run.at(END, run.ended)
    run.finish()
    topic = run.cloud.topic
    assert sum(topic.sent) > 1.2 * len(topic.accepted), "entries were refused"
    ids = [json.loads(entry["Message"])["id"] for entry in topic.accepted]
    assert len(ids) == len(set(ids)), "what was accepted is not sent again"
    return 0


def down(service: Callable[[Cloud], Any], step: str) -> Callable[[Live], int]:
    """A service does not answer for five minutes: `step` is what is refused."""

    def play(run: Live) -> int:
        held: list[Any] = []

        def begin() -> None:
            service(run.cloud).down_until = END
            service(run.cloud).silent = run.random.random() < 0.5

        def look() -> None:
            for worker in run.workers:
                assert worker.shard.refused is not None and worker.shard.refused.step == step
            held.append([run.histories[name].position for name in live.SHARDS])

        run.at(BEGIN, begin)
        run.at(BEGIN + 200, look)  # by then every shard has something to deliver
        run.at(END - 1, look)
        run.at(END, run.ended)
        run.finish()
        assert held[0] == held[1]
        return 0

    return play


def credentials_expired(run: Live) -> int:
    expired = [
        None,
        Refusal("SignatureDoesNotMatch", 403, "The request signature does not match"),
        Refusal("RequestTimeTooSkewed", 403, "The difference is too large"),
        Refusal("InvalidSignatureException", 400, "Signature expired"),
    ]

    def renew() -> None:
        for service in run.cloud.services:
            service.renew()

    for number, refusal in enumerate(expired):
        for service in run.cloud.services:
            run.at(BEGIN + 70 * number, lambda s=service, r=refusal: s.expire(r))
        run.at(BEGIN + 70 * number + 40, renew)
    run.at(END, run.ended)
    run.finish()
    assert "waiting" in run.events
    return 0


def answers_lost(run: Live) -> int:
    run.at(BEGIN, lambda: setattr(run.cloud.topic, "odds", Odds(lost=0.5)))
    run.at(END, run.ended)
    run.finish()
    lost = run.cloud.topic.answers_lost
    assert lost > 10
    assert len(run.cloud.topic.accepted) > len(run.cloud.alerts()), "the same ids came again"
    return 0 if run.cloud.topic.fifo else ENTRIES_MAX * lost


FAULTS = (
    Fault("K1", "worker killed after steps and inside calls", killed),
    Fault("K2", "worker stopped inside a call for 60 s, its shard taken over", stopped),
    Fault("K4", "records handed over again, each 2 or 3 times", handed_over_again),
    Fault("K5", "read again from a checkpoint of 5 min ago, then from none", read_anew),
    Fault("K8", "iterators expired", expired_iterators),
    Fault("K9", "GetRecords refused, unanswered, empty", reads_refused),
    Fault("K16", "state objects torn, once all of them", torn_states),
    Fault("S1", "table throttled for 5 min", table_throttled),
    Fault("S2", "table down for 5 min, cold start without it", table_down_at_the_start),
    Fault("S3", "thresholds changed in the stream, workers killed around it", limits_changed),
    Fault("S4", "SNS throttled, entries refused", topic_throttled),
    Fault("S5", "SNS down for 5 min", down(lambda cloud: cloud.topic, "deliver")),
    Fault("S6", "error stream down for 5 min", down(lambda cloud: cloud.errors, "deliver")),
    Fault("S9", "credentials and signatures refused by all services", credentials_expired),
    Fault("S10", "SNS accepts, and the answer is lost", answers_lost),
)  # fmt: skip


def rows() -> Iterator[Any]:
    """Each row with each seed; one of them is run at all times."""
    for fault in FAULTS:
        for seed in SEEDS:
            quick = "SEED" in os.environ or (seed == 0 and fault.id == "S5")
            marks = [] if quick else [pytest.mark.slow]
            yield pytest.param(fault, seed, marks=marks, id=f"{fault.id}-{seed}")


@pytest.mark.parametrize(("fault", "seed"), list(rows()))
def test_a_fault_is_survived(fault: Fault, seed: int, table: Table) -> None:
    run = Live(seed)
    table.begun.add(fault.id)
    try:
        allowed = fault.play(run)
        figures = run.figures()
        assert figures.accepted == len(live.SHARDS) * live.DEVICES * run.seconds / live.PERIOD
        assert (figures.lost, figures.missing, figures.spurious) == (0, 0, 0)
        assert figures.repeated <= allowed
        assert run.recovery is not None and run.recovery <= RECOVERY_SECONDS_MAX
    except BaseException as error:
        table.failed.add(fault.id)
        error.add_note(f"replay it with: SEED={seed} pytest tests/sim/test_faults.py -k {fault.id}")
        raise
    table.survived.setdefault(fault.id, []).append((figures, run.recovery))
