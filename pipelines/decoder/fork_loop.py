"""The parent of decoders: set up once, it forks a child for each order, and never reads a picture.

What it has loaded is in each child at once, and shared until one of them writes there. It starts no thread,
for a fork copies none, and a lock that another thread holds would stay held.
"""

import errno
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipelines.decoder.limits import die_with
from pipelines.decoder.wire import Channel, close_all

BEGIN = b"."  # the first byte for a child
DESCRIPTORS = 3  # that come with an order: the socket, standard error, and the file for variants


@dataclass(frozen=True)
class Order:
    """What a new child is to be; `output` is the descriptor of the file for variants."""

    engine: str
    warm_up: bool
    output: int


class ForkLoop:
    """Forks children, and waits for them, as the worker orders at the other end of `control`."""

    def __init__(self, control: Channel, prepare: Callable[[str], object]) -> None:
        self._control = control
        self._prepare = prepare
        self._children: set[int] = set()  # not yet waited for: their numbers are nobody else's

    def next_order(self) -> Order:
        """Work until the worker closes; returns in each child, with the descriptors of its order.

        Its socket is descriptor 0 then, and standard error 2. Raises: SystemExit in the parent.
        """
        # Blocked, it can be waited for.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is inherited as ignored, nobody could wait
        self._control.send({"forks": 1})
        while (received := self._control.receive()) is not None:
            order, descriptors = received
            if "wait" in order:
                status = self._reap(order["wait"], order["for_s"], kill=order["kill"])
                answer = {"status": status, "lives": order["wait"] in self._children}
            else:
                here = os.getpid()
                answer = self._fork(order["fork"], descriptors)
                if answer["pid"] == 0:
                    return Order(order["fork"], order["warm_up"], self._become_child(here, descriptors))
            close_all(descriptors)
            self._control.send(answer)
        for pid in [*self._children]:
            self._reap(pid, None, kill=True)
        raise SystemExit

    def _fork(self, engine: str, descriptors: list[int]) -> dict[str, Any]:
        if len(descriptors) != DESCRIPTORS:
            return {"pid": -1, "errno": errno.EMFILE}
        with suppress(Exception):  # its child fails of the same, with words that somebody reads
            self._prepare(engine)
        try:
            pid = os.fork()
        except OSError as error:
            return {"pid": -1, "errno": error.errno}
        if pid:
            self._children.add(pid)
        return {"pid": pid}

    def _become_child(self, parent: int, descriptors: list[int]) -> int:
        """Become a process of its own, which dies with its parent; returns where the file for variants is."""
        die_with(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.setsid()
        self._control.close()
        sock, errors, output = descriptors
        os.dup2(sock, 0)
        os.dup2(errors, 2)
        for taken in (sock, errors):
            os.close(taken)
        if not os.read(0, len(BEGIN)):  # until its worker has opened what shows it, which it may hide then
            raise SystemExit
        return output

    def _reap(self, pid: int, for_s: float | None, *, kill: bool) -> int | None:
        """The exit status of that child, as subprocess gives it, once it has ended within the time."""
        if pid not in self._children:
            return None
        if kill:
            _kill(pid)
        until = None if for_s is None else time.monotonic() + for_s
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            left = 60.0 if until is None else until - time.monotonic()
            if left <= 0 or not signal.sigtimedwait({signal.SIGCHLD}, left):
                return None
        self._children.discard(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _kill(pid: int) -> None:
    """End it, and whatever it has started, although it should not be able to."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not yet become the leader of a group
        os.kill(pid, signal.SIGKILL)
