"""Which version is built: a newer one for each commit, so that an upgrade is one; and one without git."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.version import Version

from tests.support.git import git

pytestmark = pytest.mark.rotating(2, of="module")

ROOT = Path(__file__).parents[3]

if shutil.which("git") is None:
    pytest.skip("no git", allow_module_level=True)


def commit(folder: Path) -> Version:
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "One more.")
    return built(folder)


def built(folder: Path, env: Mapping[str, str] = os.environ) -> Version:
    command = [sys.executable, "-m", "hatchling", "metadata", "version"]
    return Version(subprocess.check_output(command, cwd=folder, env=dict(env), text=True).strip())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is built from, without git."""
    for name in ("pyproject.toml", "README.md", ".git_archival.txt", ".gitattributes"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def clone(folder: Path) -> Path:
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    return folder


def test_a_newer_commit_has_a_newer_version_which_a_tag_outdoes(clone: Path) -> None:
    first, second = commit(clone), commit(clone)
    git(clone, "tag", "v0.1.0")
    tagged = built(clone)

    assert Version("0.1.dev0") < first < second < tagged == Version("0.1.0")
    assert tagged < commit(clone)


def test_an_archive_has_the_version_of_its_commit(clone: Path, tmp_path: Path) -> None:
    commit(clone)
    git(clone, "tag", "v0.1.0")
    version = commit(clone)
    git(clone, "archive", "--output", "archive.tar", "HEAD")
    shutil.unpack_archive(clone / "archive.tar", tmp_path / "archive")
    shutil.rmtree(clone / ".git")

    assert built(tmp_path / "archive").public == version.public


def test_a_folder_without_git_has_a_version_too(folder: Path) -> None:
    assert built(folder) == Version("0.1.dev0")


def test_a_machine_without_git_has_a_version_too(clone: Path) -> None:
    commit(clone)

    assert built(clone, {"PATH": ""}) == Version("0.1.dev0")


def test_whoever_builds_without_git_may_name_the_version(folder: Path) -> None:
    named = {**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION": "0.2.0"}

    assert built(folder, named) == Version("0.2.0")
