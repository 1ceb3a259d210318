"""The client for Node against a real Redis and a real worker, with the oldest and the newest ioredis."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.chaos.own_redis import OwnRedis
from tests.support import pictures
from tests.support.clients import OLDEST_IOREDIS
from tests.support.node_app import CLIENT, NodeApp, install
from tests.support.workplace import Workplace, eventually

Send = Callable[..., str]


@pytest.fixture(scope="module")
def redis_that_stops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    redis = OwnRedis(tmp_path_factory.mktemp("redis"))
    yield redis
    redis.close()


@pytest.fixture(scope="module")
def place(
    redis_that_stops: OwnRedis, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A workplace with a worker."""
    place = Workplace(tmp_path_factory.mktemp("place"), redis_that_stops.url, migrated, MEDIA_STARTED="1")
    place.start()
    yield place
    place.close()


@pytest.fixture(scope="module")
def app(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeApp]:
    """An app of ECMAScript modules, with the newest ioredis."""
    app = NodeApp(install(tmp_path_factory.mktemp("app")))
    app.run("app.media = new app.MediaClient({ redis: given.url });", url=place.redis_url)
    yield app
    app.kill()


@pytest.fixture
def stream(app: NodeApp, place: Workplace) -> str:
    """A stream of messages of the test's own, where `app.own` listens; its events stay on `questions:…`."""
    name = f"events:{uuid4()}"
    options = {"redis": place.redis_url, "events": name, "stream": f"questions:{name}"}
    app.run("await app.own?.close(); app.own = new app.MediaClient(given.options);", options=options)
    return name


@pytest.fixture
def send(place: Workplace, stream: str) -> Send:
    """Put a message on that stream, as a worker does."""

    def send(upload: str, seq: int, kind: str = "ready", **more: Any) -> str:
        message = {"type": f"upload.{kind}", "seq": seq, "id": upload, "source": f"uploads/{upload}", **more}
        entry: Any = place.redis.xadd(stream, {"event": json.dumps(message)})
        return str(entry.decode())

    return send


def pending(place: Workplace, stream: str, group: str) -> int:
    """How many messages the group has not acknowledged."""
    found: Any = place.redis.xpending(stream, group)
    return int(found["pending"])


def clients(redis: Any) -> list[dict[str, str]]:
    """The connections to it."""
    return list(redis.client_list())


