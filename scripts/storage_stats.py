"""`media stats`: stored files, queue depth, drift and growth."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal as size

from scripts.terminal import AsJson, output, print_error, print_json, run, safe, table
from storage.blobs import Space
from storage.blobs.s3_place import is_s3
from storage.errors import StorageError
from storage.filenames import name_for_people
from storage.tasks import together
from storage.totals import StorageTotals
from worker.amounts import counted
from worker.queue.errors import QueueUnavailable
from worker.sweep_words import MEANING

if TYPE_CHECKING:
    from pipelines.stats.report import DriftReport, QueueDepth, StorageReport
    from worker.settings import Settings

_DAYS = 7  # shown to people


def command(
    scan: Annotated[bool, typer.Option("--scan", help="Compare every file with its record now.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Show the growth, day by day.")] = False,
    as_json: AsJson = False,
) -> None:
    """Report uploads by state, files by variant, day and size, queue depth, drift, free space and growth."""
    from pipelines.stats.report import report

    async def body(settings: "Settings") -> int:
        drift = await scanned(settings) if scan else None
        totals, queue, space = await together(stored(settings), waiting(settings), room(settings))
        found = report(totals, queue=queue, space=space, drift=drift, history=history)
        if as_json:
            print_json(found)
        elif history:
            _print_history(found, has_room=not is_s3(settings.storage_url))
            if scan and found.drift is not None:
                print_drift(found.drift)
        else:
            print_stored(found)
            _print_days(found)
            _print_largest(found)
            _print_owners(found)
            _print_queue(found.queue, queued=found.uploads["queued"])
            _print_disk(found, has_room=not is_s3(settings.storage_url))
        return 0

    run(body)


async def stored(settings: "Settings") -> StorageTotals:
    """The totals of the catalog, also of one of an older schema.

    Raises: NoCatalog, CatalogObsolete, CatalogUnavailable.
    """
    from storage.catalog.reports import read_totals  # takes a while: `media demo` prints such a report, too

    return await read_totals(settings.catalog, print_error)


async def waiting(settings: "Settings") -> "QueueDepth | None":
    """The queue depth; None when Redis does not answer."""
    from worker.queue import open_queue  # with Redis' client
    from worker.queue_depth import queue_depth

    try:
        async with open_queue(settings) as queue:
            return await queue_depth(queue)
    except QueueUnavailable as error:
        if error.refusal:
            print_error(error.explain())
        return None


async def room(settings: "Settings") -> Space | None:
    """The free space of the storage; None when it does not answer."""
    from storage.blobs.opening import open_blobs

    try:
        async with open_blobs(settings.storage_url, create=False) as blobs:
            return await blobs.space()
    except StorageError:
        return None


async def scanned(settings: "Settings") -> "DriftReport":
    """Where catalog and storage do not agree now. Raises: StorageError."""
    # Imported here, so that a report without a scan starts faster.
    from pipelines.stats.drift import scan
    from pipelines.sweep.findings import Ages
    from scripts.progress import Progress
    from storage.blobs.opening import open_blobs
    from storage.catalog.opening import open_catalog

    async with (
        open_catalog(settings.catalog, create=False) as catalog,
        open_blobs(settings.storage_url, create=False) as blobs,
    ):
        await blobs.bind(catalog.id, catalog_is_new=False)
        totals = await catalog.reports.totals()
        expected = [totals.count(what).count for what in ("original", "variant", "superseded")]
        ages = Ages.at(catalog.database.now_ms() / 1000, settings.grace, settings.retention)
        with Progress("files", sum(expected)) as progress:
            return await scan(catalog, blobs, ages, progress.advance)


def print_stored(report: "StorageReport") -> None:
    """Uploads and files, for people."""
    states = [(state, count) for state, count in report.uploads.items() if count]
    output.print(table("Uploads", ("state", "#number"), states))
    failures = [(one.code, one.uploads) for one in report.failures]
    failures += [(f"{one.code} (waiting for another try)", one.uploads) for one in report.retrying]
    if failures:
        output.print(table("Failures", ("code", "#uploads"), failures))
    rows = [(one.name, one.format, one.files, size(one.bytes)) for one in report.variants]
    if report.superseded.files:
        rows.append(("superseded", "", report.superseded.files, size(report.superseded.bytes)))
    rows.append(("originals", "", report.originals.files, size(report.originals.bytes)))
    output.print(table("Files", ("what", "format", "#files", "#size"), rows))
    if report.originals.uncounted:
        output.print(_uncounted(report.originals.uncounted, scanned=_is_scan(report)))
    if report.proportion is not None:
        output.print(f"Variants take {report.proportion:.1%} of the bytes of their originals.")
    if report.dead_letters:
        output.print(f"Dead letters: {report.dead_letters}; see `media failed list`.")


def _uncounted(uploads: int, *, scanned: bool) -> str:
    verb, of = ("has", "its original is") if uploads == 1 else ("have", "their originals are")
    hint = "the folder uploads/ below has every file" if scanned else "`media stats --scan` counts every file"
    return f"{counted(uploads, 'upload')} {verb} never been ready: {of} not counted here; {hint}."


def _is_scan(report: "StorageReport") -> bool:
    return report.drift is not None and report.drift.origin == "scan"


def _print_days(report: "StorageReport") -> None:
    rows = [(day.day, day.files, size(day.bytes)) for day in report.days[-_DAYS:]]
    if rows:
        output.print(table("Variants by the day they were made", ("day", "#files", "#size"), rows))


def _print_largest(report: "StorageReport") -> None:
    found = [one for one in report.largest if one.bytes]
    rows = [
        (name_for_people(one.source, one.filename), size(one.bytes), size(one.variant_bytes), one.id)
        for one in found
    ]
    if rows:
        output.print(table("Largest uploads", ("file", "#original", "#variants", "id"), rows))


def _print_owners(report: "StorageReport") -> None:
    rows = [
        (one.owner or "(in no folder)", f"{one.cpu_seconds:.1f}", one.uploads, size(one.bytes))
        for one in report.owners
    ]
    if rows:
        columns = ("owner", "#CPU seconds", "#uploads", "#read")
        output.print(table("Dearest owners of the last 24 hours", columns, rows))


def _print_queue(queue: "QueueDepth | None", *, queued: int) -> None:
    output.print("[bold]Queue[/bold]")
    if queue is None:
        output.print("Redis does not answer: the queue depth is unknown.")
        return
    oldest = "" if queue.oldest_seconds is None else f", the oldest for {queue.oldest_seconds} s"
    wait, verb = "waits" if queue.depth == 1 else "wait", "is" if queue.workers == 1 else "are"
    events, jobs = counted(queue.depth, "event"), counted(queue.jobs, "job")
    output.print(f"{events} {wait}{oldest}; {jobs}; {counted(queue.workers, 'worker')} {verb} running")
    if not queue.workers and (queue.depth or queue.jobs or queued):
        output.print("[bold red]No worker is running to process them:[/bold red] start `media worker`.")


def _print_disk(report: "StorageReport", *, has_room: bool) -> None:
    output.print("[bold]Disk[/bold]")
    if report.sweep is None:
        output.print("There was no sweep yet; `media sweep` makes a plan.")
    else:
        output.print(f"The last sweep was at {report.sweep.time}: {report.sweep.plan or 'without a plan'}.")
        if report.sweep.applied:
            done = ", ".join(f"{count} {kind}" for kind, count in report.sweep.done.items() if count)
            output.print(f"Its plan was applied at {report.sweep.applied}: {done or 'nothing to do'}.")
        if report.sweep.wrong_totals:
            output.print(f"{report.sweep.wrong_totals} totals of the catalog were wrong.")
        if report.sweep.stopped:
            output.print(f"[bold red]A sweep was stopped:[/bold red] {safe(report.sweep.stopped)}")
    if report.drift is not None:
        print_drift(report.drift)
    if report.trash is not None and report.trash.count:
        output.print(f"The trash holds {counted(report.trash.count, 'file')}, {size(report.trash.bytes)}.")
    if has_room:
        _print_room(report)


def print_drift(drift: "DriftReport") -> None:
    seen = "now" if drift.origin == "scan" else drift.time
    if drift.areas is not None:
        areas = [(f"{name}/", amount.count, size(amount.bytes)) for name, amount in drift.areas.items()]
        output.print(table("Folders", ("folder", "#files", "#size"), areas))
    output.print(
        f"Variants on the disk ({seen}): {drift.disk.count} files, {size(drift.disk.bytes)}; "
        f"in the catalog: {drift.catalog.count}, {size(drift.catalog.bytes)}."
    )
    rows = [
        (name, found.count, size(found.bytes), MEANING.get(name, ""))
        for name, found in drift.findings.items()
        if found.count
    ]
    output.print(
        table("", ("drift", "#number", "#size", "meaning"), rows) if rows else "Catalog and disk agree."
    )


def _print_room(report: "StorageReport") -> None:
    space, growth = report.space, report.growth
    if space is None:
        output.print("The storage does not answer: its free space is unknown.")
        return
    line = f"{size(space.free_bytes)} of {size(space.bytes)} are free"
    if growth.bytes_per_day is not None:
        change = "added" if growth.bytes_per_day >= 0 else "removed"
        line += f"; {size(abs(growth.bytes_per_day))} were {change} a day lately"
    if growth.days_until_full is not None:
        line += f"; the disk is full in {growth.days_until_full:.0f} days"
    output.print(f"{line}.")


def _print_history(report: "StorageReport", *, has_room: bool) -> None:
    if not report.history:
        output.print("There is no snapshot yet; the first worker each day saves one.")
        return
    from scripts.stats_chart import Point, chart

    days = [Point(past.day, past.uploads, past.bytes) for past in report.history or ()]
    uploads = sum(count for state, count in report.uploads.items() if state != "deleted")
    output.print(chart([*days, Point("now", uploads, report.bytes)], output.encoding))
    if has_room:
        _print_room(report)


if __name__ == "__main__":
    typer.run(command)
