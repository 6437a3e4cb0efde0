"""What README.md and docs/ show is what happens, and what they name is there."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamgauge.__main__ import COMMANDS, build

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STATUSES = {"works", "partly", "planned", "not meant"}
SHOWN = {"README.md", "formats.md"}  # documents whose consoles are run
COMMAND_SECONDS_MAX = 120

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def text_of(name: str) -> str:
    """A document by its name."""
    (path,) = (path for path in DOCUMENTS if path.name == name)
    return path.read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language, without their fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rows(text: str) -> Iterator[list[str]]:
    """The rows of all tables, as cells."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture
def pipeline_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pipeline file of the README, in the working directory."""
    (shown,) = blocks(text_of("README.md"), "toml")
    path = tmp_path / "thermostats.toml"
    path.write_text(shown, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return path


def test_the_library_example_runs_as_printed(
    pipeline_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = text_of("README.md")
    (example,) = blocks(text, "python")
    assert len(example.splitlines()) < 12
    exec(compile(example, "README.md", "exec"), {"__name__": "__main__"})
    printed = text.partition(example)[2].partition("It prints")[2]
    assert capsys.readouterr().out == blocks(printed, "")[0]


def test_the_pipeline_file_passes_the_check(
    pipeline_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build().main(["check", pipeline_file.name, "--json"], standalone_mode=False)
    report = json.loads(capsys.readouterr().out)
    assert (report["valid"], report["problems"], report["notes"]) == (True, [], [])


@each_document
def test_tests_that_are_named_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"\b(tests/[\w/-]+\.\w+)(?:::(\w+))?", text)
    for name in {name for name, _ in found}:
        source = (ROOT / name).read_text(encoding="utf-8")
        named = {function for home, function in found if home == name and function}
        tree = ast.parse(source) if named else ast.Module([])
        assert named <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_every_guarantee_names_its_tests() -> None:
    promises = re.split(r"^## ", text_of("guarantees.md"), flags=re.MULTILINE)[1:]
    numbered = [promise for promise in promises if re.match(r"\d+\. ", promise)]
    assert [int(promise.partition(".")[0]) for promise in numbered] == list(range(1, 18))
    assert [p.splitlines()[0] for p in promises if not re.search(r"Held by `tests/.*::", p)] == []


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (path.parent / target).exists()] == []


def test_reasons_of_rejected_records_are_those_of_the_code() -> None:
    """Each reason stands in the table, and each of the table is one that the code gives."""
    stage, listed = "", set()
    table = text_of("formats.md").partition("| stage | reason |")[2].partition("\n\n")[0]
    for first, second, *_ in rows(table):
        stage = first.strip("`") or stage
        listed |= {(stage, reason.strip("` ")) for reason in second.split(",")}
    assert listed == given_reasons()


def given_reasons() -> set[tuple[str, str]]:
    """What the modules that reject records say, in their texts."""
    homes = {
        "deaggregate": ("engine/kpl.py", r'_Refused\(\s*"(\w+)"|"deaggregate", "(\w+)"'),
        "decode": ("engine/decode.py", r'Unreadable\(\s*"(\w+)"'),
        "measure": ("engine/judge.py", r'"(measure_\w+)"'),
        "forward": ("rules/forward.py", r'Unsendable\(row, "(\w+)"'),
        "window": ("engine/judge.py", r'rule\.name, "((?!measure|costly)\w+)"'),
        "filter": ("engine/judge.py", r'rule\.name, "(costly)"'),
        "panes": ("consumers/lambda_merger.py", r'reason="(\w+)"'),
    }
    found = {("decode", "csv")}
    for path in ("producers/mqtt.py", "rules/project.py"):
        text = (ROOT / path).read_text(encoding="utf-8")
        found |= set(re.findall(r'taken, "(decode|route)", "(\w+)"', text))
        found |= {("route", name) for name in re.findall(r'RouteError\(\s*"(\w+)"', text)}
    for stage, (path, pattern) in homes.items():
        for groups in re.findall(pattern, (ROOT / path).read_text(encoding="utf-8")):
            names = [groups] if isinstance(groups, str) else groups
            found |= {(stage, name) for name in names if name}
    payload = (ROOT / "engine/payload.py").read_text(encoding="utf-8")
    found |= {("decode", name) for name in re.findall(r'Unreadable\(\s*"(\w+)"', payload)}
    for what in ("device", "time", "arrival"):
        kinds = ("missing", "type") if what == "device" else ("missing", "type", "range")
        found |= {("decode", f"{what}_{kind}") for kind in kinds}
    return found


def test_the_modules_are_those_that_are_there() -> None:
    """docs/architecture.md has a row for every module of the parts, and no other."""
    listed = {
        name
        for first, *_ in rows(text_of("architecture.md"))
        for name in re.findall(r"`(\w+/[\w/]+\.py)`", first)
    }
    parts = ("cli", "consumers", "engine", "producers", "rules")
    there = {
        path.relative_to(ROOT).as_posix()
        for part in parts
        for path in (ROOT / part).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert listed == there


def roadmap() -> list[list[str]]:
    """The patterns: name, status, what, command."""
    table = [row for row in rows(text_of("roadmap.md")) if row[1] in STATUSES]
    assert len(table) >= 17
    return table


def test_the_roadmap_names_commands_that_exist() -> None:
    for name, status, _, command in roadmap():
        found = command.strip("`").split()
        assert bool(found) == (status in {"works", "partly"}), name
        if found:
            assert found[0] == "streamgauge" and found[1] in COMMANDS, command


def shell(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line as a reader does, who has the command on the PATH."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return subprocess.run(
        ["sh", "-c", command.replace("make demo", "streamgauge demo")],
        cwd=directory,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
    )


def checkout(directory: Path) -> Path:
    """A directory in which a reader finds the examples and tests."""
    for name in ("examples", "tests"):
        (directory / name).symlink_to(ROOT / name)
    return directory


def consoles(text: str) -> Iterator[tuple[str, str]]:
    """The command lines of the console blocks, each with what it prints."""
    for block in blocks(text, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n", part)
            assert command
            yield command.group().rstrip("\n"), part[command.end() :]


def without_clock(text: str) -> str:
    """What is printed, less what differs from run to run and from machine to machine."""
    text = re.sub(r"in [\d,.]+ s(?:, [\d,]+ a second)?", "in N s", text)
    text = re.sub(r'"seconds": ?[\d.]+', '"seconds":N', text)
    return re.sub(r"\S*/streamgauge (?=backtest)", "streamgauge ", text)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHOWN))
def test_consoles_show_what_is_printed(name: str, tmp_path: Path) -> None:
    directory = checkout(tmp_path)
    for command, shown in consoles(text_of(name)):
        done = shell(command, directory)
        assert (done.returncode, without_clock(done.stdout)) == (0, without_clock(shown)), command


def test_only_these_documents_have_consoles() -> None:
    assert {path.name for path in DOCUMENTS if blocks(path.read_text(), "console")} == SHOWN


@pytest.mark.slow
def test_the_commands_of_the_roadmap_work_as_printed(tmp_path: Path) -> None:
    directory = checkout(tmp_path)
    commands = [command.strip("`") for *_, command in roadmap() if command]
    for command in dict.fromkeys(["streamgauge demo", "streamgauge init try", *commands]):
        done = shell(command, directory)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
