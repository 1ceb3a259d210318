"""The client for Node where there is no worker: its fake, what is packed, and its types."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import program, typescript
from tests.support.node_app import CLIENT, NEWEST_IOREDIS, PACKAGE, NodeApp, install, packed_files


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeApp]:
    app = NodeApp(install(tmp_path_factory.mktemp("app")))
    yield app
    app.kill()


def test_with_the_fake_each_picture_is_ready_and_those_that_a_test_names_fail(
    app: NodeApp, tmp_path: Path
) -> None:
    code = """
    const media = new app.FakeMedia({ root: given.root });
    const got = [];
    const listening = media.listen((message) => got.push(message));
    media.fail("uploads/bad.jpg", "source_too_large");
    const id = await media.announce("uploads/good.jpg", { metadata: { post: 7 } });
    await media.announce("uploads/bad.jpg");
    const status = await media.status(id);
    const before = got.length;
    await media.deliver();
    await media.close();
    await listening;
    return { id, before, got, status, sent: media.sent };
    """

    told = app.run(code, root=str(tmp_path))

    good, bad = told["got"]
    assert told["before"] == 0
    assert (good["type"], good["id"], good["metadata"]) == ("upload.ready", told["id"], {"post": 7})
    assert (bad["type"], bad["error"]["code"]) == ("upload.failed", "source_too_large")
    assert told["status"]["state"] == "ready"
    assert [event["source"] for event in told["sent"]] == ["uploads/good.jpg", "uploads/bad.jpg"]
    sizes = {variant["name"]: (tmp_path / variant["key"]).stat().st_size for variant in good["variants"]}
    assert sizes == {variant["name"]: variant["bytes"] for variant in good["variants"]}


def test_the_fake_replaces_and_deletes_as_a_worker_does_and_repeats_what_is_rejected(
    app: NodeApp,
) -> None:
    code = """
    const media = new app.FakeMedia();
    const got = [];
    let failing = true;
    media.listen(({ type, id, replaces, replacedBy }) => {
      if (failing) throw new Error("not yet");
      got.push([type, id, replaces, replacedBy]);
    });
    const old = await media.announce("uploads/old.jpg");
    const rejected = await media.deliver().catch(({ message }) => message);
    failing = false;
    media.fail("uploads/broken.jpg");
    await media.replace(old, "uploads/broken.jpg");
    const kept = (await media.status(old)).state;
    const id = await media.replace(old, "uploads/new.jpg");
    await media.delete(id);
    await media.deliver();
    return { old, id, rejected, kept, got };
    """

    told = app.run(code)

    old, new = told["old"], told["id"]
    broken = app.run("return app.uploadId('uploads/broken.jpg')")
    assert (told["rejected"], told["kept"]) == ("not yet", "ready")
    assert told["got"] == [
        ["upload.ready", old, None, None],
        ["upload.failed", broken, None, None],
        ["upload.ready", new, old, None],
        ["upload.deleted", old, None, new],
        ["upload.deleted", new, None, None],
    ]


def test_the_fake_tells_whose_upload_was_deleted_and_what_became_of_the_original(app: NodeApp) -> None:
    code = """
    const media = new app.FakeMedia();
    const got = [];
    media.listen(({ type, metadata, original }) => {
      if (type === "upload.deleted") got.push([metadata, original]);
    });
    const announce = (name) => media.announce(`uploads/${name}.jpg`, { metadata: { post: name } });
    await media.delete(await announce("kept"));
    await media.delete(await announce("trashed"), { original: true });
    await media.replace(await announce("old"), "uploads/new.jpg");
    await media.delete(app.uploadId("uploads/unknown.jpg"), { original: true });
    await media.deliver();
    return [got, (await media.status(app.uploadId("uploads/kept.jpg"))).metadata];
    """

    told, kept = app.run(code)

    assert told == [
        [{"post": "kept"}, "kept"],
        [{"post": "trashed"}, "trashed"],
        [{"post": "old"}, "kept"],
        [{}, "missing"],
    ]
    assert kept == {}


def test_what_a_worker_would_not_understand_is_refused_where_it_is_sent(app: NodeApp) -> None:
    code = """
    const media = new app.FakeMedia();
    const tries = [
      () => media.announce("photos/a.jpg"),
      () => media.announce("uploads/a.jpg", { id: "7" }),
      () => media.delete("7"),
      async () => new app.MediaClient({ redis: "http://127.0.0.1" }),
      async () => new app.MediaClient({ redis: {} }),
      async () => new app.MediaClient({ redis: "redis://127.0.0.1/media" }),
      () => new app.MediaClient().listen("no function"),
      () => new app.MediaClient().listen(() => {}, { group: "" }),
      () => new app.MediaClient().listen(() => {}, { group: "g", block: 0 }),
      () => new app.MediaClient().listen(() => {}, { group: "g", claimAfter: NaN }),
      async () => new app.HttpMediaClient("localhost:8000"),
      async () => new app.HttpMediaClient("http://localhost", "no\\nkey"),
      () => new app.HttpMediaClient("http://localhost").upload(app.require("node:stream").Readable.from(["a"])),
      () => new app.HttpMediaClient("http://localhost").upload(),
    ];
    return Promise.all(tries.map((one) => one().then(() => null, ({ name }) => name)));
    """

    assert app.run(code) == ["TypeError"] * 14


# What an error of a log may not have: a key, a password, or a part of either.
SECRETS = [
    'new app.HttpMediaClient("http://localhost", "mw_ts\\ncret")',
    'new app.HttpMediaClient("http://localhost", "mw_tscret\\n")',
    'new app.HttpMediaClient("http://localhost", "mw_tscret✓")',
    'new app.MediaClient({ redis: "redis://app:ts/cret@127.0.0.1:6379/0" })',
    'new app.MediaClient({ redis: "rediss://app:/tscret@127.0.0.1" })',
]


@pytest.mark.parametrize("opening", SECRETS)
def test_a_secret_of_the_wrong_form_is_refused_and_not_told(app: NodeApp, opening: str) -> None:
    code = f"try {{ {opening}; }} catch (error) {{ return [error.name, error.stack.split('    at')[0]]; }}"

    name, message = app.run(code)

    assert name == "TypeError"
    assert not re.search("mw_|ts/|tsc|cret", message), message


def test_what_was_deleted_by_a_try_without_an_answer_is_deleted(app: NodeApp) -> None:
    code = """
    const asked = [];
    const server = app.require("node:http").createServer((request, response) => {
      asked.push(request.method);
      if (given.loses && asked.length === 1) return request.socket.destroy();
      response.writeHead(404, { "Content-Type": "application/problem+json" });
      response.end('{"code": "not_found", "detail": "There is no such upload."}');
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const http = new app.HttpMediaClient(`http://127.0.0.1:${server.address().port}`);
    const told = await http.delete(app.uploadId("uploads/a.jpg")).then(() => "deleted", ({ code }) => code);
    server.closeAllConnections();
    server.close();
    return [told, asked];
    """

    assert app.run(code, loses=True) == ["deleted", ["DELETE", "DELETE"]]
    assert app.run(code, loses=False) == ["not_found", ["DELETE"]]


def test_the_fake_gives_what_comes_out_of_a_stream_and_answers_questions(app: NodeApp) -> None:
    code = """
    const media = new app.FakeMedia();
    const got = [];
    media.listen((message) => { message.metadata.seen = true; });
    media.listen((message) => got.push(message));
    const metadata = { when: new Date(0), nothing: undefined };
    const id = await media.announce("uploads/a.jpg", { metadata });
    const refusal = ({ name }) => name;
    const refused = await media.announce("uploads/b.jpg", { metadata: { big: 7n } }).catch(refusal);
    await media.send({ status: id });
    await media.send({ status: app.uploadId("uploads/unknown.jpg") });
    await media.deliver();
    const noHandler = await media.listen("no function").catch(refusal);
    const told = got.map(({ type, state, metadata }) => [type, state, metadata]);
    return [told, refused, noHandler, media.sent.length];
    """

    got, refused, no_handler, sent = app.run(code)

    when = {"when": "1970-01-01T00:00:00.000Z"}
    ready = ["upload.ready", "ready", when]
    assert got == [ready, ready, ["upload.status", "unknown", {}]]
    assert (refused, no_handler, sent) == ("TypeError", "TypeError", 3)


REFUSED = [
    '"uploads//a.jpg"',
    '"uploads/../a.jpg"',
    '"uploads/"',
    '"uploads/a\\nb.jpg"',
    '"uploads/\\ud83d.jpg"',
    '"uploads/" + "x".repeat(256)',
    '"uploads/" + "é".repeat(128)',
    '"uploads" + "/xxxxxxxxx".repeat(102)',
    '"uploads/a.jpg", { metadata: [1] }',
    '"uploads/a.jpg", { metadata: "a" }',
    '"uploads/a.jpg", { metadata: { name: "cat 🐈".slice(0, 5) } }',
    '"uploads/a.jpg", { metadata: { "\\udc00": 1 } }',
    '"uploads/a.jpg", { metadata: { name: "é".repeat(2050) } }',
    '"uploads/a.jpg", { owner: "" }',
    '"uploads/a.jpg", { owner: 42 }',
    '"uploads/a.jpg", { owner: "o".repeat(65) }',
    '"uploads/a.jpg", { owner: "a\\tb" }',
    '"uploads/a.jpg", { recipe: 7 }',
]
TAKEN = [
    '"uploads/Käse 🐈.jpg"',
    '"uploads" + "/xxxxxxxxx".repeat(101)',
    '"uploads/a.jpg", { metadata: { path: "C:\\\\udc00", name: "cat 🐈", none: undefined } }',
    '"uploads/a.jpg", { metadata: { name: "é".repeat(2040) }, owner: "🐈".repeat(64), recipe: "default" }',
]


def test_what_a_worker_refuses_for_its_form_is_refused_where_it_is_sent(app: NodeApp) -> None:
    tries = ",".join(f"() => media.announce({words})" for words in [*REFUSED, *TAKEN])
    code = f"""
    const media = new app.FakeMedia();
    return Promise.all([{tries}].map((one) => one().then(() => null, ({{ name }}) => name)));
    """

    told = dict(zip([*REFUSED, *TAKEN], app.run(code), strict=True))

    assert told == {**dict.fromkeys(REFUSED, "TypeError"), **dict.fromkeys(TAKEN)}


def test_an_outbox_sends_each_event_less_and_less_often(app: NodeApp) -> None:
    code = """
    const media = new app.FakeMedia();
    const rounds = new app.Box();
    const pending = () => (rounds.put(1), ["uploads/waits.jpg"]);
    const outbox = new app.Outbox(media, { pending, every: 10 }).start();
    await rounds.until((got) => got.length > 20);
    await outbox.stop();
    return [media.sent.length, rounds.items.length];
    """

    sent, rounds = app.run(code)

    assert 2 <= sent <= rounds * 2 / 3


def test_the_app_that_the_types_describe_is_the_one_that_there_is(app: NodeApp) -> None:
    types = (CLIENT / "index.d.ts").read_text("utf-8")
    names = re.findall(r"^export (?:class|function) (\w+)", types, re.MULTILINE)
    classes = re.findall(r"^export class (\w+).*?\{\n(.*?)^\}", types, re.MULTILINE | re.DOTALL)
    described = {
        name: sorted(set(re.findall(r"^  (\w+)\(", body, re.MULTILINE)) | {"constructor"})
        for name, body in classes
    }
    code = """
    const isClass = ([name, one]) => /^[A-Z]/.test(name);
    const all = Object.entries(app.require("media-worker-client"));
    const verbs = ([name, one]) => [name, Object.getOwnPropertyNames(one.prototype).sort()];
    return [all.map(([name]) => name), Object.fromEntries(all.filter(isClass).map(verbs))];
    """

    there, verbs = app.run(code)

    assert sorted(names) == sorted(there)
    assert described == verbs


def test_an_app_whose_way_of_telling_errors_fails_lives_on(app: NodeApp) -> None:
    code = """
    const box = new app.Box();
    const fails = (throws) => (error) => {
      box.put(error.message);
      if (throws) throw new Error("it cannot be told");
      return Promise.reject(new Error("it cannot be told"));
    };
    const pending = () => { throw new Error("no rows"); };
    const outboxes = [true, false].map((throws) =>
      new app.Outbox(new app.FakeMedia(), { pending, every: 10, onError: fails(throws) }).start());
    await box.until((got) => got.length >= 6);
    await Promise.all(outboxes.map((outbox) => outbox.stop()));
    return new Set(box.items).size;
    """

    assert app.run(code) == 1


VERBS_OF_A_REDIS_THAT_IS_AWAY = """
const server = app.require("node:net").createServer((socket) => socket.on("error", () => {}));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const { port } = server.address();
if (!given.answers) await new Promise((resolve) => server.close(resolve));
const url = `redis://127.0.0.1:${port}`;
const options = { maxRetriesPerRequest: null, keyPrefix: given.prefix };
const Redis = app.require("ioredis");
const shared = given.kind === "redis" ? new Redis(url, options).on("error", () => {}) : null;
const media = new app.MediaClient({ redis: shared ?? url, timeout: 200 });
const id = app.uploadId("uploads/a.jpg");
const verbs = {
  announce: () => media.announce("uploads/a.jpg"),
  replace: () => media.replace(id, "uploads/b.jpg"),
  delete: () => media.delete(id),
  limits: () => media.limits(),
  status: () => media.status(id, { timeout: 200 }),
};
const told = [];
for (const [name, verb] of Object.entries(verbs)) {
  const { name: kind, code, message } = await verb().then(() => ({ name: "resolved" }), (error) => error);
  const saysWhy = given.answers || given.shares || message.includes("ECONNREFUSED");
  told.push([name, kind, code, /^(Redis|No worker) has .* within 200 ms/.test(message) && saysWhy]);
}
await media.close();
shared?.disconnect();
server.close();
return told;
"""


@pytest.mark.parametrize("answers", [True, False], ids=["silent", "nobody"])
@pytest.mark.parametrize(("kind", "prefix"), [("url", ""), ("redis", ""), ("redis", "shop:")])
def test_a_verb_ends_in_time_while_redis_is_away(app: NodeApp, answers: bool, kind: str, prefix: str) -> None:
    verbs = ["announce", "replace", "delete", "limits", "status"]

    shares = kind == "redis" and not prefix
    given = {"answers": answers, "kind": kind, "prefix": prefix, "shares": shares}
    told = app.run(VERBS_OF_A_REDIS_THAT_IS_AWAY, **given)

    assert told == [[verb, "MediaTimeout", "timeout", True] for verb in verbs]


# A server that answers as Redis does, where `reply` says nothing else; `names` are of the commands it got.
SERVER_OF_REDIS = """
const names = new app.Box();
const sockets = [];
const open = (port, reply = () => undefined) => new Promise((resolve) => {
  const server = app.require("node:net").createServer((socket) => {
    sockets.push(socket.on("error", () => {}));
    socket.on("data", (bytes) => {
      for (const [, name] of bytes.toString().matchAll(/\\*\\d+\\r\\n\\$\\d+\\r\\n(\\w+)/g)) {
        names.put(name.toLowerCase());
        const usual = { info: "$0\\r\\n\\r\\n", get: "$2\\r\\n{}\\r\\n", xadd: "$3\\r\\n1-0\\r\\n" };
        const words = reply(names.items.at(-1), socket) ?? usual[names.items.at(-1)] ?? "+OK\\r\\n";
        if (words) socket.write(words);
      }
    });
  }).listen(port, "127.0.0.1", () => resolve(server));
});
"""


@pytest.mark.parametrize("database", ["0", "3"])
def test_what_was_not_taken_in_time_is_not_sent_once_redis_is_back(app: NodeApp, database: str) -> None:
    code = f"""{SERVER_OF_REDIS}
    const nobody = await open(0);
    const {{ port }} = nobody.address();
    await new Promise((resolve) => nobody.close(resolve));
    const redis = `redis://127.0.0.1:${{port}}/${{given.database}}`;
    const media = new app.MediaClient({{ redis, timeout: 1000 }});
    const told = await media.announce("uploads/a.jpg").catch(({{ name }}) => name);
    const server = await open(port);
    await names.until((got) => got.includes("info"));
    await media.limits();
    const got = names.items.filter((name) => ["get", "xadd"].includes(name));
    await media.close();
    server.close();
    return [told, got];
    """

    assert app.run(code, database=database) == ["MediaTimeout", ["get"]]


def test_a_verb_that_comes_to_its_end_disturbs_no_other(app: NodeApp) -> None:
    code = f"""{SERVER_OF_REDIS}
    let holds = true;
    const server = await open(0, (name, socket) => {{
      if (name === "xadd" && sockets.length === 1) socket.destroy();
      return holds && ["get", "xadd"].includes(name) ? "" : undefined;
    }});
    const redis = `redis://127.0.0.1:${{server.address().port}}`;
    const media = new app.MediaClient({{ redis, timeout: 1000 }});
    const announcing = media.announce("uploads/a.jpg").catch(({{ name }}) => name);
    await names.until((got) => got.filter((name) => name === "xadd").length === 2);
    const asking = media.limits();
    const told = await announcing;
    sockets.at(-1).write("$3\\r\\n1-0\\r\\n$2\\r\\n{{}}\\r\\n");
    await asking;
    holds = false;
    await media.limits();
    await media.close();
    server.close();
    return [told, sockets.length];
    """

    assert app.run(code) == ["MediaTimeout", 2]


@pytest.mark.parametrize("options", [{"group": "g"}, {}], ids=["group", "alone"])
def test_an_outage_is_told_once_and_not_at_each_try(app: NodeApp, options: dict[str, str]) -> None:
    code = """
    const [tries, told, stop] = [new app.Box(), [], new AbortController()];
    const server = app.require("node:net").createServer((socket) => (tries.put(1), socket.destroy()));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const media = new app.MediaClient({ redis: `redis://127.0.0.1:${server.address().port}` });
    const onError = ({ message }) => told.push(message);
    const listening = media.listen(() => {}, { ...given.options, onError, signal: stop.signal });
    await tries.until((got) => got.length === 5);
    stop.abort();
    await listening;
    server.close();
    return told;
    """

    assert app.run(code, options=options) == ["Redis cannot be reached, or has closed the connection."]


def test_the_package_has_what_it_needs_and_brings_nothing(tmp_path: Path) -> None:
    words = [program("npm"), "pack", "--dry-run", "--json", "--ignore-scripts"]
    packed = subprocess.run(words, cwd=CLIENT, capture_output=True, text=True, check=True).stdout
    [told] = json.loads(packed)

    assert sorted(file["path"] for file in told["files"]) == packed_files()
    assert told["size"] < 100_000
    assert "dependencies" not in PACKAGE


CONSUMER = """
import { Redis } from "ioredis";
import {
  FakeMedia, FileCursor, HttpMediaClient, MediaClient, MediaError, Outbox, uploadId,
  type Message, type Upload,
} from "media-worker-client";

const media = new MediaClient({ redis: new Redis("redis://127.0.0.1") });
const id: string = await media.announce("uploads/a.jpg", { metadata: { post: 7 }, owner: "42" });
const upload: Upload | null = await media.status(id, { timeout: 1000 });
upload?.variants.map(({ key, width }) => `${key} ${width}w`);
const handler = async (message: Message) => {
  if (message.type === "upload.failed") console.log(message.error?.code, message.entryId);
};
const pending = async () => [uploadId("uploads/a.jpg")];
media.listen(handler, { group: "app", pending, signal: AbortSignal.timeout(1) });
media.listen(handler, { cursor: new FileCursor("cursor") });
media.listen(handler, { cursor: { load: () => null, save: (entryId: string) => entryId.length } });
new Outbox(new FakeMedia(), { pending: () => [{ source: "uploads/a.jpg" }, "uploads/b.jpg"] }).start();
const http = new HttpMediaClient("http://127.0.0.1", "mw_key");
for await (const message of http.events({ since: 1 })) if (message.type === "gap") console.log(message.from);
const told = (error: unknown) => error instanceof MediaError && error.status;
await http.upload(new Uint8Array(1), { wait: 20 }).catch(told);
// @ts-expect-error: an id is a text
await media.delete(7);
// @ts-expect-error: there is no such option
await media.announce("uploads/a.jpg", { recipes: "default" });
"""
COMMON = """
import media = require("media-worker-client");
const client: media.MediaClient = new media.MediaClient();
client.limits().then(({ max_bytes }) => max_bytes.toFixed());
"""


@pytest.mark.campaign
@pytest.mark.parametrize("ioredis", ["5.11.1", NEWEST_IOREDIS])
def test_the_types_are_those_of_an_app_in_typescript(tmp_path: Path, ioredis: str) -> None:
    folder = install(tmp_path, ioredis, typescript() / "typescript", typescript() / "@types")
    (folder / "consumer.mts").write_text(CONSUMER)
    (folder / "common.cts").write_text(COMMON)
    options = ["--noEmit", "--strict", "--module", "node16", "--target", "es2022", "--types", "node"]
    words = [
        program("node"),
        str(typescript() / "typescript/bin/tsc"),
        *options,
        "consumer.mts",
        "common.cts",
    ]

    checked = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)

    assert (checked.stdout, checked.returncode) == ("", 0)


@pytest.mark.campaign
def test_npm_installs_it_with_ioredis_and_nothing_of_the_worker(tmp_path: Path) -> None:
    shutil.copytree(CLIENT, tmp_path / "clients/node")
    app = tmp_path / "examples/express"
    shutil.copytree(CLIENT.parents[1] / "examples/express", app)
    words = [program("npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(words, cwd=app, check=True, capture_output=True)
    code = "new (require('media-worker-client').MediaClient)().close().then(() => console.log('closed'))"

    told = subprocess.run([program("node"), "-e", code], cwd=app, capture_output=True, text=True, check=True)

    assert told.stdout == "closed\n"
    installed = app / "node_modules/media-worker-client"
    assert not installed.is_symlink()
    assert sorted(str(file.relative_to(installed)) for file in installed.rglob("*.*") if file.is_file()) == [
        name for name in packed_files() if "." in name
    ]
