"""A decoder returns freed memory where it has much, and what it has returned counts no more."""

import subprocess
import sys

import pytest

# Blocks that were freed below one that is used stay a part of the heap.
WORK = """
from pipelines.decoder import limits

MIB = 1024 * 1024
limits.keep_heap()

def used_up():
    blocks = [bytearray(MIB) for _ in range(60)]
    kept.append(bytearray(MIB))
    return len(blocks)

kept = []
used_up()
found = [limits.trim_large_heap()]
found += [limits.trim_large_heap(), used_up() and limits.trim_large_heap(), limits.trim_large_heap()]
free = limits._libc.mallinfo2().free
bytearray(8 * MIB)
print(*(each // MIB for each in (*found, limits.trim_large_heap(), free)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallinfo2 is glibc's")
def test_freed_memory_is_returned_once_and_counts_again_when_it_is_used_again() -> None:
    told = subprocess.run(
        [sys.executable, "-c", WORK], env={"MALLOC_ARENA_MAX": "1"}, check=True, capture_output=True
    )

    trimmed, again, used, then, at_last, free = map(int, told.stdout.split())
    assert trimmed == again == used == then == 0
    assert 7 <= at_last <= 12
    assert free > 50
