"""A command that dies, as by SIGKILL, right before the n-th of its calls that change files."""

import os
from collections.abc import Callable, Mapping
from typing import Any

CALLS = ("fsync", "link", "mkdir", "rename", "replace", "unlink")
DIED = 137
_VARIABLE = "TESTS_DIES_AT"


def dying_at(call: int) -> Mapping[str, str]:
    """What a command's environment has beside its settings so that it dies at that call, from 1."""
    return {_VARIABLE: str(call)}


def arm() -> None:
    """Let this process die where its environment says so."""
    left = int(os.environ.pop(_VARIABLE, "0"))
    if not left:
        return

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(DIED)
            return real(*args, **more)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
