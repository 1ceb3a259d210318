"""`make audit`: it names what is known, in the image and beside it, and never takes silence for good news."""

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.audit import Advisory, NotAudited, names, read, split
from tests.support.advisories import serve_advisories
from tests.support.clients import WITH_SERVICES, find_uv

ROOT = Path(__file__).parents[3]

if find_uv() is None:
    pytest.skip("uv is neither on the PATH nor in .tools", allow_module_level=True)


def line(name: str, *ids: str) -> Mapping[str, Any]:
    """What pip-audit says of a package."""
    vulns = [{"id": one, "aliases": [], "fix_versions": ["9.9"]} for one in ids]
    return {"name": name, "version": "1.0", "vulns": vulns}


def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.audit", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_an_advisory_says_where_it_is_fixed_and_whether_the_image_has_it() -> None:
    answers = [line("mypy", "A-1"), line("pillow", "B-2"), line("arq")]

    found = list(read(answers, {"pillow", "arq"}, {"mypy", "pillow", "arq"}))

    assert [one.package for one in found] == ["pillow", "mypy"]
    assert str(found[0]) == "pillow 1.0 (in the image): B-2, fixed in 9.9"
    assert str(found[1]) == "mypy 1.0 (for developers only): A-1, fixed in 9.9"
    assert str(Advisory("a", "1", "X", [], True)).endswith("no release fixes it")


def test_a_package_that_was_passed_over_is_no_good_news() -> None:
    passed_over = {"name": "pillow", "skip_reason": "Dependency not found"}

    for answered in ([passed_over], []):
        with pytest.raises(NotAudited, match="1 packages: pillow"):
            list(read([line("arq"), *answered], set(), {"arq", "pillow"}))


def test_the_names_of_an_export_are_those_of_its_packages_and_not_of_its_comments() -> None:
    assert names("# via arq==1\narq==0.28.0 \\\n    --hash=sha256:00\nprometheus-client==1\n") == {
        "arq",
        "prometheus-client",
    }


def test_versions_for_other_machines_are_asked_for_too_in_a_text_of_their_own() -> None:
    old, rich, new = (f"{name} \\\n    --hash=a\n" for name in ("numpy==1 ; x < '3'", "rich==2", "numpy==3"))
    texts = split(f"{old}{rich}{new}")

    assert [names(text) for text in texts] == [{"numpy", "rich"}, {"numpy"}]
    assert texts[0].startswith("numpy==1 \\\n    --hash=a\n")


@WITH_SERVICES
def test_a_service_that_cannot_be_reached_is_told_with_a_code_of_its_own() -> None:
    done = audit("--osv-url", "http://127.0.0.1:9/v1/query")

    assert done.returncode == 3
    assert "Not audited: pip-audit has no answer" in done.stderr
    assert "known vulnerabilities" not in done.stdout
    assert "libheif" in done.stdout  # the libraries are told nevertheless


@WITH_SERVICES
@pytest.mark.campaign
def test_each_package_of_the_lock_is_asked_for_and_what_is_known_ends_with_one() -> None:
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    locked = {(one["name"], one["version"]) for one in packages if "version" in one}
    with serve_advisories({"pillow": "GHSA-x", "mypy": "GHSA-y"}) as service:
        done = audit("--osv-url", service.url)
        ignoring = audit("--osv-url", service.url, "--ignore", "GHSA-x", "--ignore", "GHSA-y")

    assert service.asked == locked
    assert done.returncode == 1, done.stderr
    assert "pillow 13.0.0 (in the image): GHSA-x, fixed in 99.0" in done.stdout
    assert "(for developers only): GHSA-y" in done.stdout
    assert (ignoring.returncode, ignoring.stderr) == (0, "")
    assert "No known vulnerabilities" in ignoring.stdout
