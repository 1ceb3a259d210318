"""What `media copy-blobs` has done, counted, and what it says of that to people."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from rich.filesize import decimal as size

from scripts.terminal import output, print_error, table
from storage.blobs.copying import CopyStep
from storage.blobs.extras import ExtraStep
from storage.blobs.s3_place import is_s3, parse_s3
from storage.errors import BlobsUnavailable
from storage.keys import shown
from storage.threads import in_thread
from worker.amounts import counted

_SHOWN = 20  # blobs that could not be copied, or are extra
_LISTED = 10_000  # at most, in the JSON


@dataclass
class Copied:
    """How much was copied (or would be), was there already, and left the copy for its trash again.

    `extra` counts the originals that the target has otherwise, or that it alone has, and that no copy wrote.
    """

    to: str
    finished: bool = False
    copied: int = 0
    bytes: int = 0
    same: int = 0
    removed: int = 0
    extra: int = 0
    extras: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def add(self, step: CopyStep) -> None:
        """Count a step in."""
        self.copied += step.copied
        self.bytes += step.bytes
        self.same += step.same
        self.refused |= step.refused
        self._note_extra(step.extra)

    def add_extra(self, step: ExtraStep) -> None:
        """Count in what only the target has."""
        self.removed += step.removed
        self._note_extra(step.extra)

    def _note_extra(self, keys: Sequence[str]) -> None:
        self.extra += len(keys)
        self.extras += keys[: _LISTED - len(self.extras)]

    def note_misnamed(self, path: str) -> None:
        """Count a name that no key can have, and so no copy."""
        self.refused[shown(path)] = "no key can name it"


def report(done: Copied, *, dry_run: bool) -> None:
    """Print what was done, or would be."""
    if done.extra:
        output.print(table("Only there, or newer", ("key",), ([key] for key in done.extras[:_SHOWN])))
    if done.refused:
        rows = list(done.refused.items())[:_SHOWN]
        output.print(table("Not copied", ("key", "reason"), rows))
        output.print(f"{counted(len(done.refused), 'blob')} could not be copied.")
    would = "would be " if dry_run else ""
    output.print(
        f"{counted(done.copied, 'blob')} {would}copied ({size(done.bytes)}), {done.same} were there already, "
        f"{done.removed} {would}moved from the copy to its trash."
    )
    if done.finished:
        output.print(
            f"The storage is {done.to} now: set MEDIA_STORAGE_URL, for apps too, and start the workers."
        )
    elif not dry_run:
        output.print("Run it again for what is new; with --finish once every worker and app is stopped.")


def say_what_to_do(done: Copied) -> None:
    """Print why the copy is not the storage yet, and by which option it would be."""
    if done.extra:
        print_error(
            f"{done.to} has {counted(done.extra, 'original')} that no copy wrote, and that the storage does "
            f"not have or has otherwise: {shown(done.extras[0])}. Nothing was done to what is there. Has an "
            "app put it there? Run this again with --extra keep. Is it of an earlier time, and was deleted "
            "since? With --extra trash, which moves it to the trash there, for MEDIA_RETENTION."
        )
    if done.refused:
        key, reason = next(iter(done.refused.items()))
        print_error(
            f"{counted(len(done.refused), 'blob')} could not be copied: {key} ({reason}). Rename or mend it, "
            "or run this again with --leave, which leaves behind what cannot be copied."
        )
    print_error(f"The storage is as it was, and {done.to} a copy that is not finished: run it again.")


async def warn_of_announcements(place: str, shown_url: str) -> None:
    """Warn where the bucket at the URL `place` announces the originals that a copy writes there."""
    if not is_s3(place):
        return
    from storage.blobs.announcements import announces_originals  # an extra, which a bucket alone needs

    with suppress(BlobsUnavailable):  # many servers know no such question, and not everybody may ask it
        if await in_thread(announces_originals, parse_s3(place)):
            print_error(
                f"{shown_url} announces each original that is copied there, as if an app had put it: switch "
                "its notifications off until the workers have started there, or purge their queue before "
                "`media listen sqs` is started."
            )
