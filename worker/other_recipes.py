"""Workers with other recipes than are read here: each reads the file once, at its start."""

from collections.abc import Sequence

from pipelines.recipe import digest_of
from worker.amounts import counted
from worker.queue.heartbeats import ReportingWorker
from worker.settings import Settings

ADVICE = "A worker reads the file of recipes once: restart each that was started before it changed."
_NAMED = 5


def describe_other_recipes(workers: Sequence[ReportingWorker], settings: Settings) -> str | None:
    """Which of them have read other recipes than these settings name; None: none that says so."""
    own = digest_of(settings.recipe_book)
    others = [worker.name for worker in workers if worker.info and worker.info.recipes not in (own, None)]
    if not others:
        return None
    names = ", ".join(sorted(others)[:_NAMED]) + (", …" if len(others) > _NAMED else "")
    verb = "has" if len(others) == 1 else "have"
    file = settings.recipes or "the built-in recipe alone, which MEDIA_RECIPES names here,"
    return f"{counted(len(others), 'worker')} ({names}) {verb} other recipes than {file}"
