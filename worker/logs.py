"""Structured logs on standard error: one line an event, for people on a terminal, as JSON elsewhere."""

import json
import logging
import os
import re
import sys
from typing import Literal

import orjson
import structlog
from structlog.typing import Processor

from worker.log_writer import LogWriter

_QUIET = ("arq", "sqlalchemy", "alembic", "aiosqlite", "asyncio")  # our own lines say the same, with fields
_SURROGATE = re.compile("[\ud800-\udfff]")  # a byte of a file's name that is not UTF-8


def quiet_arq() -> None:
    """Silence what arq says of its start, before `configure_logs`; a filter outlives the set-up of `arq`."""
    logging.getLogger("arq.worker").addFilter(lambda record: record.levelno >= logging.WARNING)


def configure_logs(style: Literal["auto", "console", "json"]) -> None:
    """Send everything that is logged to standard error, in one style; logging never waits for the reader."""
    if sys.stderr is None:  # whoever started this process has closed it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)
    if style == "auto":
        style = "console" if sys.stderr.isatty() else "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    root = logging.getLogger()
    handler = next((known for known in root.handlers if isinstance(known, LogWriter)), None)
    if handler is None:
        handler = LogWriter(sys.stderr.fileno())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(style))
    )
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in _QUIET:
        quiet = logging.getLogger(name)
        quiet.handlers = []
        quiet.propagate = True
        quiet.setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _rendering(style: str) -> list[Processor]:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if style == "json":
        return [
            remove,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dump),
        ]
    return [remove, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]


def _dump(content: object, **_: object) -> str:
    try:
        return orjson.dumps(content, default=str).decode()
    except orjson.JSONEncodeError:  # a name that is not UTF-8, a number of more than 64 bits
        text = json.dumps(content, ensure_ascii=False, default=_words)
        return _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text)


def _words(value: object) -> str:
    try:
        return str(value)
    except Exception:  # whatever it is, the rest of the line can be read
        return f"<{type(value).__name__}>"
