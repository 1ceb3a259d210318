"""What `media health` prints of a worker's answer, whatever that has in it and whoever reads it."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.health_probe import show
from tests.support.commands import MEDIA
from tests.support.ports import free_port


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_a_terminal_cannot_show_or_would_obey_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoding: str
) -> None:
    with (tmp_path / "terminal").open("w", encoding=encoding) as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        show({"status": "unhealthy", "reason": "/srv/\udcff\x1b[2J\nß"})

    eszett = b"?" if encoding == "ascii" else "ß".encode()
    assert (tmp_path / "terminal").read_bytes() == b"unhealthy: /srv/??[2J?" + eszett + b"\n"


def test_an_output_that_takes_nothing_leaves_the_exit_code_as_it_is() -> None:
    env = {"MEDIA_METRICS": f"127.0.0.1:{free_port()}"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run([MEDIA, "health"], env=env, stdout=full, stderr=subprocess.PIPE)

    assert (ended.returncode, ended.stderr) == (1, b"")
