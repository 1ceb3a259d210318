"""Which file system a path is on, as the kernel names it."""

import re
from pathlib import Path

TABLE = Path("/proc/self/mountinfo")
_PROGRAM = re.compile(rb"[\w-]+")
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def file_system_of(path: Path, table: Path | None = None) -> str | None:
    """The type of the file system below `path` ("ext4", "nfs4", "fuse.sshfs"); None: nobody says.

    A program in user space that names no type of its own is known by what it mounts ("fuse.blobfuse2").
    """
    try:
        lines = (table or TABLE).read_bytes().splitlines()
        place = bytes(path.resolve())
    except OSError:
        return None
    found: tuple[int, str] | None = None
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        mounted = fields.split(b" ")[4:5]
        if not mounted or not rest:
            continue
        point = _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8)]), mounted[0]).rstrip(b"/")
        is_above = place == point or place.startswith(point + b"/")
        if is_above and (found is None or len(point) >= found[0]):  # the last one hides those before it
            kind, source = (*rest.split(b" "), b"")[:2]
            is_named = kind == b"fuse" and _PROGRAM.fullmatch(source)
            found = len(point), (b"fuse." + source if is_named else kind).decode()
    return found[1] if found else None
