"""A command that dies, as by SIGKILL, right before the n-th step that changes files or the catalog."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, event

CALLS = ("fsync", "link", "mkdir", "rename", "replace", "unlink")
DIED = 137
_VARIABLE = "TESTS_DIES_AT"


def dying_at(step: int) -> Mapping[str, str]:
    """What a command's environment has beside its settings so that it dies at that step, from 1."""
    return {_VARIABLE: str(step)}


def arm() -> None:
    """Let this process die where its environment says so."""
    left = int(os.environ.pop(_VARIABLE, "0"))
    if not left:
        return

    def step(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(DIED)

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            step()
            return real(*args, **more)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    event.listen(Engine, "commit", step)
