"""The command streamgauge: a table of sub-commands, each imported only when it is asked for.

So `--help` and `--version` load neither numpy nor boto3 nor rich. Every module cli/NAME.py has one
function `command`, whose parameters are the options and whose docstring is the help, or a `group`
of several such functions: a typer.Typer.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from .engine.errors import ConfigError, StreamgaugeError

COMMANDS = {  # name: (module in cli, one line for the list)
    "init": ("init", "Write a commented pipeline file, thresholds and sample readings."),
    "check": ("check", "Print every problem of a pipeline file."),
    "test": ("test", "Run the tests that stand beside the rules of a pipeline file."),
    "sql": ("sql", "Try IoT SQL statements on messages, or at a prompt."),
    "decode": ("decode", "Open Kinesis records: print the user records in them."),
    "backtest": ("backtest", "Run a pipeline over recorded readings."),
    "run": ("run", "Run a pipeline on a stream, from this machine."),
    "kcl": ("kcl", "Run a pipeline as one of several workers, under the KCL."),
    "bridge": ("bridge", "Carry messages of an MQTT broker into the stream."),
    "thresholds": ("thresholds", "Read and change the limits of single devices."),
    "deploy": ("deploy", "Package a pipeline for Lambda, make its templates, switch it."),
    "archive": ("archive", "Look into an archive, and merge its small objects."),
    "errors": ("errors", "Look into the error stream, and redrive what was mended."),
    "doctor": ("doctor", "Tell what is missing for what, and how to mend it."),
    "fleet": ("fleet", "Simulate a fleet with faults, and the alerts that must come."),
    "replay": ("replay", "Send recorded data again, at a multiple of its own pace."),
    "demo": ("demo", "Run it all on a simulated fleet, with nothing but this machine."),
}
FOUND_PROBLEMS = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells count


class CommandTable(TyperGroup):
    """The group of all commands; a module is imported when its command is first used."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        """The command of one name, or None, which makes a usage error of it."""
        if cmd_name not in COMMANDS:
            return None
        module, line = COMMANDS[cmd_name]
        imported = import_module(f".cli.{module}", __package__)
        command = getattr(imported, "group", None)  # a command with sub-commands of its own
        if command is None:
            command = typer.Typer(rich_markup_mode=None, add_completion=False)
            command.command(cmd_name, short_help=line)(imported.command)
        found: TyperCommand = get_command(command)  # type: ignore[assignment]
        return found

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of `--help`, out of the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def print_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from . import __version__

        typer.echo(f"streamgauge {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Watch device telemetry on Amazon Kinesis: filters, exact windows, thresholds, alerts.

    Example: streamgauge backtest thermostats.toml --input readings.ndjson
    """


def build() -> TyperGroup:
    """The whole command, ready to be called with `main(arguments)`."""
    app = typer.Typer(
        cls=CommandTable, rich_markup_mode=None, add_completion=False, no_args_is_help=True
    )
    app.callback()(root)
    group: TyperGroup = get_command(app)  # type: ignore[assignment]
    return group


def main() -> NoReturn:
    """Run the command line: exit status 0, 1 (found problems), 2 (usage) or 130 (Ctrl-C)."""
    try:
        try:
            build().main(prog_name="streamgauge")
        finally:
            sys.stdout.flush()
    except ConfigError as error:
        typer.echo(error, err=True)  # each problem says where it is
        sys.exit(FOUND_PROBLEMS)
    except (StreamgaugeError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has gone: no news to him
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            typer.echo(f"streamgauge: error: {error}", err=True)
        sys.exit(FOUND_PROBLEMS)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)


if __name__ == "__main__":
    main()
