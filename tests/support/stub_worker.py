"""`media worker` with another program for a decoder: one that dies of, or hangs on, certain pictures."""

import asyncio
import sys

from worker.settings_or_exit import load_or_exit
from worker.supervise import run

STUB = (sys.executable, "-m", "tests.support.stub_decoder")


def work() -> None:
    """Be that worker."""
    asyncio.run(run(load_or_exit(), burst=False, decoder=STUB))
