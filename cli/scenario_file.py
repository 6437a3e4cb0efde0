"""The scenario file of `streamgauge fleet`: TOML to a Scenario, with every problem on the way."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..engine.errors import ConfigError, Problem
from ..producers.scenario import Scenario, disorder
from ..rules.spec_tables import decode, parse_toml
from ..rules.spec_values import found, nearest

T = TypeVar("T", bound=msgspec.Struct)


def load(path: Path) -> Scenario:
    """Read a scenario file; what it leaves out has its default.

    Raises:
        ConfigError: with every problem: unknown keys and the nearest valid one, wrong values.
        OSError: it cannot be read.
    """
    tree = parse_toml(decode(path.read_bytes(), str(path)), str(path))
    if isinstance(tree, Problem):
        raise ConfigError([tree])
    problems: list[Problem] = []
    scenario = _read(Scenario(), tree, f"{path}: ", problems)
    if not problems:
        problems = [Problem(f"{path}: {where}", wrong) for where, wrong in disorder(scenario)]
    if problems:
        raise ConfigError(problems)
    return scenario


def with_values(scenario: Scenario, **values: Any) -> Scenario:
    """A scenario with some of its own keys changed; None leaves one as it is.

    Raises:
        ConfigError: a value is none that the key takes.
    """
    given = {name: value for name, value in values.items() if value is not None}
    problems: list[Problem] = []
    changed = _read(scenario, given, "", problems)
    if problems:
        raise ConfigError(problems)
    return changed


def _read(default: T, table: dict[str, Any], where: str, problems: list[Problem]) -> T:
    """A struct with the keys of a table in place of its default's; problems are added."""
    hints = typing.get_type_hints(type(default), include_extras=True)
    values: dict[str, Any] = {}
    for name, value in table.items():
        place = where + name
        if name not in hints:
            near = nearest(name, list(hints))
            hint = f'did you mean "{near}"?' if near else "valid keys: " + ", ".join(hints)
            problems.append(Problem(place, "unknown key", hint=hint))
        elif isinstance(below := getattr(default, name), msgspec.Struct):
            if isinstance(value, dict):
                values[name] = _read(below, value, f"{place}.", problems)
            else:
                problems.append(Problem(place, f"expected a table, found {found(value)}"))
        else:
            try:
                values[name] = msgspec.convert(value, hints[name])
            except msgspec.ValidationError as error:
                reason = str(error).replace("Expected", "expected", 1).replace(" - at `$", " at `")
                problems.append(Problem(place, reason, hint=f"found {found(value)}"))
    return msgspec.structs.replace(default, **values)
