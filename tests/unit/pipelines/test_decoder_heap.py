"""A decoder returns freed memory where it has much, and what it has returned counts no more."""

import io
import subprocess
import sys

import pytest
from PIL import Image

from tests.support.decoder_child import DecoderProcess, spec

MIB = 1024 * 1024

# Blocks that were freed below one that is used stay a part of the heap.
WORK = """
import os
from pipelines.decoder import limits

MIB = 1024 * 1024
limits.keep_heap()

def used_up():
    blocks = [bytearray(MIB) for _ in range(60)]
    for block in blocks:
        block[:] = b'x' * MIB  # a page that nobody has written is none
    kept.append(bytearray(MIB))
    return len(blocks)

kept = []
if FORKS:
    used_up()
    limits.trim_heap()
    if os.fork():
        raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
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
@pytest.mark.parametrize("forks", [False, True], ids=["alone", "forked"])
@pytest.mark.parametrize("pages", ["small", "huge"])
def test_freed_memory_is_returned_once_and_counts_again_when_it_is_used_again(
    pages: str, *, forks: bool
) -> None:
    huge = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} if pages == "huge" else {}
    told = subprocess.run(
        [sys.executable, "-c", WORK.replace("FORKS", str(forks))],
        env={"MALLOC_ARENA_MAX": "1", **huge},
        check=True,
        capture_output=True,
    )

    trimmed, again, used, then, at_last, free = map(int, told.stdout.split())
    assert trimmed == used == 0
    assert max(again, then) <= (4 if huge else 0)
    assert 7 <= at_last <= 16
    assert free > 50


@pytest.mark.skipif(sys.platform != "linux", reason="mallinfo2 is glibc's")
def test_a_decoder_of_progressive_photos_keeps_less_than_that_for_which_it_is_ended() -> None:
    noise = Image.effect_noise((1600, 1200), 50).resize((2900, 2100), Image.Resampling.NEAREST)
    file = io.BytesIO()
    Image.merge("RGB", (noise, noise, noise)).save(file, "JPEG", quality=50, progressive=True)

    with DecoderProcess() as child:
        idle = child.resident()
        outcomes = [child.run(file.getvalue(), [spec(1920)]) for _ in range(2)]
        kept = child.resident() - idle

    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    assert kept < 36 * MIB
