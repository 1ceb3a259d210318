"""The id of an upload whose event names none."""

from uuid import NAMESPACE_URL, UUID, uuid5


def default_id(source: str) -> UUID:
    """The id of an upload whose event names none, so that two events for one source are one upload."""
    return uuid5(NAMESPACE_URL, f"media:{source}")
