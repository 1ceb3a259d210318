"""Searches: what people type to find uploads, as the catalog is asked."""

from storage.keys import UPLOADS

_FOLDER = f"{UPLOADS}/"


def plain(text: str) -> str:
    """The text without spaces around it. Raises: ValueError where it has control characters."""
    if any(ord(character) < 32 for character in text):
        raise ValueError("must not contain control characters")
    return text.strip()


def source_prefix(text: str) -> str:
    """How the sources begin that are meant, also where `uploads/`, below which all are, is left out."""
    text = text.lstrip("/")
    return text if text.startswith(_FOLDER) or _FOLDER.startswith(text) else _FOLDER + text
