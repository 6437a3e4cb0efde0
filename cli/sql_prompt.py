"""The prompt of `streamgauge sql`: statements typed in, applied to the message at hand.

Line editing, history and completion come from readline, where there is one. A statement may go over
several lines: it ends at a semicolon or an empty line. Where standard input is no terminal nothing
but outputs is printed on standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

HELP = """\
A statement is applied to the message at hand; it ends at ; or an empty line.
  .payload JSON     the message; as text where it is no JSON
  .load FILE        the message, from a file
  .topic TOPIC      the topic that it came by
  .context JSON     what functions such as clientid() show
  .version VERSION  2016-03-23 or 2015-10-08
  .why              tell, or no more tell, what each part of WHERE gives
  .show             the message at hand
  .quit             as Ctrl-D; Ctrl-C drops what was typed"""
FIRST, NEXT = "sql> ", "  -> "


class Prompt:
    """A message at hand, and what was typed so far."""

    def __init__(
        self, topic: str, payload: bytes, context: dict[str, Any], choices: dict[str, str]
    ) -> None:
        """Begin with a message; `choices` are those of `Rule`."""
        self.topic = topic
        self.payload = payload
        self.context = context
        self.choices = choices
        self.why = False
        self._typed: list[str] = []
        self._talks = sys.stdin.isatty()

    def run(self) -> None:
        """Read lines until the end of input."""
        if self._talks:
            self._editing()
            typer.echo("AWS IoT SQL. A statement, or .help; Ctrl-D ends.", err=True)
        while True:
            try:
                self._line(self._read())
            except EOFError:
                break
            except KeyboardInterrupt:
                self._typed.clear()
                typer.echo("", err=True)
            except StopIteration:
                break
        if self._typed:
            self._apply(" ".join(self._typed))
        if self._talks:
            typer.echo("", err=True)

    def _read(self) -> str:
        if self._talks:
            return input(NEXT if self._typed else FIRST)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def _line(self, line: str) -> None:
        if line.startswith(".") and not self._typed:
            self._command(line[1:])
            return
        if line.strip():
            self._typed.append(line)
        if not self._typed:
            return
        text = "\n".join(self._typed)
        if text.rstrip().endswith(";") or not line.strip():
            self._typed.clear()
            self._apply(text.rstrip().removesuffix(";"))

    def _apply(self, text: str) -> None:
        from ..engine.errors import ConfigError
        from ..rules.rule import Rule
        from .sql import apply

        try:
            rule = Rule(text, where="statement", **self.choices)
        except ConfigError as error:
            typer.echo(str(error), err=True)
            return
        for problem in rule.warnings:
            typer.echo(str(problem), err=True)
        outcome = apply(rule, self.topic or None, self.payload, self.context, self.why)
        if outcome.kind == "output":
            sys.stdout.write(outcome.output.decode("utf-8", "replace") + "\n")
            sys.stdout.flush()

    # Lines that begin with a point.

    def _command(self, line: str) -> None:
        name, _, rest = line.strip().partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "payload": self._payload,
            "load": self._load,
            "topic": self._topic,
            "context": self._context,
            "version": self._version,
            "why": self._why,
            "show": self._show,
            "help": lambda _: typer.echo(HELP, err=True),
            "quit": self._quit,
        }
        if name in commands:
            commands[name](rest.strip())
        else:
            typer.echo(f".{name}: no such command; .help tells them", err=True)

    def _payload(self, rest: str) -> None:
        self.payload = rest.encode()

    def _load(self, rest: str) -> None:
        try:
            self.payload = Path(rest).read_bytes()
        except OSError as error:
            typer.echo(f".load: {rest}: {error.strerror}", err=True)

    def _topic(self, rest: str) -> None:
        self.topic = rest

    def _context(self, rest: str) -> None:
        try:
            found = json.loads(rest)
        except ValueError as error:
            typer.echo(f".context: expected a JSON object: {error}", err=True)
            return
        if isinstance(found, dict):
            self.context = found
        else:
            typer.echo(".context: expected a JSON object", err=True)

    def _version(self, rest: str) -> None:
        from ..rules.interpret import VERSIONS

        if rest in VERSIONS:
            self.choices["version"] = rest
        else:
            typer.echo(f".version: expected {' or '.join(VERSIONS)}", err=True)

    def _why(self, rest: str) -> None:
        self.why = not self.why

    def _show(self, rest: str) -> None:
        typer.echo(f"topic {self.topic or '(none)'}", err=True)
        typer.echo(self.payload.decode("utf-8", "backslashreplace"), err=True)

    def _quit(self, rest: str) -> None:
        raise StopIteration

    # Completion.

    def _editing(self) -> None:
        try:
            import readline
        except ImportError:  # as on Windows
            return
        readline.set_completer(self.complete)
        readline.set_completer_delims(" \t\n()[]{},=<>+-*/%'\"")
        readline.parse_and_bind("tab: complete")

    def complete(self, text: str, state: int) -> str | None:
        """Return the n-th word that a text may become: words of the language, and fields."""
        found = [word for word in self.words() if word.casefold().startswith(text.casefold())]
        return found[state] if state < len(found) else None

    def words(self) -> Iterator[str]:
        """Keywords, functions, and the paths of the message at hand."""
        from ..rules.functions import KNOWN
        from ..rules.sql import KEYWORDS

        yield from sorted(KEYWORDS)
        yield from (f"{name}(" for name in sorted(KNOWN))
        try:
            body = json.loads(self.payload)
        except ValueError:
            return
        yield from _paths(body, "")


def _paths(value: Any, before: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield before + name
            yield from _paths(part, f"{before}{name}.")
