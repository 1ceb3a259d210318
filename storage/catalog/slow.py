"""Slow statements: each that takes too long is told of, whichever database runs it."""

import time

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext, ExecutionContext

from storage.catalog.sqlalchemy_parts import AsyncEngine
from storage.watch import CatalogWatch

_BEGAN = "_media_began"


def report_slow(engine: AsyncEngine, watch: CatalogWatch) -> None:
    """Tell `watch` of every statement that takes longer than it wants to know, also of one that fails."""

    def begin(
        _connection: object, _cursor: object, _text: str, _values: object, ran: ExecutionContext, _many: bool
    ) -> None:
        setattr(ran, _BEGAN, time.perf_counter())

    def end(
        _connection: object, _cursor: object, text: str, _values: object, ran: ExecutionContext, _many: bool
    ) -> None:
        report(text, ran)

    def fail(failure: ExceptionContext) -> None:
        if failure.statement is not None:
            report(failure.statement, failure.execution_context)

    def report(text: str, ran: ExecutionContext | None) -> None:
        began = getattr(ran, _BEGAN, None)
        if began is not None and (took := time.perf_counter() - began) > watch.slow_s:
            watch.was_slow(" ".join(text.split()), took)

    event.listen(engine.sync_engine, "before_cursor_execute", begin)
    event.listen(engine.sync_engine, "after_cursor_execute", end)
    event.listen(engine.sync_engine, "handle_error", fail)
