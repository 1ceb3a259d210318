"""Other libraries without parts of them that nobody uses here, which would take memory all the time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(library: str) -> Iterator[None]:
    """Let what the body imports do without `library`, which it would use for more; unless that is there."""
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment]  # so an import knows that there is none
    try:
        yield
    finally:
        del sys.modules[library]
