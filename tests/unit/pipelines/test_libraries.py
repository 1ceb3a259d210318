"""The C libraries that read pictures: each is named with its version, as far as it tells one."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version

import pytest

from pipelines import libraries
from pipelines.errors import DecoderUnavailable
from pipelines.libraries import BundledLibrary, read_libraries


@pytest.fixture(scope="module")
def found() -> Sequence[BundledLibrary]:
    return read_libraries()


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("pyvips-binary", {"libvips", "libaom", "libpng", "libheif", "libtiff", "libwebp"}),
        ("pillow", {"libtiff", "libwebp", "libjpeg-turbo", "libavif", "dav1d", "lcms2"}),
        ("pillow-heif", {"libheif", "libde265"}),
        ("simplejpeg", {"libjpeg-turbo"}),
    ],
)
def test_each_package_names_what_it_brought(
    found: Sequence[BundledLibrary], package: str, names: set[str]
) -> None:
    brought = f"{package} {version(package)}"

    assert names <= {one.name for one in found if one.package == brought}


def test_each_version_is_a_number_and_only_libvips_holds_some_that_tell_none(
    found: Sequence[BundledLibrary],
) -> None:
    silent = {one.package.split()[0] for one in found if one.version is None}

    assert silent <= {"pyvips-binary"}
    assert all(one.version[0].isdigit() and "." in one.version for one in found if one.version)


def test_libvips_and_the_decoders_tell_the_same_version(found: Sequence[BundledLibrary]) -> None:
    [libvips] = [one.version for one in found if one.name == "libvips"]

    assert libvips == version("pyvips-binary")


def test_no_decoder_loads_what_asks_the_libraries() -> None:
    ask = "import sys, pipelines.decoder.__main__; print('pipelines.decoder.libraries' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", ask], text=True) == "False\n"


def test_where_they_cannot_be_asked_the_last_line_of_the_error_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing = "import sys; sys.exit('one line\\nlibvips is missing')"
    monkeypatch.setattr(libraries, "_ASK", (sys.executable, "-c", failing))

    with pytest.raises(DecoderUnavailable, match="do not tell their versions: libvips is missing"):
        read_libraries()
