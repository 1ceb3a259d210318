"""The command `media`, forked: `tests.support.commands` runs it."""

import sys
from collections.abc import Sequence

from scripts import media
from tests.support.nursery import nurse


def work(words: Sequence[str]) -> None:
    """Be the command `media …`."""
    sys.argv = ["media", *words]
    media.main()


if __name__ == "__main__":
    for command in media.COMMANDS:
        media.build([command])
    nurse(work)
