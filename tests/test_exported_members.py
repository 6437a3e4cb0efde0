"""The face of the package: which names it has, and what importing them costs a user."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import streamgauge

INIT = Path(streamgauge.__file__)
# What the library path may load. google is protobuf; msgspec takes typing_extensions where it is.
LIBRARY = {"google", "msgspec", "numpy", "typing_extensions"}

PROBE = """
import json, sys
before = set(sys.modules)
try:
    {statement}
except SystemExit:
    pass
print()
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""


def loaded(statement: str) -> set[str]:
    """The top-level modules of other projects that a statement loads in a fresh interpreter."""
    command = [sys.executable, "-c", PROBE.format(statement=statement)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    own = ("streamgauge", "__editable__")  # the second is how an editable install is found
    names = json.loads(result.stdout.splitlines()[-1])
    return {name for name in names if not name.startswith(own)} - sys.stdlib_module_names


def promised() -> dict[str, str]:
    """Each name that a type checker is told of, and the module it is told to look in."""
    return {
        alias.name: node.module or ""
        for block in ast.parse(INIT.read_text(encoding="utf-8")).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_exported_names_are_those_the_type_checker_sees() -> None:
    assert streamgauge.__all__ == sorted([*promised(), "__version__"])
    assert dir(streamgauge) == streamgauge.__all__


def test_face_stays_small() -> None:
    assert len(streamgauge.__all__) <= 12


@pytest.mark.parametrize("name", promised())
def test_name_comes_from_where_it_is_promised(name: str) -> None:
    assert getattr(streamgauge, name) is getattr(importlib.import_module(promised()[name]), name)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Pipelin'"):
        streamgauge.Pipelin  # noqa: B018


def test_package_alone_loads_nothing_else() -> None:
    assert loaded("import streamgauge") == set()


@pytest.mark.parametrize(
    "statement",
    ["from streamgauge import Pipeline", "import streamgauge.engine.pipeline"],
)
def test_library_loads_numpy_msgspec_and_protobuf_only(statement: str) -> None:
    assert loaded(statement) <= LIBRARY


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_command_answers_without_the_heavy_packages(option: str) -> None:
    statement = f"from streamgauge.__main__ import main; sys.argv[1:] = ['{option}']; main()"
    assert loaded(statement).isdisjoint({"boto3", "botocore", "numpy", "rich"})
