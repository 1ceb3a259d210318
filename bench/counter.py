"""How many instructions a program takes for its work: valgrind, which runs it, says so meanwhile."""

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from statistics import median_low

_REFS = re.compile(rb"I\s+refs:\s+([\d,]+)")


def counts_of(words: Sequence[str]) -> list[int]:
    """From the words `FIRST COUNT TIMES`, how often the work is done until valgrind is to say its count."""
    first, count, times = (int(word) for word in words[1:4])
    return [first, *[count] * times]


def say_count() -> None:
    """Have valgrind say how many instructions it has counted: a process that is forked now ends at once."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def between_counts(said: bytes) -> int:
    """The instructions from one count to the next, in what valgrind has said; raises: ValueError.

    It is the median: on a busy machine threads wake more often, in some stretch.
    """
    counts = sorted(int(found.replace(b",", b"")) for found in _REFS.findall(said))
    stretches = [
        later - earlier for earlier, later in pairwise(counts[:-1])
    ]  # the last is of the whole program
    if not stretches:
        raise ValueError("valgrind has not said enough counts")
    return median_low(stretches)
