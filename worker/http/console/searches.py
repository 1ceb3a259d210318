"""Searches: what people type to find uploads, as the catalog is asked; and what brings in those it lacks."""

import re
import shlex
from uuid import UUID

import orjson

from storage.keys import UPLOADS, owner_of_source
from worker.upload_ids import default_id

_FOLDER = f"{UPLOADS}/"
_BEGINNING = re.compile(r"[0-9a-f][0-9a-f-]{7,35}", re.IGNORECASE)
_SHORTEST, _WHOLE = 8, 32  # hex digits: commands print 8 of an id


def plain(text: str) -> str:
    """The text without spaces around it. Raises: ValueError where it has control characters."""
    if any(ord(character) < 32 for character in text):
        raise ValueError("must not contain control characters")
    return text.strip()


def source_prefix(text: str) -> str:
    """How the sources begin that are meant, also where `uploads/`, below which all are, is left out."""
    text = text.lstrip("/")
    return text if text.startswith(_FOLDER) or _FOLDER.startswith(text) else _FOLDER + text


def ids_of(text: str) -> tuple[UUID, UUID] | None:
    """The first and the last id that begin so; None: it begins no id, or is too short to tell any."""
    digits = text.replace("-", "")
    if _BEGINNING.fullmatch(text) is None or not _SHORTEST <= len(digits) <= _WHOLE:
        return None
    return UUID(digits.ljust(_WHOLE, "0")), UUID(digits.ljust(_WHOLE, "f"))


def sending_of(
    stream: str, source: str, upload_id: UUID | None = None, recipe: str = "default", owner: str = ""
) -> str:
    """The command that announces an original; what an event has by default is left out."""
    event = {"source": source}
    if upload_id not in (None, default_id(source)):
        event["id"] = str(upload_id)
    if recipe != "default":
        event["recipe"] = recipe
    if owner not in ("", owner_of_source(source)):
        event["owner"] = owner
    return shlex.join(["redis-cli", "XADD", stream, "*", "event", orjson.dumps(event).decode()])
