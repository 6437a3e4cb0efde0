"""Read TOML tables into the structs that describe them, collecting every problem on the way.

A struct's field is a key: its annotation holds the `Kind` of value and the sentence that explains
it, its default is the key's default. From these alone come the checks, the names of environment
variables that override, and the reference page.
"""

from __future__ import annotations

import functools
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from ..engine.errors import ConfigError, Problem
from .spec_values import Kind, choice, found, nearest

PREFIX = "STREAMGAUGE_"
EXCERPT_CHARACTERS = 90  # of a line that is not TOML, around the caret

Shape = type[msgspec.Struct]
T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class EnvironmentOnly:
    """Marks a key that may be given by its environment variable but never by the file."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a key whose kind does not imply it, for the reference page."""

    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table.

    Exactly one of `kind` (a value) and `shape` (a table; with `many` an array of tables) is set.
    default: the engine's value where the key is absent; None with `required` false: nothing.
    """

    name: str
    kind: Kind | None
    shape: Shape | None
    many: bool
    required: bool
    default: Any
    meaning: str
    unit: str
    environment_only: bool


@functools.cache
def keys(shape: Shape) -> dict[str, Key]:
    """The keys of a table by name, in the order of the struct's fields."""
    hints = typing.get_type_hints(shape, include_extras=True)
    return {field.name: _key(field, hints[field.name]) for field in msgspec.structs.fields(shape)}


def _key(field: msgspec.structs.FieldInfo, hint: Any) -> Key:
    hint, notes = _unwrapped(hint)
    arguments = typing.get_args(hint)
    many = typing.get_origin(hint) is tuple and _is_table(arguments[0])
    table = arguments[0] if many else hint
    kind = next((note for note in notes if isinstance(note, Kind)), None)
    if typing.get_origin(hint) is typing.Literal:
        kind = choice(arguments)
    default = None if field.default is msgspec.NODEFAULT else field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    return Key(
        field.name,
        kind,
        table if _is_table(table) else None,
        many,
        field.required,
        default,
        meaning=next((note for note in notes if isinstance(note, str)), ""),
        unit=next(
            (note.name for note in notes if isinstance(note, Unit)), kind.unit if kind else ""
        ),
        environment_only=any(isinstance(note, EnvironmentOnly) for note in notes),
    )


def _unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    """Take `Annotated` and `| None` off a type; also what annotations held, outer first."""
    notes: list[Any] = []
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            hint, *more = typing.get_args(hint)
            notes += more
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            (hint,) = (member for member in typing.get_args(hint) if member is not type(None))
        else:
            return hint, notes


