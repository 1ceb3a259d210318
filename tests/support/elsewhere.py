"""A forked process on another host: with a clock, or in a network and with a clock of its own."""

import ctypes
import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar, Self

import arq.worker

_NETWORK, _AHEAD = "TESTS_NETWORK", "TESTS_CLOCK_AHEAD"
_CLONE_NEWNET = 0x40000000


def elsewhere(network: str, ahead_s: int) -> Mapping[str, str]:
    """The variables of a process in that network namespace, whose clock is so far ahead."""
    return {_NETWORK: network, **ahead_by(ahead_s)}


def ahead_by(seconds: int) -> Mapping[str, str]:
    """The variables of a process whose clock is so far ahead."""
    return {_AHEAD: str(seconds)}


def move_in() -> None:
    """Go where the environment says, if it says so."""
    if network := os.environ.get(_NETWORK):
        _enter(f"/run/netns/{network}")
    if ahead_s := os.environ.get(_AHEAD):
        _put_ahead(int(ahead_s))


def _enter(network: str) -> None:
    with open(network) as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {network}")


class _AheadDatetime(datetime):
    """What arq asks whether a periodic task is due."""

    lead: ClassVar[timedelta]

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + cls.lead


def _put_ahead(seconds: int) -> None:
    """What tells the time of day is so far ahead; what measures how time passes is right."""
    told, told_ns = time.time, time.time_ns
    clocks: dict[Any, Any] = {
        told: lambda: told() + seconds,
        told_ns: lambda: told_ns() + seconds * 10**9,
    }
    for module in list(sys.modules.values()):  # some have it under a name of theirs
        for name, value in list(vars(module).items()):
            if any(value is clock for clock in clocks):
                setattr(module, name, clocks[value])
    _AheadDatetime.lead = timedelta(seconds=seconds)
    arq.worker.datetime = _AheadDatetime  # type: ignore[attr-defined]
