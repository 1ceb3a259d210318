"""Which workers live: each process writes its heartbeat, a health check reads those of its container."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from pipelines.recipe import BUILT_IN, digest_of
from scripts.redis_server import RedisServer
from storage.catalog.intake import admit_none
from storage.catalog.opening import Catalog
from tests.support.catalogs import letter, upload_event
from tests.support.clients import WITH_SERVICES
from tests.support.commands import Ended, forked
from tests.support.fake_redis import saying
from worker.degradation import watch_queue
from worker.doctor.broker import check_their_recipes, check_workers
from worker.queue import Queue, heartbeats
from worker.queue.heartbeats import Heartbeat, ReportingWorker, WorkerInfo, new_instance, place
from worker.settings import Settings

ELSEWHERE = "another-boot:1:0"


async def test_each_process_is_a_worker_of_its_own_under_whatever_host_name_and_pid(queue: Queue) -> None:
    first, second = new_instance(), new_instance()
    await queue.heartbeats.beat(first, "0 events wait", healthy=True, expiry_s=15)
    await queue.heartbeats.beat(second, "the disk is full", healthy=False, expiry_s=15)
    await queue.heartbeats.beat(ELSEWHERE, "0 events wait", healthy=True, expiry_s=60)

    living = {worker.instance: worker for worker in await queue.heartbeats.living()}

    assert living.keys() == {first, second, ELSEWHERE}
    assert living[second] == Heartbeat(second, False, "the disk is full")
    assert [living[one].is_here for one in (first, second, ELSEWHERE)] == [True, True, False]


async def test_a_heartbeat_says_what_is_degraded_and_doctor_passes_it_on(queue: Queue) -> None:
    old = ["sweep: the last one was stopped", "space: 90% of its file system are taken"]
    await queue.heartbeats.beat(ELSEWHERE, "0 events wait", healthy=True, expiry_s=15, degraded=old)
    await queue.heartbeats.beat(new_instance(), "0 events wait", healthy=True, expiry_s=15)

    found = await check_workers(queue, Settings())

    assert found.level == "warning"
    assert found.detail == f"1 of 2 degraded: {old[0]}; {old[1]}"


async def test_doctor_warns_of_an_event_that_waits_long_although_workers_run(queue: Queue) -> None:
    await queue.heartbeats.beat(ELSEWHERE, "", healthy=True, expiry_s=15)
    long_ago_ms = await queue.stream.now_ms() - 61_000
    await queue.redis.xadd("media:uploads", {"event": "{}"}, id=f"{long_ago_ms}-0")

    found = await check_workers(queue, Settings())

    assert (found.level, found.detail) == ("warning", "1 running, but the oldest event has waited for 61 s")


async def test_doctor_names_workers_that_have_other_recipes_than_the_file(queue: Queue) -> None:
    for number, recipes in enumerate([digest_of(BUILT_IN), "0" * 16, None]):
        info = WorkerInfo(host=f"web-{number}", pid=7, recipes=recipes)
        await queue.heartbeats.beat(f"there:7:{number}", "", healthy=True, expiry_s=15, info=info)

    [found] = await check_their_recipes(queue, Settings())

    assert found.level == "warning"
    assert found.detail.startswith("1 worker (web-1:7) has other recipes than the built-in recipe alone")


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b'{"healthy":true}', b"7"])
async def test_a_heartbeat_that_nobody_can_read_is_that_of_an_unwell_worker(
    queue: Queue, body: bytes
) -> None:
    await queue.heartbeats.beat(ELSEWHERE, "", healthy=True, expiry_s=15)
    await queue.redis.set(f"media:uploads:health:{ELSEWHERE}", body)

    [worker] = await queue.heartbeats.living()

    assert not worker.healthy


async def test_what_is_no_name_of_a_worker_keeps_nobody_from_hearing_of_the_others(queue: Queue) -> None:
    await queue.redis.zadd("media:uploads:workers", {b"\xff": 1})
    await queue.heartbeats.beat(ELSEWHERE, "", healthy=True, expiry_s=15)

    assert [worker.heartbeat.instance for worker in await queue.heartbeats.reporting()] == [ELSEWHERE]


async def test_a_heartbeat_of_a_newer_version_may_say_more(queue: Queue) -> None:
    await queue.heartbeats.beat(ELSEWHERE, "", healthy=True, expiry_s=15)
    body = b'{"healthy":true,"detail":"fine","more":1}'
    await queue.redis.set(f"media:uploads:health:{ELSEWHERE}", body)

    assert await queue.heartbeats.living() == [Heartbeat(ELSEWHERE, True, "fine")]


async def test_a_worker_tells_operators_of_itself_where_no_other_worker_reads_it(queue: Queue) -> None:
    info = WorkerInfo(state="ok", state_s=7, host="pictures-1", pid=12, decoders=2, busy=1)
    await queue.heartbeats.beat(ELSEWHERE, "fine", healthy=True, expiry_s=15, info=info)

    assert await queue.heartbeats.reporting() == [ReportingWorker(Heartbeat(ELSEWHERE, True, "fine"), info)]
    body = await queue.redis.get(f"media:uploads:health:{ELSEWHERE}")
    assert set(orjson.loads(body)) == {"healthy", "detail", "degraded"}  # which all others read


async def test_a_worker_of_an_older_version_tells_nothing_and_is_shown_all_the_same(queue: Queue) -> None:
    await queue.heartbeats.beat(ELSEWHERE, "fine", healthy=True, expiry_s=15)

    [found] = await queue.heartbeats.reporting()
    assert (found.heartbeat.instance, found.info) == (ELSEWHERE, None)


@pytest.mark.parametrize(
    ("body", "info"),
    [
        (b'{"state":"ok","more":{"a":1}}', WorkerInfo(state="ok")),
        (b'{"state":"dreaming","pid":null}', WorkerInfo(state="dreaming")),
        (b'{"pid":"none"}', None),
        (b'{"memory":1%s}' % (b"0" * 400), None),
        (b"no JSON", None),
        (b"[]", None),
    ],
)
async def test_what_a_worker_of_another_version_tells_is_read_as_far_as_it_can_be(
    queue: Queue, body: bytes, info: WorkerInfo | None
) -> None:
    await queue.heartbeats.beat(ELSEWHERE, "fine", healthy=True, expiry_s=15)
    await queue.redis.set(f"media:uploads:worker:{ELSEWHERE}", body)

    [found] = await queue.heartbeats.reporting()

    assert (found.heartbeat.healthy, found.info) == (True, info)


async def test_a_worker_that_ends_is_gone_at_once_and_the_others_stay(queue: Queue) -> None:
    await queue.heartbeats.beat(ELSEWHERE, "", healthy=True, expiry_s=15)
    mine = new_instance()
    await queue.heartbeats.beat(mine, "", healthy=True, expiry_s=15, info=WorkerInfo())

    await queue.heartbeats.end(mine)

    assert [worker.instance for worker in await queue.heartbeats.living()] == [ELSEWHERE]
    assert await queue.redis.keys(f"*{mine}") == []


async def test_one_that_is_silent_is_forgotten_by_the_next_heartbeat_of_another(queue: Queue) -> None:
    await queue.heartbeats.beat(ELSEWHERE, "", healthy=True, expiry_s=0.01)
    await asyncio.sleep(0.05)  # Redis' own clock ends a key
    assert await queue.heartbeats.living() == []

    mine = new_instance()
    await queue.heartbeats.beat(mine, "", healthy=True, expiry_s=15)

    assert await queue.redis.zrange("media:uploads:workers", 0, -1) == [mine.encode()]
    assert 0 < await queue.redis.ttl("media:uploads:workers") <= 3600


@pytest.mark.parametrize(
    ("here", "code", "answer"),
    [
        ([True], 0, "3 events"),
        ([False], 1, "the disk is full"),
        ([True, False], 0, "3 events"),
        ([], 1, "no worker is alive here; 1 elsewhere"),
    ],
)
async def test_the_check_is_about_the_workers_of_its_own_container(
    queue: Queue, server: RedisServer, tmp_path: Path, here: list[bool], code: int, answer: str
) -> None:
    await queue.heartbeats.beat(ELSEWHERE, "0 events wait", healthy=True, expiry_s=60)
    for healthy in here:
        await queue.heartbeats.beat(
            new_instance(), "3 events wait" if healthy else "the disk is full", healthy=healthy, expiry_s=60
        )

    ended = await asyncio.to_thread(checked_by_another, server.url, tmp_path)

    assert ended.returncode == code
    assert answer in ended.stderr


def checked_by_another(url: str, home: Path) -> Ended:
    return forked(["arq", "worker.main.WorkerSettings", "--check"], {"MEDIA_REDIS_URL": url}, home)


@pytest.mark.parametrize(
    ("healthy", "answer"), [(True, "var/media does not answer within 2 s"), (False, "the disk is full")]
)
async def test_a_check_says_that_the_storage_hangs_or_what_its_worker_knows_and_ends(
    queue: Queue, server: RedisServer, tmp_path: Path, healthy: bool, answer: str
) -> None:
    (tmp_path / "var/media").mkdir(parents=True)
    os.mkfifo(tmp_path / "var/media/.media-root.json")  # who opens that waits for ever
    await queue.heartbeats.beat(new_instance(), "the disk is full", healthy=healthy, expiry_s=60)

    ended = await asyncio.to_thread(checked_by_another, server.url, tmp_path)

    assert ended.returncode == 1
    assert answer in ended.stderr
    assert "Redis" not in ended.stderr


async def test_a_check_of_a_redis_that_hangs_says_that_it_is_redis(tmp_path: Path) -> None:
    async with saying(None, {"PING": b"+PONG\r\n"}) as fake:
        ended = await asyncio.to_thread(checked_by_another, fake.url, tmp_path)

    assert ended.returncode == 1
    assert ended.stderr == "Health check failed: Redis does not answer within 6 s\n"


PLACE = "import os, sys; from worker.queue.heartbeats import place; os.chroot(sys.argv[1]); print(place())"


def place_of(root: Path | str, *namespaces: str, shows: str = "/proc") -> str:
    """The place of a process with these namespaces and that folder as its root, where `shows` is mounted."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    mounted = 'test "$1" = / || mount --rbind "$4" "$1/${4#/}"; exec "$2" -c "$3" "$1"'
    command = ["unshare", *namespaces, "sh", "-c", mounted, "sh", str(root), sys.executable, PLACE, shows]
    ended = subprocess.run(command, capture_output=True, text=True)
    for denied in ("Operation not permitted", "permission denied"):
        if denied in ended.stderr:
            pytest.skip(f"no namespace of its own: {ended.stderr.strip()}")
    assert ended.stdout.strip() not in ("", socket.gethostname())
    return ended.stdout.strip()


def test_another_pid_namespace_is_another_place() -> None:
    another = place_of("/", "--pid", "--fork")

    assert another != place()
    assert another.split("-")[0] == place().split("-")[0]  # the same boot


@WITH_SERVICES
def test_two_containers_in_one_pid_namespace_are_two_places(tmp_path: Path) -> None:
    roots = [tmp_path / "first", tmp_path / "second"]
    for root in roots:
        (root / "proc").mkdir(parents=True)

    first, second = (place_of(root, "--mount") for root in roots)

    assert len({first, second, place()}) == 3
    assert place_of(roots[0], "--mount") == first  # as `docker exec` finds it, and a health check


def test_a_worker_with_mounts_and_a_cgroup_of_its_own_is_in_the_place_of_its_host(tmp_path: Path) -> None:
    assert place_of("/", "--mount", "--cgroup", "--ipc") == place()
    assert place_of(tmp_path, "--mount", shows="/") == place()  # as systemd makes a unit's root of the host's


def test_a_host_that_is_renamed_is_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    before = place()

    monkeypatch.setattr(socket, "gethostname", lambda: "renamed")

    assert place() == before


def test_where_the_kernel_does_not_say_it_is_the_host_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(heartbeats, "_BOOT_ID", tmp_path / "none")

    assert place() == socket.gethostname()


async def test_doctor_reports_events_that_wait_without_a_worker_and_unhealthy_workers(
    queue: Queue,
) -> None:
    idle = await check_workers(queue, Settings())
    await queue.stream.add({"source": "uploads/a.jpg"})
    deserted = await check_workers(queue, Settings())
    await queue.heartbeats.beat(ELSEWHERE, "the disk is full", healthy=False, expiry_s=15)
    unhealthy = await check_workers(queue, Settings())
    await queue.heartbeats.beat(ELSEWHERE, "1 event waits", healthy=True, expiry_s=15)
    healthy = await check_workers(queue, Settings())

    assert [found.level for found in (idle, deserted, unhealthy, healthy)] == ["ok", "error", "error", "ok"]
    assert "none is running, and 1 event waits" in deserted.detail
    assert "media worker" in (deserted.advice or "")
    assert "the disk is full" in unhealthy.detail


async def test_doctor_counts_what_is_parked_as_waiting_where_no_worker_lives(
    queue: Queue, catalog: Catalog, catalog_url: str
) -> None:
    await catalog.intake.take([(upload_event(1), letter("1-0"))], [], admit=admit_none)
    found = await check_workers(queue, Settings(catalog_url=catalog_url))

    assert (found.level, found.detail) == ("error", "none is running, and 0 events wait; 1 parked upload")


async def test_doctor_warns_of_a_parked_upload_that_waits_long_although_workers_run(
    queue: Queue, catalog: Catalog, catalog_url: str
) -> None:
    await queue.heartbeats.beat(ELSEWHERE, "", healthy=True, expiry_s=15)
    await catalog.intake.take([(upload_event(1), letter("1-0"))], [], admit=admit_none)
    soon = await check_workers(queue, Settings(catalog_url=catalog_url))
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("UPDATE uploads SET queued_ms = queued_ms - 3600000")
    late = await check_workers(queue, Settings(catalog_url=catalog_url))

    assert (soon.level, soon.detail) == ("ok", "1 running; 0 events wait; 1 parked upload")
    assert late.level == "warning"
    assert "1 running, but the oldest event has waited for 36" in late.detail
    assert "has waited for 36" in (await watch_queue(queue, catalog.parking)() or "")


async def test_doctor_says_at_least_of_more_parked_uploads_than_are_counted(
    queue: Queue, catalog: Catalog, catalog_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.doctor.broker.MOST_COUNTED", 1)
    await catalog.intake.take([(upload_event(1), letter("1-0"))], [], admit=admit_none)
    found = await check_workers(queue, Settings(catalog_url=catalog_url))

    assert found.detail.endswith("; at least 1 parked upload")
