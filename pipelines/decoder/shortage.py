"""Whether the machine, and not the picture, is why something failed: no thread, memory or descriptor."""

import _thread
import mmap

_LEAST = 32 * 1024 * 1024  # bytes that every picture may need
_MAP_GROWSDOWN = 0x100  # asm-generic/mman.h; mm/mmap.c leaves stacks out of what RLIMIT_DATA bounds
_WORDS = (
    "creating thread",
    "can't start new thread",
    "resource temporarily unavailable",
    "too many open files",
)


def is_meant_by(words: str) -> bool:
    return any(known in words.lower() for known in _WORDS)


def found(memory: int = 0) -> str:
    """The thing that the machine refuses now, a thread or so many bytes of memory; "" if nothing."""
    try:
        _thread.start_new_thread(int, ())
    except RuntimeError:
        return "no thread can be started"
    size = max(memory, _LEAST)
    try:
        # Not touched, so it costs nothing. Like a stack: strict overcommit and a limit of address space count
        # it, but not our own limit of data, which a picture of more memory than announced is to meet.
        mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_GROWSDOWN).close()
    except OSError:
        return f"{size >> 20} MiB of memory cannot be had"
    return ""
