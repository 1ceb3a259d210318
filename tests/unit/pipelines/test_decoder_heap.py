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


UNTOUCHED = """
from pipelines.decoder import limits

MIB = 1024 * 1024
limits.keep_heap()
libc = limits._libc
libc.malloc.restype, libc.free.argtypes = limits.ctypes.c_void_p, [limits.ctypes.c_void_p]
for block in [libc.malloc(20 * MIB) for _ in range(2)]:
    libc.free(block)
print(libc.mallinfo2().end // MIB, limits.trim_large_heap() // MIB, libc.mallinfo2().end // MIB)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallinfo2 is glibc's")
def test_the_end_of_the_heap_is_returned_though_it_was_never_touched() -> None:
    told = subprocess.run(
        [sys.executable, "-c", UNTOUCHED], env={"MALLOC_ARENA_MAX": "1"}, check=True, capture_output=True
    )

    before, kept, after = map(int, told.stdout.split())
    assert before >= 40
    assert kept == after == 0


@pytest.mark.skipif(sys.platform != "linux", reason="mallinfo2 is glibc's")
def test_freed_memory_is_returned_once_and_counts_again_when_it_is_used_again() -> None:
    told = subprocess.run(
        [sys.executable, "-c", WORK], env={"MALLOC_ARENA_MAX": "1"}, check=True, capture_output=True
    )

    trimmed, again, used, then, at_last, free = map(int, told.stdout.split())
    assert trimmed == again == used == then == 0
    assert 7 <= at_last <= 12
    assert free > 50
