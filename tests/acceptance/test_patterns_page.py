"""docs/patterns.md: the small app of its examples, with a real worker and a real Redis."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts.redis_server import RedisServer
from tests.support.clients import program
from tests.support.node_app import install
from tests.support.ports import free_port
from tests.support.snippets import blocks, snippets, take
from tests.support.workplace import Workplace, database_on, eventually

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "patterns.md"
CLIENT = ROOT / "clients" / "python"
PICTURE = (ROOT / "scripts/pictures/cairn.jpg").read_bytes()
SCRIPTS = [name for name in snippets(PAGE) if name.endswith(".py")]


class SmallApp:
    """The files of the page in a folder, at a workplace with a worker."""

    def __init__(self, place: Workplace, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CLIENT), "REDIS_URL": place.redis_url}

    def module(self, script: str) -> Any:
        """A file of the app, imported as its web process does."""
        return import_module(script.removesuffix(".py"))

    def row(self, id: str) -> Any:
        """State, srcset and error of a photo; None where it has no row."""
        rows = self.module("photos.py").database
        return rows.execute("select state, srcset, error from photos where id = ?", (id,)).fetchone()

    def add(self, source: str, content: bytes = PICTURE) -> str:
        """A photo of the gallery that its folder names."""
        self.place.put(source, content)
        id: str = self.module("photos.py").add(source, source.split("/")[1])
        return id

    def ready(self, source: str) -> str:
        """A photo that is ready, also in its row."""
        id = self.add(source)
        eventually(lambda: self.row(id)[0] == "ready")
        return id

    @contextmanager
    def running(self, script: str) -> Iterator[None]:
        """A process of the app, which is killed in the end."""
        command = [sys.executable, script]
        process = subprocess.Popen(command, cwd=self.folder, env=self.env, stderr=subprocess.PIPE)
        with process:
            yield
            process.kill()
            assert process.stderr is not None
            assert process.stderr.read() == b""


@pytest.fixture(scope="module")
def small_app(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SmallApp]:
    folder = tmp_path_factory.mktemp("app")
    take(PAGE, folder)
    live = tmp_path_factory.mktemp("live")
    place = Workplace(live, database_on(redis_server.url), migrated, MEDIA_STARTED="1")
    place.start()
    app = SmallApp(place, folder)
    with pytest.MonkeyPatch.context() as patch:
        for path in (CLIENT, folder):
            patch.syspath_prepend(str(path))
        patch.setenv("REDIS_URL", place.redis_url)
        patch.chdir(folder)
        photos: ModuleType = app.module("photos.py")
        with app.running("listen.py"):
            yield app
        photos.database.close()
        photos.media.close()
    for script in SCRIPTS:
        sys.modules.pop(script.removesuffix(".py"), None)
    place.close()


def test_every_example_of_the_page_has_a_name_and_is_run_here() -> None:
    text = Path(__file__).read_text("utf-8")

    named = [code for _, code in snippets(PAGE).values()]
    assert blocks(PAGE, "python") + blocks(PAGE, "js") == named
    assert [name for name in snippets(PAGE) if name not in text] == []


def test_the_row_of_a_photo_says_that_it_is_ready_and_what_a_page_shows(small_app: SmallApp) -> None:
    id = small_app.ready("uploads/rows/cat.jpg")

    state, srcset, error = small_app.row(id)
    assert (state, error) == ("ready", None)
    assert srcset.startswith("variants/")
    assert small_app.module("photos.py").waiting() == []


def test_an_event_that_redis_never_had_is_sent_by_the_outbox(
    small_app: SmallApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = small_app.module("photos.py")
    with monkeypatch.context() as patch:
        patch.setattr(photos, "media", type(photos.media)(f"redis://127.0.0.1:{free_port()}"))
        id = small_app.add("uploads/away/cat.jpg")
    assert small_app.row(id)[0] == "pending"

    with small_app.running("outbox.py"):
        eventually(lambda: small_app.row(id)[0] == "ready")


def test_a_photo_is_shown_until_the_one_in_its_place_is_ready(small_app: SmallApp) -> None:
    old = small_app.ready("uploads/places/old.jpg")
    page = small_app.module("replace.py")
    before = page.shown("places")
    source = small_app.place.put("uploads/places/new.jpg", PICTURE + b"new")

    new = page.replace(old, source, "places")

    eventually(lambda: small_app.row(old) is None)
    assert small_app.row(new)[0] == "ready"
    assert page.shown("places") == [small_app.row(new)[1]] != before
    kept = [part.split(" ")[0] for part in before[0].split(", ")]
    assert [key for key in kept if not (small_app.place.root / key).exists()] == []


def test_a_photo_that_cannot_be_replaced_stays(small_app: SmallApp) -> None:
    old = small_app.ready("uploads/stays/old.jpg")
    page = small_app.module("replace.py")
    before = page.shown("stays")
    source = small_app.place.put("uploads/stays/new.jpg", PICTURE[:20_000])

    new = page.replace(old, source, "stays")

    eventually(lambda: small_app.row(new)[0] == "failed")
    assert page.shown("stays") == before


def test_the_row_of_a_deleted_photo_goes_with_its_variants(small_app: SmallApp) -> None:
    id = small_app.ready("uploads/gone/cat.jpg")
    keys = [part.split(" ")[0] for part in small_app.row(id)[1].split(", ")]

    small_app.module("delete.py").remove(id)

    eventually(lambda: small_app.row(id) is None)
    assert [key for key in keys if (small_app.place.root / key).exists()] == []


async def test_a_browser_is_told_the_outcome_before_and_after_it_has_come(small_app: SmallApp) -> None:
    browsers, client = small_app.module("browsers.py"), import_module("media_worker_client")
    async with client.AsyncMediaClient(small_app.place.redis_url) as media:
        listening = asyncio.create_task(media.listen(browsers.tell))
        await asyncio.to_thread(eventually, lambda: is_read(small_app.place))
        id = small_app.module("photos.py").upload_id("uploads/browsers/cat.jpg")
        small_app.module("photos.py").database.execute("insert into photos (id) values (?)", (id,))
        small_app.module("photos.py").database.commit()
        async with aclosing(browsers.events(id)) as waiting:
            first = await told(waiting)
            small_app.place.put("uploads/browsers/cat.jpg", PICTURE)
            await media.announce("uploads/browsers/cat.jpg")
            states = [first["state"]]
            while states[-1] != "ready":
                states.append((await told(waiting))["state"])
        async with aclosing(browsers.events(id)) as waiting:
            late = await told(waiting)
        listening.cancel()

    assert (states[0], states[-1], late["state"]) == ("pending", "ready", "ready")
    assert not browsers.subscribers


def is_read(place: Workplace) -> bool:
    """Whether somebody waits for messages without a group."""
    clients: Any = place.redis.client_list()
    return any(client["cmd"] == "xread" for client in clients)


async def told(events: AsyncIterator[str]) -> dict[str, Any]:
    """The next event."""
    async with asyncio.timeout(40):
        event = await anext(events)
    data: dict[str, Any] = json.loads(event.removeprefix("data: "))
    return data


async def test_the_progress_of_a_gallery_ends_when_nothing_waits(small_app: SmallApp) -> None:
    for number in range(3):
        small_app.add(f"uploads/many/{number}.jpg")
    small_app.add("uploads/many/damaged.jpg", PICTURE[:20_000])

    counts = [
        json.loads(event.removeprefix("data: "))
        async for event in small_app.module("progress.py").stream("many")
    ]

    assert [sum(count.values()) for count in counts] == [4] * len(counts)
    assert counts[-1] == {"ready": 3, "failed": 1, "waiting": 0}


def test_a_form_tells_what_is_too_large(small_app: SmallApp) -> None:
    form = small_app.module("form.py").FORM

    assert 'data-max-bytes="10485760"' in form
    assert "<small>At most 10.5 MB: jpeg, png," in form
    assert 'setCustomValidity(isTooLarge ? "At most 10.5 MB." : "");' in form


def test_the_tests_of_the_page_need_neither_redis_nor_worker(tmp_path: Path) -> None:
    take(PAGE, tmp_path)
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CLIENT),
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_photos.py"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


ON_NODE = """
import { once } from "node:events";
import { createServer } from "node:http";
import { Redis } from "ioredis";
import { events } from "./browsers.mjs";
import { add, media } from "./photos.mjs";
import { uploadId } from "media-worker-client";

