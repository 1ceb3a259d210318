"""All threads of a worker share one heap."""

import subprocess
import sys

import pytest

HEAPS = """
import ctypes, sys, threading
from worker.heap import share_heap
if sys.argv[1] == "shared":
    share_heap()
libc = ctypes.CDLL(None)
together = threading.Barrier(3)
def work():
    kept = libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_info is glibc's")
@pytest.mark.parametrize(("whose", "is_one"), [("shared", True), ("each", False)])
def test_threads_share_a_heap_where_they_are_told_to(whose: str, is_one: bool) -> None:
    ran = subprocess.run([sys.executable, "-c", HEAPS, whose], capture_output=True, text=True, check=True)
    assert (ran.stdout.count("<heap nr=") == 1) is is_one
