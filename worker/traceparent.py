"""The W3C's `traceparent`: which values are one, and which trace they name."""

import re

FORM = "([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"
_VALUE = re.compile(f"{FORM}(-.*)?", re.DOTALL)
_INVALID_VERSION = "ff"
_KNOWN_FLAGS = 0b11  # sampled; its trace ID is random


def parse_traceparent(value: object) -> str | None:
    """The traceparent in the form of version 00, whatever newer version it is of; None for what is none.

    Of a newer version the fields of version 00 are read, and what follows them is left out.
    """
    found = _VALUE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    version, trace_id, parent_id, flags, rest = found.groups()
    is_wrong = version == _INVALID_VERSION or (version == "00" and rest is not None)
    if is_wrong or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return f"00-{trace_id}-{parent_id}-{int(flags, 16) & _KNOWN_FLAGS:02x}"


def trace_id_of(traceparent: str) -> str:
    """The ID of the trace that a traceparent of version 00 names, as logs have it."""
    return traceparent[3:35]
