"""Containers that are smaller than the settings say: reported at start, and no picture fails for it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.redis_server import RedisServer
from tests.campaigns.limits import broken, limited_worker, outcome, push
from tests.support.cgroups import NoCgroupsError, open_cgroup
from tests.support.clients import WITH_SERVICES
from tests.support.commands import Ended, run_installed
from tests.support.workplace import STARTS, Workplace, database_on
from tests.support.worst_cases import WORST
from worker.queue.stream import TOO_LARGE

MEDIA = str(Path(sys.executable).parent / "media")


def limited(place: Workplace, memory_mib: int, *command: str) -> Ended:
    """Run a command to its end in a container of that size and half a CPU."""
    env = place.env(MEDIA_CPUS="")
    del env["MEDIA_CPUS"]
    try:
        with open_cgroup(memory_mib, 0.5) as cgroup:
            ended = run_installed(cgroup.inside(command), env, place.home)
            assert cgroup.kills == 0
    except NoCgroupsError as error:
        pytest.skip(str(error))
    return ended


def findings(ended: Ended) -> dict[str, dict[str, Any]]:
    return {found["what"]: found for found in json.loads(ended.stdout)}


@WITH_SERVICES
def test_a_container_smaller_than_the_budget_is_a_finding_with_advice(workplace: Workplace) -> None:
    found = findings(limited(workplace, 256, MEDIA, "doctor", "--json"))

    assert found["Memory budget"]["level"] == "warning"
    assert found["Memory budget"]["detail"] == "256 MiB, the container's limit; MEDIA_MEMORY_MB is 512"
    assert "MEDIA_MEMORY_MB=256" in found["Memory budget"]["advice"]
    assert found["Limits"]["detail"].startswith("1 decoder for 1 CPU, 256 MiB")
    assert found["Decoders"]["level"] == "ok"


@WITH_SERVICES
def test_a_container_too_small_for_a_decoder_is_named_by_the_doctor_who_survives_it(
    workplace: Workplace,
) -> None:
    ended = limited(workplace, 128, MEDIA, "doctor", "--json")

    assert ended.returncode == 1
    decoders = findings(ended)["Decoders"]
    assert decoders["detail"] == "the container's memory limit of 128 MiB is too small for a decoder"
    assert "192 MiB" in decoders["advice"]


def test_a_worker_in_a_container_too_small_for_a_decoder_says_so_and_ends(workplace: Workplace) -> None:
    ended = limited(workplace, 128, *STARTS["media"])

    [line] = [json.loads(line) for line in ended.stderr.splitlines() if "cannot_start" in line]
    assert ended.returncode == 1
    assert line["reason"].startswith("the container's memory limit of 128 MiB is too small for a decoder")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("memory_mib", [192, 256])
@pytest.mark.rotating(1)
@WITH_SERVICES
def test_in_a_small_container_what_does_not_fit_is_refused_and_the_kernel_kills_nothing(
    redis_server: RedisServer, tmp_path: Path, memory_mib: int
) -> None:
    sizes = {"progressive.jpg": 40_000_000, "baseline.jpg": 24_000_000}
    for name, pixels in sizes.items():
        (tmp_path / name).write_bytes(WORST[name](pixels))
    place = Workplace(tmp_path / "home", database_on(redis_server.url))
    try:
        with limited_worker(place, memory_mib) as cgroup:
            answer = push(
                place, {f"uploads/{n}-{name}": tmp_path / name for name in sizes for n in range(3)}, 60
            )
            wrong = broken(place, cgroup, answer)
            [warned] = place.workers[0].logged("memory_budget")
    except NoCgroupsError as error:
        pytest.skip(str(error))

    assert wrong == []
    assert "MEDIA_MEMORY_MB is 512" in warned["found"]
    outcomes = {source.partition("-")[2]: outcome(message) for source, message in answer.items()}
    assert outcomes == {"progressive.jpg": "too_much_memory", "baseline.jpg": "ready"}


@pytest.mark.campaign
def test_an_entry_of_180_megabytes_ends_no_worker_of_512_mib_and_the_event_behind_it_is_done(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    place = Workplace(tmp_path / "home", database_on(redis_server.url))
    picture = tmp_path / "cat.jpg"
    picture.write_bytes(WORST["baseline.jpg"](1_000_000))
    place.redis.xadd("media:uploads", {f"f{number}": b"x" * 1_000_000 for number in range(180)})
    doctor = findings(run_installed([MEDIA, "doctor", "--json"], place.env(), place.home))
    try:
        with limited_worker(place, 512) as cgroup:
            answer = push(place, {"uploads/cat.jpg": picture}, 60)
            wrong = broken(place, cgroup, answer)
            refused = place.workers[0].await_log("event_refused")
    except NoCgroupsError as error:
        pytest.skip(str(error))

    assert wrong == []
    assert outcome(answer["uploads/cat.jpg"]) == "ready"
    assert refused["reason"] == TOO_LARGE
    assert doctor["Redis values"]["detail"].endswith("workers refuse entries of more than 16 MiB unread")
    assert doctor["Workers"]["detail"].startswith("none is running, and 1 event waits, the oldest for")
