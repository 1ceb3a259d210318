"""A Django project as its developer has it: the packages' wheels in a Python without the worker."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.support import django_driver
from tests.support.clients import ROOT, django, find_uv, redis_py

README = ROOT / "clients/django/README.md"
EXAMPLE = ROOT / "examples/django"
LINES_OF_THE_APP = re.findall(
    r"<!-- (append|write): ([\w/.]+) -->\n```\w+\n(.*?)```\n", README.read_text("utf-8"), re.DOTALL
)
VERSIONS = [
    "5.2.19",
    *(pytest.param(one, marks=pytest.mark.campaign) for one in ("4.2.30", "6.0.10", "6.1.3")),
]
"""Of Django: the newest that each supported Python of this project runs, and in a campaign its neighbours."""
_NEWER = ("python3.14", "python3.13", "python3.12")
_SAYS_WHERE = "import sys; print(sys._base_executable, *sys.version_info[:2])"
_TIMEOUT_S = 120


@dataclass(frozen=True)
class DjangoPackages:
    """A Python, and the environment in which it has what an app needs."""

    python: str
    env: Mapping[str, str]


def installed_packages(folder: Path, version: str) -> DjangoPackages:
    """That Django, redis-py, and the wheels of the client and of the app; skips without a Python for it."""
    python = python_for(version)
    wheels, target = folder / "wheels", folder / "site-packages"
    code = (
        "import os; from hatchling.build import build_wheel\n"
        "for name in ('python', 'django'):\n"
        f"    os.chdir({str(ROOT)!r} + '/clients/' + name); build_wheel({str(wheels)!r})"
    )
    _run([sys.executable, "-c", code], folder, os.environ)
    built = sorted(map(str, wheels.glob("*.whl")))
    uv = find_uv()
    pip = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    _run([*pip, "--quiet", "--no-deps", "--target", str(target), *built], folder, os.environ)
    paths = [target, django(version, python), redis_py("8.1.0")]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return DjangoPackages(python, env)


def python_for(version: str) -> str:
    """This Python, or a newer one on the PATH where that Django needs it; skips without one."""
    least = (3, 12) if int(version.partition(".")[0]) >= 6 else (3, 10)
    for candidate in (sys.executable, *_NEWER):
        try:
            told = subprocess.run([candidate, "-c", _SAYS_WHERE], capture_output=True, text=True)
        except FileNotFoundError:
            continue
        path, *numbers = told.stdout.split() or [""]
        if tuple(map(int, numbers)) >= least:
            return path
    pytest.skip(f"no Python for Django {version}")


class DjangoSite:
    """A project in a folder, a process that runs code in it, and its listener with a log."""

    def __init__(self, home: Path, settings: str, packages: DjangoPackages, log: Path, **env: str) -> None:
        self.home = home
        self.python = packages.python
        self.env = {**packages.env, **env, "DJANGO_SETTINGS_MODULE": settings}
        self._driver: subprocess.Popen[str] | None = None
        self._listener: subprocess.Popen[str] | None = None
        self._log = log

    def run(self, code: str) -> Any:
        """Run code in the project, always in the same process; returns what it assigns to `answer`."""
        if self._driver is None:
            command = [self.python, str(django_driver.__file__)]
            pipe = subprocess.PIPE
            self._driver = subprocess.Popen(
                command, cwd=self.home, env=self.env, stdin=pipe, stdout=pipe, text=True
            )
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps(dedent(code)) + "\n")
        self._driver.stdin.flush()
        told = json.loads(self._driver.stdout.readline())
        assert "error" not in told, told["error"]
        return told["answer"]

    def listen(self, *options: str) -> None:
        """Start the listener, and wait until it says that it listens."""
        command = [self.python, "manage.py", "media_listen", *options]
        with self._log.open("w") as log:
            self._listener = subprocess.Popen(
                command, cwd=self.home, env=self.env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._listener.stdout is not None
        assert self._listener.stdout.readline().startswith("Listening"), self.log

    @property
    def log(self) -> str:
        """What the listener has logged."""
        return self._log.read_text()

    def kill_listener(self) -> None:
        """SIGKILL: no goodbye."""
        self._end_listener(signal.SIGKILL)

    def stop_listener(self) -> None:
        """SIGTERM; it ends in order."""
        assert self._end_listener(signal.SIGTERM) == 0, self.log

    def close(self) -> None:
        """End what runs."""
        if self._listener is not None:
            self.kill_listener()
        if self._driver is not None:
            self._driver.communicate()

    def _end_listener(self, number: signal.Signals) -> int:
        assert self._listener is not None
        self._listener.send_signal(number)
        self._listener.communicate(timeout=_TIMEOUT_S)
        code, self._listener = self._listener.returncode, None
        return code


def new_project(home: Path, packages: DjangoPackages, places: Mapping[str, str]) -> DjangoSite:
    """What `startproject` and `startapp` make, and the lines of the README, with other `places`."""
    code = (
        "from django.core.management import execute_from_command_line as run\n"
        "run(['', 'startproject', 'mysite', '.'])\n"
        "run(['', 'startapp', 'photos'])"
    )
    _run([packages.python, "-c", code], home, packages.env)
    for how, name, lines in LINES_OF_THE_APP:
        for said, here in places.items():
            lines = lines.replace(said, here)
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text("utf-8") if how == "append" else "") + lines, "utf-8")
    return DjangoSite(home, "mysite.settings", packages, home / "listener.log")


def _run(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> str:
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
