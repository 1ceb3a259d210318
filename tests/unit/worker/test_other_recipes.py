"""Workers with other recipes: those that should be restarted are named, and nobody else."""

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from pipelines.recipe import BUILT_IN, digest_of
from worker.other_recipes import OtherRecipes, find_other_recipes
from worker.queue.heartbeats import Heartbeat, ReportingWorker, WorkerInfo, place
from worker.settings import Settings

OTHER = "0" * 16
OWN = version("media-worker")


def a_worker(
    name: str, recipes: str | None = OTHER, *, of: str | None = OWN, instance: str = "there:7:1"
) -> ReportingWorker:
    return ReportingWorker(Heartbeat(instance, True, ""), WorkerInfo(host=name, recipes=recipes, version=of))


def found(*workers: ReportingWorker, settings: Settings | None = None) -> OtherRecipes:
    others = find_other_recipes(workers, settings or Settings())
    assert others is not None
    return others


def test_workers_of_other_recipes_are_to_be_restarted() -> None:
    others = found(a_worker("b"), a_worker("same", digest_of(BUILT_IN)), a_worker("old", None), a_worker("a"))

    recipe = "the built-in recipe alone (MEDIA_RECIPES is not set here)"
    assert others.detail == f"2 workers (a, b) have other recipes than {recipe}"
    assert others.advice.endswith("restart each that was started before it changed.")


def test_the_file_is_named_where_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "recipes.toml"
    file.write_text("[default.thumb]\nbox = 100\n")

    others = found(a_worker("web", digest_of(BUILT_IN)), settings=Settings(recipes=file))

    assert others.detail == f"1 worker (web) has other recipes than {file}"


def test_a_few_of_many_are_named() -> None:
    assert found(*map(a_worker, "gfedcba")).detail.startswith("7 workers (a, b, c, d, e, …) have")


def test_a_worker_of_another_version_is_not_told_to_read_the_file_again() -> None:
    others = found(a_worker("web", of="0.0.1"))

    assert others.detail.startswith("1 worker (web) of version 0.0.1 may have other recipes than the ")
    assert f"bring these workers to {OWN}" in others.advice
    assert "restart" not in others.advice


def test_workers_of_both_kinds_are_named_apart() -> None:
    others = found(a_worker("web", of="0.0.1"), a_worker("api"), a_worker("app", of=None))

    outdated, foreign = others.detail.split("; ")
    assert (outdated[:20], foreign[:14]) == ("2 workers (api, app)", "1 worker (web)")


@pytest.mark.parametrize("of", [OWN, "0.0.1"])
def test_a_worker_of_this_host_that_is_gone_is_not_named(of: str) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass

    gone = a_worker("here", of=of, instance=f"{place()}:{ended.pid}:1")
    assert find_other_recipes([gone], Settings()) is None
