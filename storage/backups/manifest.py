"""The manifest of a copy: what it is of, up to where it goes, and how its file can be checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from storage.catalog.copies import ROWS, CatalogCopy
from storage.catalog.copying import COPY
from storage.errors import CopyDamaged

MANIFEST = "manifest.json"
_FORM = 1
_SHOWN = 40


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
    text = (folder / MANIFEST).read_bytes()
    try:
        said: dict[str, Any] = orjson.loads(text)
        if isinstance(said["form"], int) and said["form"] > _FORM:
            raise CopyDamaged(f"the copy {folder} was made by a newer version of this program")
        manifest = Manifest(**{name: _checked(said[name], name) for name in Manifest.__dataclass_fields__})
        manifest.time  # noqa: B018 (it is read to see whether it is one)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise CopyDamaged(f"the copy {folder} is damaged: its {MANIFEST} is none ({error})") from error
    return manifest


def _checked(value: object, name: str) -> Any:  # noqa: ANN401 (what a manifest has under that name)
    """Raises: ValueError."""
    kind = Manifest.__dataclass_fields__[name].type
    if not _is_of(kind, value) or (name == "file" and value not in (COPY, ROWS)):
        raise ValueError(f"{name} cannot be {str(value)[:_SHOWN]!r}")
    return value


def _is_of(kind: Any, value: object) -> bool:  # noqa: ANN401 (a type, as a field of a dataclass has it)
    if kind == Mapping[str, int]:
        return isinstance(value, dict) and all(_is_of(int, number) for number in value.values())
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return isinstance(value, kind)
