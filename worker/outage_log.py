"""The log of an outage: a line when it begins and one when it is over, however many batches meet it."""

import time

import structlog

log = structlog.get_logger(__name__)


class OutageLog:
    """What the log says while a catalog is away."""

    def __init__(self) -> None:
        self._since: float | None = None

    def met(self, error: Exception) -> None:
        """Log the outage, unless it is known; who met it, and where, is for debugging."""
        if self._since is None:
            self._since = time.monotonic()
            log.warning("catalog_unavailable", reason=str(error))
        log.debug("catalog_still_unavailable", exc_info=error)

    def over(self) -> None:
        """Log that it is over, and how long it lasted, if there was one."""
        if self._since is not None:
            log.info("catalog_available", away_s=round(time.monotonic() - self._since, 1))
            self._since = None
