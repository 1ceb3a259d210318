"""What the child gives up before it sees anything untrusted: descriptors, capabilities, priority, dumps."""

import ctypes
import errno
import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import Thread

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38  # linux/prctl.h
_CAPABILITIES_V3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3 of linux/capability.h
_DESCRIPTORS = 128
_MORE_TASKS = 256  # than its user has: libraries start some threads, and other programs come and go
_COUNT_LASTS_S = 10.0
_OUTPUT_FD = 3  # the descriptor of the file for variants, after the socket and standard output and error
_LARGEST_FILE = 256 * 1024 * 1024  # all variants together are far smaller; a decoder gone wild is not

_IGNORED_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),  # sent to the group
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPWR),  # sent by an operator
    signal.SIGXCPU,  # a limit of CPU time that was inherited
)

# Freed bytes that the C library may keep: asking for them again takes time.
_FREE_HEAP_LIMIT = 32 * 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class _Seen:
    """How many processes and threads this user had, and when."""

    at: float = -inf
    tasks: int = 0


_seen = _Seen()


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of malloc.h: bytes of the heap, in use, free, and of these those at its end."""

    _others = tuple((f"_{number}", ctypes.c_size_t) for number in range(6))
    _in_use = (("used", ctypes.c_size_t), ("free", ctypes.c_size_t), ("end", ctypes.c_size_t))
    _fields_ = (("size", ctypes.c_size_t), *_others, *_in_use)


class _CapabilityHeader(ctypes.Structure):
    """`struct __user_cap_header_struct` of linux/capability.h."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


if hasattr(_libc, "mallinfo2"):
    _libc.mallinfo2.restype = _Mallinfo
    _libc.sbrk.restype = ctypes.c_void_p
    _libc.mincore.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p


def give_up(memory_mb: int | None, output: int) -> tuple[int, list[str]]:
    """Be the first to be killed for memory, and hold nothing that was inherited.

    Nothing but `output`, which is moved; returns where it is now, and what the system did not allow: a
    child without it is still watched and killed by its parent. That it gains no rights, and ignores signals,
    it has from its parent.
    """
    if output != _OUTPUT_FD:
        os.dup2(output, _OUTPUT_FD, inheritable=False)
    close_from(_OUTPUT_FD + 1)
    measures: dict[str, Callable[[], object]] = {
        "oom-score": lambda: Path("/proc/self/oom_score_adj").write_text("1000"),
        "nice": lambda: os.nice(5),
        "core-limit": lambda: _limit(resource.RLIMIT_CORE, 0),
        "files-limit": lambda: _limit(resource.RLIMIT_NOFILE, _DESCRIPTORS),
        "file-size-limit": lambda: _limit(resource.RLIMIT_FSIZE, _LARGEST_FILE),
        "task-limit": _limit_tasks,
        "dumpable": lambda: _prctl(_PR_SET_DUMPABLE, 0),
        "capabilities": drop_capabilities,
    }
    if memory_mb is not None:
        measures["memory-limit"] = lambda: _limit(resource.RLIMIT_DATA, memory_mb * 1024 * 1024)
    return _OUTPUT_FD, [name for name, measure in measures.items() if not _is_granted(measure)]


def die_with(parent: int) -> None:
    """Be killed once the process that started this one has ended. Raises: SystemExit where it has."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the parent is gone")


def gain_nothing() -> None:
    """Never get more rights than there are now, by no program."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def ignore_signals() -> None:
    """Leave it to the worker when this process ends."""
    for number in _IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _is_granted(measure: Callable[[], object]) -> bool:
    try:
        measure()
    except OSError:
        return False
    return True


def _limit_tasks() -> None:
    """Let this process' user have few processes and threads more than now, in this process' eyes.

    Those of other containers count as well, and cannot be seen: a limit is right once a thread starts.
    """
    most, (_, hard) = _tasks_seen(), resource.getrlimit(resource.RLIMIT_NPROC)
    while True:
        most += _MORE_TASKS
        resource.setrlimit(resource.RLIMIT_NPROC, (most if hard < 0 else min(most, hard), hard))
        try:
            thread = Thread(target=int)
            thread.start()
        except RuntimeError as error:
            if 0 <= hard <= most:
                raise OSError(errno.EAGAIN, "no thread can be started") from error
            most *= 4
        else:
            thread.join()
            _limit(resource.RLIMIT_NPROC, most + _MORE_TASKS)
            return


def look_for_tasks() -> None:
    """Count the processes and threads of this user, for children that are forked soon: it takes a while."""
    if time.monotonic() - _seen.at > _COUNT_LASTS_S:
        _seen.at, _seen.tasks = time.monotonic(), _tasks_of(os.getuid())


def _tasks_seen() -> int:
    look_for_tasks()
    return _seen.tasks


def _tasks_of(user: int) -> int:
    """How many processes and threads that user has, as far as /proc tells."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):  # it has just ended
            if process.stat().st_uid == user:
                count += int((process / "stat").read_text().rpartition(")")[2].split()[17])
    return count


def drop_capabilities() -> None:
    """Leave root nothing but the rights of a user; no program can be started that would give more.

    Raises: OSError.
    """
    header, held, none = (
        _CapabilityHeader(_CAPABILITIES_V3, 0),
        (ctypes.c_uint32 * 6)(),
        (ctypes.c_uint32 * 6)(),
    )
    if _libc.capget(ctypes.byref(header), held) == 0 and not any(held):
        return  # where a filter of system calls lets nobody change them
    _check(_libc.capset(ctypes.byref(header), none), "capset")


def close_from(first: int) -> None:
    """Close every descriptor from `first` on, however many there may be: the limit can be a billion."""
    try:
        is_open = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))
        return
    for descriptor in is_open:
        if descriptor >= first:
            with suppress(OSError):  # that of the listing is closed already
                os.close(descriptor)


def keep_heap() -> None:
    """Leave it to the functions below when freed memory is returned; children inherit that.

    The C library would return that of each small picture and ask for it again, a tenth of its time.
    """
    # Of one heap alone, as children have it (MALLOC_ARENA_MAX=1): that of another thread shrinks by itself.
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_MMAP_THRESHOLD, _FREE_HEAP_LIMIT)  # the highest that it takes
        _libc.mallopt(_M_TRIM_THRESHOLD, 2 * _FREE_HEAP_LIMIT)


def trim_large_heap() -> int:
    """Return freed memory before it adds up: a child that has much between pictures is ended.

    Returns how many bytes of the heap are free and kept, as far as that is known. What was returned stays a
    part of the heap: only pages that were touched since are memory again. An end that is free counts in any
    case, as in the limit of data.
    """
    heap = _libc.mallinfo2() if hasattr(_libc, "mallinfo2") else _Mallinfo()
    kept = min(int(heap.free), max(0, _resident(int(heap.size)) - int(heap.used)))
    if max(kept, int(heap.end)) <= _FREE_HEAP_LIMIT:
        return kept
    trim_heap()
    return 0


def trim_heap() -> None:
    """Return the memory of the last picture to the system, where the C library can."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


def _resident(size: int) -> int:
    """Bytes of a heap of that size that are memory: all of it where the system does not tell."""
    if size == 0:
        return 0
    page, end = resource.getpagesize(), int(_libc.sbrk(0))
    start = (end - size) // page * page
    pages = ctypes.create_string_buffer(-(-(end - start) // page))
    if _libc.mincore(start, end - start, pages) != 0:  # refused, or another's memory lies within
        return size
    return pages.raw.count(1) * page


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))