const server = createServer((request, response) => events(request.url.slice(1), response)).listen(0);
await once(server, "listening");
const listening = import("./listen.mjs");
const redis = new Redis(process.env.REDIS_URL);
while (!(await redis.client("LIST")).includes("cmd=xread ")); // it hears what comes from now on
redis.disconnect();
const source = "uploads/node/cat.jpg";
const { body } = await fetch(`http://localhost:${server.address().port}/${uploadId(source)}`);
const states = [];
let id;
for await (const bytes of body) {
  for (const [, data] of new TextDecoder().decode(bytes).matchAll(/^data: (.*)$/gm)) {
    const row = JSON.parse(data);
    states.push(row && [row.state, row.ahead, row.srcset?.split(" ")[0]]);
    if (row?.state === "ready") process.emit("SIGTERM");
  }
  if (states.at(-1)?.[0] === "ready") break;
  id ??= await add(source, "node");
}
await listening;
server.closeAllConnections();
server.close();
console.log(JSON.stringify(states));
"""


def test_a_browser_of_the_app_on_node_sees_its_photo_come(small_app: SmallApp, tmp_path: Path) -> None:
    take(PAGE, install(tmp_path))
    (tmp_path / "main.mjs").write_text(ON_NODE)
    small_app.place.put("uploads/node/cat.jpg", PICTURE)

    done = node(tmp_path, "main.mjs", REDIS_URL=small_app.place.redis_url)

    assert (done.returncode, done.stderr) == (0, "")
    first, *between, ready = json.loads(done.stdout)
    assert (first, ready[0]) == (None, "ready")
    assert ["processing", 0] in [[state, ahead] for state, ahead, _ in between]
    assert (small_app.place.root / ready[2]).is_file()


def test_the_tests_of_the_page_on_node_need_neither_redis_nor_worker(tmp_path: Path) -> None:
    take(PAGE, install(tmp_path))

    done = node(
        tmp_path, "--test", "photos.test.mjs", NODE_ENV="test", REDIS_URL=f"redis://127.0.0.1:{free_port()}"
    )

    assert done.returncode == 0, done.stdout
    assert "# pass 2" in done.stdout


def node(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What Node does with these files."""
    env = {"PATH": os.environ["PATH"], **variables}
    command = [program("node"), *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
