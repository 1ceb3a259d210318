"""The manifest of a copy: what it is of, up to where it goes, and how its file can be checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from storage.catalog.copies import CatalogCopy
from storage.errors import CopyDamaged

MANIFEST = "manifest.json"
_FORM = 1


@dataclass(frozen=True)
class Manifest:
    """What a copy says of itself: the newest message and `entry` (of the stream's `epoch`) that it has, and
    the greatest `seq` that was given.
    """

    time_ms: int
    catalog: str
    schema: str
    seq: int
    message: int
    epoch: int
    entry: str | None
    uploads: Mapping[str, int]
    rows: Mapping[str, int]
    wrong_totals: int
    file: str
    bytes: int
    sha256: str
    version: str  # of the program that made it

    @classmethod
    def of(cls, copy: CatalogCopy, *, time_ms: int, size: int, sha256: str, version: str) -> "Manifest":
        """The manifest of a copy that was just made."""
        facts = {name: getattr(copy.facts, name) for name in copy.facts.__dataclass_fields__}
        return cls(**facts, time_ms=time_ms, file=copy.file, bytes=size, sha256=sha256, version=version)

    @property
    def time(self) -> datetime:
        return datetime.fromtimestamp(self.time_ms / 1000, UTC)


def dump_manifest(manifest: Manifest) -> bytes:
    """A manifest as it stands in its file, for people too."""
    moment = manifest.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"form": _FORM, "time": moment, **asdict(manifest)}, option=orjson.OPT_INDENT_2)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the copy in that folder. Raises: CopyDamaged, OSError."""
    try:
        said: dict[str, Any] = orjson.loads((folder / MANIFEST).read_bytes())
        if said["form"] != _FORM:
            raise CopyDamaged(f"the copy {folder} was made by a newer version of this program")
        return Manifest(**{name: said[name] for name in Manifest.__dataclass_fields__})
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise CopyDamaged(f"the copy {folder} is damaged: its {MANIFEST} cannot be read") from error
