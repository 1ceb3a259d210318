"""Writes log lines to a file descriptor, from a thread: logging never waits for the reader."""

import json
import logging
import os
import select
import threading
from collections import deque

import structlog

ROOM = 1024 * 1024  # bytes of lines that may wait to be written
_FLUSH_S = 2.0  # at the end, for a reader that is only slow

log = structlog.get_logger(__name__)


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
    """What stands in the place of a line that cannot be made."""
    where = {"logger": record.name, "error": type(error).__name__}
    return json.dumps({"event": "log_line_failed", "level": "error", **where})
