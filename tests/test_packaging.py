"""What users install is what the tree holds, and what the documents show is what exists."""

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOT_SHIPPED = {"bench", "docs", "tests"}


def setup() -> configparser.ConfigParser:
    """setup.cfg, read as setuptools reads it."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def package_names() -> list[str]:
    """The packages that setup.cfg declares."""
    return setup()["options"]["packages"].split()


def folder(package: str) -> Path:
    """Where a package's files stand in the checkout."""
    return ROOT.joinpath(*package.split(".")[1:])


def packages_on_disk() -> set[str]:
    """Every folder with an __init__.py, as a dotted name."""
    inits = [ROOT / "__init__.py", *ROOT.glob("[a-z]*/**/__init__.py")]
    folders = [path.parent.relative_to(ROOT).parts for path in inits]
    made = {"build", "site-packages"}
    return {".".join(("streamgauge", *names)) for names in folders if made.isdisjoint(names)}


def targets() -> set[str]:
    """The targets that the Makefile lists for people."""
    return set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def shown_targets(document: str) -> set[str]:
    """The targets that a document tells its reader to run."""
    text = (ROOT / document).read_text(encoding="utf-8")
    shown = r"(?:^ *|`|&& |\$ )make ([a-z]+)(?=`|$| +#| &&)"
    return set(re.findall(shown, text, re.MULTILINE))


def test_every_package_is_declared() -> None:
    assert set(package_names()) == packages_on_disk()


def test_documents_show_targets_that_exist() -> None:
    assert {"demo", "test"} <= shown_targets("README.md") <= targets()
    assert {"check", "quick", "test"} <= shown_targets("CONTRIBUTING.md") <= targets()
    assert {"check", "test"} <= shown_targets(".ci/run") <= targets()


def test_each_target_is_declared_phony() -> None:
    declared = re.findall(r"^\.PHONY: ([a-z ]+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(declared[0].split()) == targets()


def test_changelog_fragments_name_their_kind() -> None:
    names = {path.name for path in ROOT.glob("changelog.d/*")} - {"README.md"}
    good = re.compile(r"[a-z0-9-]+\.(?:breaking|feature|fix|docs)\.md")
    assert [name for name in sorted(names) if not good.fullmatch(name)] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in a wheel, built from a copy of the checkout.

    A copy, because setuptools leaves a build folder behind and ships what an old one still holds.
    """
    source = tmp_path_factory.mktemp("wheel") / "source"
    made = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist")
    shutil.copytree(ROOT, source, symlinks=True, ignore=made)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", "dist", "."]
    subprocess.run(command, check=True, cwd=source)
    (built,) = (source / "dist").iterdir()
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


@pytest.mark.slow
def test_wheel_holds_one_name(wheel: list[str]) -> None:
    names = {name.partition("/")[0] for name in wheel}
    assert {name for name in names if not name.endswith(".dist-info")} == {"streamgauge"}


@pytest.mark.slow
def test_wheel_holds_the_whole_package_and_nothing_else(wheel: list[str]) -> None:
    expected = {
        "/".join((*package.split("."), path.name))
        for package in package_names()
        for path in folder(package).glob("*.py")
    }
    assert {name for name in wheel if name.endswith(".py")} == expected
    assert "streamgauge/py.typed" in wheel
    assert [name for name in wheel if name.split("/")[1] in NOT_SHIPPED] == []


@pytest.mark.slow
def test_wheel_carries_the_licence(wheel: list[str]) -> None:
    assert [name for name in wheel if re.search(r"\.dist-info/(?:licenses/)?LICENSE$", name)] != []
