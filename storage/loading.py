"""Other libraries without parts of them that nobody uses here, which would take memory all the time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from threading import RLock
from typing import Any


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


def in_parts(package: str, *parts: str) -> None:
    """Import these modules of `package` without all the others that it imports itself.

    Those it imports once it is asked for a name of its own; unless that is done already.
    """
    if package in sys.modules:
        return
    spec = find_spec(package)
    if spec is None or (loader := spec.loader) is None:
        raise ModuleNotFoundError(f"there is no package {package!r}")
    module, one_at_a_time = module_from_spec(spec), RLock()
    names = vars(module)
    sys.modules[package] = module
    parent, _, name = package.rpartition(".")
    if parent:
        setattr(import_module(parent), name, module)
    before = {*names}
    for part in parts:
        import_module(f"{package}.{part}")
    imported = {name: names.pop(name) for name in {*names} - before}  # it may call something else so

    def rest(name: str) -> Any:  # noqa: ANN401 (a module's attribute)
        with one_at_a_time:
            if names.pop("__getattr__", None) is not None:
                names.update(imported)
                loader.exec_module(module)
        if name in names:
            return names[name]
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    names["__getattr__"] = rest