def entries(place: Workplace, stream: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """What a stream has."""
    found: Any = place.redis.xrange(stream)
    return list(found)


ANNOUNCE = """
const box = new app.Box();
const stop = new AbortController();
const listening = app.media.listen(box.put, { group: given.group, signal: stop.signal });
const id = await app.media.announce(given.source, { metadata: { post: 7 }, owner: "42" });
const isOver = (one) => one.id === id && one.state !== "processing";
const message = await box.until((got) => got.find(isOver));
stop.abort();
await listening;
return { ...message, raw: message.raw };
"""


def test_what_becomes_of_a_picture_reaches_the_handler(app: NodeApp, place: Workplace) -> None:
    source = place.put("uploads/node/cat.jpg", pictures.medium(1))

    message = app.run(ANNOUNCE, source=source, group="first")

    assert (message["type"], message["state"], message["source"]) == ("upload.ready", "ready", source)
    assert message["metadata"] == {"post": 7}
    assert [variant["name"] for variant in message["variants"]] == ["thumb", "medium", "large"]
    assert (place.root / message["variants"][0]["key"]).is_file()
    assert message["srcset"] == message["raw"]["srcset"]
    assert pending(place, "media:events", "first") == 0


def test_a_picture_that_is_none_fails_with_a_code_and_a_reason(app: NodeApp, place: Workplace) -> None:
    source = place.put("uploads/node/note.txt", b"no picture")

    message = app.run(ANNOUNCE, source=source, group="first")

    assert (message["type"], message["error"]["code"]) == ("upload.failed", "unsupported_format")
    assert message["error"]["message"] == message["raw"]["error"]["message"]


def test_an_app_of_common_modules_with_the_oldest_ioredis_is_told_the_same(
    place: Workplace, tmp_path: Path
) -> None:
    source = place.put("uploads/node/common.jpg", pictures.small(2))
    app = NodeApp(install(tmp_path, OLDEST_IOREDIS), "cjs")
    app.run("app.media = new app.MediaClient({ redis: given.url });", url=place.redis_url)

    message = app.run(ANNOUNCE, source=source, group="common")
    app.kill()

    assert (message["type"], message["source"]) == ("upload.ready", source)
    assert app.errors == ""


def test_both_kinds_of_modules_have_the_very_same_classes(app: NodeApp) -> None:
    code = """
    const common = app.require("media-worker-client");
    return Object.keys(common).filter((name) => common[name] !== app[name]);
    """

    assert app.run(code) == []
    assert app.run("return app.uploadId('uploads/2026/11/cat.jpg')") == "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"


def test_a_client_takes_the_redis_of_an_app_whatever_its_options(app: NodeApp, place: Workplace) -> None:
    source = place.put("uploads/node/options.jpg", pictures.small(3))
    code = """
    const Redis = app.require("ioredis");
    const timing = { commandTimeout: 2000, maxRetriesPerRequest: null };
    const redis = new Redis(given.url, { keyPrefix: "shop:", enableAutoPipelining: true, ...timing });
    const media = new app.MediaClient({ redis });
    const box = new app.Box();
    const listening = media.listen(box.put, { group: "options", onError: box.put });
    await new Promise((resolve) => setTimeout(resolve, 2200)); // longer than a command of the app's may take
    const id = await media.announce(given.source);
    await box.until((got) => got.find((one) => one.id === id));
    await media.close();
    await listening;
    const pong = await redis.ping();
    redis.disconnect();
    return [box.items.filter((one) => one instanceof Error).length, pong];
    """

    assert app.run(code, url=place.redis_url, source=source) == [0, "PONG"]


def test_repeated_and_stale_messages_are_dropped_and_what_is_about_no_upload_is_passed_over(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    for seq in (5, 5, 4, 7, 6):
        send("a", seq)
    send("a", 8, "failed", entry="1-1", error={"code": "invalid_event", "message": "no"})
    place.redis.xadd(stream, {"event": "no JSON"})
    send("a", 10, variants="none")
    place.redis.xadd(stream, {"event": json.dumps({"type": "sweep.stopped", "seq": 0, "id": None})})
    send("b", 9)
    send("a", 8)
    code = """
    const box = new app.Box();
    const [errors, stop] = [[], new AbortController()];
    const onError = ({ code }) => errors.push(code);
    const listening = app.own.listen(box.put, { group: "g", signal: stop.signal, onError });
    await box.until((got) => got.length === 5);
    stop.abort();
    await listening;
    return [box.items.map(({ id, seq, entry }) => [id, seq, entry]), errors];
    """

    got, errors = app.run(code)

    assert got == [["a", 5, None], ["a", 7, None], ["a", 8, "1-1"], ["b", 9, None], ["a", 8, None]]
    assert errors == ["invalid_message"] * 2
    assert pending(place, stream, "g") == 0


def test_a_number_that_no_worker_gives_hides_no_later_message(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    sent: list[Any] = [2**53, 1e300, "7", None, True, -3, 5, 5, 6]
    for seq in sent:
        send("a", seq)
    code = """
    const box = new app.Box();
    const stop = new AbortController();
    const listening = app.own.listen(box.put, { group: "g", signal: stop.signal });
    await box.until((got) => got.find(({ seq }) => seq === 6));
    stop.abort();
    await listening;
    return box.items.map(({ seq }) => seq);
    """

    assert app.run(code) == [0] * 6 + [5, 6]


def test_what_json_may_say_of_prototypes_changes_none(app: NodeApp, place: Workplace, stream: str) -> None:
    about = '"__proto__": {"polluted": 1}'
    event = f'{{"type": "upload.ready", "id": "a", "seq": 1, {about}, "metadata": {{{about}}}}}'
    place.redis.xadd(stream, {"event": event})
    code = """
    const box = new app.Box();
    const stop = new AbortController();
    const listening = app.own.listen(box.put, { group: "g", signal: stop.signal });
    const message = await box.until(([one]) => one);
    stop.abort();
    await listening;
    return [message.polluted, message.metadata.polluted, {}.polluted].filter((one) => one !== undefined);
    """

    assert app.run(code) == []


def test_a_cursor_that_is_no_place_in_a_stream_is_refused(app: NodeApp, stream: str, tmp_path: Path) -> None:
    file = tmp_path / "cursor"
    file.write_text("17634a")
    code = """
    const cursor = new app.FileCursor(given.file);
    return app.own.listen(() => {}, { cursor }).catch(({ name, message }) => [name, message]);
    """

    assert app.run(code, file=str(file)) == ["TypeError", 'A cursor has the ID of an entry, not "17634a".']


def test_messages_go_on_where_the_way_to_tell_errors_fails_later(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    send("a", 1)
    send("b", 2)
    code = """
    const box = new app.Box();
    const stop = new AbortController();
    const onError = async () => { throw new Error("it cannot be told"); };
    const handler = ({ id }) => {
      if (id === "a" && box.items.length === 0) throw new Error("no");
      box.put(id);
    };
    const options = { group: "g", signal: stop.signal, onError, retry: { first: 10 } };
    const listening = app.own.listen(handler, options);
    await box.until((got) => got.length === 2);
    stop.abort();
    await listening;
    return box.items;
    """

    assert app.run(code) == ["b", "a"]


def test_a_process_may_have_many_listeners(app: NodeApp, place: Workplace, stream: str) -> None:
    code = """
    const warnings = [];
    const warned = ({ message }) => warnings.push(message);
    process.on("warning", warned);
    const media = new app.MediaClient(given.options);
    const listening = Array.from({ length: 20 }, (_, n) => media.listen(() => {}, { group: `g${n}` }));
    await new Promise(setImmediate);
    await media.close();
    await Promise.all(listening);
    process.off("warning", warned);
    return warnings;
    """

    assert app.run(code, options={"redis": place.redis_url, "events": stream}) == []


def test_a_variant_has_its_link_where_the_worker_knows_one(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    variants = [
        {"name": name, "key": f"variants/{name}.jpg", "width": width, "height": 1, "bytes": 1}
        for name, width in (("square", 150), ("thumb", 150), ("large", 800))
    ]
    links = (
        "https://cdn.example/files/variants/thumb.jpg 150w, https://cdn.example/files/variants/large.jpg 800w"
    )
    send("a", 1, variants=variants, srcset=links)
    send("b", 2, variants=variants, srcset="variants/thumb.jpg 150w, variants/large.jpg 800w")
    code = """
    const box = new app.Box();
    const stop = new AbortController();
    const listening = app.own.listen(box.put, { group: "g", signal: stop.signal });
    await box.until((got) => got.length === 2);
    stop.abort();
    await listening;
    return box.items.map(({ variants }) => variants.map(({ url }) => url));
    """

    linked, alone = app.run(code)

    assert linked == [f"https://cdn.example/files/{variant['key']}" for variant in variants]
    assert alone == [None] * 3


def test_that_work_begins_is_told_unless_a_later_message_was_seen(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    send("a", 0, "started", waiting=3)
    send("a", 5)
    send("a", 5, "started", waiting=2)
    send("a", 0, "started", waiting=1)
    send("a", 6)
    send("b", 7)
    code = """
    const box = new app.Box();
    const stop = new AbortController();
    const listening = app.own.listen(box.put, { group: "g", signal: stop.signal });
    await box.until((got) => got.find(({ id }) => id === "b"));
    stop.abort();
    await listening;
    return box.items.map(({ state, seq, waiting }) => [state, seq, waiting]);
    """

    got = app.run(code)

    assert got[:4] == [["processing", 0, 3], ["ready", 5, None], ["processing", 5, 2], ["ready", 6, None]]
    assert len(got) == 5


def test_what_a_handler_rejects_is_tried_again_while_others_go_on_in_their_order(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    for upload, seq in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        send(upload, seq)
    code = """
    const box = new app.Box();
    const [told, stop] = [[], new AbortController()];
    let failing = 2;
    const handler = async ({ id, seq }) => {
      box.put(`${id}${seq}`);
      if (id === "a" && failing-- > 0) throw new Error("not yet");
    };
    const onError = (error, message) => told.push([error.message, message.id]);
    const options = { group: "g", signal: stop.signal, onError, retry: { first: 20, most: 40 } };
    const listening = app.own.listen(handler, options);
    await box.until((got) => got.includes("a3"));
    stop.abort();
    await listening;
    return [box.items, told];
    """

    got, told = app.run(code)

    assert [one for one in got if one[0] == "a"] == ["a1", "a1", "a1", "a3"]
    assert [one for one in got if one[0] != "a"] == ["b2", "c4"]
    assert got.index("b2") < got.index("a3")
    assert told == [["not yet", "a"], ["not yet", "a"]]
    assert pending(place, stream, "g") == 0


def test_a_message_whose_consumer_is_killed_before_it_is_acknowledged_is_handled_again(
    app: NodeApp, place: Workplace, stream: str, send: Send, tmp_path: Path
) -> None:
    send("a", 1)
    killed = NodeApp(install(tmp_path))
    code = """
    const media = new app.MediaClient(given.options);
    const box = new app.Box();
    const handler = (message) => (box.put(message), new Promise(() => {}));
    media.listen(handler, { group: "g", consumer: "web-1" });
    return (await box.until((got) => got[0])).id;
    """
    assert killed.run(code, options={"redis": place.redis_url, "events": stream}) == "a"
    killed.kill()
    send("b", 2)
    code = """
    const box = new app.Box();
    const options = { group: "g", onError: () => {}, ...given.options };
    const stop = new AbortController();
    const handler = (message) => { box.put(message.id); if (given.fails) throw new Error("no"); };
    const listening = app.own.listen(handler, { ...options, signal: stop.signal });
    await box.until((got) => got.length === 2);
    stop.abort();
    await listening;
    return box.items;
    """

    restarted = app.run(code, fails=True, options={"consumer": "web-1"})
    assert pending(place, stream, "g") == 2
    other = app.run(code, fails=False, options={"claimAfter": 100})

    assert (restarted, other) == (["a", "b"], ["a", "b"])
    assert pending(place, stream, "g") == 0


def test_a_message_is_not_taken_over_from_a_handler_that_takes_long(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    send("a", 1)
    code = """
    const box = new app.Box();
    const stop = new AbortController();
    const options = { group: "g", claimAfter: 300, signal: stop.signal };
    let end;
    const slow = app.own.listen(() => (box.put("slow"), new Promise((resolve) => (end = resolve))), options);
    await box.until((got) => got.length === 1);
    const quick = app.own.listen(({ id }) => box.put(id), options);
    await new Promise((resolve) => setTimeout(resolve, 900));
    stop.abort();
    end();
    await Promise.all([slow, quick]);
    return box.items;
    """

    assert app.run(code) == ["slow"]
    assert pending(place, stream, "g") == 0


def test_listening_ends_at_the_signal_once_the_handler_has_returned(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    send("a", 1)
    send("b", 2)
    code = """
    const box = new app.Box();
    const stop = new AbortController();
    const handler = async ({ id }) => {
      stop.abort();
      await new Promise(setImmediate);
      box.put(id);
    };
    await app.own.listen(handler, { group: "g", signal: stop.signal });
    return box.items;
    """

    assert app.run(code) == ["a"]
    assert pending(place, stream, "g") == 1


def test_a_cursor_goes_on_where_it_was_and_stops_at_what_a_handler_rejects(
    app: NodeApp, stream: str, send: Send, tmp_path: Path
) -> None:
    code = """
    const box = new app.Box();
    const stop = new AbortController();
    let failing = given.failing;
    const handler = ({ id }) => { box.put(id); if (failing-- > 0) throw new Error("no"); };
    const cursor = new app.FileCursor(given.file);
    const options = { cursor, signal: stop.signal, onError: () => {}, retry: { first: 10 } };
    const listening = app.own.listen(handler, options);
    await box.until((got) => got.length === given.count);
    stop.abort();
    await listening;
    return box.items;
    """
    file = str(tmp_path / "cursor")
    send("a", 1)
    send("b", 2)

    assert app.run(code, file=file, failing=2, count=4) == ["a", "a", "a", "b"]
    send("c", 3)
    assert app.run(code, file=file, failing=0, count=1) == ["c"]


def test_a_listener_without_group_and_cursor_begins_with_the_next_message(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    send("old", 1)
    app.run(
        "app.box = new app.Box(); app.stop = new AbortController();"
        "app.listening = app.own.listen(app.box.put, { signal: app.stop.signal });"
    )
    eventually(lambda: any(one["cmd"] == "xread" for one in clients(place.redis)))
    send("new", 2)

    got = app.run(
        "await app.box.until((got) => got[0]); app.stop.abort(); await app.listening; return app.box.items;"
    )

    assert [message["id"] for message in got] == ["new"]


TRIMMED = """
const box = new app.Box();
const stop = new AbortController();
const onError = ({ code }) => box.put(code);
const options = { signal: stop.signal, onError, ...given.options };
if (given.cursor) options.cursor = new app.MemoryCursor(given.cursor);
if (given.pending) options.pending = async () => given.pending;
const listening = app.own.listen(({ type, id }) => box.put([type, id]), options);
await box.until((got) => got.length === given.count);
stop.abort();
await listening;
return box.items;
"""


@pytest.mark.parametrize("way", ["group", "cursor"])
def test_messages_that_were_trimmed_before_they_were_read_are_asked_for(
    app: NodeApp, place: Workplace, stream: str, send: Send, way: str
) -> None:
    lost = str(uuid4())
    read = send("a", 1)
    options = {"group": "g"} if way == "group" else {}
    if way == "group":
        assert app.run(TRIMMED, options=options, count=1) == [["upload.ready", "a"]]
    send(lost, 2)
    place.redis.xtrim(stream, maxlen=0, approximate=False)
    send("b", 3)
    cursor = None if way == "group" else read

    got = app.run(TRIMMED, options=options, cursor=cursor, pending=[lost], count=1)

    assert got == [["upload.ready", "b"]]
    [(_, asked)] = entries(place, f"questions:{stream}")
    assert json.loads(asked[b"event"]) == {"status": lost}
    send(lost, 2, "status", state="ready", entry="1-1")
    cursor = None if way == "group" else entries(place, stream)[-2][0].decode()
    assert app.run(TRIMMED, options=options, cursor=cursor, count=1) == [["upload.ready", lost]]


def test_an_app_that_does_not_say_what_is_pending_is_told_that_messages_were_trimmed(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    send("a", 1)
    app.run(TRIMMED, options={"group": "g"}, count=1)
    send("b", 2)
    place.redis.xtrim(stream, maxlen=0, approximate=False)

    assert app.run(TRIMMED, options={"group": "g"}, count=1) == ["trimmed"]


def test_what_was_trimmed_before_it_was_acknowledged_is_asked_for(
    app: NodeApp, place: Workplace, stream: str, send: Send
) -> None:
    lost = str(uuid4())
    send(lost, 1)
    place.redis.xgroup_create(stream, "g", id="0")
    place.redis.xreadgroup("g", "web-1", {stream: ">"})
    send("b", 2)
    place.redis.xreadgroup("g", "web-2", {stream: ">"})
    send("c", 3)
    place.redis.xdel(stream, *[entry for entry, _ in entries(place, stream)[:2]])

    options = {"group": "g", "consumer": "web-1", "claimAfter": 1}
    assert app.run(TRIMMED, options=options, pending=[lost], count=1) == [["upload.ready", "c"]]

    assert len(entries(place, f"questions:{stream}")) == 1
    assert pending(place, stream, "g") == 0


LISTEN = """
app.box = new app.Box();
app.stop = new AbortController();
const options = { group: "restarts", onError: () => {}, pending: () => given.pending };
app.listening = app.media.listen(app.box.put, { ...options, signal: app.stop.signal });
"""
OUTCOME = """
const id = given.id ?? await app.media.announce(given.source);
return await app.box.until((got) => got.find((one) => one.id === id && one.state !== "processing"));
"""
STOP = "app.stop.abort(); await app.listening;"


def test_an_app_goes_on_after_a_redis_that_was_killed_and_after_one_that_has_lost_all(
    app: NodeApp, place: Workplace, redis_that_stops: OwnRedis
) -> None:
    sources = [place.put(f"uploads/node/{name}.jpg", pictures.small(n)) for n, name in enumerate("abc", 10)]
    app.run(LISTEN, pending=[])
    assert app.run(OUTCOME, source=sources[0])["type"] == "upload.ready"

    redis_that_stops.kill()
    redis_that_stops.start()
    assert app.run(OUTCOME, source=sources[1])["type"] == "upload.ready"

    redis_that_stops.kill()
    shutil.rmtree(redis_that_stops.folder / "appendonlydir", ignore_errors=True)
    redis_that_stops.start()
    assert app.run(OUTCOME, source=sources[2])["type"] == "upload.ready"
    app.run(STOP)


def test_verbs_wait_for_a_redis_that_comes_back(
    app: NodeApp, place: Workplace, redis_that_stops: OwnRedis
) -> None:
    sources = [place.put(f"uploads/node/waits-{n}.jpg", pictures.small(n)) for n in (70, 71)]
    ready = app.run(ANNOUNCE, source=sources[0], group="first")
    code = """
    app.patient = new app.MediaClient({ redis: given.url, timeout: 30_000 });
    await app.patient.limits(); // it is connected
    """
    app.run(code, url=place.redis_url)
    redis_that_stops.kill()
    code = """
    const status = app.patient.status(given.id, { timeout: 30_000 });
    app.verbs = Promise.all([app.patient.announce(given.source), app.patient.limits(), status]);
    """
    app.run(code, id=ready["id"], source=sources[1])
    redis_that_stops.start()

    _, limits, status = app.run("return app.verbs;")

    assert (limits["max_bytes"], status["state"]) == (10_485_760, "ready")
    place.await_end_of(sources[1])
    app.run("await app.patient.close();")


def test_nothing_is_sent_to_another_database_than_the_one_that_is_named(
    app: NodeApp, place: Workplace
) -> None:
    code = """
    const media = new app.MediaClient({ redis: given.url, stream: "of-database-99" });
    const id = app.uploadId("uploads/a.jpg");
    const verbs = [media.announce("uploads/a.jpg"), media.limits(), media.status(id), media.listen(() => {})];
    const told = await Promise.all(verbs.map((verb) => verb.catch(({ message }) => message)));
    await media.close();
    return told;
    """

    told = app.run(code, url=f"{place.redis_url.rpartition('/')[0]}/99")

    assert told == ["ERR DB index is out of range"] * 4
    assert not place.redis.exists("of-database-99")


def test_verbs_and_listeners_leave_a_redis_that_has_become_a_replica(
    app: NodeApp, place: Workplace, redis_that_stops: OwnRedis, tmp_path: Path
) -> None:
    password = urlsplit(redis_that_stops.url).password
    old = OwnRedis(tmp_path / "old", password)
    code = """
    const net = app.require("node:net");
    let { port } = given;
    const server = net.createServer((socket) => {
      const onward = net.connect(port, "127.0.0.1");
      socket.pipe(onward).pipe(socket);
      for (const one of [socket, onward]) one.on("error", () => {});
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `redis://:${given.password}@127.0.0.1:${server.address().port}`;
    const options = { stream: "failover", events: "failover:events", timeout: 30_000 };
    const media = new app.MediaClient({ redis: url, ...options });
    await media.announce("uploads/before.jpg");
    const box = new app.Box();
    const listening = media.listen(box.put, { group: "g", block: 500, onError: () => {} });
    app.failover = { box, listening, media, server, to: (other) => (port = other) };
    """
    app.run(code, port=old.port, password=password)
    eventually(lambda: any(one["cmd"] == "xreadgroup" for one in clients(old.client)))
    message = json.dumps({"type": "upload.ready", "seq": 1, "id": "a"})
    place.redis.xadd("failover:events", {"event": message})

    app.run("app.failover.to(given.port);", port=redis_that_stops.port)
    old.client.replicaof("127.0.0.1", 1)
    app.run("await app.failover.media.announce('uploads/after.jpg');")
    app.run("await app.failover.box.until((got) => got.length === 1);")

    assert [b"after" in fields[b"event"] for _, fields in entries(place, "failover")] == [True]
    app.run("await app.failover.media.close(); await app.failover.listening; app.failover.server.close();")
    old.close()


def test_an_outbox_sends_what_has_no_answer_also_behind_what_is_no_event(
    app: NodeApp, place: Workplace
) -> None:
    sources = [place.put(f"uploads/node/outbox-{n}.jpg", pictures.small(n)) for n in (20, 21)]
    code = """
    const waiting = new Map(given.sources.map((source) => [app.uploadId(source), source]));
    const box = new app.Box();
    const stop = new AbortController();
    const handler = ({ id, state }) => state === "ready" && waiting.delete(id) && box.put(id);
    const listening = app.media.listen(handler, { group: "outbox", signal: stop.signal });
    const event = (source, at) => (at === 0 ? source : { source, metadata: { at } });
    const bad = [{ source: "elsewhere/a.jpg" }, { delete: "7" }];
    const pending = () => [...bad, ...[...waiting.values()].map(event)];
    const told = new Set();
    const onError = ({ name, message }) => told.add(`${name}: ${message}`);
    const outbox = new app.Outbox(app.media, { pending, every: 50, onError }).start();
    await box.until((got) => got.length === 2);
    await outbox.stop();
    stop.abort();
    await listening;
    return [await outbox.send(), [...told]];
    """

    sent, told = app.run(code, sources=sources)

    assert sent == 0
    assert [error.partition(",")[0] for error in told] == [
        "TypeError: A source is the original's key",
        "TypeError: An upload's id is a UUID",
    ]


def test_without_the_right_or_the_password_listening_rejects_and_says_why(
    app: NodeApp, place: Workplace, redis_that_stops: OwnRedis
) -> None:
    place.redis.acl_setuser(
        "few", enabled=True, passwords=["+few"], keys=["media:*"], commands=["+xadd", "+info", "+xinfo"]
    )
    code = """
    const media = new app.MediaClient({ redis: given.url });
    const told = [];
    const id = app.uploadId("uploads/a.jpg");
    const tries = [media.listen(() => {}, { group: "g" }), media.listen(() => {}), media.status(id)];
    await Promise.all(tries.map((one) => one.catch(({ message }) => told.push(message.split(" ")[0]))));
    await media.close();
    return told;
    """
    at = f"127.0.0.1:{redis_that_stops.port}/0"

    assert app.run(code, url=f"redis://few:few@{at}") == ["NOPERM"] * 3
    assert app.run(code, url=f"redis://few:wrong@{at}") == ["WRONGPASS"] * 3
    assert app.run(code, url=f"redis://{at}") == ["NOAUTH"] * 3


def test_a_worker_tells_how_an_upload_is_and_that_there_is_none(app: NodeApp, place: Workplace) -> None:
    source = place.put("uploads/node/asked.jpg", pictures.small(30))
    ready = app.run(ANNOUNCE, source=source, group="first")
    code = """
    const ids = [given.id, app.uploadId("uploads/node/nothing.jpg"), given.id];
    return Promise.all(ids.map((id) => app.media.status(id, { timeout: 30_000 })));
    """

    known, unknown, again = app.run(code, id=ready["id"])

    assert (known["state"], known["source"], known["seq"]) == ("ready", source, ready["seq"])
    assert (known["variants"], known["srcset"]) == (ready["variants"], ready["srcset"])
    assert unknown is None
    assert again == known


def test_a_question_that_no_worker_answers_ends_in_time(app: NodeApp, stream: str) -> None:
    code = """
    const told = ({ name, code }) => [name, code];
    const stop = AbortSignal.timeout(50);
    return Promise.all([
      app.own.status(given.id, { timeout: 50 }).catch(told),
      app.own.status(given.id, { signal: stop }).catch(({ name }) => name),
    ]);
    """

    assert app.run(code, id=str(uuid4())) == [["MediaTimeout", "timeout"], "TimeoutError"]


@pytest.mark.usefixtures("stream")
def test_the_limits_are_those_that_the_worker_has_published(app: NodeApp, place: Workplace) -> None:
    eventually(lambda: bool(place.redis.exists("media:limits")))

    limits = app.run("return app.media.limits()")

    assert limits["max_bytes"] == 10_485_760
    assert [recipe["name"] for recipe in limits["recipes"]] == ["default"]
    assert app.run("return app.own.limits().catch(({ code }) => code)") == "limits_unknown"


def test_a_picture_takes_the_place_of_another_once_it_is_ready(app: NodeApp, place: Workplace) -> None:
    sources = [place.put(f"uploads/node/place-{n}.jpg", pictures.small(n)) for n in (40, 41)]
    old = app.run(ANNOUNCE, source=sources[0], group="first")
    code = """
    const box = new app.Box();
    const stop = new AbortController();
    const listening = app.media.listen(box.put, { group: "place", signal: stop.signal });
    const id = await app.media.replace(given.old, given.source);
    await box.until((got) => got.find((one) => one.state === "deleted"));
    stop.abort();
    await listening;
    return [id, box.items.filter((one) => one.id === id || one.state === "deleted")];
    """

    new, messages = app.run(code, old=old["id"], source=sources[1])

    ready, deleted = [message for message in messages if message["state"] != "processing"]
    assert (ready["id"], ready["replaces"]) == (new, old["id"])
    assert (deleted["id"], deleted["replacedBy"]) == (old["id"], new)
    assert (place.root / old["variants"][0]["key"]).is_file()


def test_a_worker_tells_again_what_was_trimmed_before_an_app_has_read_it(
    app: NodeApp, place: Workplace
) -> None:
    sources = [place.put(f"uploads/node/trimmed-{n}.jpg", pictures.small(n)) for n in (50, 51)]
    app.run(ANNOUNCE, source=sources[0], group="reads-late")
    lost = app.run("return app.media.announce(given.source)", source=sources[1])
    place.await_end_of(sources[1])
    place.redis.xtrim("media:events", maxlen=0, approximate=False)
    code = """
    const box = new app.Box();
    const stop = new AbortController();
    const options = { group: "reads-late", pending: () => [given.lost, given.nothing] };
    const listening = app.media.listen(box.put, { ...options, signal: stop.signal });
    await box.until((got) => got.length === 2);
    stop.abort();
    await listening;
    return box.items;
    """
    nothing = str(uuid4())

    told = {message["id"]: message for message in app.run(code, lost=lost, nothing=nothing)}

    assert told[lost]["type"] == "upload.ready"
    assert len(told[lost]["variants"]) == 3
    assert told[nothing]["state"] == "unknown"


def test_the_rights_that_the_page_names_are_enough(
    app: NodeApp, place: Workplace, redis_that_stops: OwnRedis
) -> None:
    source = place.put("uploads/node/rights.jpg", pictures.small(60))
    [line] = re.findall(r"^ACL SETUSER my-app (.*)$", (CLIENT / "README.md").read_text("utf-8"), re.MULTILINE)
    redis: Any = place.redis
    redis.execute_command("ACL SETUSER my-app", *line.split())
    code = """
    const media = new app.MediaClient({ redis: given.url });
    const errors = [];
    const box = new app.Box();
    const stop = new AbortController();
    const options = { group: "rights", signal: stop.signal, onError: ({ message }) => errors.push(message) };
    const listening = media.listen(box.put, options);
    const id = await media.announce(given.source);
    await box.until((got) => got.find((one) => one.id === id && one.state === "ready"));
    stop.abort();
    await listening;
    const { state } = await media.status(id);
    await media.limits();
    await media.close();
    return [state, errors];
    """
    url = f"redis://my-app:PASSWORD@127.0.0.1:{redis_that_stops.port}/0"

    assert app.run(code, url=url, source=source) == ["ready", []]


@pytest.mark.campaign
def test_an_app_goes_on_after_a_redis_that_answers_nothing_for_a_while(app: NodeApp, tmp_path: Path) -> None:
    redis = OwnRedis(tmp_path / "redis")
    code = """
    const media = new app.MediaClient({ redis: given.url });
    const stop = new AbortController();
    const told = new app.Box();
    const box = new app.Box();
    const options = { group: "g", block: 500, onError: told.put, signal: stop.signal };
    const listening = media.listen(box.put, options);
    Object.assign(app, { silent: { media, stop, told, box, listening } });
    """
    app.run(code, url=redis.url)
    redis.freeze()
    app.run("await app.silent.told.until((errors) => errors.length === 2);")
    redis.thaw()
    redis.client.xadd("media:events", {"event": json.dumps({"type": "upload.ready", "seq": 1, "id": "a"})})
    app.run("await app.silent.box.until((got) => got.length === 1);")
    redis.freeze()

    code = "const began = Date.now(); app.silent.stop.abort(); await app.silent.listening;"
    ms = app.run(f"{code} return Date.now() - began;")

    assert ms < 5_000
    app.run("await app.silent.media.close();")
    redis.close()
