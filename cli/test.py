"""`streamgauge test`: the tests that stand beside the rules of a pipeline file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..consumers.rule_tests import Expected, Ran

FOUND_PROBLEMS = 1
_RED, _GREEN, _PLAIN = "\033[31m", "\033[32m", "\033[0m"


def command(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The pipeline file."),
    ],
    rule: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run the tests of one rule alone.")
    ] = None,
    update: Annotated[
        bool,
        typer.Option("--update", help="Write what came into `expect` of the tests that fail."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the tests of a pipeline file: [[rules.tests]] with given, topic and expect.

    The messages of a test go through its rule alone, with the rule's own limit, in a state of
    their own; expected are the changes of alert state, in order, each with the keys that matter.
    Of a test that fails it is printed what was expected and what came, key by key, and which
    messages were rejected and why.

    With --update the file gets what came, in place: comments and layout stay. Exit status 0: all
    pass; 1: some fail, or there is none; 2: the command was used wrongly.

    Example: streamgauge test thermostats.toml --rule overheating
    """
    from ..consumers.rule_tests import run
    from ..rules.spec import load

    spec = load(file)
    if rule is not None and rule not in {one.name for one in spec.rules}:
        names = ", ".join(one.name for one in spec.rules)
        raise typer.BadParameter(f"{file} has no rule {rule}: it has {names}", param_hint="--rule")
    ran = list(run(spec, rule))
    failed = [one for one in ran if not one.passed]
    if as_json:
        typer.echo(json.dumps(_report(ran)))
    else:
        for one in ran:
            _tell(one)
    if update and failed:
        _update(file, failed)
        typer.echo(f"{file}: {len(failed)} tests expect now what came", err=True)
        return
    if not ran:
        typer.echo(f"{file}: no tests: write [[rules.tests]] below a rule", err=True)
    if not as_json and ran:
        typer.echo(f"{len(ran) - len(failed)} passed, {len(failed)} failed")
    if failed or not ran:
        raise typer.Exit(FOUND_PROBLEMS)


def _tell(one: Ran) -> None:
    """Print a line for a test, and the difference where it fails."""
    typer.echo(f"{_coloured('ok' if one.passed else 'FAILED', one.passed)} {one.rule} {one.number}")
    if not one.passed:
        for line in difference(one.expected, one.alerts):
            typer.echo(f"  {line}")
    if one.rejected and not one.passed:
        for row in one.rejected:
            typer.echo(f"  message {row.at.sequence_number} rejected: {row.reason}: {row.message}")


def _coloured(text: str, good: bool) -> str:
    return f"{_GREEN if good else _RED}{text}{_PLAIN}" if sys.stdout.isatty() else text


def difference(expected: list[Expected], alerts: list[dict[str, Any]]) -> Iterator[str]:
    """Yield lines that say what was expected and what came, alert by alert and key by key."""
    for number in range(max(len(expected), len(alerts))):
        which = f"alert {number + 1}"
        if number >= len(alerts):
            yield f"{which}: expected {_short(expected[number])}, none came"
        elif number >= len(expected):
            yield f"{which}: none expected, came {_short(_told(alerts[number]))}"
        else:
            came = alerts[number]
            for name, value in expected[number].items():
                if came.get(name) != value:
                    found = _short(came[name]) if name in came else "nothing"
                    yield f"{which}: expected {name} = {_short(value)}, came {found}"


def _told(alert: dict[str, Any]) -> dict[str, Any]:
    """The keys of an alert that a person would write into a test."""
    return {name: alert[name] for name in ("state", "time", "value", "samples") if name in alert}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:99] + "\u2026"


def _report(ran: list[Ran]) -> dict[str, Any]:
    return {
        "passed": sum(one.passed for one in ran),
        "failed": sum(not one.passed for one in ran),
        "tests": [
            {
                "rule": one.rule,
                "test": one.number,
                "passed": one.passed,
                "expected": one.expected,
                "alerts": one.alerts,
                "rejected": [row.line() for row in one.rejected],
            }
            for one in ran
        ],
    }


def _update(file: Path, failed: list[Ran]) -> None:
    """Write what came into the file; the new one or the old one is there, nothing between."""
    from ..engine.errors import ConfigError, Problem
    from ..engine.files import replace

    try:
        import tomlkit
    except ImportError:
        hint = "pip install tomlkit"
        raise ConfigError([Problem("--update", "needs tomlkit, to leave comments", hint)]) from None
    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    rules: Any = document["rules"]
    for one in failed:
        (table,) = [rule for rule in rules if rule["name"] == one.rule]
        case = table["tests"][one.number - 1]
        keys = [tuple(expected) for expected in one.expected]
        case["expect"] = [
            _kept(alert, keys[at] if at < len(keys) else ()) for at, alert in enumerate(one.alerts)
        ]
    replace(file, tomlkit.dumps(document).encode())


def _kept(alert: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """An alert with the keys that the test named, else with those that matter to most."""
    named = {name: alert[name] for name in keys if alert.get(name) is not None}
    return named or _told(alert)
