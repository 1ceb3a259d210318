"""What uv.lock promises: nothing has to be compiled, and the floors of pyproject.toml are what was tested."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version

ROOT = Path(__file__).parents[3]
PACKAGES = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
PYTHONS = [(3, 11), (3, 12), (3, 13), (3, 14)]
PLATFORMS = {
    "x86-64 with glibc": [f"manylinux_2_{minor}_x86_64" for minor in range(36, 16, -1)]
    + ["manylinux2014_x86_64"],
    "arm64 with glibc": [f"manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)]
    + ["manylinux2014_aarch64"],
    "x86-64 with musl": ["musllinux_1_2_x86_64", "musllinux_1_1_x86_64"],
    "arm64 with musl": ["musllinux_1_2_aarch64", "musllinux_1_1_aarch64"],
}
# What reads bytes that strangers chose: pictures, requests, entries of Redis. `pip install` reads no lock.
READ_BYTES = {
    *("pillow", "pillow-heif", "pyvips", "pyvips-binary", "simplejpeg"),
    *("arq", "hiredis", "orjson", "pydantic", "redis"),
    *("h11", "httpcore"),
    *("fastapi", "httptools", "jinja2", "pyjwt", "python-multipart", "starlette", "uvicorn", "websockets"),
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


@pytest.mark.parametrize("name", sorted(READ_BYTES))
def test_what_reads_bytes_of_strangers_is_never_older_than_what_was_tested(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(one for some in project["optional-dependencies"].values() for one in some),
    ]
    [asked] = [one for one in map(Requirement, lines) if one.name == name]
    [locked] = [Version(package["version"]) for package in PACKAGES if package["name"] == name]

    floors = [
        Version(one.version.removesuffix(".*")) for one in asked.specifier if one.operator in (">=", "==")
    ]

    assert floors == [locked]
