"""Other versions: of this program beside this one, of arq and redis-py below it, of its settings above it."""

import json
from importlib import metadata

import pytest
from arq.worker import create_worker, get_kwargs
from packaging.requirements import Requirement

from tests.chaos.place import FaultPlace
from worker.main import worker_settings
from worker.settings import Settings


@pytest.mark.fault(55)
def test_jobs_that_another_version_wrote_are_requeued_by_this_one(place: FaultPlace) -> None:
    sources = place.upload(*range(12))
    victim = place.start_worker(fault={"crash": ("acknowledge", "after", 1), "armed": True}, ready=False)
    victim.wait()
    jobs = sorted(place.redis.scan_iter("arq:job:*"))
    assert len(jobs) == 3
    of_others = [
        ("process_upload", ["an id"]),
        ("process_batch", [["no id"]]),
        ("process_batch", [[], {}, 7]),
    ]
    for job, (name, arguments) in zip(jobs, of_others, strict=True):
        place.redis.set(job, json.dumps({"t": 1, "f": name, "a": arguments, "k": {}, "et": 1}))
    successor = place.start_worker()

    place.await_state("ready", *sources)

    place.await_rest()
    assert successor.stop() == 0
    place.check()


@pytest.mark.fault(57)
def test_the_installed_arq_and_redis_are_those_that_were_measured() -> None:
    asked = {found.name: found for line in metadata.requires("arq") or () if (found := Requirement(line))}

    assert metadata.version("arq").startswith("0.28.")
    assert asked["redis"].specifier.contains(metadata.version("redis"))


@pytest.mark.fault(57)
def test_the_settings_are_arqs_own_and_what_inherits_them_is_refused_at_once() -> None:
    kinds = worker_settings(Settings())
    ours = type("WorkerSettings", (), kinds)
    successor = type("Mine", (ours,), {"max_jobs": 1})

    assert get_kwargs(ours).keys() == kinds.keys()
    with pytest.raises(RuntimeError, match="at least one function"):
        create_worker(successor)
