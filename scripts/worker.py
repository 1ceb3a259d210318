"""`media worker`: the arq worker, restarted whenever Redis comes back."""

import asyncio
from typing import Annotated

import typer


def command(
    burst: Annotated[
        bool, typer.Option("--burst", help="Drain the stream, then the jobs, then exit.")
    ] = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C."""
    from storage.loading import without  # the help is shown without a worker

    with without("rich"):  # structlog would colour tracebacks with it, which nobody asks for
        import structlog  # noqa: F401 (from here on everybody has this one)
    from worker.decoders import spawn
    from worker.heap import share_heap
    from worker.settings_or_exit import load_or_exit

    share_heap()  # before there is a thread
    settings = load_or_exit()
    spawned = spawn(settings)  # on another core it is ready when the rest has been imported
    from worker.supervise import run

    asyncio.run(run(settings, burst=burst, spawned=spawned))