def _is_table(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def decode(content: bytes, origin: str = "pipeline") -> str:
    """The text of a pipeline file's bytes; ConfigError where they are no UTF-8."""
    try:
        return content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: line {line} holds the byte 0x{content[error.start]:02x}"
        raise ConfigError([Problem(origin, message, hint="save the file as UTF-8")]) from error


def parse_toml(text: str, origin: str) -> dict[str, Any] | Problem:
    """The tables of a TOML text, or the one syntax error that its parser stopped at."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return _not_toml(text, origin, error)


def _not_toml(text: str, origin: str, error: Exception) -> Problem:
    """A syntax error with its line, and a caret under the column that tomllib names."""
    if isinstance(error, RecursionError):
        return Problem(origin, "not TOML: nested too deep")
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error))
    if match is None:
        return Problem(origin, f"not TOML: {error}")
    message, line, column = match.groups()
    lines = (text if line else text.rstrip()).split("\n")
    row = int(line) if line else len(lines)
    at = int(column) if column else len(lines[-1]) + 1
    start = max(0, at - EXCERPT_CHARACTERS // 2)
    shown = lines[row - 1][start : start + EXCERPT_CHARACTERS].rstrip("\r").replace("\t", " ")
    excerpt = f"{shown}\n{' ' * (at - 1 - start)}^"
    return Problem(f"{origin}: line {row}, column {at}", f"not TOML: {message}", excerpt=excerpt)


def known(*values: object) -> bool:
    """Whether all of these could be read: none is the UNSET that stands for a faulty value."""
    return not any(value is msgspec.UNSET for value in values)


def read_table(
    shape: type[T], table: Mapping[str, Any], root: Shape, names: Names, problems: list[Problem]
) -> T:
    """Make a struct of a table; whatever is wrong is added to `problems`.

    A field that could not be read holds UNSET, so that the checks after this one can go on with
    the rest. `root` is the shape of the whole file, for the hint that a key belongs elsewhere.
    """
    valid = keys(shape)
    meant = set()
    for name in table:
        if name not in valid:
            problems.append(_unknown(name, shape, root, names))
            meant.add(nearest(name, list(valid)))
    values = {}
    for name, key in valid.items():
        if name in table:
            values[name] = _read(key, table[name], root, names.below(name), problems)
        elif key.required:
            if name not in meant:  # a misspelt key is one problem, not two
                problems.append(_missing(key, names.below(name)))
            values[name] = msgspec.UNSET
        else:
            values[name] = key.default
    return shape(**values)


@dataclass(frozen=True, slots=True)
class Names:
    """Where in the file a value stands: `thermostats.toml: rules.overheating.window`.

    path: of the value, rules by their name. heading: of its table, as TOML writes it (rules.tests).
    variables: the paths that environment variables have overridden, and the variables.
    """

    origin: str
    variables: Mapping[str, str]
    path: str = ""
    heading: str = ""

    def below(self, name: str) -> Names:
        """The place of a key of this table."""
        path, heading = (
            f"{above}.{name}" if above else name for above in (self.path, self.heading)
        )
        return Names(self.origin, self.variables, path, heading)

    def item(self, number: int, table: Any) -> Names:
        """The place of one table of an array: by its name where it has one, else by its number."""
        path = self.path + item_name(number, table)
        return Names(self.origin, self.variables, path, self.heading)

    @property
    def where(self) -> str:
        """The place as a `Problem` names it, with the variable that set the value there."""
        variable = self.variables.get(self.path)
        return f"{self.origin}: {self.path}" + (f" (set by {variable})" if variable else "")


def item_name(number: int, table: Any) -> str:
    """How one table of an array is called behind the array's name: `.overheating` or `[0]`."""
    name = table.get("name") if isinstance(table, dict) else None
    named = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_.-]+", name)
    return f".{name}" if named else f"[{number}]"


def _read(key: Key, value: Any, root: Shape, names: Names, problems: list[Problem]) -> Any:
    if key.kind is not None:
        if key.environment_only and names.path not in names.variables:
            variable = variable_name(*names.path.split("."))
            message = f"not in the file; set the environment variable {variable}"
            problems.append(Problem(names.where, message))
            return msgspec.UNSET
        try:
            return key.kind.read(value)
        except ValueError as error:
            shown = "something else" if key.environment_only else found(value)
            message = f"expected {key.kind.expected}, found {shown}"
            problems.append(Problem(names.where, message, hint=str(error)))
            return msgspec.UNSET
    assert key.shape is not None, "a key is a value or a table"
    if not key.many:
        if isinstance(value, dict):
            return read_table(key.shape, value, root, names, problems)
        expected = f"a table, written [{names.heading}]"
    else:
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            return tuple(
                read_table(key.shape, item, root, names.item(number, item), problems)
                for number, item in enumerate(value)
            )
        expected = f"one or more tables, each written [[{names.heading}]]"
    problems.append(Problem(names.where, f"expected {expected}, found {found(value)}"))
    return msgspec.UNSET


def _missing(key: Key, names: Names) -> Problem:
    if key.kind is not None:
        expected = key.kind.expected
    else:
        expected = f"at least one table [[{names.heading}]]" if key.many else f"[{names.heading}]"
    return Problem(names.where, f"missing; expected {expected}")


