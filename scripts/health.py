"""`media health`: how the worker here is, by its probes or, where it serves none, by its heartbeat."""

from typing import Annotated

import typer

from scripts.health_probe import EXAMPLE, VARIABLE, probe, show
from scripts.terminal import AsJson, print_error
from worker.health_check import examine
from worker.main import load_or_exit


def command(
    live: Annotated[
        bool, typer.Option("--live", help="Only whether it is hung: Redis, catalog and storage may be down.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether the worker of this container or host takes work, or lives; exit with 1 if it does not."""
    code = probe(live=live, as_json=as_json)
    if code is None and live:
        print_error(f"Only a worker with {VARIABLE} can be asked whether it lives: set it, as in {EXAMPLE}.")
        code = 2
    if code is None:
        is_healthy, detail = examine(load_or_exit())
        show({"status": "ok" if is_healthy else "unhealthy", "reason": detail}, as_json=as_json)
        print_error(f"This was asked of Redis, which is slow; {EXAMPLE} lets the worker answer.")
        code = 0 if is_healthy else 1
    raise typer.Exit(code)
