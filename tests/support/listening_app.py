"""An app that listens by the Python client, in a thread of a test."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from media_worker_client import MediaClient, Message

PATIENCE_S = 20.0


class ListeningApp:
    """What its handler was called with, in that order."""

    def __init__(
        self, media: MediaClient, handler: Callable[[Message], object] | None, **options: Any
    ) -> None:
        self.heard: list[Message] = []
        self._handler = handler
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(media, options), daemon=True)
        self._thread.start()

    def _run(self, media: MediaClient, options: Any) -> None:
        try:
            media.listen(self._handle, stop=self._stop, **options)
        except BaseException as error:
            with self._news:
                self._error = error
                self._news.notify_all()

    def _handle(self, message: Message) -> None:
        if self._handler is not None:
            self._handler(message)
        with self._news:
            self.heard.append(message)
            self._news.notify_all()

    def await_count(self, count: int) -> Sequence[Message]:
        """All that was handled, once it is so much."""
        return self.await_that(lambda heard: len(heard) >= count)

    def await_that(self, enough: Callable[[list[Message]], bool]) -> Sequence[Message]:
        """All that was handled, once it is enough."""
        with self._news:
            self._news.wait_for(lambda: self._error or enough(self.heard), PATIENCE_S)
        if self._error is not None:
            raise self._error
        assert enough(self.heard), f"only {self.heard}"
        return self.heard

    def end(self) -> None:
        """Have it end soon, whatever it is at."""
        self._stop.set()

    def close(self) -> None:
        """End it in order."""
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the listener does not end"
        if self._error is not None:
            raise self._error


@contextmanager
def listening_app(
    media: MediaClient, handler: Callable[[Message], object] | None = None, **options: Any
) -> Iterator[ListeningApp]:
    """One that listens as long as the block lasts."""
    app = ListeningApp(media, handler, **options)
    try:
        yield app
    finally:
        app.end()
    app.close()


class Failing:
    """A handler that fails the first `times` at messages of that place (id and seq)."""

    def __init__(self, *places: tuple[str, int], times: int = 1) -> None:
        self._left = dict.fromkeys(places, times)
        self.tries: list[tuple[str, int]] = []
        self.at: list[float] = []

    def __call__(self, message: Message) -> None:
        place = (message.id or "", message.seq)
        self.tries.append(place)
        self.at.append(time.monotonic())
        if self._left.get(place, 0) > 0:
            self._left[place] -= 1
            raise RuntimeError(f"the database of the app is away at {place}")
