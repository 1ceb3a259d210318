"""What a release consists of: wheel, sdist, SBOM and checksums of the version that the tag names.

`make release` makes them in `dist/`, and checks them in an environment of their own.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from pipelines.errors import DecoderUnavailable
from scripts.locked import NAME, ROOT, ToolFailed, export, run, time_of_the_commit
from scripts.sbom import make_sbom

DIST = ROOT / "dist"


class NotReleased(Exception):
    """There is no release of what is here; the message says why."""


def main() -> None:
    """Make `dist/`, and check what is in it."""
    try:
        version = make_release()
    except (NotReleased, ToolFailed, DecoderUnavailable) as error:
        sys.exit(str(error))
    kind = "a development version: no tag names this commit" if version.is_devrelease else "released"
    print(f"dist/ has {NAME} {version}, {kind}.")  # noqa: T201


def make_release() -> Version:
    """Make everything and check it; returns the version.

    Raises: NotReleased, ToolFailed, DecoderUnavailable.
    """
    shutil.rmtree(DIST, ignore_errors=True)
    # The wheel is built from the sdist, which so is known to have all that it needs.
    run("uv", "build", "--quiet", "--out-dir", str(DIST), SOURCE_DATE_EPOCH=time_of_the_commit())
    [wheel] = DIST.glob("*.whl")
    version = Version(wheel.name.split("-")[1])
    check_changelog((ROOT / "CHANGELOG.md").read_text("utf-8"), version)
    sbom = DIST / f"{wheel.name.partition('-py3')[0]}.cdx.json"
    sbom.write_text(json.dumps(make_sbom(version), indent=2) + "\n", "utf-8")
    check_installed(wheel, json.loads(sbom.read_text("utf-8")), version)
    files = sorted(DIST.glob("media_worker*"))
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (DIST / "SHA256SUMS").write_text("".join(sums), "utf-8")
    return version


def check_changelog(text: str, version: Version) -> None:
    """A version that a tag names has a section with its date. Raises: NotReleased."""
    title = rf"^## \[{re.escape(version.public)}\] - \d{{4}}-\d\d-\d\d$"
    if not version.is_devrelease and not re.search(title, text, re.MULTILINE):
        raise NotReleased(
            f"CHANGELOG.md has no section `## [{version.public}] - DATE`: move there what is unreleased."
        )


def check_installed(wheel: Path, sbom: Mapping[str, Any], version: Version) -> None:
    """The wheel works with what the SBOM names, where nothing else is. Raises: NotReleased, ToolFailed."""
    with tempfile.TemporaryDirectory() as place:
        python, locked = f"{place}/env/bin/python", f"{place}/locked.txt"
        run("uv", "venv", "--quiet", "--python", sys.executable, f"{place}/env")
        export("--no-dev", "--no-emit-project", "--output-file", locked)
        install = ("uv", "pip", "install", "--quiet", "--python", python)
        run(*install, "--require-hashes", "--requirement", locked)
        run(*install, "--no-deps", str(wheel))
        listed = json.loads(run("uv", "pip", "list", "--quiet", "--format=json", "--python", python))
        command = [f"{place}/env/bin/media"]
        env = {
            "HOME": place,
            "PATH": os.defpath,
            "MEDIA_ENV_FILE": "",
            "MEDIA_REDIS_URL": "redis://127.0.0.1:1",
        }
        shown = subprocess.run([*command, "--version"], cwd=place, env=env, capture_output=True, text=True)  # noqa: S603
        doctor = subprocess.run(  # noqa: S603
            [*command, "doctor", "--json"], cwd=place, env=env, capture_output=True, text=True
        )
    if shown.stdout.strip() != str(version):
        raise NotReleased(f"the wheel says that it is {shown.stdout}, not {version}: {shown.stderr}")
    levels = {one["what"]: one["level"] for one in json.loads(doctor.stdout or "[]")}
    if levels.get("Decoders") != "ok":
        raise NotReleased(
            f"where the wheel is installed alone, decoders do not start: {doctor.stdout}{doctor.stderr}"
        )
    named = {(one["name"], one.get("version")) for one in sbom["components"]} | {(NAME, str(version))}
    if unnamed := {(canonicalize_name(one["name"]), one["version"]) for one in listed} - named:
        raise NotReleased(f"the SBOM does not name {sorted(unnamed)}")


if __name__ == "__main__":
    main()
