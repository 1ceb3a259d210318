"""The log of an outage: a line when it begins and one when it is over, however many batches meet it."""

import time

import structlog

log = structlog.get_logger(__name__)


class OutageLog:
    """What the log says while a catalog is away."""

    def __init__(self) -> None:
        self._since: float | None = None

    def met(self, error: Exception) -> bool:
        """Log the outage, unless it is known, and return whether it is new; who met it is for debugging."""
        is_new = self._since is None
        if is_new:
            self._since = time.monotonic()
            log.warning("catalog_unavailable", reason=str(error))
        log.debug("catalog_still_unavailable", exc_info=error)
        return is_new

    def over(self) -> bool:
        """Log that it is over, and how long it lasted, if there was one; returns whether there was."""
        if self._since is None:
            return False
        log.info("catalog_available", away_s=round(time.monotonic() - self._since, 1))
        self._since = None
        return True
