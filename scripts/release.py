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
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
EXTRAS = ("postgres", "s3", "sqs")  # as in the image
_NAME = "media-worker"
_SBOM_OPTIONS = ("--format=cyclonedx1.5", "--preview-features=sbom-export")
_LOCKED = ("--frozen", "--quiet", "--no-dev", *(f"--extra={extra}" for extra in EXTRAS))


class NotReleased(Exception):
    """There is no release of what is here; the message says why."""


def main() -> None:
    """Make `dist/`, and check what is in it."""
    try:
        version = make_release()
    except NotReleased as error:
        sys.exit(str(error))
    kind = "a development version: no tag names this commit" if version.is_devrelease else "released"
    print(f"dist/ has {_NAME} {version}, {kind}.")  # noqa: T201


def make_release() -> Version:
    """Make everything and check it; returns the version. Raises: NotReleased."""
    shutil.rmtree(DIST, ignore_errors=True)
    # The wheel is built from the sdist, which so is known to have all that it needs.
    _run("uv", "build", "--quiet", "--out-dir", str(DIST), SOURCE_DATE_EPOCH=_time_of_the_commit())
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


def make_sbom(version: Version) -> Mapping[str, Any]:
    """What an installation with the extras of the image has, by the lock file, as CycloneDX."""
    document: dict[str, Any] = json.loads(_run("uv", "export", *_LOCKED, *_SBOM_OPTIONS))
    purl = f"pkg:pypi/{_NAME}@{version}"
    document["metadata"]["component"] |= {
        "type": "application",
        "version": str(version),
        "purl": purl,
        "licenses": [{"license": {"id": "MIT"}}],
    }
    document["metadata"]["timestamp"] = datetime.fromtimestamp(int(_time_of_the_commit()), UTC).isoformat()
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, purl)}"
    return document


def check_installed(wheel: Path, sbom: Mapping[str, Any], version: Version) -> None:
    """The wheel works with what the SBOM names, where nothing else is. Raises: NotReleased."""
    with tempfile.TemporaryDirectory() as place:
        python, locked = f"{place}/env/bin/python", f"{place}/locked.txt"
        _run("uv", "venv", "--quiet", "--python", sys.executable, f"{place}/env")
        _run("uv", "export", *_LOCKED, "--no-emit-project", "--output-file", locked)
        install = ("uv", "pip", "install", "--quiet", "--python", python)
        _run(*install, "--require-hashes", "--requirement", locked)
        _run(*install, "--no-deps", str(wheel))
        listed = json.loads(_run("uv", "pip", "list", "--quiet", "--format=json", "--python", python))
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
    named = {(one["name"], one["version"]) for one in sbom["components"]} | {(_NAME, str(version))}
    if unnamed := {(canonicalize_name(one["name"]), one["version"]) for one in listed} - named:
        raise NotReleased(f"the SBOM does not name {sorted(unnamed)}")


def _time_of_the_commit() -> str:
    """So that whoever builds a commit gets the same files."""
    try:
        return _run("git", "log", "-1", "--format=%ct").strip()
    except NotReleased:
        return "315532800"  # 1980, before which a wheel knows no time


def _run(*words: str, **env: str) -> str:
    places = os.pathsep.join([os.environ["PATH"], str(ROOT / ".tools/bin"), str(ROOT / ".tools/venv/bin")])
    ours = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    variables = {**ours, "PATH": places, **env}
    try:
        done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError as error:
        raise NotReleased(f"{words[0]} is neither on the PATH nor in .tools") from error
    if done.returncode:
        raise NotReleased(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
