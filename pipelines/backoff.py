"""Back-off: how long to pause after a failure, and longer after the next."""


class Backoff:
    """Pauses that double from `first_s` to `longest_s` seconds until `reset`."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    @property
    def is_reset(self) -> bool:
        """Whether nothing has failed since the last `reset`."""
        return self._next_s == self._first_s

    def next_s(self) -> float:
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return pause_s

    def reset(self) -> None:
        self._next_s = self._first_s
