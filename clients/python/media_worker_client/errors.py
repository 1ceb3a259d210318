"""What goes wrong, for the app to catch."""

from __future__ import annotations


class MediaError(Exception):
    """The worker or its HTTP server says no.

    `code` is for programs (the README of media-worker has a table), `message` for people, `status` that of
    the HTTP answer; None where there was none.
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str, int | None]]:
        """It goes through a queue of tasks, or to another process, whole."""
        return type(self), (self.code, self.message, self.status)


class NotAwaitedError(TypeError):
    """A function for asyncio was given to a client for threads, which cannot await it."""


class MediaTimeout(MediaError):
    """No worker has answered within the time."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(code, message, status)
