"""The style as a test: what grows by drift in other projects is held here.

A rule that stands in the way is changed here, in one step and with a reason, not passed by.
"""

import ast
import re
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("cli", "consumers", "engine", "producers", "rules")
FOLDERS = {*PARTS, "bench", "changelog.d", "docs", "examples", "tests"}
DOCUMENTED = ("engine", "rules", "consumers", "cli", "producers")
MADE = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split() if line[-1] == "/"}
TEXT = {"", ".cfg", ".csv", ".json", ".md", ".ndjson", ".py", ".sql", ".toml", ".yaml"}

file_lines_max = 400
function_lines_max = 60
file_lines_median = 200
function_lines_median = 12
folders_deep_max = 2

Function = ast.FunctionDef | ast.AsyncFunctionDef


def made(path: Path) -> bool:
    """Whether a file or folder was made on this machine and is no part of the project."""
    hidden = path.name.startswith(".") and path.name != ".ci"
    return hidden or any(path.match(name) for name in MADE) or (path / "pyvenv.cfg").exists()


def walk(folder: Path) -> Iterator[Path]:
    """Every file of the project below a folder."""
    for path in sorted(folder.iterdir()):
        if made(path):
            continue
        if path.is_dir():
            yield from walk(path)
        else:
            yield path


def name(path: Path) -> str:
    """A path as it stands in the project."""
    return path.relative_to(ROOT).as_posix()


FILES = list(walk(ROOT))
MODULES = [path for path in FILES if path.suffix == ".py"]
each_module = pytest.mark.parametrize("path", MODULES, ids=name)


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of one module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(path: Path) -> int:
    """The number of lines of one file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(path: Path) -> dict[str, int]:
    """The length of each function of one module, decorators left out."""
    return {
        f"{name(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree(path))
        if isinstance(node, Function)
    }


def docstrings(module: ast.Module) -> set[int]:
    """The identities of the nodes that are docstrings."""
    return {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, (ast.Module, ast.ClassDef, Function))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


@each_module
def test_file_is_short_enough(path: Path) -> None:
    assert lines(path) <= file_lines_max


@each_module
def test_functions_are_short_enough(path: Path) -> None:
    assert {k: v for k, v in functions(path).items() if v > function_lines_max} == {}


def test_medians_stay_within_the_budget() -> None:
    parts = [path for path in MODULES if name(path).split("/")[0] in PARTS]
    file_median = statistics.median(map(lines, parts))
    function_median = statistics.median(v for path in parts for v in functions(path).values())
    in_tests = sum(lines(path) for path in MODULES if name(path).startswith("tests/"))
    share = in_tests / sum(map(lines, MODULES))
    print(
        f"medians: file {file_median}, function {function_median}; tests {share:.0%} of all lines"
    )
    assert file_median <= file_lines_median
    assert function_median <= function_lines_median


def test_names_say_what_is_inside() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [name(path) for path in MODULES if path.stem in vague] == []


def test_top_level_folders_are_the_known_ones() -> None:
    holding_code = {name(path).split("/")[0] for path in MODULES if path.parent != ROOT}
    assert holding_code <= FOLDERS


def test_folders_are_two_deep_at_most() -> None:
    assert [
        name(path)
        for path in MODULES
        if name(path).split("/")[0] in PARTS and name(path).count("/") > folders_deep_max
    ] == []


def test_root_holds_no_other_module() -> None:
    at_root = {path.name for path in MODULES if path.parent == ROOT}
    assert at_root <= {"__init__.py", "__main__.py"}


def test_tests_and_benches_are_no_packages() -> None:
    packages = [path for path in MODULES if path.name == "__init__.py"]
    assert [name(path) for path in packages if name(path).startswith(("tests/", "bench/"))] == []


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in MODULES if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


@each_module
def test_tests_do_not_sleep(path: Path) -> None:
    if not name(path).startswith("tests/"):
        return
    sleeps = [
        node.lineno
        for node in ast.walk(tree(path))
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "sleep"
            and isinstance(node.value, ast.Name)
            and node.value.id in {"time", "asyncio"}
        )
        or (
            isinstance(node, ast.ImportFrom)
            and node.module in {"time", "asyncio"}
            and any(alias.name == "sleep" for alias in node.names)
        )
    ]
    assert sleeps == []


def test_no_text_names_a_path_of_a_machine() -> None:
    machine = re.compile(r"(?<![\w.}])/(?:work|root|tmp|home/\w+|Users/\w+)/")
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in FILES
        if path.suffix in TEXT and name(path).split("/")[0] in FOLDERS | {".ci", path.name}
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if machine.search(line)
    ]
    assert found == []


@each_module
def test_code_addresses_this_machine_only(path: Path) -> None:
    module = tree(path)
    prose = docstrings(module)
    texts = [
        node.value
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]
    assert [text for text in texts for host in hosts(text) if not is_known_host(host)] == []


def hosts(text: str) -> Iterator[str]:
    """The hosts that a text names: of its URLs, and bare IPv4 addresses."""
    for url in re.findall(r"\b(?:https?|mqtts?|wss?|tcp|amqp)://[^\s'\"<>{}]+", text):
        yield urlsplit(url).hostname or ""
    yield from re.findall(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])", text)


def is_known_host(host: str) -> bool:
    """Whether a host is this machine, or a name that cannot be another one.

    That is a name without a dot (`broker`, `...`) or one kept for examples (RFC 2606, RFC 5737).
    """
    return (
        host == "127.0.0.1"
        or "." not in host.strip(".")
        or re.fullmatch(r"(?:.+\.)?example(?:\.com|\.net|\.org)?", host) is not None
        or host.startswith(("192.0.2.", "198.51.100.", "203.0.113."))
    )


def public(node: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | Function]:
    """The public classes and functions of a module or class, and theirs; special methods too."""
    for child in node.body:
        if isinstance(child, (ast.ClassDef, Function)):
            special = child.name.startswith("__") and child.name.endswith("__")
            if special or not child.name.startswith("_"):
                yield child
                if isinstance(child, ast.ClassDef):
                    yield from public(child)


@each_module
def test_docstrings_open_with_a_sentence(path: Path) -> None:
    if name(path).split("/")[0] not in DOCUMENTED:
        return
    module = tree(path)
    assert [
        f"{name(path)}:{getattr(node, 'lineno', 1)}"
        for node in (module, *public(module))
        if not opens_with_a_sentence(ast.get_docstring(node) or "")
    ] == []


def opens_with_a_sentence(docstring: str) -> bool:
    """Whether the first paragraph holds a sentence that ends with a period."""
    first = " ".join(docstring.split("\n\n")[0].split())
    return re.match(r"\S.*?\.(?=\s|$)", first) is not None


@pytest.mark.parametrize(
    ("docstring", "good"),
    [
        ("Do it.", True),
        ("Do it. Then say why", True),
        ("Do it over\ntwo lines.", True),
        ("Do it", False),
        ("Do it\n\nA sentence in the wrong place.", False),
        ("Reads design.md", False),
        ("", False),
    ],
)
def test_a_sentence_is_told_from_a_note(docstring: str, good: bool) -> None:
    assert opens_with_a_sentence(docstring) is good


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("127.0.0.1", True),
        ("broker", True),
        ("sns.example.com", True),
        ("192.0.2.7", True),
        ("kinesis.us-east-1.amazonaws.com", False),
        (".".join(("10", "0", "0", "1")), False),
    ],
)
def test_a_foreign_host_is_told_from_our_own(host: str, good: bool) -> None:
    assert set(hosts(f"mqtts://{host}:8883/path")) == {host}
    assert is_known_host(host) is good
