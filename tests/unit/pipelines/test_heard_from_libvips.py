"""What a decoder hears from libvips: its warnings, which tell of damage, and none of its steps."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
import pyvips

from pipelines.decoder import vips

LEVEL_WARNING = 16  # GLib's

_HEAR = """
import json
import pyvips
from pipelines.decoder import vips

levels = []

def hear(domain, level, message, data):
    levels.append(level)
    vips.hear(domain, level, message, data)

vips.set_up(("jpeg",))
pyvips.ffi.def_extern(name="_log_handler_callback")(hear)
picture = vips.samples("jpeg")[0]
for content in (picture, picture[:-40]):
    source = pyvips.Source.new_from_memory(content)
    image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="none")
    image.resize(0.3).write_to_memory()
    del image, source  # of which libvips would warn once more when nobody listens any longer
print(json.dumps({"levels": levels, "warnings": list(vips.warnings)}))
"""


def test_a_decoder_hears_the_warnings_of_libvips_and_none_of_its_steps() -> None:
    done = subprocess.run([sys.executable, "-c", _HEAR], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    heard = json.loads(done.stdout)
    assert set(heard["levels"]) == {LEVEL_WARNING}
    assert any("premature end" in warning for warning in heard["warnings"])


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    vips.warnings.clear()
    yield vips.warnings
    vips.warnings.clear()


def warn(text: bytes) -> None:
    vips.hear(None, LEVEL_WARNING, pyvips.ffi.new("char[]", text), None)


def test_however_much_libvips_warns_of_little_is_kept_and_damage_is_noticed(warnings: list[str]) -> None:
    for _ in range(10_000):
        warn(b"pngload: cICP: duplicate")
    assert vips.damage() == ""
    for _ in range(10_000):
        warn(b"VipsJpeg: premature end of data segment")

    assert len(warnings) <= 100
    assert "premature end" in vips.damage()


def test_a_warning_may_be_long_and_no_text(warnings: list[str]) -> None:
    warn(b"\xff" * 100_000)

    assert [len(line) for line in warnings] == [1000]
