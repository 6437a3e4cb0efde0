"""The class that stands in for the KCL's own way of opening aggregates, in a real Java."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from kcl_opening import TOP, Written, command, compiled, deaggregated
from plain_kpl import pack
from servers import need, need_jars

from streamgauge.cli import kcl_daemon, kcl_whole

pytestmark = pytest.mark.slow
GOOD = [(b"a", b"1", 5), (b"b", b"2", TOP // 2)]


@pytest.fixture(scope="module")
def shadowed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The class path of the daemon itself, before the same program."""
    folder, jars = tmp_path_factory.mktemp("kcl"), need_jars("kcl")
    kcl_whole.write(folder / "classes")
    compiled(folder, jars)
    found = kcl_daemon.arguments(Path(jars).parent, folder)
    return command(f"{found[found.index('-cp') + 1]}:{folder}")


def test_every_record_comes_as_it_is(shadowed: list[str]) -> None:
    """Those that the KCL opens, drops without a word, or stops at."""
    datas = [b"plain", pack(GOOD), pack(GOOD, bad_index=[1]), pack(GOOD)[:-1] + b"x", pack([])]
    written = [Written(0, TOP // 2 - 1, str(n), "a", data) for n, data in enumerate(datas, 1)]
    told = deaggregated(shadowed, written)
    assert [[user.data for user in of] for of in told] == [[data] for data in datas]


def test_all_that_the_kcl_asks_of_its_class_is_there(shadowed: list[str]) -> None:
    """By name and kind: what the methods of the KCL's jars refer to in it."""
    jar, = Path(need_jars("kcl")).parent.glob("amazon-kinesis-client-3*.jar")  # fmt: skip
    users = ("lifecycle.ProcessTask", "lifecycle.LifecycleConfig", "coordinator.Scheduler",
             "lifecycle.KinesisConsumerTaskFactory", "lifecycle.ShardConsumerArgument")  # fmt: skip
    names = [f"software.amazon.kinesis.{name}" for name in users]
    asked = {line.partition("AggregatorUtil.")[2] for line in javap("-p", "-c", f"{jar}", *names)
             if "Method software/amazon/kinesis/retrieval/AggregatorUtil." in line}  # fmt: skip
    classes = shadowed[shadowed.index("-cp") + 1].partition(":")[0]
    ours = "\n".join(javap("-s", "-public", classes, kcl_whole.NAME.replace("/", ".")))
    assert asked and all(one.partition(":")[2] in ours for one in asked)


def javap(*arguments: str) -> list[str]:
    """What the disassembler says: its options, then the class path, then classes."""
    at = next(n for n, one in enumerate(arguments) if not one.startswith("-"))
    tool = Path(need("javac")).with_name("javap")
    done = subprocess.run(
        [tool, *arguments[:at], "-cp", *arguments[at:]], check=True, stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    return done.stdout.splitlines()
