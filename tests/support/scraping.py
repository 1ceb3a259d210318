"""Scraping a live worker, as a Prometheus does."""

from urllib.request import urlopen

from tests.support.exposed import value, values
from tests.support.workplace import eventually


class Scraped:
    """The metrics of the worker that serves them on that port."""

    def __init__(self, port: int) -> None:
        self._port = port

    @property
    def exposition(self) -> bytes:
        """All of them, as they are now."""
        with urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
            read: bytes = answer.read()
        return read

    def value(self, name: str, **labels: str) -> float | None:
        """The number of one series."""
        return value(self.exposition, name, **labels)

    def values(self, name: str) -> dict[str, float]:
        """The numbers that are not 0 of a metric with one label, by its value."""
        return {label: number for label, number in values(self.exposition, name).items() if number}

    def await_value(self, expected: float, name: str, **labels: str) -> None:
        """Wait until a series has that number."""
        eventually(lambda: self.value(name, **labels) == expected)
