"""What a decoder hears from libvips: its warnings, which tell of damage, and none of its steps."""

import json
import subprocess
import sys

_HEAR = """
import json, logging
import pyvips
from pipelines.decoder import vips

steps = []

class Steps(logging.Handler):
    def emit(self, record):
        steps.append(record.levelno == logging.INFO)

vips.set_up(("jpeg",))
pyvips.logger.addHandler(Steps(logging.INFO))
pyvips.logger.setLevel(logging.INFO)
picture = vips.samples("jpeg")[0]
for content in (picture, picture[:-40]):
    source = pyvips.Source.new_from_memory(content)
    image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="none")
    image.resize(0.3).write_to_memory()
    del image, source  # of which libvips would warn once more when nobody listens any longer
print(json.dumps({"steps": sum(steps), "warnings": list(vips.warnings)}))
"""


def test_a_decoder_hears_the_warnings_of_libvips_and_none_of_its_steps() -> None:
    done = subprocess.run([sys.executable, "-c", _HEAR], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    heard = json.loads(done.stdout)
    assert heard["steps"] == 0
    assert any("premature end" in warning for warning in heard["warnings"])
