"""A run process killed, stopped, frozen and doubled: the alerts stay those of one that was not."""

from __future__ import annotations

import random
import signal
import threading
from typing import Any

import pytest
from fault_proxy import Answer, Call, Forward, Hold, Rule
from live_run import Scene

pytestmark = pytest.mark.slow

# A call of each step, and whether what it does is done when the process dies in it. The last ones
# need state objects: by then there are some.
MOMENTS: list[tuple[str, str, Any]] = [
    ("GetRecords", "", "never"),
    ("BatchGetItem", "", "never"),
    ("PublishBatch", "", "never"),
    ("PublishBatch", "", "before"),
    ("PutObject", "/errors/", "never"),
    ("PutObject", "/errors/", "before"),
    ("PutObject", "/state/", "never"),
    ("PutObject", "/state/", "before"),
    ("GetObject", "/state/", "never"),
    ("DeleteObjects", "", "never"),
    ("DeleteObjects", "", "before"),
]


def test_killed_in_each_step_before_and_after_its_effect(scene: Scene) -> None:
    for operation, path, done in MOMENTS:
        hold = Hold(done)
        with (
            scene.proxy(Rule(operation, hold, path=path), records_max=8) as proxy,
            scene.run(proxy) as run,
        ):
            hold.wait()
            run.kill()
            hold.let_go()
    scene.finish()
    found = scene.judged(f"K1 killed {len(MOMENTS)} times, once in each step")
    assert found.repeats > 0  # of the life that had published and not saved


def test_killed_at_any_moment_with_batches_unsaved(scene: Scene) -> None:
    """A state object never, or now and then only, so that a kill takes several batches with it."""
    seed, lives = 7, ("1h", "300ms", "300ms")
    rng = random.Random(seed)
    for save_every in lives:
        scene.write(save_every=save_every)
        with scene.proxy(records_max=10) as proxy, scene.run(proxy) as run:
            proxy.wait("GetRecords", rng.randint(4, 7))
            run.kill()
    scene.finish()
    found = scene.judged(f"K1 killed {len(lives)} times, seed {seed}")
    assert found.repeats > 0  # of the first life, which had published and not saved


def test_sigterm_saves_what_was_applied_and_the_next_run_goes_on(scene: Scene) -> None:
    """No state object is due, so that of the stop alone keeps the alerts from coming again."""
    scene.write(save_every="1h")
    for reads in (4, 4):
        with scene.proxy(records_max=20) as proxy, scene.run(proxy) as run:
            proxy.wait("GetRecords", reads)
            assert run.count("state_saved") == 0
            assert run.stop() == 0, run
            assert run.count("state_saved") >= 1
    scene.finish()
    assert scene.judged("L6 stopped twice").repeats == 0


def test_frozen_while_another_one_goes_on_to_the_end(scene: Scene) -> None:
    """The zombie's state object comes when its number is long taken: it is refused, and reloads."""
    hold = Hold("after")
    rule = Rule("PutObject", hold, path="/state/", after=1)
    with scene.proxy(rule, records_max=10) as proxy, scene.run(proxy, "--until-end") as zombie:
        hold.wait()
        zombie.send(signal.SIGSTOP)
        scene.finish()
        hold.let_go()
        zombie.send(signal.SIGCONT)
        assert zombie.ended() == 0, zombie
        fenced = [line["shard"] for line in zombie.events if line["event"] == "fenced"]
        assert fenced and len(fenced) == len(set(fenced))
    scene.judged("K2 frozen while another one went on")


def test_twins_on_one_stream(scene: Scene) -> None:
    """Of two copies at once one writes where the other has written: it reloads, or stops.

    They read in pieces of different size, so that no state object of theirs is the same.
    """
    both = threading.Barrier(2, timeout=60)

    def together(call: Call, forward: Forward) -> Answer:
        both.wait()
        return forward(call.body)

    with (
        scene.proxy(Rule("ListShards", together), records_max=20) as front,
        scene.proxy(Rule("ListShards", together), records_max=9) as back,
        scene.run(front, "--until-end") as one,
        scene.run(back, "--until-end") as other,
    ):
        assert {one.ended(), other.ended()} <= {0, 1}, f"{one}\n{other}"
        assert one.count("fenced") + other.count("fenced") > 0
    scene.finish()  # should both have stopped
    scene.judged("K2 two at once")
