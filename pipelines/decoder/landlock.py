"""Confinement by Landlock: a process that may open no file, no TCP socket, and signal nobody outside."""

import ctypes
import errno
import os

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # system calls, with one number on every architecture
_VERSION_FLAG = 1  # LANDLOCK_CREATE_RULESET_VERSION of linux/landlock.h, as all that follows
_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h

# How many rights of each kind a kernel of that Landlock version knows: a bit it does not know is an error.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NET_RIGHTS = 0b11  # TCP bind and connect, since version 4
_SCOPES = 0b11  # abstract unix sockets and signals, since version 6

# How a system call filter, or a kernel with Landlock switched off, says no.
_FORBIDDEN = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP})

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    """`struct landlock_ruleset_attr`; older kernels know only its beginning."""

    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def version() -> int:
    """Return the kernel's Landlock version, 0 where there is none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def confine() -> int:
    """Deny this process all that the kernel can deny, for good; returns its version of Landlock, 0: none."""
    known = version()
    if known == 0:
        return 0
    rights = _Ruleset(
        files=(1 << _FILE_RIGHTS[min(known, max(_FILE_RIGHTS))]) - 1,
        net=_NET_RIGHTS if known >= 4 else 0,
        scopes=_SCOPES if known >= 6 else 0,
    )
    size = ctypes.sizeof(_Ruleset) if known >= 6 else 16 if known >= 4 else 8
    try:
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0))
        ruleset = _check(_libc.syscall(_CREATE_RULESET, ctypes.byref(rights), ctypes.c_size_t(size), 0))
        try:
            _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
        finally:
            os.close(ruleset)
    except OSError as error:
        if error.errno in _FORBIDDEN:
            return 0
        raise
    return known


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"landlock: {os.strerror(number)}")
    return result
