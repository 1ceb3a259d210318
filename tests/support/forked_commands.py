"""`media`, `arq`, the stub worker and the one that is made to fail, forked.

`tests.support.commands` and workplaces run them.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial

from arq.cli import cli as arq

import worker.main  # noqa: F401 (arq imports it by its name)
from scripts import media
from tests.chaos import crashing_worker
from tests.support import dying, old_catalogs, stub_worker
from tests.support.compiled import share_checks_of_parameters
from tests.support.elsewhere import move_in
from tests.support.fork_server import serve_forks
from tests.support.forked_decoders import fork_decoders
from worker.http.app import description


def work(words: Sequence[str]) -> None:
    """Be the command `media …` or `arq worker.main.WorkerSettings …`, or one of the tests' own workers."""
    move_in()
    old_catalogs.move_on()
    dying.arm()
    sys.argv = list(words)
    programs: dict[str, Callable[[], object]] = {
        "arq": arq,
        "media": media.main,
        "stub": stub_worker.work,
        "chaos": partial(crashing_worker.work, words[1:]),
    }
    programs[words[0]]()


if __name__ == "__main__":
    fork_decoders()
    share_checks_of_parameters()
    description()  # what its parts are checked by is then there
    for command in media.COMMANDS:
        media.build([command])
    serve_forks(work)
