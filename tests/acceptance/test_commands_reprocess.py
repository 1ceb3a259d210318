"""`media reprocess`: which uploads are done again, from where, and how it makes room for live ones."""

import json
import re
import signal
import sqlite3
import subprocess
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from pipelines.recipe import BUILT_IN, Recipe, digest_of
from pipelines.recipe_file import load_recipes
from pipelines.reprocess import Selection
from pipelines.upload import key_of
from scripts.redis_server import RedisServer
from scripts.reprocess import Reprocessor
from storage.blobs.local import open_local
from storage.catalog.backfill import Filter
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.poison import PoisonContent
from storage.catalog.records import (
    DeadLetter,
    Failed,
    Original,
    Ready,
    State,
    StoredVariant,
    StreamId,
    UploadRequested,
)
from tests.conftest import url_of
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import MEDIA, document, media, on_a_terminal
from tests.support.workplace import Workplace, database_on, eventually
from worker.queue import open_queue
from worker.queue.jobs import Jobs
from worker.settings import Settings
from worker.upload_ids import default_id

pytestmark = pytest.mark.rotating(6, of="module")

RECIPES = "[default.thumb]\nbox = 150\n[avatar.small]\nbox = 64\n"
JOBS = "media:uploads:jobs"
SHA = "0" * 64
THUMBHASH = b64decode("1QcSHQRnh493V4dIh4eXh1h4kJUI")
A_JOB = 4  # uploads, with one decoder
AT_MOST = 5  # jobs, for whose uploads a back-fill lets wait


class UploadsWithoutWorker:
    """A workplace without a worker, whose uploads are made row by row."""

    def __init__(self, place: Workplace, catalog: Catalog) -> None:
        self.place = place
        self.catalog = catalog
        self.recipes = load_recipes(place.home / "recipes.toml")
        self.names: dict[str, str] = {}

    @property
    def env(self) -> Mapping[str, str]:
        return self.place.env()

    async def upload(self, name: str, *, recipe: str = "default", code: str | None = None) -> UUID:
        """An upload that is ready, its files and its original there; or that has failed with `code`."""
        upload_id = uuid4()
        self.place.put(f"uploads/{name}-{upload_id}.jpg", b"abc")
        self.names[str(upload_id)] = name
        event = UploadRequested(StreamId(1), upload_id, f"uploads/{name}-{upload_id}.jpg", recipe)
        nobody = DeadLetter("1-0", "invalid_event", "", b"")
        taken = await self.catalog.intake.take([(event, nobody)], [])
        claim = await self.catalog.claims.claim(upload_id, next(iter(taken.jobs)), "me")
        assert claim is not None
        original = Original("stamp", SHA, 3, "jpeg", 10, 10, thumbhash=THUMBHASH)
        ready = Ready(claim, original, self._made(upload_id, self.recipes[recipe]))
        await self.catalog.claims.commit([Failed(claim, code, "no") if code else ready])
        return upload_id

    def _made(self, upload_id: UUID, recipe: Recipe) -> list[StoredVariant]:
        keys = {variant.name: key_of(upload_id, variant, SHA) for variant in recipe.variants}
        for key in keys.values():
            self.place.put(key, b"abc")
        return [StoredVariant(name, key, 10, 10, 3, SHA) for name, key in keys.items()]

    async def file_of(self, upload_id: UUID) -> Path:
        found = await self.catalog.reports.find(upload_id)
        assert found is not None
        return self.place.root / found.variants[0].key

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self.place.catalog)) as database, database:
            return database.execute(statement, values).fetchall()

    def queued(self) -> list[str]:
        """The names of the uploads that wait for work, in order of their ids."""
        rows = self.sql("SELECT id FROM uploads WHERE state = 'queued' ORDER BY id")
        return [self.names[upload_id] for (upload_id,) in rows]

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(MEDIA), "reprocess", "--json", *options],
            env=dict(self.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
async def installation(
    redis_server: RedisServer, migrated: Path, tmp_path: Path
) -> AsyncIterator[UploadsWithoutWorker]:
    (tmp_path / "recipes.toml").write_text(RECIPES)
    recipes = str(tmp_path / "recipes.toml")
    place = Workplace(tmp_path, database_on(redis_server.url), migrated, MEDIA_RECIPES=recipes)
    async with (
        open_catalog(url_of(place.catalog)) as catalog,
        open_local(place.root, create=True) as blobs,
    ):
        await blobs.bind(catalog.id, catalog_is_new=True)
        await catalog.database.mark_bound()
        yield UploadsWithoutWorker(place, catalog)
    place.close()


@pytest.fixture
async def assorted(installation: UploadsWithoutWorker) -> UploadsWithoutWorker:
    """One upload of each kind that an option distinguishes from the others."""
    await installation.upload("current")
    await installation.upload("avatar", recipe="avatar")
    await installation.upload("damaged", code="corrupt_image")
    await installation.upload("hung", code="decode_timeout")
    old, holed = await installation.upload("old"), await installation.upload("holed")
    installation.sql("UPDATE variants SET key = 'variants/00/00/old.jpg' WHERE upload_id = ?", str(old))
    installation.place.put("variants/00/00/old.jpg", b"abc")
    installation.sql("UPDATE uploads SET changed_ms = changed_ms - 7200000 WHERE id != ?", str(old))
    (await installation.file_of(holed)).unlink()
    return installation


# -- which ones


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], {"current", "avatar", "old", "holed"}),
        (["--stale"], {"old"}),
        (["--missing"], {"holed"}),
        (["--recipe", "avatar"], {"avatar"}),
        (["--failed", "decode_timeout"], {"hung"}),
        (["--since", "1h"], {"old"}),
        (["--since", "1h", "--missing"], set()),
    ],
    ids=lambda words: " ".join(sorted(words)),
)
@pytest.mark.rotating(3)
def test_an_option_says_which_uploads_are_done_again(
    assorted: UploadsWithoutWorker, options: list[str], names: set[str]
) -> None:
    ended = media(assorted.env, "reprocess", "--json", *options)

    assert ended.returncode == 0
    assert document(ended) == {"queued": len(names), "differing": {}, "unselected": []}
    assert set(assorted.queued()) == names
    assert assorted.sql("SELECT count(*) FROM uploads WHERE state = 'queued' AND job_id = ''") == [
        (len(names),)
    ]


