"""Jobs as arq stores them: JSON, never pickle."""

from typing import Any

import orjson


def serialize(job: dict[str, Any]) -> bytes:
    """A job as arq stores it: JSON, never pickle."""
    return orjson.dumps(job, default=repr)


def deserialize(job: bytes) -> dict[str, Any]:
    """A job out of what arq stored."""
    content = orjson.loads(job)
    if not isinstance(content, dict):
        raise TypeError("a job is a JSON object")
    return content
