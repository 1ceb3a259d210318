"""The shape of the house: imports go one way, and each foreign library has one room."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOUSE = Path(__file__).parents[2]


def test_every_import_keeps_to_the_contracts() -> None:
    linter = Path(sys.executable).parent / "lint-imports"

    judged = subprocess.run([linter, "--no-cache"], cwd=HOUSE, capture_output=True, text=True, check=False)

    assert judged.returncode == 0, judged.stdout


def test_the_house_has_only_the_rooms_that_are_named() -> None:
    packages = {path.parent.name for path in HOUSE.glob("*/__init__.py")} - {"bench"}

    assert packages == {"worker", "pipelines", "storage", "scripts"}


def test_only_the_settings_and_the_command_line_read_the_environment() -> None:
    readers = {
        str(path.relative_to(HOUSE))
        for folder in ("worker", "pipelines", "storage", "scripts")
        for path in (HOUSE / folder).rglob("*.py")
        if re.search(r"os\.environ|getenv", path.read_text())
    }

    of_the_shell = {"scripts/media.py", "scripts/demo.py"}  # completion; a child that inherits all of it
    assert readers == {"worker/settings.py", "worker/env_files.py", *of_the_shell}


def test_every_package_that_is_imported_is_declared() -> None:
    asked = tomllib.loads((HOUSE / "pyproject.toml").read_text())
    extras = asked["project"]["optional-dependencies"]["redis"]
    lines = [*asked["project"]["dependencies"], *extras, *asked["dependency-groups"]["dev"]]
    lines += ["media-worker", "pydantic-core"]  # which is pydantic's own, and where it keeps its errors
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    folders = ("worker", "pipelines", "storage", "scripts", "tests")
    sources = [*(HOUSE / "bench").glob("*.py")]  # what is below may be the peers' own
    sources += [path for folder in folders for path in (HOUSE / folder).rglob("*.py")]
    imported = {name for path in sources for name in _IMPORT.findall(path.read_text())}
    known = packages_distributions()

    foreign = {name: {canonicalize_name(one) for one in known[name]} for name in imported & known.keys()}
    assert {name for name, packages in foreign.items() if not packages & declared} == set()


def test_what_the_map_names_is_there() -> None:
    page = (HOUSE / "docs/architecture.md").read_text("utf-8")
    named = re.findall(r"`((?:worker|pipelines|storage|scripts|tests)/[\w/.]*)`", page)

    assert len(named) > 20
    assert [path for path in named if not (HOUSE / path).exists()] == []


_IMPORT = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, set[str]] = {}
    for folder in ("worker", "pipelines", "storage", "scripts"):
        for path in (HOUSE / folder).rglob("*.py"):
            for name in re.findall(r"^class (\w+)", path.read_text("utf-8"), re.MULTILINE):
                places.setdefault(name, set()).add(str(path.relative_to(HOUSE)))

    assert {name: found for name, found in places.items() if len(found) > 1} == {}
