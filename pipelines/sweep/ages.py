"""From which age on a file or row without a counterpart is acted upon."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ages:
    """Before which moment a file is old enough (s since 1970), and a superseded row past its time (ms)."""

    orphan_before: float
    retired_before_ms: float

    @classmethod
    def at(cls, now: float, grace_s: float, retention_s: float) -> "Ages":
        """The moments as they are at `now` (s since 1970)."""
        return cls(now - grace_s, (now - retention_s) * 1000)
