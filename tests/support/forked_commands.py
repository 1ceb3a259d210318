"""The commands `media` and `arq`, forked: `tests.support.commands` and workplaces run them."""

import sys
from collections.abc import Sequence

from arq.cli import cli as arq

import worker.main  # noqa: F401 (arq imports it by its name)
from scripts import media
from tests.support.elsewhere import move_in
from tests.support.fork_server import serve_forks


def work(words: Sequence[str]) -> None:
    """Be the command `media …` or `arq worker.main.WorkerSettings …`."""
    move_in()
    sys.argv = list(words)
    if words[0] == "arq":
        arq()
    else:
        media.main()


if __name__ == "__main__":
    for command in media.COMMANDS:
        media.build([command])
    serve_forks(work)
