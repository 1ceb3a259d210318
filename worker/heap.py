"""The heap of a worker's process."""

import ctypes

_M_ARENA_MAX = -8  # as glibc's malloc.h says


def share_heap() -> None:
    """Have all threads to come take memory from one heap, instead of each keep one that is mostly free."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has one heap anyway
        libc.mallopt(_M_ARENA_MAX, 1)
