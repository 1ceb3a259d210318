"""The real worker, wrapped from outside: it dies at a step, its disk fails, or its steps are traced.

A worker's fault is JSON in the variable CHAOS; it begins at SIGUSR1 and ends at SIGUSR2.
"""

import asyncio
import errno
import functools
import inspect
import json
import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any

from sqlalchemy import Connection, Engine, event

from scripts import media
from storage import blobs
from tests.chaos.steps import EVERY, Step, When
from worker import adoption
from worker.places import JobPlaces
from worker.settings_or_exit import load_or_exit
from worker.supervise import run

DIED = 137
_verb: ContextVar[str] = ContextVar("verb", default="")


@dataclass
class WorkerFault:
    """What is to go wrong, once it is armed."""

    crash: tuple[str, When, int] | None = None  # the step, the moment, and how often it was there
    signal: str | None = None  # what it sends itself there instead of dying
    trace: str | None = None  # a file to which every step is written
    disk: dict[str, Any] | None = None  # {"call": "fsync", "errno": "ENOSPC", "nth": 2 or null: always}
    catalog: str | None = None  # "full" or "locked": what SQLite answers to a COMMIT
    slow: float = 0.0  # seconds that the event loop is blocked at the next claim
    parks: bool = False  # whether every upload waits for a dispatcher
    page: int | None = None  # how many names adoption looks at in one go
    armed: bool = False
    seen: Counter[tuple[str, When]] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    def at(self, step: str, when: When) -> None:
        """Come by a step; never go on, if this was it."""
        if not self.armed:
            return
        self.seen[step, when] += 1
        if self.trace:
            with open(self.trace, "a") as file:
                file.write(f"{step} {when} {self.seen[step, when]}\n")
        if self.crash == (step, when, self.seen[step, when]):
            if self.signal is None:
                os._exit(DIED)
            os.kill(os.getpid(), signal.Signals[self.signal])

    def strike(self, call: str) -> None:
        """Come by a call of the operating system, which may fail."""
        if not self.armed or self.disk is None or self.disk["call"] not in (call, "all"):
            return
        self.calls[call] += 1
        if self.disk.get("nth") in (None, self.calls[call]):
            number = getattr(errno, self.disk["errno"])
            raise OSError(number, os.strerror(number))


def _wrap_step(name: str, step: Step, fault: WorkerFault) -> None:
    original = getattr(step.owner, step.attribute)

    def enter() -> None:
        _verb.set(name if "commit" in step.whens else _verb.get())
        if not step.only_with_result:
            fault.at(name, "before")

    def leave(result: object) -> None:
        if result or not step.only_with_result:
            fault.at(name, "after")

    @functools.wraps(original)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        token = _verb.set(_verb.get())
        try:
            enter()
            result = await original(*args, **kwargs)
            leave(result)
        finally:
            _verb.reset(token)
        return result

    @functools.wraps(original)
    @asynccontextmanager
    async def context(*args: Any, **kwargs: Any) -> Any:
        enter()
        async with original(*args, **kwargs) as entered:
            leave(entered)
            yield entered

    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        enter()
        result = original(*args, **kwargs)
        leave(result)
        return result

    if inspect.iscoroutinefunction(original):
        setattr(step.owner, step.attribute, coroutine)
    elif hasattr(original, "__wrapped__"):  # an @asynccontextmanager
        setattr(step.owner, step.attribute, context)
    else:
        setattr(step.owner, step.attribute, function)


class _Disk(SimpleNamespace):
    """The module `os` as the storage sees it: each call is a step, and may fail."""

    def __init__(self, fault: WorkerFault) -> None:
        super().__init__(**vars(os))
        for call in (
            "fsync",
            "rename",
            "link",
            "fchmod",
            "mkdir",
            "unlink",
            "open",
            "write",
            "stat",
            "fstat",
            "rmdir",
        ):
            setattr(self, call, functools.partial(self._call, fault, call))

    def _call(self, fault: WorkerFault, call: str, *args: Any, **kwargs: Any) -> Any:
        fault.strike("create" if call == "open" and _creates(args) else call)
        step = f"os.{call}" if f"os.{call}" in EVERY else ""
        if step:
            fault.at(step, "before")
        if call == "fsync":
            self._trace_sync(fault, args[0])
        result = getattr(os, call)(*args, **kwargs)
        if step:
            fault.at(step, "after")
        return result

    def _trace_sync(self, fault: WorkerFault, fd: int) -> None:
        if not (fault.trace and fault.armed):
            return
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"
        with open(fault.trace, "a") as file:
            file.write(f"os.fsync-{kind} before 0\n")


def _creates(args: Sequence[Any]) -> bool:
    return len(args) > 1 and bool(args[1] & os.O_CREAT)


def modules_with_os() -> Sequence[ModuleType]:
    """The modules of the backends that call the operating system, found by looking, so none is forgotten."""
    found = [import_module(f"{blobs.__name__}.{each.name}") for each in iter_modules(blobs.__path__)]
    return [module for module in found if hasattr(module, "os")]


def prepare(fault: WorkerFault) -> None:
    """Wrap everything, in this process."""
    for name, step in EVERY.items():
        if step.owner != "os":
            _wrap_step(name, step, fault)
    for module in modules_with_os():
        setattr(module, "os", _Disk(fault))  # noqa: B010 (mypy minds the other way)

    @event.listens_for(Engine, "commit")
    def before_commit(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        if fault.armed and fault.catalog and writes:
            kind = {"full": "database or disk is full", "locked": "database is locked"}[fault.catalog]
            raise sqlite3.OperationalError(kind)
        if _verb.get() and writes:
            fault.at(_verb.get(), "commit")

    if fault.slow:
        _block_the_loop(fault)
    if fault.parks:
        setattr(JobPlaces, "admit", lambda _, owners: [False] * len(owners))  # noqa: B010
    if fault.page:
        setattr(adoption, "PAGE", fault.page)  # noqa: B010

    def arm(_number: int, _frame: FrameType | None) -> None:
        fault.seen.clear()
        fault.calls.clear()
        fault.armed = _number == signal.SIGUSR1
        os.write(2, b'{"event": "%s"}\n' % (b"fault_armed" if fault.armed else b"fault_ended"))

    signal.signal(signal.SIGUSR1, arm)
    signal.signal(signal.SIGUSR2, arm)


def _block_the_loop(fault: WorkerFault) -> None:
    from storage.catalog.claims import Claims

    claim = Claims.claim

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        found = await claim(*args, **kwargs)
        if fault.armed:
            fault.armed = False
            time.sleep(fault.slow)  # noqa: ASYNC251 (this is the fault)
        return found

    setattr(Claims, "claim", slowly)  # noqa: B010


def work(words: Sequence[str]) -> None:
    """Be a worker, or the command `media …`, with the fault of the variable CHAOS."""
    found = json.loads(os.environ.get("CHAOS", "{}"))
    crash = found.pop("crash", None)
    prepare(WorkerFault(**found, crash=tuple(crash) if crash else None))
    if words and words[0] != "--burst":
        sys.argv = ["media", *words]
        media.main()
        return
    asyncio.run(run(load_or_exit(), burst="--burst" in words))
