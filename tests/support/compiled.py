"""What a process compiles once: tests open engines and applications of their own, which would do it anew."""

from copy import deepcopy
from typing import Any

from fastapi._compat import v2
from pydantic import TypeAdapter, main
from pydantic.json_schema import model_json_schema
from sqlalchemy import Dialect
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.util import LRUCache

_compile = ClauseElement._compile_w_cache
_first: dict[Any, Dialect] = {}
_compiled: LRUCache[Any, Any] = LRUCache(2000)
_prepare = v2.ModelField.__post_init__
_adapters: dict[Any, TypeAdapter[Any]] = {}
_described: dict[Any, dict[str, Any]] = {}


def share_compiled_statements() -> None:
    """From now on engines of one kind share what they compile."""
    setattr(ClauseElement, "_compile_w_cache", _compile_once)  # noqa: B010 (mypy minds the other way)


def share_checks_of_parameters() -> None:
    """From now on applications share what checks and describes parameters, bodies and answers of one kind."""
    setattr(v2.ModelField, "__post_init__", _prepare_once)  # noqa: B010
    setattr(main, "model_json_schema", _describe_once)  # noqa: B010


def _compile_once(self: ClauseElement, dialect: Dialect, *, compiled_cache: Any, **rest: Any) -> Any:
    kind = type(dialect), getattr(dialect, "server_version_info", None)
    cache = None if compiled_cache is None else _compiled
    return _compile(self, _first.setdefault(kind, dialect), compiled_cache=cache, **rest)


def _prepare_once(self: v2.ModelField) -> None:
    declared = v2.asdict(self.field_info)
    attributes = declared["attributes"]
    try:
        key = (
            self.field_info.annotation,
            tuple(declared["metadata"]),
            frozenset(attributes.items()),
            self.config and tuple(self.config.items()),
        )
        found = _adapters.get(key)
    except TypeError:  # nobody can tell whether these are alike
        _prepare(self)
        return
    if found is None:
        _prepare(self)
        _adapters[key] = self._type_adapter
    else:
        self._type_adapter = found


def _describe_once(model: type[main.BaseModel], **how: Any) -> dict[str, Any]:
    key = model, tuple(how.items())
    if key not in _described:
        _described[key] = model_json_schema(model, **how)
    return deepcopy(_described[key])
