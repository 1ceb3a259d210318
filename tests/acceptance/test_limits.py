"""The budget: memory and CPU of the whole process tree, enforced by the kernel, whatever is uploaded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from tests.campaigns.limits import MEMORY_MIB, broken, limited_worker, outcome, push
from tests.support.cgroups import Cgroup, NoCgroupsError
from tests.support.clients import WITH_SERVICES
from tests.support.rotation import of_day, today
from tests.support.workplace import Workplace, database_on
from tests.support.worst_cases import WORST

# Some of them a day, and the others the next; `make limits` takes all.
READY = ("progressive.jpg", "baseline.jpg", "plain.png", "runs.bmp", "planes.tif", "panorama.jpg")
TOO_MUCH = ("scans.jpg", "pq-interlaced.png", "white-is-zero.tif")


@pytest.fixture(scope="module")
def limited(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workplace, Cgroup]]:
    place = Workplace(tmp_path_factory.mktemp("limited"), database_on(redis_server.url))
    try:
        with limited_worker(place) as cgroup:
            yield place, cgroup
    except NoCgroupsError as error:
        place.close()
        pytest.skip(str(error))


@WITH_SERVICES
def test_the_worst_pictures_at_the_pixel_limit_end_within_the_budget(
    limited: tuple[Workplace, Cgroup], tmp_path: Path
) -> None:
    place, cgroup = limited
    ready, too_much = of_day(READY, 2, today()), of_day(TOO_MUCH, 1, today())
    for name in (*ready, *too_much):
        (tmp_path / name).write_bytes(WORST[name](99_000_000))

    ends = push(place, {f"uploads/worst/{name}": tmp_path / name for name in (*ready, *too_much)}, within=120)

    outcomes = {source.rpartition("/")[2]: outcome(answer) for source, answer in ends.items()}
    assert outcomes == dict.fromkeys(ready, "ready") | dict.fromkeys(too_much, "too_much_memory")
    assert broken(place, cgroup, ends) == []
    assert cgroup.peak_mib <= MEMORY_MIB


@WITH_SERVICES
def test_many_heavy_pictures_at_once_take_turns(limited: tuple[Workplace, Cgroup], tmp_path: Path) -> None:
    place, cgroup = limited
    (tmp_path / "scans.jpg").write_bytes(WORST["scans.jpg"](40_000_000))

    ends = push(place, {f"uploads/heavy/{n}": tmp_path / "scans.jpg" for n in range(8)}, within=120)

    assert {outcome(answer) for answer in ends.values()} == {"ready"}
    assert broken(place, cgroup, ends) == []
