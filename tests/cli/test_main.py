"""The command as a whole: what it lists, how it ends, and what it does not load."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamgauge import __main__ as entry
from streamgauge import __version__
from streamgauge.engine.errors import (
    ConfigError,
    InputError,
    Problem,
    StateError,
    UnavailableError,
)

Run = Any


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: (exit status, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamgauge", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the command `check` raise."""

    def failing(error: BaseException) -> None:
        def command() -> None:
            """Fail."""
            raise error

        real = importlib.import_module
        monkeypatch.setattr(
            entry,
            "import_module",
            lambda name, package=None: (
                SimpleNamespace(command=command) if name == ".cli.check" else real(name, package)
            ),
        )

    return failing


def fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_help_lists_every_command(call: Run) -> None:
    status, out, err = call("--help")
    assert (status, err) == (0, "")
    listed = re.findall(r"^  ([a-z]+)  +(\S.*\.)$", out.partition("Commands:")[2], re.MULTILINE)
    assert listed == [(name, line) for name, (_, line) in entry.COMMANDS.items()]
    assert "Example: streamgauge" in out


def test_no_arguments_show_the_help(call: Run) -> None:
    status, out, err = call()
    assert status == 2
    assert "Commands:" in out + err


@pytest.mark.parametrize("name", entry.COMMANDS)
def test_help_of_each_command_shows_an_example(name: str, call: Run) -> None:
    status, out, err = call(name, "--help")
    assert (status, err) == (0, "")
    text = " ".join(out.split())
    assert text.startswith(f"Usage: streamgauge {name}")
    assert re.search(rf"Example: (?:[A-Z_]+=\S+ )?streamgauge {name}\b", text)


NESTED = [
    (name, nested)
    for name, (module, _) in entry.COMMANDS.items()
    if hasattr(found := importlib.import_module(f"streamgauge.cli.{module}"), "group")
    for nested in (command.name for command in found.group.registered_commands)
]


@pytest.mark.parametrize(("name", "nested"), NESTED)
def test_help_of_each_nested_command_shows_an_example(name: str, nested: str, call: Run) -> None:
    status, out, err = call(name, nested, "--help")
    assert (status, err) == (0, "")
    text = " ".join(out.split())
    assert text.startswith(f"Usage: streamgauge {name} {nested} [OPTIONS]")
    assert re.search(rf"Example: streamgauge {name} {nested}\b", text)


def test_a_group_lists_its_commands_and_knows_no_other(call: Run) -> None:
    assert ("thresholds", "get") in NESTED
    status, out, err = call("thresholds", "--help")
    listed = re.findall(r"^  ([a-z]+)  +(\S.*\.)$", out.partition("Commands:")[2], re.MULTILINE)
    assert [name for name, _ in listed] == [n for of, n in NESTED if of == "thresholds"]
    status, out, err = call("thresholds", "gett")
    assert (status, out) == (2, "")
    assert "No such command 'gett'" in err


def test_version(call: Run) -> None:
    assert call("--version") == (0, f"streamgauge {__version__}\n", "")


@pytest.mark.parametrize("arguments", [("nope",), ("--nope",), ("backtest",)])
def test_usage_errors(arguments: tuple[str, ...], call: Run) -> None:
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert "Error: " in err and "Traceback" not in err


@pytest.mark.parametrize(
    "error",
    [InputError("a"), StateError("b"), UnavailableError("c"), PermissionError(13, "denied", "f")],
)
def test_errors_of_the_world_are_one_plain_line(error: Exception, call: Run, failing: Any) -> None:
    failing(error)
    assert call("check") == (1, "", f"streamgauge: error: {error}\n")


def test_every_problem_of_a_file_is_printed(call: Run, failing: Any) -> None:
    failing(ConfigError([Problem("a.toml: x", "bad"), Problem("a.toml: y", "worse", "try z")]))
    assert call("check") == (1, "", "a.toml: x: error: bad\na.toml: y: error: worse (try z)\n")


def test_a_bug_is_not_hidden(call: Run, failing: Any) -> None:
    failing(ZeroDivisionError("bug"))
    with pytest.raises(ZeroDivisionError):
        call("check")


def test_ctrl_c(call: Run, failing: Any) -> None:
    failing(KeyboardInterrupt())
    assert call("check")[0] == 130


def test_python_m_and_the_installed_command_are_the_same() -> None:
    assert fresh("-m", "streamgauge", "--version").stdout == f"streamgauge {__version__}\n"
    command = Path(sys.executable).with_name("streamgauge")
    if command.exists():
        done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60)
        assert done.stdout == f"streamgauge {__version__}\n"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_next_to_nothing(option: str) -> None:
    code = (
        "import sys; sys.argv = ['streamgauge', sys.argv[1]]\n"
        "from streamgauge.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'boto3', 'botocore', 'rich', 'msgspec', 'google'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\n"
    )
    done = fresh("-c", code, option)
    assert done.stderr == "[]\n"
    assert done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["backtest", "--help"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "streamgauge", *arguments],
        stdout=write_end, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(write_end)
    assert done.stderr == b""
    assert done.returncode == 1
