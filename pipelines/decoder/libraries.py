"""The C libraries that read pictures here, with the versions that they tell themselves.

python -m pipelines.decoder.libraries prints them as JSON. No decoder imports this: none starts later for it.
"""

import mmap
import platform
import re
import zlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import orjson
import pillow_heif
import pyvips
from PIL import features

Told = tuple[str, str | None]  # a library and its version, where it tells one


class _Inside(NamedTuple):
    """What is linked into libvips: the type of libvips that needs it, and the text that tells its version."""

    needed_by: str
    pattern: bytes | None = None


_IN_LIBVIPS = {
    "lcms2": _Inside("VipsIccTransform"),
    "libaom": _Inside("VipsForeignLoadHeifBuffer", rb"AOMedia Project AV1 Decoder v([\d.]+)"),
    "libheif": _Inside("VipsForeignLoadHeifBuffer"),
    "libjpeg-turbo": _Inside("VipsForeignLoadJpegBuffer", rb"libjpeg-turbo version ([\d.]+)"),
    "libpng": _Inside("VipsForeignLoadPngBuffer", rb"\0(1\.[68]\.\d+)\0"),
    "libtiff": _Inside("VipsForeignLoadTiffBuffer", rb"LIBTIFF, Version ([\d.]+)"),
    "libwebp": _Inside("VipsForeignLoadWebpBuffer"),
    "mozjpeg": _Inside("VipsForeignLoadJpegBuffer", rb"mozjpeg version ([\d.]+)"),
    "zlib": _Inside("VipsForeignLoadPngBuffer", rb"\0(1\.[\d.]+\.zlib-ng)\0"),
}
# Of each pair one is there: the libraries of JPEG have the same functions.
_ALTERNATIVES = {"libjpeg-turbo", "mozjpeg"}
_OF_PILLOW = {
    "lcms2": "littlecms2",
    "libavif": "avif",
    "libjpeg-turbo": "libjpeg_turbo",
    "libtiff": "libtiff",
    "libwebp": "webp",
    "openjpeg": "jpg_2000",
    "zlib-ng": "zlib_ng",
}


def main() -> None:
    """Print all, each with the package that brought it."""
    lines = [
        {"package": package, "name": name, "version": version}
        for package, told in (
            (_package("pyvips-binary", "libvips of the system"), _in_libvips()),
            (_package("pillow", "pillow"), _in_pillow()),
            (_package("pillow-heif", "pillow-heif"), _in_pillow_heif()),
            (_package("simplejpeg", "simplejpeg"), _in_simplejpeg()),
            (f"python {platform.python_version()}", iter([("zlib", zlib.ZLIB_RUNTIME_VERSION)])),
        )
        for name, version in sorted(told)
    ]
    print(orjson.dumps(lines).decode())  # noqa: T201


def _package(name: str, otherwise: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return otherwise


def _in_libvips() -> Iterator[Told]:
    yield "libvips", ".".join(str(pyvips.version(part)) for part in range(3))
    path = next(path for path in _mapped() if re.match(r"libvips[-.]", path.name))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        found = {name: set(re.findall(one.pattern, text)) for name, one in _IN_LIBVIPS.items() if one.pattern}
    for name, one in _IN_LIBVIPS.items():
        versions = found.get(name, set())
        told = versions.pop().decode() if len(versions) == 1 else None
        if pyvips.type_from_name(one.needed_by) and (told or name not in _ALTERNATIVES):
            yield name, told


def _mapped() -> Iterator[Path]:
    """The files of the libraries that this process has loaded, each once."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    yield from dict.fromkeys(Path(words[5]) for line in lines if len(words := line.split(maxsplit=5)) > 5)


def _in_pillow() -> Iterator[Told]:
    for name, feature in _OF_PILLOW.items():
        if features.check(feature):
            yield name, features.version(feature)
    if features.check("avif"):
        from PIL import _avif

        # dav1d [dec]:1.5.3-0-gb546257, aom [enc]:3.14.1
        for name, told in re.findall(r"(\w+) \[[\w/]+\]:v?([\d.]+)", _avif.codec_versions()):
            yield {"aom": "libaom"}.get(name, name), told
    for path in _mapped():  # two that libtiff needs, and that only their files' names tell
        if told := re.fullmatch(r"lib(lzma|zstd)-\w+\.so\.([\d.]+)", path.name):
            yield {"lzma": "xz"}.get(told[1], told[1]), told[2]


def _in_pillow_heif() -> Iterator[Told]:
    info = pillow_heif.libheif_info()
    yield "libheif", info["libheif"]
    for name, words in {**info["decoders"], **info["encoders"]}.items():
        if told := re.search(r"(?:version |\()v?(\d[\d.]*)", words):
            yield name, told[1]


def _in_simplejpeg() -> Iterator[Told]:
    found = find_spec("simplejpeg._jpeg") if find_spec("simplejpeg") else None
    if found is not None and found.origin is not None:  # an extra, which need not be there
        told = re.search(rb"libjpeg-turbo version ([\d.]+)", Path(found.origin).read_bytes())
        yield "libjpeg-turbo", told[1].decode() if told else None


if __name__ == "__main__":
    main()
