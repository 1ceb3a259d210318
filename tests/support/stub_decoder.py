"""The real decoder, except that a picture's last bytes can make it crash, fail, hang, eat or be slow."""

import os
import signal
import sys
import time

from pipelines.decoder import reading
from pipelines.decoder.__main__ import main

CRASH, FAIL, HANG, STOP, EAT = b"--crash--", b"--fail--", b"--hang--", b"--stop--", b"--eat--"
SLOW = b"--slow--"

_read_once = reading.read_once


def _read(source: int, size: int) -> bytearray | None:
    data = _read_once(source, size)
    if data is not None and data.endswith(CRASH):
        os.write(2, b"vips: out of order\n")
        os.abort()
    if data is not None and data.endswith(FAIL):
        raise KeyError("x")
    if data is not None and data.endswith(HANG):
        while True:
            pass
    if data is not None and data.endswith(EAT):
        eaten = []
        while True:
            eaten.append(os.urandom(4 * 1024 * 1024))
    if data is not None and data.endswith(SLOW):
        time.sleep(0.25 * data.count(SLOW))
    if data is not None and data.endswith(STOP):
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(60)
    return data


if __name__ == "__main__":
    setattr(reading, "read_once", _read)  # noqa: B010 (mypy minds the other way)
    main(sys.argv[1])
