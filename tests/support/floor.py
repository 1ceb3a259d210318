"""The bare libvips loop of the benchmark, for tests that measure a time against this machine's."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOP = Path(__file__).parents[2] / "bench/peers/floor.py"


class Floor:
    """The loop, on one core, with everything imported."""

    def __init__(self, process: "subprocess.Popen[str]", home: Path) -> None:
        self._process = process
        self._list = home / "floor.txt"

    def ms(self, picture: Path) -> float:
        """How long it takes for the three variants of a picture."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._list.write_text(f"{picture}\n")
        began = time.perf_counter()
        self._process.stdin.write(f"{self._list}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"
        return (time.perf_counter() - began) * 1000


@contextmanager
def floor_in(home: Path) -> Iterator[Floor]:
    """A loop that puts its variants there."""
    out = home / "floor"
    out.mkdir()
    command = [sys.executable, str(_LOOP), "1", str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Floor(process, home)
        assert process.stdin is not None
        process.stdin.close()
