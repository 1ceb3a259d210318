"""A test, or a process, without root's right to enter, read and write whatever a file's mode says."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION = 0x20080522
_PR_CAPBSET_DROP = 24
_RIGHTS = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_DAC = sum(1 << right for right in _RIGHTS)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """This thread, and those that it starts, are bound by the modes of files as any other user is."""
    sets = _capabilities()
    before = sets[0].effective
    sets[0].effective = before & ~_DAC
    _call("capset", sets)
    try:
        yield
    finally:
        sets[0].effective = before
        _call("capset", sets)


def give_up_roots_rights() -> None:
    """This process and those that it starts are, for good, bound by the modes of files; it has one thread."""
    if os.geteuid() != 0:
        return
    for right in _RIGHTS:
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, right)
    sets = _capabilities()
    sets[0].effective &= ~_DAC
    sets[0].permitted &= ~_DAC
    _call("capset", sets)


def _capabilities() -> "ctypes.Array[_Sets]":
    sets = (_Sets * 2)()
    _call("capget", sets)
    return sets


def _call(name: str, sets: "ctypes.Array[_Sets]") -> None:
    header = _Header(_VERSION, 0)
    if getattr(ctypes.CDLL(None, use_errno=True), name)(ctypes.byref(header), ctypes.byref(sets)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
