"""Workers with other recipes than are read here: each reads the file once, at its start."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from pipelines.recipe import digest_of
from worker.amounts import counted
from worker.queue.heartbeats import ReportingWorker, WorkerInfo
from worker.settings import Settings

_BUILT_IN = "the built-in recipe alone (MEDIA_RECIPES is not set here)"
_RESTART = "A worker reads the file of recipes once: restart each that was started before it changed."
_UPDATE = "Recipes are compared within one version only: bring these workers to {}, or ask with theirs."
_NAMED = 5


@dataclass(frozen=True)
class OtherRecipes:
    """Which workers have other recipes, as a sentence without its full stop, and what to do about it."""

    detail: str
    advice: str


def find_other_recipes(workers: Sequence[ReportingWorker], settings: Settings) -> OtherRecipes | None:
    """Those of them that have read other recipes than these settings name; None: none that says so.

    One of another version may have the same ones, of another digest.
    """
    own, digest = version("media-worker"), digest_of(settings.recipe_book)
    others = [
        (worker.name, worker.info)
        for worker in workers
        if worker.info and worker.info.recipes not in (digest, None)
        if not worker.heartbeat.is_of_ended_process
    ]
    file = settings.recipes or _BUILT_IN
    sentences, advice = [], []
    if names := [name for name, info in others if not _is_of_another_version(info, own)]:
        sentences.append(f"{_named(names)} {'has' if len(names) == 1 else 'have'} other recipes than {file}")
        advice.append(_RESTART)
    if foreign := [(name, info.version) for name, info in others if _is_of_another_version(info, own)]:
        versions = ", ".join(sorted({each for _, each in foreign if each}))
        names = [name for name, _ in foreign]
        sentences.append(f"{_named(names)} of version {versions} may have other recipes than {file}")
        advice.append(_UPDATE.format(own))
    return OtherRecipes("; ".join(sentences), " ".join(advice)) if sentences else None


def _is_of_another_version(info: WorkerInfo, own: str) -> bool:
    return info.version not in (own, None)


def _named(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _NAMED else ""
    return f"{counted(len(names), 'worker')} ({', '.join(sorted(names)[:_NAMED])}{more})"
