"""`media restore`: a copy of the catalog becomes the catalog again, with what happened since."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal as size

from scripts.progress import Progress
from scripts.storage_stats import print_drift, scanned
from scripts.terminal import (
    AsJson,
    CommandError,
    counted_are,
    output,
    print_error,
    print_json,
    run,
    safe,
)
from storage.blobs.opening import open_blobs, read_owner
from storage.errors import CopyDamaged, StorageError
from storage.keys import TRASH, shown, trash_folder
from worker.amounts import counted
from worker.queue.errors import QueueUnavailable

if TYPE_CHECKING:
    from pipelines.stats.report import DriftReport
    from storage.backups.folder import BackupCopy
    from worker.restoring import Restored
    from worker.settings import Settings

_SHOWN = 20  # originals that could not be brought back
_COUNTED = ("seq", "deleted", "announced", "adopted", "originals")
_NAMED = ("mended", "mismatched", "refused", "differing")


def command(
    copy: Annotated[
        Path | None,
        typer.Argument(metavar="COPY", help="A copy, or the folder of copies; default: MEDIA_BACKUP."),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The newest copy from before: 2026-11-21T10:00.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it, and say what would be.")] = False,
    adopt_root: Annotated[
        bool, typer.Option("--adopt-root", help="Take a storage without a marker whose files fit.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a copy in the place of the catalog, once every worker is stopped. The old one is kept.

    Deletions and announcements that came after the copy are applied again, as far as messages and trash tell
    of them; originals that the storage has lost come back from the backup.
    """

    async def body(settings: "Settings") -> int:
        with _refusals_as_json(dry_run=dry_run) if as_json else nullcontext():
            chosen = _choose(settings, copy, at, adopt_root=adopt_root)
            await _check(chosen, is_named=copy is not None and chosen.path == copy.absolute())
            done = await restore(settings, chosen, adopt_root=adopt_root, dry_run=dry_run)
        if dry_run:
            _say_what_would_be(done, as_json=as_json)
            return 1 if done.refusals or not done.is_whole else 0
        outlook = await look_ahead(settings, done)
        if as_json:
            print_json(outlook.document())
        else:
            outlook.report()
        return 0 if done.is_whole else 1

    run(body)


@contextmanager
def _refusals_as_json(*, dry_run: bool) -> Iterator[None]:
    """Print a document of what refuses the restore before it can say anything else, and raise it."""
    try:
        yield
    except (CommandError, StorageError, QueueUnavailable, OSError) as error:
        reason = error.explain() if isinstance(error, QueueUnavailable) else str(error)
        print_json({"dry_run": dry_run, "refusals": [reason]})
        raise


async def _check(copy: "BackupCopy", *, is_named: bool) -> None:
    """Raises: CopyDamaged, with the copy that may be taken instead."""
    from storage.backups.making import check_copy
    from worker.restoring import copy_before

    try:
        await check_copy(copy)
    except CopyDamaged as error:
        before = copy_before(copy)
        if before is None:
            raise
        instead = str(before.path) if is_named else f"--at {_time_of(before)}"
        raise CopyDamaged(f"{error}. Take the one before: {instead}") from error


def _choose(settings: "Settings", place: Path | None, at: str | None, *, adopt_root: bool) -> "BackupCopy":
    from storage.backups.folder import BackupFolder
    from worker.restoring import choose_copy

    folder = place or settings.backup_folder
    if folder is None:
        raise CommandError("Name the copy, or set MEDIA_BACKUP.", code=2)
    try:
        moment = None if at is None else datetime.fromisoformat(at).astimezone(UTC)
    except ValueError as error:
        raise CommandError(f"--at {at} is no time; write 2026-11-21T10:00, in local time.", code=2) from error
    if moment is not None and moment > datetime.now(UTC):
        raise CommandError(f"--at {at} is in the future: name a time before now, or leave it out.", code=2)
    owner = None if adopt_root else read_owner(settings.storage_url)
    chosen = choose_copy(folder.absolute(), moment, owner)
    if chosen.path != folder.absolute():
        for reason in BackupFolder(folder.absolute()).unreadable().values():
            print_error(f"Passed over: {reason}")
    return chosen


async def restore(
    settings: "Settings", copy: "BackupCopy", *, adopt_root: bool = False, dry_run: bool = False
) -> "Restored":
    """Restore that copy while no worker runs; a dry run says what would be, and what would refuse it.

    Raises: StorageError, QueueUnavailable.
    """
    from worker.logs import configure_logs
    from worker.queue import open_queue
    from worker.restoring import Restore

    configure_logs(settings.log)  # adoption logs
    async with open_queue(settings) as queue:
        restoring = Restore(settings, copy, queue, adopt_root=adopt_root, dry_run=dry_run)
        with Progress("originals", None) as progress:
            return await restoring.run(lambda _, count: progress.advance(count))


def _say_what_would_be(done: "Restored", *, as_json: bool) -> None:
    if as_json:
        would = {"mended": dict.fromkeys(done.mended), "refusals": done.refusals}  # a folder is chosen then
        print_json({**_identity(done.copy), "dry_run": True, **_told(done), **would})
        return
    _print_copy("Would restore", done.copy)
    torn = f" ({len(done.mended)} torn)" if done.mended else ""
    output.print(
        f"Would apply again: {counted(done.deleted, 'deletion')}, {counted(done.announced, 'announcement')}; "
        f"bring back {counted(_brought_back(done), 'original')}{torn}, adopt {done.adopted}. "
        "Nothing was written."
    )
    _print_originals(done, "would not be", "would be")
    for reason in done.refusals:
        print_error(f"Would be refused: {reason}")