async def test_uploads_are_named_by_their_ids_or_sources_and_what_is_not_so_is_told(
    installation: UploadsWithoutWorker,
) -> None:
    chosen, by_source, other = [await installation.upload(name) for name in ("one", "two", "other")]
    failed = await installation.upload("failed", code="corrupt_image")
    source = f"uploads/two-{by_source}.jpg"  # whose default id is none that an upload has
    named = [str(chosen), str(chosen), str(failed), source]
    answer = media(
        installation.env, "reprocess", "--json", *(word for one in named for word in ("--id", one))
    )

    unselected = sorted([str(failed), str(default_id(source))])
    assert document(answer) == {"queued": 1, "differing": {}, "unselected": unselected}
    assert (answer.returncode, installation.queued()) == (1, ["one"])
    said = media(installation.env, "reprocess", "--failed", "corrupt_image", "--id", str(other))
    assert f"{other}: there is no such upload, or it has not failed with corrupt_image." in said.stderr
    assert said.returncode == 1
    assert media(installation.env, "reprocess", "--id", str(other)).returncode == 0
    assert media(installation.env, "reprocess", "--id", "one.jpg").returncode == 2


@pytest.fixture
async def worn(installation: UploadsWithoutWorker) -> UploadsWithoutWorker:
    """Uploads that lack a variant: with their original, with a torn one, and with none."""
    for name in ("whole", "torn", "gone"):
        (await installation.file_of(await installation.upload(name))).unlink()
    for name, content in (("torn", b"a"), ("gone", None)):
        [original] = installation.place.root.glob(f"uploads/{name}-*")
        original.unlink()
        if content is not None:
            original.write_bytes(content)
    return installation


@pytest.mark.parametrize("option", ["--missing", "--stale"])
def test_a_ready_upload_whose_original_is_torn_or_gone_is_left_alone_and_named(
    worn: UploadsWithoutWorker, option: str
) -> None:
    worn.sql("UPDATE uploads SET thumbhash = NULL")
    said = media(worn.env, "reprocess", option)
    worn.sql("UPDATE uploads SET state = 'ready'")
    answer = media(worn.env, "reprocess", option, "--json")

    reasons = {worn.names[key[-40:-4]]: reason for key, reason in document(answer)["differing"].items()}
    assert reasons == {"torn": "it has 1 bytes, and its ready upload has 3", "gone": "it is gone"}
    assert (said.returncode, answer.returncode, document(answer)["queued"]) == (1, 1, 1)
    assert worn.queued() == ["whole"]
    assert "2 originals are gone, or of another size, or of a recipe that is gone: their ready" in said.stderr
    assert ": it has 1 bytes" in said.stderr


