"""`media worker`: the arq worker, restarted whenever Redis comes back."""

import asyncio
from typing import Annotated

import typer

from worker.main import load_or_exit
from worker.supervise import run


def command(
    burst: Annotated[
        bool, typer.Option("--burst", help="Drain the stream, then the jobs, then exit.")
    ] = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C."""
    asyncio.run(run(load_or_exit(), burst=burst))
