"""`streamgauge sql`: one IoT SQL statement over one message, many cases, or a prompt."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

if TYPE_CHECKING:
    from ..rules.rule import Outcome, Rule

FOUND_PROBLEMS = 1


class Version(StrEnum):
    """The versions of the language."""

    CURRENT = "2016-03-23"
    OLDER = "2015-10-08"


class Division(StrEnum):
    """What Int / Int gives."""

    INT = "int"
    DECIMAL = "decimal"


class Undefined(StrEnum):
    """What AND and OR make of Undefined."""

    STRICT = "strict"
    KLEENE = "kleene"


def command(
    statement: Annotated[
        str | None, typer.Argument(metavar="[STATEMENT]", help="None: a prompt is opened.")
    ] = None,
    topic: Annotated[str, typer.Option(help="The topic that the message came by.")] = "",
    payload: Annotated[
        str, typer.Option(metavar="FILE|-", help="The message; none: an empty object.")
    ] = "",
    context: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="JSON object of what functions such as clientid() show, by their names.",
        ),
    ] = "",
    rule_name: Annotated[str, typer.Option(help="The rule's name, for Basic Ingest.")] = "",
    cases: Annotated[
        str, typer.Option(metavar="FILE|-", help="Cases, a JSON object a line, instead.")
    ] = "",
    why: Annotated[bool, typer.Option("--why", help="Tell what each part of WHERE gives.")] = False,
    sql_version: Annotated[Version, typer.Option(help="Of the language.")] = Version.CURRENT,
    int_division: Annotated[Division, typer.Option(help="Of two integers.")] = Division.INT,
    undefined_logic: Annotated[
        Undefined, typer.Option(help="What AND and OR make of Undefined.")
    ] = Undefined.STRICT,
) -> None:
    """Apply an AWS IoT SQL statement to a message, as a rule of AWS IoT does, and print the output.

    The message is read from a file or, with "-", from standard input. Where FROM does not match or
    WHERE is not true nothing is printed, and stderr says why; the exit status is 0. It is 1 where
    the statement is refused or has no output for the message.

    With --cases each line of a file is a case: id, sql, topic, and the message as payload (JSON),
    payload_raw (text) or payload_hex; where needed context and rule_name. For each a line is
    printed: id, outcome (output, no_action, not_triggered or error), output or error.

    Without a statement a prompt reads statements, and lines that begin with a point: .help tells.

    Example: streamgauge sql 'SELECT (t - 32) * 5 / 9 AS c' --payload message.json
    """
    choices = {
        "version": sql_version.value,
        "int_division": int_division.value,
        "undefined_logic": undefined_logic.value,
    }
    if cases and (statement or payload or topic):
        raise typer.BadParameter("has statement, topic and message in it", param_hint="--cases")
    if cases:
        _cases(cases, choices)
        return
    known = _context(context)
    data = _read(payload) if payload else b"{}"
    if statement is None:
        from .sql_prompt import Prompt

        Prompt(topic, data, known, choices).run()
    else:
        _one(statement, rule_name, topic, data, known, why, choices)


def _one(
    statement: str,
    rule_name: str,
    topic: str,
    payload: bytes,
    context: dict[str, Any],
    why: bool,
    choices: dict[str, str],
) -> None:
    """Apply a statement to the message, and print its output."""
    from ..rules.rule import Rule

    rule = Rule(statement, rule_name=rule_name or None, where="statement", **choices)
    for problem in rule.warnings:
        typer.echo(str(problem), err=True)
    outcome = apply(rule, topic or None, payload, context, why)
    if outcome.kind == "output":
        sys.stdout.buffer.write(outcome.output + b"\n")
        sys.stdout.buffer.flush()
    if outcome.kind == "error":
        raise typer.Exit(FOUND_PROBLEMS)


def apply(
    rule: Rule, topic: str | None, payload: bytes, context: dict[str, Any], why: bool
) -> Outcome:
    """Apply a rule; say on stderr what is not an output, and what each part of WHERE gives."""
    from ..rules.rule import Message
    from ..rules.why import why as reasons

    known = {"timestamp": time.time_ns() // 1_000_000, **context}
    message = Message(payload, topic, known, seed=os.urandom(16))
    outcome = rule.apply(message)
    told = {
        "not_triggered": f"not triggered: topic {topic!r} does not match FROM {rule.filter!r}",
        "no_action": f"no action: WHERE is {outcome.where}",
        "error": f"no output: {outcome.error}",
    }
    if outcome.kind in told:
        typer.echo(told[outcome.kind], err=True)
    condition = rule.statement.query.where
    wanted = why or outcome.kind == "no_action"
    if wanted and condition is not None and outcome.kind != "not_triggered":
        for line in reasons(condition, message, rule.dialect):
            typer.echo(f"  {line}", err=True)
    return outcome


def _read(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()


def _context(name: str) -> dict[str, Any]:
    from ..engine.errors import ConfigError, Problem

    if not name:
        return {}
    try:
        found = json.loads(_read(name))
    except ValueError as error:
        raise ConfigError([Problem(name, f"expected a JSON object: {error}")]) from None
    if not isinstance(found, dict):
        raise ConfigError([Problem(name, "expected a JSON object")])
    return found


def _cases(name: str, choices: dict[str, str]) -> None:
    """Print the outcome of each case of a file."""
    from ..consumers.inputs import Input

    out = sys.stdout.buffer
    with closing(Input(name)) as opened:
        try:
            for number, text in enumerate(opened.lines(), 1):
                if text.strip():
                    found = _case(text, f"{opened.name}: line {number}", choices)
                    out.write(msgspec.json.encode(found) + b"\n")
        finally:
            out.flush()


def _case(text: bytes, where: str, choices: dict[str, str]) -> dict[str, Any]:
    from ..engine.errors import ConfigError
    from ..rules.rule import Message, Rule

    case = _checked(text, where)
    payload = _payload(case, where)
    names = ("int_division", "undefined_logic", "version")
    chosen = {**choices, **{name: case[name] for name in names if name in case}}
    try:
        rule = Rule(case["sql"], rule_name=case.get("rule_name"), where=where, **chosen)
    except ConfigError as error:
        return {"id": case["id"], "outcome": "error", "error": str(error)}
    context = {"timestamp": time.time_ns() // 1_000_000, **case.get("context", {})}
    message = Message(payload, case.get("topic"), context, seed=os.urandom(16))
    outcome = rule.apply(message)
    found = {"id": case["id"], "outcome": outcome.kind}
    if outcome.kind == "output":
        found |= _output(outcome.output)
    if outcome.error is not None:
        found["error"] = outcome.error
    return found


def _checked(text: bytes, where: str) -> dict[str, Any]:
    from ..engine.errors import ConfigError, Problem

    try:
        case = json.loads(text)
    except ValueError as error:
        raise ConfigError([Problem(where, f"expected a case as JSON: {error}")]) from None
    if not isinstance(case, dict):
        raise ConfigError([Problem(where, "expected a case as a JSON object")])
    kinds = {"id": (str, int), "sql": str, "topic": (str, type(None)), "context": dict,
             "rule_name": str, "payload_raw": (str, type(None)), "payload_hex": str,
             "version": str, "int_division": str, "undefined_logic": str}  # fmt: skip
    problems = [
        Problem(where, f"{name}: expected another type, found {json.dumps(case[name])[:40]}")
        for name, kind in kinds.items()
        if name in case and not isinstance(case[name], kind)  # type: ignore[arg-type]
    ]
    problems += [
        Problem(where, f"a case needs {name}") for name in ("id", "sql") if name not in case
    ]
    if problems:
        raise ConfigError(problems)
    return case


def _payload(case: dict[str, Any], where: str) -> bytes:
    from ..engine.errors import ConfigError, Problem

    if case.get("payload_raw") is not None:
        return str(case["payload_raw"]).encode()
    if "payload_hex" in case:
        try:
            return bytes.fromhex(case["payload_hex"])
        except ValueError:
            raise ConfigError([Problem(where, "payload_hex: expected hex digits")]) from None
    return json.dumps(case.get("payload", {}), ensure_ascii=False).encode()


def _output(output: bytes) -> dict[str, Any]:
    """The output as JSON; as text where it is none, and in base64 where it is no text."""
    try:
        json.loads(output)
    except ValueError:
        pass
    else:
        return {"output": msgspec.Raw(output)}
    try:
        return {"output": output.decode()}
    except UnicodeDecodeError:
        import base64

        return {"output": None, "output_base64": base64.b64encode(output).decode()}
