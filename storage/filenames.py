"""Filenames: what apps call the files of their uploads, and where people are told that name."""

import re
from collections.abc import Mapping
from typing import Any

FILENAME = "filename"
"""The field of an upload's metadata that has the file's own name."""

LONGEST_NAME = 200  # characters that are shown
# What nobody knows a file by: a digest of its content, or a UUID; with an ending or without.
_NAMELESS = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})(?:\.[^./]*)?")


def filename_in(metadata: Mapping[str, Any], *others: str) -> str | None:
    """The file's own name, if an app has said one; it may say it in one of the `others`."""
    given = (metadata.get(field) for field in (FILENAME, *others))
    names = (text.strip()[:LONGEST_NAME] for text in given if isinstance(text, str))
    return next(filter(None, names), None)


def name_for_people(source: str | None, filename: str | None) -> str | None:
    """What people know an upload by: its source, unless that is a hash, and the file has a name."""
    is_nameless = source is None or _NAMELESS.fullmatch(source.rpartition("/")[2])
    return filename if is_nameless and filename else source
