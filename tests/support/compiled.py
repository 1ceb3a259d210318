"""SQL that a process compiles once: each test opens engines of its own, which would compile it anew."""

from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.util import LRUCache

_compile = ClauseElement._compile_w_cache
_first: dict[Any, Dialect] = {}
_compiled: LRUCache[Any, Any] = LRUCache(2000)


def share_compiled_statements() -> None:
    """From now on engines of one kind share what they compile."""
    setattr(ClauseElement, "_compile_w_cache", _compile_once)  # noqa: B010 (mypy minds the other way)


def _compile_once(self: ClauseElement, dialect: Dialect, *, compiled_cache: Any, **rest: Any) -> Any:
    kind = type(dialect), getattr(dialect, "server_version_info", None)
    cache = None if compiled_cache is None else _compiled
    return _compile(self, _first.setdefault(kind, dialect), compiled_cache=cache, **rest)
