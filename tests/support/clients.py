"""The clients that apps use, and other packages, in chosen versions, installed once in `.tools`."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

OLDEST_REDIS_PY, OLDEST_IOREDIS = "5.0.0", "5.0.6"
NEWEST_REDIS_PY = "8.1.0"  # renovate: datasource=pypi depName=redis
NEWEST_IOREDIS = "6.0.0"  # renovate: datasource=npm depName=ioredis
ROOT = Path(__file__).parents[2]
_TOOLS = ROOT / ".tools"
_TIMEOUT_S = 180


def missing(what: str) -> NoReturn:
    """Skip at home, where a program may be missing; fail in CI, where nothing may."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


_WITHOUT_SERVICES = "takes large programs, and its time: SERVICES=1 make test"
SERVICES = bool(os.environ.get("CI") or os.environ.get("SERVICES"))
WITH_SERVICES = pytest.mark.skipif(not SERVICES, reason=_WITHOUT_SERVICES)
"""Skips a test where nobody has asked for the large servers."""


def skip_without_services() -> None:
    """Skip, in a fixture, where nobody has asked for the large servers."""
    if not SERVICES:
        pytest.skip(_WITHOUT_SERVICES)


def package_missing(what: str) -> NoReturn:
    """The same for a system package, which `scripts/setup` can only install as root, by apt-get."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(what)
    missing(what)


def find_uv() -> str | None:
    """Where uv is: on the PATH, or where `scripts/setup` has put it."""
    return shutil.which(
        "uv", path=os.pathsep.join([os.environ["PATH"], f"{_TOOLS}/bin", f"{_TOOLS}/venv/bin"])
    )


def find_python(version: str) -> str:
    """Where a Python of that version is; the test is skipped where there is none."""
    beside = sorted(Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python3"))  # as pyenv has them
    if beside:
        return str(beside[-1])
    if uv := find_uv():
        find = [uv, "python", "find", "--no-python-downloads", "--no-project", version]
        found = subprocess.run(find, capture_output=True, text=True, timeout=_TIMEOUT_S)
        if found.returncode == 0:
            return found.stdout.strip()
    pytest.skip(f"no Python {version}")


def redis_py(version: str, python: str = sys.executable) -> Path:
    """A folder for PYTHONPATH of that Python that holds this version of redis-py."""
    return _by_pip(f"redis=={version}", python)


def _by_pip(wanted: str, python: str = sys.executable, folder: str = "") -> Path:
    uv = find_uv()
    by_pip = [f"{sys.base_prefix}/bin/python3", "-m", "pip", "install", "--quiet", wanted, "--target"]
    by_uv = [uv or "uv", "pip", "install", "--quiet", "--python", python, wanted, "--target"]
    return _installed(folder or wanted, [by_uv, by_pip] if uv else [by_pip])


def django(version: str, python: str) -> Path:
    """A folder for PYTHONPATH of that Python that holds this version of Django."""
    return _by_pip(f"django=={version}", python)


def psycopg(python: str) -> Path:
    """A folder for PYTHONPATH of that Python that holds what Django speaks to Postgres with."""
    return _by_pip("psycopg[binary]==3.3.9", python, f"psycopg for {Path(python).name}")


def ioredis(version: str) -> Path:
    """A folder for NODE_PATH that holds this version of ioredis."""
    return _by_npm(f"ioredis@{version}")


def aws_sdk() -> Path:
    """A folder for NODE_PATH that holds what signs URLs of S3 in the AWS SDK for JavaScript, version 3."""
    return _by_npm("@aws-sdk/client-s3@3", "@aws-sdk/s3-presigned-post@3", "@aws-sdk/s3-request-presigner@3")


def axe_core() -> Path:
    """The script of axe-core, which finds what keeps people out of a page."""
    return _by_npm("axe-core@4.14.1") / "axe-core/axe.min.js"


def express() -> Path:
    """A folder for NODE_PATH that holds Express, and multer, which takes uploads there."""
    return _by_npm("express@5.3.0", "multer@2.5.0")


def typescript() -> Path:
    """A folder for NODE_PATH that holds TypeScript, and the types of Node."""
    return _by_npm("typescript@5.9.3", "@types/node@18")


def program(name: str) -> str:
    """Where node or npm is."""
    return shutil.which(name) or missing(f"no {name}")


def _by_npm(*packages: str) -> Path:
    program("node")
    command = [
        program("npm"),
        "install",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        *packages,
        "--prefix",
    ]
    return _installed(packages[0].replace("/", "+"), [command]) / "node_modules"


def _installed(wanted: str, ways: Sequence[Sequence[str]]) -> Path:
    """The folder of a package: one that is there already, else made by the first of `ways` that can."""
    folder = _TOOLS / "clients" / wanted
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as aside:
        installing = (
            subprocess.run([*way, aside], capture_output=True, text=True, timeout=_TIMEOUT_S) for way in ways
        )
        failures: list[str] = []
        for done in installing:
            if done.returncode == 0:
                break
            failures.append(done.stderr[-500:])
        else:
            missing(f"{wanted} could not be installed: {failures}")
        try:
            Path(aside).rename(folder)
        except OSError:
            assert folder.is_dir()  # another process of the tests was quicker
    return folder