def _brought_back(done: "Restored") -> int:
    """How many originals came back: lost ones, and torn ones."""
    return done.originals + len(done.mended)


def _told(done: "Restored") -> dict[str, Any]:
    found = {name: getattr(done, name) for name in (*_COUNTED, *_NAMED)}
    return {**found, "originals": _brought_back(done)}


def _print_originals(done: "Restored", was_not: str, was: str) -> None:
    for key, reason in list(done.refused.items())[:_SHOWN]:
        print_error(f"{shown(key)} {was_not} brought back: {reason}")
    for key, reason in list(done.differing.items())[:_SHOWN]:
        print_error(f"{shown(key)} {was} brought back as another one: {reason}")
    if done.differing:
        print_error(f"{counted(len(done.differing), 'original')} differ from what the copy has of them.")
    for key, reason in list(done.mismatched.items())[:_SHOWN]:
        print_error(f"{shown(key)}: {reason}")
    if done.mismatched:
        print_error(
            f"{counted_are(len(done.mismatched), 'original')} of another size than ready uploads say."
        )


def _identity(copy: "BackupCopy") -> dict[str, Any]:
    manifest = copy.manifest
    return {
        "copy": str(copy.path),
        "time": _time_of(copy),
        "catalog": manifest.catalog,
        "uploads": manifest.uploads,
    }


def _time_of(copy: "BackupCopy") -> str:
    return copy.manifest.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _print_copy(verb: str, copy: "BackupCopy") -> None:
    uploads = counted(sum(copy.manifest.uploads.values()), "upload")
    moment = copy.manifest.time.isoformat(timespec="seconds")
    output.print(f"{verb} {safe(copy.path)}, of {moment}: {uploads}, {size(copy.manifest.bytes)}.")


async def look_ahead(settings: "Settings", done: "Restored") -> "Outlook":
    """Compare catalog and storage, once that has been restored. Raises: StorageError."""
    from pipelines.reprocess import count_missing
    from storage.catalog.opening import open_catalog

    drift, uploads, files = await scanned(settings), 0, 0
    if drift.findings["missing"].count:  # also of uploads that are deleted, and of superseded variants
        async with (
            open_catalog(settings.catalog, create=False) as catalog,
            open_blobs(settings.storage_url, create=False) as blobs,
        ):
            uploads, files = await count_missing(catalog, blobs)
    return Outlook(done, drift, uploads, files)


@dataclass(frozen=True)
class Outlook:
    """What a restore has done, and what is left to do: `missing` variants of `lacking` ready uploads can be
    made again.
    """

    done: "Restored"
    drift: "DriftReport"
    lacking: int
    missing: int

    def document(self) -> dict[str, Any]:
        return {
            **_identity(self.done.copy),
            **_told(self.done),
            "root_adopted": self.done.root_adopted,
            "aside": self.done.aside,
            "drift": self.drift,
            "breaker": self.breaker,
            "missing": {"uploads": self.lacking, "variants": self.missing},
            "next": self.next_steps(),
        }

    @property
    def breaker(self) -> str | None:
        """Why the next sweep would be stopped; None where it would not."""
        from pipelines.sweep.plan import implausible

        orphans = sum(self._count(kind) for kind in ("orphan", "young"))
        return implausible(self.drift.disk.count, self.drift.catalog.count, orphans)

    def _count(self, kind: str) -> int:
        found = self.drift.findings.get(kind)
        return found.count if found else 0

    def next_steps(self) -> Sequence[str]:
        """What to do next, in order."""
        steps = ["Start the workers."]
        if self.missing:
            steps.append(
                f"Have {counted(self.missing, 'variant')} of {counted(self.lacking, 'upload')} made again: "
                "media reprocess --missing"
            )
        if lost := self._count("lost"):
            steps.append(
                f"{counted(lost, 'original')} that uploads need {'is' if lost == 1 else 'are'} gone: bring "
                f"{'it' if lost == 1 else 'them'} back into uploads/, from another backup"
            )
        if self.done.mismatched:
            steps.append(
                f"{counted_are(len(self.done.mismatched), 'original')} of another size than ready uploads "
                "say: put the version that fits there, or announce again what an app has replaced"
            )
        if self.done.mended:
            folder = trash_folder(next(iter(self.done.mended.values())))
            steps.append(
                f"{counted_are(len(self.done.mended), 'torn original')} in {TRASH}/{folder} for "
                "MEDIA_RETENTION, should you need what is left of them."
            )
        if self.breaker:
            steps.append(
                f"The next sweep will be stopped, rightly: {self.breaker}. They are variants of uploads that "
                "came after the copy. When no upload waits any more, and the plan of media sweep is right: "
                "media sweep apply PLAN --force"
            )
        if self.done.aside:
            steps.append(f"The old catalog is {self.done.aside}: remove it when all is well.")
        return steps

    def report(self) -> None:
        """Say it to people."""
        done = self.done
        _print_copy("Restored", done.copy)
        torn = f" ({len(done.mended)} torn)" if done.mended else ""
        output.print(
            f"Applied again: {counted(done.deleted, 'deletion')}, {counted(done.announced, 'announcement')}; "
            f"brought back {counted(_brought_back(done), 'original')}{torn}, "
            f"adopted {done.adopted}. "
            f"Messages go on above seq {done.seq}."
        )
        _print_originals(done, "was not", "was")
        print_drift(self.drift)
        output.print("[bold]Next[/bold]")
        for step in self.next_steps():
            output.print(f"- {safe(step)}")


if __name__ == "__main__":
    typer.run(command)
