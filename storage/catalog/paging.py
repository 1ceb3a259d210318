"""Long lists, in parts that one statement takes: databases limit how many parameters it has."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

PAGE = 1000  # rows of one transaction are locked until its end, so it is not as many as could be


def pages(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """`items` in order, at most `PAGE` at once."""
    for start in range(0, len(items), PAGE):
        yield items[start : start + PAGE]
