"""`media worker` with another program for a decoder: one that dies of, or hangs on, certain pictures."""

import asyncio
import sys

from worker.main import load_or_exit
from worker.supervise import run

if __name__ == "__main__":
    stub = (sys.executable, "-m", "tests.support.stub_decoder")
    asyncio.run(run(load_or_exit(), burst="--burst" in sys.argv, decoder=stub))
