"""Where everything lives: the one place that composes or parses a key."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from uuid import UUID

from storage.errors import KeyRefused

MARKER = ".media-root.json"
VOLUMES = ".media-volumes"  # the areas that are volumes of their own, a line each
UPLOADS = "uploads"
VARIANTS = "variants"
STAGING = "staging"
TRASH = "trash"
AREAS = (UPLOADS, VARIANTS, TRASH, STAGING)  # each may be a volume of its own
HIDDEN = ".media-"  # names directly in an area that begin so are this program's own, and no blobs
BESIDE = f"{HIDDEN}staging"  # in an area on another volume than `staging/`: its own unfinished writes
COPIED = f"{TRASH}/{HIDDEN}copied"  # in an unfinished copy: what it has written
UNFINISHED = (STAGING, *(f"{area}/{BESIDE}" for area in (TRASH, UPLOADS, VARIANTS)))

MAX_SOURCE_BYTES = 1024
MAX_BYTES = 2048  # of any key: an original's in the trash is longer than it was
MAX_SEGMENT_BYTES = 255  # what file systems take
EXTENSIONS = {"jpeg": "jpg", "webp": "webp", "avif": "avif"}

_VARIANT = re.compile(
    r"variants/([0-9a-f]{2})/([0-9a-f]{2})/"
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.(jpg|webp|avif)"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
PLANS = "sweep-"  # how the name of each sweep's plan begins
_DELETION = "delete-"
_PLAN = re.compile(r"sweep-[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")
_PLAN_PART = re.compile(rf"{TRASH}/{_PLAN.pattern}/plan-[0-9]{{6}}\.jsonl")


def variant_key(name: UUID, output_format: str) -> str:
    """The key of a variant: `variants/ab/cd/<uuid>.<ext>`, sharded by the name's first hex digits."""
    text = str(name)
    return f"{VARIANTS}/{text[:2]}/{text[2:4]}/{text}.{EXTENSIONS[output_format]}"


def parse_variant_key(key: str) -> UUID | None:
    """The name in a variant's key, or None when the key is not one that `variant_key` makes."""
    match = _VARIANT.fullmatch(key)
    if match is None or match[3][:4] != match[1] + match[2]:
        return None
    return UUID(match[3])


def received_key(folder: str, sha256: str, extension: str) -> str:
    """The key of an original that is named by its content: `uploads/<folder>/ab/<sha256>.<ext>`."""
    return f"{UPLOADS}/{folder}/{sha256[:2]}/{sha256}{extension}"


def source_key(source: str) -> str:
    """`source` itself, when it is an acceptable key of an original.

    Raises: KeyRefused, with a reason that a person understands.
    """
    if not source.startswith(f"{UPLOADS}/"):
        raise KeyRefused(f"source must start with {UPLOADS}/")
    if len(source.encode(errors="replace")) > MAX_SOURCE_BYTES:
        raise KeyRefused(f"source has more than {MAX_SOURCE_BYTES} bytes")
    if is_hidden(segments(source)[1]):
        raise KeyRefused(f"source must not lie in {source.split('/')[1]}, which is not the app's")
    return source


def owner_of_source(source: str | None) -> str:
    """Whose an original is where no event says so: its first folder below `uploads/`; "": it lies in none."""
    folder, _, name = (source or "").removeprefix(f"{UPLOADS}/").partition("/")
    return folder if name else ""


def trash_key(plan: str, key: str) -> str:
    """Where the blob under `key` is kept once `plan` has moved it out of the way."""
    return f"{TRASH}/{plan}/{key}"


def plan_key(plan: str) -> str:
    """Where the head of a sweep's plan is kept: beside what the plan moves away."""
    return f"{TRASH}/{plan}/plan.json"


def plan_part_key(plan: str, part: int) -> str:
    """Where a part of the plan's findings is kept."""
    return f"{TRASH}/{plan}/plan-{part:06}.jsonl"


def is_plan_part(key: str) -> bool:
    """Whether `key` is one that `plan_part_key` makes of a plan's name."""
    return _PLAN_PART.fullmatch(key) is not None


def is_plan_name(word: str) -> bool:
    """Whether a plan can have that name."""
    return _PLAN.fullmatch(word) is not None


def deletion_folder(upload_id: UUID, claim: int) -> str:
    """The folder of the trash for the original of a deleted upload, in place of a plan's name.

    One for each claim: the original of a source that is used again does not replace the one before.
    """
    return f"{_DELETION}{upload_id}-{claim}"


def copy_folder(number: UUID) -> str:
    """The folder of a copy's trash for what its source has no more; it is purged as a deletion's is."""
    return f"{_DELETION}by-copy-{number.hex[:8]}"


def restore_folder(number: UUID) -> str:
    """The folder of the trash for torn originals that a restore replaces; it is purged as a deletion's is."""
    return f"{_DELETION}by-restore-{number.hex[:8]}"


def is_deletion_folder(folder: str) -> bool:
    """Whether that folder of the trash has originals of deleted uploads, torn ones, or what left a copy."""
    return folder.startswith(_DELETION)


def trash_folder(key: str) -> str:
    """The folder of the trash in which `key` lies: the name of a plan, or of a deletion."""
    return key.split("/")[1]


def behind_folder(folder: str) -> str:
    """The first text that comes after every key in that folder."""
    return f"{folder}{chr(ord('/') + 1)}"


def is_hidden(name: str) -> bool:
    """Whether what lies directly in an area under that name is nobody's blob."""
    return name.startswith(HIDDEN) or name == "lost+found"


def spellings(key: str) -> Sequence[str]:
    """The same key as others write it: in the other normal forms of Unicode (C and D)."""
    if key.isascii():
        return []
    forms = (unicodedata.normalize(form, key) for form in ("NFC", "NFD"))
    return [form for form in dict.fromkeys(forms) if form != key]


def shown(name: str) -> str:
    """A name of the file system for people: bytes that are no text, and control characters, are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


def is_segment(name: str) -> bool:
    """Whether a segment of a key can be called that."""
    try:
        return segments(name) == (name,)
    except KeyRefused:
        return False


def blob_folders(prefix: str, names: Iterable[str]) -> Sequence[str]:
    """Those of the folders below `prefix` that are not this program's own, in order."""
    return sorted(name for name in names if prefix not in AREAS or not is_hidden(name))


def segments(key: str) -> tuple[str, ...]:
    """The parts of `key`, each safe as a name inside its folder.

    Raises: KeyRefused for what is empty, absolute, too long, climbs, or hides control characters.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise KeyRefused("a key must be valid UTF-8") from error
    if size > MAX_BYTES:
        raise KeyRefused(f"a key has at most {MAX_BYTES} bytes, this one has {size}")
    if _CONTROL.search(key):
        raise KeyRefused("a key must not contain control characters")
    parts = tuple(key.split("/"))
    for part in parts:
        if part in ("", ".", ".."):
            raise KeyRefused("a key must not contain an empty, '.' or '..' segment")
        if len(part.encode()) > MAX_SEGMENT_BYTES:
            raise KeyRefused(f"each segment of a key has at most {MAX_SEGMENT_BYTES} bytes")
    return parts
