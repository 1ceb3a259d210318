"""The list of what a version consists of (SBOM): the packages of the lock, and the C libraries inside them.

`python -m scripts.sbom` prints it; `make release` writes it beside the wheel.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as installed
from typing import Any

from packaging.version import Version

from pipelines.libraries import BundledLibrary, read_libraries
from scripts.locked import NAME, export, time_of_the_commit

_FORMAT = ("--format=cyclonedx1.5", "--preview-features=sbom-export")
# Vendor and product by which advisories name a library (CPE); scanners find those of C by nothing else.
_CPES = {
    "dav1d": "videolan:dav1d",
    "lcms2": "littlecms:little_cms",
    "libaom": "aomedia:aomedia",
    "libavif": "aomedia:libavif",
    "libde265": "struktur:libde265",
    "libheif": "struktur:libheif",
    "libjpeg-turbo": "libjpeg-turbo:libjpeg-turbo",
    "libpng": "libpng:libpng",
    "libtiff": "libtiff:libtiff",
    "libvips": "libvips:libvips",
    "libwebp": "webmproject:libwebp",
    "mozjpeg": "mozilla:mozjpeg",
    "openjpeg": "uclouvain:openjpeg",
    "xz": "tukaani:xz",
    "zlib": "zlib:zlib",
    "zstd": "facebook:zstandard",
}


def main() -> None:
    """Print the list for what is installed here."""
    print(json.dumps(make_sbom(Version(installed(NAME))), indent=2))  # noqa: T201


def make_sbom(version: Version) -> Mapping[str, Any]:
    """What an installation with the extras of the image has, as CycloneDX. Raises: ToolFailed."""
    document: dict[str, Any] = json.loads(export("--no-dev", *_FORMAT))
    purl = f"pkg:pypi/{NAME}@{version}"
    document["metadata"]["component"] |= {
        "type": "application",
        "version": str(version),
        "purl": purl,
        "licenses": [{"license": {"id": "MIT"}}],
    }
    document["metadata"]["timestamp"] = datetime.fromtimestamp(int(time_of_the_commit()), UTC).isoformat()
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, purl)}"
    _add(document, [one for one in read_libraries() if not one.package.startswith("python ")])
    return document


def _add(document: dict[str, Any], libraries: Sequence[BundledLibrary]) -> None:
    """Put each library below the package that brought it."""
    packages = {f"{one['name']} {one['version']}": one["bom-ref"] for one in document["components"]}
    needs = {one["ref"]: one for one in document["dependencies"]}
    for library in libraries:
        component = dict(_component(library))
        document["components"].append(component)
        document["dependencies"].append({"ref": component["bom-ref"]})
        if library.package in packages:
            needs[packages[library.package]].setdefault("dependsOn", []).append(component["bom-ref"])


def _component(library: BundledLibrary) -> Iterator[tuple[str, Any]]:
    yield "type", "library"
    yield "bom-ref", f"{library.package.replace(' ', '@')}/{library.name}"
    yield "name", library.name
    if library.version:
        yield "version", library.version
        yield "purl", f"pkg:generic/{library.name}@{library.version}"
        if (known := _CPES.get(library.name)) and re.fullmatch(r"[\d.]+", library.version):
            yield "cpe", f"cpe:2.3:a:{known}:{library.version}:*:*:*:*:*:*:*"
    else:
        yield "purl", f"pkg:generic/{library.name}"
        yield "description", "Its version is not told by the package that it is linked into."
    yield "properties", [{"name": "media-worker:package", "value": library.package}]


if __name__ == "__main__":
    main()