def test_a_ready_upload_of_a_recipe_that_is_gone_is_left_alone_and_named(worn: UploadsWithoutWorker) -> None:
    worn.sql("UPDATE uploads SET recipe = 'gone'")
    answer = media(worn.env, "reprocess", "--missing", "--json")

    reasons = {worn.names[key[-40:-4]]: reason for key, reason in document(answer)["differing"].items()}
    assert reasons["whole"] == "its recipe gone is gone"
    assert (answer.returncode, document(answer)["queued"], worn.queued()) == (1, 0, [])


def test_what_is_not_asked_for_is_not_named_although_its_original_is_gone(
    worn: UploadsWithoutWorker,
) -> None:
    current = media(worn.env, "reprocess", "--stale", "--json")
    worn.sql("UPDATE uploads SET thumbhash = NULL")
    for path in worn.place.root.glob("uploads/*"):
        path.unlink()
    failed = media(worn.env, "reprocess", "--stale", "--failed", "corrupt_image", "--json")

    assert [document(ended) for ended in (current, failed)] == [
        {"queued": 0, "differing": {}, "unselected": []}
    ] * 2
    assert (current.returncode, failed.returncode) == (0, 0)


@pytest.mark.parametrize("command", ["reprocess --stale --json", "enqueue recipes.toml --json"])
def test_a_worker_that_read_the_recipes_before_they_changed_is_named(
    assorted: UploadsWithoutWorker, command: str
) -> None:
    _tell_recipes(assorted, BUILT_IN)
    ended = media(assorted.env, *command.split(), cwd=assorted.place.home)
    _tell_recipes(assorted, assorted.recipes)
    restarted = media(assorted.env, *command.split(), cwd=assorted.place.home)

    sentence = f"1 worker (web:7) has other recipes than {assorted.place.home / 'recipes.toml'}"
    said, afterwards = ended.stdout + ended.stderr, restarted.stdout + restarted.stderr
    assert (sentence in said, sentence in afterwards) == (True, False)
    assert "restart each that was started before it changed" in said
    assert ended.returncode == (0 if "enqueue" in command else 1)


def test_an_app_on_a_host_without_the_recipes_is_told_of_no_worker(assorted: UploadsWithoutWorker) -> None:
    _tell_recipes(assorted, assorted.recipes)
    env = {name: value for name, value in assorted.env.items() if name != "MEDIA_RECIPES"}
    ended = media(env, "enqueue", "recipes.toml", "--json", cwd=assorted.place.home)

    assert ended.returncode == 0
    assert "recipes than" not in ended.stderr


def _tell_recipes(installation: UploadsWithoutWorker, recipes: Mapping[str, Recipe]) -> None:
    """Send the heartbeat of a worker that has read these."""
    server, told = installation.place.redis, {"host": "web", "pid": 7, "recipes": digest_of(recipes)}
    server.set("media:uploads:health:there:7:1", '{"healthy": true, "detail": ""}')
    server.set("media:uploads:worker:there:7:1", json.dumps(told))
    server.zadd("media:uploads:workers", {"there:7:1": 1})


def test_a_sweep_leaves_them_alone_too(worn: UploadsWithoutWorker) -> None:
    ended = media(worn.env, "sweep", "--apply")

    assert ended.returncode == 0, ended.stderr
    assert worn.queued() == ["whole"]
    assert document(media(worn.env, "stats", "--json"))["sweep"]["done"]["missing"] == 1


