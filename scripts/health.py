"""`media health`: how the worker here is, by its probes or, where it serves none, by its heartbeat."""

from typing import Annotated

import typer

from scripts.health_probe import EXAMPLE, probe, show
from scripts.terminal import AsJson, print_error


def command(
    live: Annotated[
        bool, typer.Option("--live", help="Only whether it is hung: Redis, catalog and storage may be down.")
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Ask `media serve` instead, where MEDIA_HTTP_BIND says.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether the worker of this container or host takes work, or lives; exit with 1 if it does not."""
    code = probe(live=live, as_json=as_json, serve=serve)
    if code is None:
        code = _ask_redis(live=live, as_json=as_json)
        print_error(f"This was asked of Redis, which is slow; {EXAMPLE} lets the worker answer.")
    raise typer.Exit(code)


def _ask_redis(*, live: bool, as_json: bool) -> int:
    """Print how the worker here is by its heartbeats, and return the exit code."""
    from worker.health_check import examine, examine_life  # with Redis' client
    from worker.settings_or_exit import load_or_exit

    if not live:
        is_healthy, detail = examine(load_or_exit())
        show({"status": "ok" if is_healthy else "unhealthy", "reason": detail}, as_json=as_json)
        return 0 if is_healthy else 1
    lives, problem = examine_life(load_or_exit())
    status = {True: "ok", False: "unhealthy", None: "unknown"}[lives]
    show({"status": status, "reason": None if lives else problem}, live=True, as_json=as_json)
    return 1 if lives is False else 0
