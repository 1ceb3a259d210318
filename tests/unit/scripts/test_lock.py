"""What uv.lock promises: on the Pythons and machines that the README names, nothing has to be compiled."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

PACKAGES = tomllib.loads((Path(__file__).parents[3] / "uv.lock").read_text())["package"]
PYTHONS = [(3, 11), (3, 12), (3, 13), (3, 14)]
PLATFORMS = {
    "x86-64 with glibc": [f"manylinux_2_{minor}_x86_64" for minor in range(36, 16, -1)]
    + ["manylinux2014_x86_64"],
    "arm64 with glibc": [f"manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)]
    + ["manylinux2014_aarch64"],
    "x86-64 with musl": ["musllinux_1_2_x86_64", "musllinux_1_1_x86_64"],
    "arm64 with musl": ["musllinux_1_2_aarch64", "musllinux_1_1_aarch64"],
}
PURE = {"pyvips"}  # it comes only as source, but is Python alone


def needed(name: str) -> Iterable[Mapping[str, Any]]:
    """What the lock installs for `name` and all that it needs, without the groups of developers."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            for package in PACKAGES:
                if package["name"] == name:
                    yield package
                    extras = (
                        package.get("optional-dependencies", {}).values() if name != "media-worker" else ()
                    )
                    asked = [*package.get("dependencies", ()), *(one for extra in extras for one in extra)]
                    waiting += [one["name"] for one in asked]


def supported(python: tuple[int, int], platforms: list[str]) -> set[Tag]:
    return {*cpython_tags(python, platforms=platforms), *compatible_tags(python, platforms=platforms)}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_nothing_that_the_worker_needs_has_to_be_compiled(python: tuple[int, int], platform: str) -> None:
    tags = supported(python, PLATFORMS[platform])
    fits = {package["name"]: False for package in needed("media-worker")}
    for package in needed("media-worker"):
        files = [wheel["url"].rpartition("/")[2] for wheel in package.get("wheels", ())]
        fits[package["name"]] |= any(parse_wheel_filename(file)[3] & tags for file in files)

    assert {name for name, fit in fits.items() if not fit} - PURE - {"media-worker"} == set()