async def test_an_original_that_another_ready_upload_was_made_of_is_of_the_right_size(
    installation: UploadsWithoutWorker,
) -> None:
    upload_id, other = await installation.upload("first"), await installation.upload("second")
    (await installation.file_of(upload_id)).unlink()
    source = f"uploads/second-{other}.jpg"
    installation.sql("UPDATE uploads SET source = ? WHERE id = ?", source, str(upload_id))
    installation.sql("UPDATE uploads SET bytes = 5 WHERE id = ?", str(other))
    installation.place.put(source, b"abcde")

    answer = document(media(installation.env, "reprocess", "--missing", "--json"))

    assert (answer, installation.queued()) == ({"queued": 1, "differing": {}, "unselected": []}, ["first"])


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--recipe", "nobody"], "no recipe nobody; known: avatar, default"),
        (["--failed", "nonsense"], "no code nonsense; known: catalog_unavailable"),
        (["--since", "yesterday"], "yesterday is neither a date"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_a_name_that_nothing_has_is_bad_usage(
    assorted: UploadsWithoutWorker, options: list[str], hint: str
) -> None:
    ended = media({**assorted.env, "COLUMNS": "200"}, "reprocess", *options)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert hint in ended.stderr
    assert assorted.queued() == []


async def test_what_is_remembered_of_a_picture_that_killed_its_decoder_is_forgotten(
    installation: UploadsWithoutWorker,
) -> None:
    upload_id = await installation.upload("hung", code="decode_timeout")
    installation.place.put(f"uploads/hung-{upload_id}.jpg", b"deadly")
    deadly = PoisonContent(sha256(b"deadly").hexdigest(), 6, "decoder 1", "decode_timeout", "It hung.")
    other = replace(deadly, sha256=SHA)
    for poison_content in (deadly, other):
        await installation.catalog.poison.add(poison_content)

    media(installation.env, "reprocess", "--failed", "decode_timeout")

    assert await installation.catalog.poison.all("decoder 1") == [other]


# -- from where


async def test_a_limit_is_obeyed_and_the_next_run_continues_after_it(
    installation: UploadsWithoutWorker,
) -> None:
    for number in range(7):
        await installation.upload(f"{number}")
    everything = [installation.names[upload_id] for upload_id in sorted(installation.names)]

    answer, seen = [], []
    for _ in range(4):
        answer.append(document(media(installation.env, "reprocess", "--limit", "3", "--json"))["queued"])
        seen.append(installation.queued())
        installation.sql("UPDATE uploads SET state = 'ready'")  # they are done

    assert answer == [3, 3, 1, 3]
    assert [*seen[0], *seen[1], *seen[2]] == everything
    assert seen[3] == seen[0]  # having come to its end it begins anew


async def test_what_a_limit_leaves_for_later_is_not_passed_over_where_others_were_quicker(
    installation: UploadsWithoutWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(A_JOB):
        await installation.upload(f"{number}")
    _, *others = [installation.names[upload_id] for upload_id in sorted(installation.names)]
    count_untaken = Jobs.untaken_anywhere

    async def somebody_is_quicker(queue: Jobs) -> int:
        installation.sql("UPDATE uploads SET state = 'failed' WHERE id = ?", min(installation.names))
        return await count_untaken(queue)

    monkeypatch.setattr(Jobs, "untaken_anywhere", somebody_is_quicker)
    for name, value in installation.env.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    selection = Selection(Filter(State.READY, None, None, None), None, stale=False, missing=False)
    async with open_local(installation.place.root, create=False) as blobs, open_queue(settings) as queue:
        queued = await Reprocessor(settings, installation.catalog, blobs, queue, selection).run(2)
        rest = await Reprocessor(settings, installation.catalog, blobs, queue, selection).run(None)

    assert (queued, rest) == (2, 1)
    assert installation.queued() == others


@WITH_SERVICES
async def test_a_backfill_that_was_killed_goes_on_where_it_stopped(
    installation: UploadsWithoutWorker,
) -> None:
    both = 2 * AT_MOST * A_JOB
    for number in range(both):
        await installation.upload(f"{number}")
    with installation.start() as killed:
        eventually(lambda: len(installation.queued()) == AT_MOST * A_JOB)
        last = sorted(installation.names)[AT_MOST * A_JOB - 1]
        eventually(lambda: installation.sql("SELECT 1 FROM kv WHERE value LIKE ?", f"%{last}%") != [])
        killed.send_signal(signal.SIGKILL)
    before = installation.queued()
    installation.sql("UPDATE uploads SET state = 'ready'")

    ended = media(installation.env, "reprocess", "--json")

    assert len(before) == AT_MOST * A_JOB
    assert f"Resuming where the last run stopped; {both - len(before)} uploads" in ended.stderr
    assert document(ended)["queued"] == both - len(before)
    assert sorted([*before, *installation.queued()]) == sorted(installation.names.values())


@WITH_SERVICES
async def test_each_healthy_worker_is_fed_and_what_it_has_taken_waits_no_more(
    installation: UploadsWithoutWorker,
) -> None:
    server: Any = installation.place.redis
    for number in range(3):
        is_healthy = str(number < 2).lower()
        server.set(f"media:uploads:health:host:1:{number}", f'{{"healthy": {is_healthy}, "detail": ""}}')
        server.zadd("media:uploads:workers", {f"host:1:{number}": 1})
    for number in range(12 * A_JOB):
        await installation.upload(f"{number}")

    with installation.start() as feeding:
        eventually(lambda: len(installation.queued()) == (2 * 4 + 1) * A_JOB)
        owners = await installation.catalog.parking.owners()
        taken = await installation.catalog.parking.take(dict.fromkeys(owners, A_JOB), A_JOB)
        eventually(lambda: len(installation.queued()) == (2 * 4 + 2) * A_JOB)
        feeding.kill()

    assert [len(ids) for ids in taken.values()] == [A_JOB]


# -- beside live uploads


def _fill_queue(place: Workplace) -> None:
    place.redis.zadd(JOBS, {uuid4().hex: 1 for _ in range(AT_MOST)})


def _fill_stream(place: Workplace) -> None:
    place.send_all({"source": f"uploads/{number}.jpg"} for number in range(AT_MOST))


async def test_live_uploads_that_are_parked_go_first(installation: UploadsWithoutWorker) -> None:
    old = await installation.upload("old")
    live = [await installation.upload("live", recipe="avatar") for _ in range(AT_MOST * A_JOB)]
    await installation.catalog.requeuer.requeue(live, State.READY)
    polls = _polls(installation.place)
    with installation.start("--recipe", "default") as waiting:
        eventually(lambda: _polls(installation.place) > polls + 3)
        meanwhile = set(installation.queued())
        await installation.catalog.parking.take(
            dict.fromkeys(await installation.catalog.parking.owners(), A_JOB), A_JOB
        )
        answer, said = waiting.communicate(timeout=20)

    assert (meanwhile, waiting.returncode) == ({"live"}, 0)
    assert json.loads(answer)["queued"] == 1
    assert installation.sql("SELECT job_id, state FROM uploads WHERE id = ?", str(old)) == [("", "queued")]
    assert "is a worker running?" in said


@pytest.mark.parametrize(
    ("fill", "key"), [(_fill_queue, JOBS), (_fill_stream, "media:uploads")], ids=["jobs", "events"]
)
@pytest.mark.rotating(1)
async def test_live_uploads_go_first(
    installation: UploadsWithoutWorker, fill: Callable[[Workplace], None], key: str
) -> None:
    await installation.upload("old")
    fill(installation.place)
    polls = _polls(installation.place)
    with installation.start() as waiting:
        eventually(lambda: _polls(installation.place) > polls + 3)
        meanwhile = installation.queued()
        installation.place.redis.delete(key)
        answer, said = waiting.communicate(timeout=20)

    assert (meanwhile, waiting.returncode) == ([], 0)
    assert (json.loads(answer)["queued"], installation.queued()) == (1, ["old"])
    assert "is a worker running?" in said


def _polls(place: Workplace) -> int:
    commands: Any = place.redis.info("commandstats")
    return int(commands.get("cmdstat_zrangebyscore", {"calls": 0})["calls"])


def test_what_there_is_stays_until_something_newer_is_published(workplace: Workplace) -> None:
    recipes = workplace.home / "recipes.toml"
    recipes.write_text(RECIPES)
    workplace.settings["MEDIA_RECIPES"] = str(recipes)
    source = workplace.put("uploads/cat.jpg", pictures.medium())
    workplace.send({"source": source})
    workplace.run("media", "--burst")
    old = document(media(workplace.env(), "show", source, "--json"))["variants"]
    recipes.write_text(RECIPES.replace("150", "200"))

    queued = document(media(workplace.env(), "reprocess", "--stale", "--json"))
    meanwhile = document(media(workplace.env(), "show", source, "--json"))
    workplace.run("media", "--burst")
    after = document(media(workplace.env(), "show", source, "--json"))

    assert queued["queued"] == 1
    assert (meanwhile["state"], meanwhile["variants"]) == ("queued", old)
    assert (after["state"], after["variants"][0]["width"]) == ("ready", 200)
    assert all((workplace.root / one["key"]).exists() for one in [*old, *after["variants"]])


# -- and what it shows


def test_a_terminal_sees_how_far_it_is_and_what_time_remains(assorted: UploadsWithoutWorker) -> None:
    code, shown = on_a_terminal(assorted.env, "reprocess")

    assert code == 0
    assert re.search(r"4/4\S* \S*uploads", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    assert re.search(r"\d:\d\d:\d\d", shown)
    assert "4 uploads are queued again." in shown


def test_a_pipe_sees_only_the_outcome(assorted: UploadsWithoutWorker) -> None:
    ended = media(assorted.env, "reprocess")

    assert (ended.stdout, ended.stderr) == ("4 uploads are queued again.\n", "")
