"""`media stats`: what is stored, and what waits."""

from typing import Any

from scripts.terminal import AsJson, output, print_json, run, size, table
from storage.catalog import Catalog, open_catalog
from worker.app import open_queue
from worker.queue import UNREACHABLE, RedisError
from worker.settings import Settings


def command(as_json: AsJson = False) -> None:
    """Report uploads by state, files and bytes by variant, and the depth of the queue."""

    async def body(settings: Settings) -> int:
        async with open_catalog(settings.catalog_url, create=False) as catalog:
            report = await stored(catalog) | {"queue": await waiting(settings)}
        if as_json:
            print_json(report)
        else:
            print_report(report)
            _print_queue(report["queue"])
        return 0

    run(body)


async def stored(catalog: Catalog) -> dict[str, Any]:
    """What the catalog knows to be stored, as JSON-ready data; sizes in bytes."""
    originals, original_bytes = await catalog.reports.original_total()
    superseded, superseded_bytes = await catalog.reports.superseded_total()
    return {
        "uploads": {str(state): count for state, count in (await catalog.reports.states()).items()},
        "originals": {"files": originals, "bytes": original_bytes},
        "variants": [
            {"name": total.name, "files": total.files, "bytes": total.bytes}
            for total in await catalog.reports.variant_totals()
        ],
        "superseded": {"files": superseded, "bytes": superseded_bytes},
        "dead_letters": await catalog.letters.count(),
    }


async def waiting(settings: Settings) -> dict[str, Any] | None:
    """How many events and jobs wait, and since when (seconds); None when Redis does not answer."""
    try:
        async with open_queue(settings) as queue:
            return {
                "depth": await queue.depth(),
                "oldest_seconds": await queue.oldest_age_s(),
                "jobs": await queue.waiting_jobs(),
            }
    except (*UNREACHABLE, RedisError):
        return None


def print_report(report: dict[str, Any]) -> None:
    """What is stored, for people."""
    states = [(state, count) for state, count in report["uploads"].items() if count]
    output.print(table("Uploads", ("state", "#number"), states))
    rows = [(total["name"], total["files"], size(total["bytes"])) for total in report["variants"]]
    if report["superseded"]["files"]:
        rows.append(("superseded", report["superseded"]["files"], size(report["superseded"]["bytes"])))
    rows.append(("originals", report["originals"]["files"], size(report["originals"]["bytes"])))
    output.print(table("Files", ("what", "#files", "#size"), rows))
    if report["dead_letters"]:
        output.print(f"{report['dead_letters']} events were refused; see `media failed list`")


def _print_queue(queue: dict[str, Any] | None) -> None:
    output.print("[bold]Queue[/bold]")
    if queue is None:
        output.print("Redis does not answer; what waits there is not known.")
        return
    oldest = "" if queue["oldest_seconds"] is None else f", the oldest for {queue['oldest_seconds']} s"
    output.print(f"{queue['depth']} events wait{oldest}; {queue['jobs']} jobs")


if __name__ == "__main__":
    import typer

    typer.run(command)
