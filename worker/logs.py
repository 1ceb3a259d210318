"""Structured logs on standard error: one line an event, for people on a terminal, as JSON elsewhere.

A thread writes them: logging never waits for the reader.
"""

import json
import logging
import os
import re
import select
import sys
import threading
from collections import deque
from typing import Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor

from worker.visible_text import visible, visible_lines

ROOM = 1024 * 1024  # bytes of lines that may wait to be written
_FLUSH_S = 2.0  # at the end, for a reader that is only slow
_QUIET = ("arq", "sqlalchemy", "alembic", "aiosqlite", "asyncio")  # our own lines say the same, with fields
_SURROGATE = re.compile("[\ud800-\udfff]")  # a byte of a file's name that is not UTF-8

log = structlog.get_logger(__name__)


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
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        exception_formatter=structlog.dev.plain_traceback,  # local variables may be secrets
    )
    return [remove, structlog.processors.format_exc_info, _escape, console]


def _escape(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Escape the event, in which other libraries quote what strangers wrote, and tracebacks.

    The renderer itself escapes the other fields.
    """
    line["event"] = visible(line.get("event", ""))
    for name in ("exception", "stack"):
        if name in line:
            line[name] = visible_lines(str(line[name]))
    return line


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


class LogWriter(logging.Handler):
    """A handler that keeps `ROOM` bytes for a reader that is slow, and then drops lines and says how many."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        # One lock, the handler's own, so that the thread can log too.
        self._changed = threading.Condition(self.lock)
        self._waiting: deque[bytes] = deque()
        self._bytes = 0  # of the lines that wait or are being written
        self._dropped = 0
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a line over, or drop it where too many wait."""
        try:
            text = self.format(record)
        except Exception as error:  # a line in the log ends nobody's work
            text = _failed(record, error)
        line = f"{text}\n".encode(errors="backslashreplace")
        with self._changed:
            if self._bytes + len(line) > ROOM:
                self._dropped += 1
                return
            self._waiting.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written, but not for long: the reader may be frozen."""
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes, _FLUSH_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                line = self._waiting.popleft()
            self._write(line)
            with self._changed:
                if self._dropped and self._bytes < ROOM / 2:
                    dropped, self._dropped = self._dropped, 0
                    log.warning("log_lines_dropped", count=dropped)
                self._bytes -= len(line)
                self._changed.notify_all()

    def _write(self, line: bytes) -> None:
        while line:
            try:
                line = line[os.write(self._fd, line) :]
            except BlockingIOError:  # somebody who shares the descriptor has made it so
                select.select((), (self._fd,), ())
            except OSError:
                return  # it is closed, and nobody will read on


def _failed(record: logging.LogRecord, error: Exception) -> str:
    where = {"logger": record.name, "error": type(error).__name__}
    return json.dumps({"event": "log_line_failed", "level": "error", **where})