def _unknown(name: str, shape: Shape, root: Shape, names: Names) -> Problem:
    """An unknown key: the nearest valid one, else the table it belongs to, else all valid ones."""
    valid = list(keys(shape))
    near = nearest(name, valid)
    homes = [home for home, table in tables(root) if name in keys(table) and table is not shape]
    if near:
        hint = f'did you mean "{near}"?'
    elif homes:
        hint = f'"{name}" is a key of {homes[0]}'
    else:
        hint = "valid keys: " + ", ".join(valid)
    return Problem(names.below(name).where, "unknown key", hint=hint)


def tables(shape: Shape, path: str = "") -> Iterator[tuple[str, Shape]]:
    """Every table below a shape with its heading, `[source]` or `[[rules]]`, in file order."""
    for key in keys(shape).values():
        if key.shape is not None:
            below = f"{path}.{key.name}" if path else key.name
            yield (f"[[{below}]]" if key.many else f"[{below}]"), key.shape
            yield from tables(key.shape, below)


def variable_name(*path: str) -> str:
    """The environment variable that overrides the key at a path: STREAMGAUGE_SOURCE__STREAM."""
    return PREFIX + "__".join(re.sub(r"[^A-Z0-9]", "_", part.upper()) for part in path)


def override(
    tree: dict[str, Any], root: Shape, environ: Mapping[str, str], origin: str
) -> tuple[dict[str, str], list[Problem]]:
    """Put the values of environment variables into a tree as TOML gave it.

    Returns the variable of each path that was set, and a problem for each variable with a double
    underscore that names no key. Variables without one are not meant for the file.
    """
    valid = overridable(tree, root)
    used: dict[str, str] = {}
    problems = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or "__" not in variable.removeprefix(PREFIX):
            continue
        places = valid.get(variable, [])
        if len(places) == 1:
            path, key, table = places[0]
            assert key.kind is not None, "only values can be overridden"
            table[key.name] = _typed(text, key.kind)
            used[path] = variable
            if not key.environment_only:  # a password alone does not declare a bridge
                tree.setdefault(path.split(".")[0], table)
            continue
        where = f"{origin}: environment variable {variable}"
        if places:
            meant = " and ".join(path for path, _, _ in places)
            problems.append(Problem(where, f"stands for both {meant}", hint="rename one rule"))
            continue
        near = nearest(variable.removeprefix(PREFIX), [v.removeprefix(PREFIX) for v in valid])
        hint = f"did you mean {PREFIX}{near}?" if near else ""
        problems.append(Problem(where, "names no key of the pipeline file", hint=hint))
    return used, problems


def overridable(
    tree: Mapping[str, Any], root: Shape
) -> dict[str, list[tuple[str, Key, dict[str, Any]]]]:
    """By variable: the path, key and table that it sets; several where rules' names are alike."""
    valid: dict[str, list[tuple[str, Key, dict[str, Any]]]] = {}
    for section in keys(root).values():
        content = tree.get(section.name, [] if section.many else {})
        if section.many and isinstance(content, list):
            named = [(section.name + item_name(n, item), item) for n, item in enumerate(content)]
            owners = [(path, item) for path, item in named if not path.endswith("]")]
        else:
            owners = [(section.name, content)]
        for path, table in owners:
            if section.shape is None or not isinstance(table, dict):
                continue
            for key in keys(section.shape).values():
                if key.kind is not None:
                    variable = variable_name(*path.split(".", 1), key.name)
                    valid.setdefault(variable, []).append((f"{path}.{key.name}", key, table))
    return valid


def _typed(text: str, kind: Kind) -> Any:
    """The TOML value that a variable's text is where that fits the key, else the text itself."""
    try:
        tree = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    if list(tree) != ["value"]:
        return text
    for candidate in (tree["value"], text):
        try:
            kind.read(candidate)
        except ValueError:
            continue
        return candidate
    return tree["value"]
