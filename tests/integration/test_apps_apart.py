"""Apps with streams of their own: each speaks of its own uploads alone, and Redis keeps it from the rest."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import redis
import redis.asyncio as redis_client
from redis.exceptions import NoPermissionError

from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import State
from tests.support.catalogs import ON_BOTH
from tests.support.intakes import intake_on
from tests.support.polling import until
from tests.support.redis_urls import as_user
from worker.domains import parse_domains
from worker.failures import choose, retry
from worker.queue import Queue, QueueUnavailable, connect, job_queue_of
from worker.relay import DEEP, Relay
from worker.stores import Stores
from worker.upload_ids import default_id

STREAM, EVENTS = "media:uploads", "media:events"
SHOP, BLOG = f"{STREAM}:shop", f"{STREAM}:blog"
DOMAINS = parse_domains(f"{SHOP}=uploads/shop/,{BLOG}=uploads/blog/", STREAM, EVENTS)
LARGEST = 256 * 1024
MINE, THEIRS = "uploads/shop/mine.jpg", "uploads/blog/theirs.jpg"
LEASE_S = 5.0
_DOCS = (Path(__file__).parents[2] / "docs/redis.md").read_text()
[_WORKER] = re.findall("^(ACL SETUSER worker on .*)$", _DOCS, re.MULTILINE)
APP, READER, MORE = re.findall("^ACL SETUSER .*$", _DOCS.partition("<!-- apps -->")[2], re.MULTILINE)


@pytest.fixture(scope="module")
def users(server: RedisServer) -> Mapping[str, str]:
    """The URLs of the users in docs/redis.md, each with the password that stands there."""
    admin: Any = redis.Redis.from_url(server.url)
    of_apps = [rule.replace("shop", app) for rule in (APP, READER) for app in ("shop", "blog")]
    rules = [_WORKER, MORE, *of_apps]
    for rule in rules:
        admin.execute_command(*rule.split())
    admin.close()
    return {
        user: as_user(server.url, user, password)
        for user, password in re.findall(r"SETUSER (\S+) on >(\S+)", "\n".join(rules))
    }


class Site:
    """What apps send and hear, and a worker's intake and relay with no right but those of the docs."""

    def __init__(self, queue: Queue, catalog: Catalog, users: Mapping[str, str]) -> None:
        self.queue, self.catalog, self.users = queue, catalog, users
        self.intake = intake_on(queue, catalog)
        self.stopping = asyncio.Event()
        self.relay = relay_on(queue, self.stopping)

    async def send(self, app: str, event: object) -> str:
        """XADD as the app on its own stream."""
        async with redis_client.Redis.from_url(self.users[app]) as client:
            body = event if isinstance(event, bytes) else orjson.dumps(event)
            return str(await client.xadd(f"{STREAM}:{app}", {"event": body}), "ascii")

    async def take(self) -> None:
        """Move, record, and send all there is."""
        await self.relay.drain()
        await self.intake.drain_all()
        await self.intake._publisher.flush()

    async def heard(self, app: str) -> list[Any]:
        """What the app reads on its stream of messages."""
        async with redis_client.Redis.from_url(self.users[f"{app}-reader"]) as client:
            found: Any = await client.xread({f"{EVENTS}:{app}": "0"})
        return [orjson.loads(fields[b"event"]) for _, entries in found for _, fields in entries]

    async def upload(self, source: str, given: UUID | None = None) -> Any:
        return await self.catalog.reports.find(given or default_id(source))


def relay_on(queue: Queue, stopping: asyncio.Event | None = None) -> Relay:
    return Relay(queue, batch_size=10, lease_s=LEASE_S, stopping=stopping or asyncio.Event())


def queue_of(client: Any, consumer: str = "me") -> Queue:
    return Queue(client, STREAM, consumer, 1000, EVENTS, domains=DOMAINS)


@pytest.fixture
async def queue(server: RedisServer, users: Mapping[str, str]) -> AsyncIterator[Queue]:
    client = connect(users["worker"], job_queue_of(STREAM), largest_reply=LARGEST)
    async with redis_client.Redis.from_url(server.url) as admin:
        await admin.flushdb()
    yield queue_of(client)
    await client.aclose(close_connection_pool=True)


@pytest.fixture
async def site(queue: Queue, catalog: Catalog, users: Mapping[str, str]) -> Site:
    found = Site(queue, catalog, users)
    await found.intake.join()
    return found


@pytest.fixture
async def parted(queue: Queue, catalog_url: str, users: Mapping[str, str]) -> AsyncIterator[Site]:
    """A site whose catalog knows whose the sources are, too."""
    async with open_catalog(catalog_url, domains=DOMAINS.all) as catalog:
        found = Site(queue, catalog, users)
        await found.intake.join()
        yield found


def refused(message: Mapping[str, Any]) -> tuple[Any, ...]:
    return message["type"], message["error"]["code"], message["entry"], message["source"], message["id"]


# -- what an app may do


async def test_an_app_hears_of_its_own_uploads_and_of_no_others(site: Site) -> None:
    await site.send("shop", {"source": MINE})
    await site.send("shop", {"delete": str(uuid4())})
    await site.send("blog", {"delete": str(uuid4())})
    await site.take()

    assert (await site.upload(MINE)).state is State.QUEUED
    assert [one["type"] for one in await site.heard("shop")] == ["upload.deleted"]
    assert len(await site.heard("blog")) == 1
    assert len(await site.queue.messages.after("0", 1)) == 2  # the stream of all messages has both


async def test_redis_refuses_an_app_every_other_stream(users: Mapping[str, str], site: Site) -> None:
    tried: dict[str, list[tuple[str, ...]]] = {
        "shop": [("XADD", BLOG, "*", "event", "{}"), ("XADD", STREAM, "*", "event", "{}")],
        "shop-reader": [("XREAD", "STREAMS", f"{EVENTS}:blog", "0"), ("XREAD", "STREAMS", EVENTS, "0")],
    }
    for user, calls in tried.items():
        async with redis_client.Redis.from_url(users[user]) as client:
            for call in calls:
                with pytest.raises(NoPermissionError):
                    await client.execute_command(*call)
    assert await site.queue.depth() == 0


async def test_a_worker_with_the_rights_of_the_docs_may_do_all_that_it_does(site: Site) -> None:
    assert await site.queue.server.refusal() is None


async def test_a_worker_without_rights_on_an_apps_streams_is_told_which(
    site: Site, server: RedisServer
) -> None:
    async with redis_client.Redis.from_url(server.url) as admin:
        await admin.execute_command(*_WORKER.replace(" on ", " resetkeys on ").split())
        found = await site.queue.server.refusal()
        await admin.execute_command(*MORE.split())

    assert found is not None
    assert "media:events:shop" in f"{found.what} {found.remedy}"


# -- what it may not: the rows of the finding


async def test_an_app_cannot_take_the_id_that_anothers_source_gives(site: Site) -> None:
    squatted = str(default_id(THEIRS))
    entry = await site.send("shop", {"source": MINE, "id": squatted})
    await site.send("blog", {"source": THEIRS})
    await site.take()

    assert (await site.upload(THEIRS)).source == THEIRS
    [answer] = await site.heard("shop")
    assert refused(answer) == ("upload.failed", "invalid_event", entry, MINE, squatted)
    assert await site.heard("blog") == []


@ON_BOTH
async def test_an_app_that_was_robbed_of_its_id_by_one_that_may_hears_of_it(site: Site) -> None:
    await site.queue.stream.add({"source": "uploads/x.jpg", "id": str(default_id(THEIRS))})
    await site.take()
    entry = await site.send("blog", {"source": THEIRS, "metadata": {"post": 1}})
    await site.take()

    [answer] = await site.heard("blog")
    assert refused(answer) == ("upload.failed", "invalid_event", entry, THEIRS, str(default_id(THEIRS)))
    assert (await site.upload(THEIRS)).state is State.QUEUED  # the other's, as it was


async def test_an_app_cannot_take_an_id_that_another_has_chosen(site: Site) -> None:
    given = uuid4()
    await site.send("blog", {"source": THEIRS, "id": str(given)})
    await site.take()
    entry = await site.send("shop", {"source": MINE, "id": str(given)})
    await site.take()

    assert (await site.upload("", given)).source == THEIRS
    assert [one["entry"] for one in await site.heard("shop")] == [entry]


async def test_an_app_cannot_replace_the_metadata_of_anothers_upload(site: Site) -> None:
    await site.send("blog", {"source": THEIRS, "metadata": {"owner": "blog"}})
    await site.take()
    await site.send("shop", {"source": THEIRS, "metadata": {"owner": "evil"}})
    await site.take()

    assert (await site.upload(THEIRS)).metadata == {"owner": "blog"}
    assert [one["error"]["code"] for one in await site.heard("shop")] == ["invalid_event"]
    assert await site.heard("blog") == []


async def test_an_app_cannot_publish_anothers_original_under_an_id_of_its_own(site: Site) -> None:
    given = uuid4()
    await site.send("shop", {"source": THEIRS, "id": str(given)})
    await site.take()

    assert await site.upload("", given) is None
    assert [one["source"] for one in await site.heard("shop")] == [THEIRS]


@pytest.mark.parametrize("sender", ["the operator", "shop"])
async def test_whoever_has_an_apps_upload_take_the_place_of_anothers_is_told_why_that_is_refused(
    parted: Site, sender: str
) -> None:
    await parted.send("blog", {"source": THEIRS})
    await parted.take()
    event = {"source": MINE, "replaces": str(default_id(THEIRS))}
    entry = await (parted.send("shop", event) if sender == "shop" else parted.queue.stream.add(event))
    await parted.take()

    [answer] = await parted.heard("shop")
    assert (answer["error"]["code"], answer["entry"]) == ("invalid_event", entry)
    assert answer["error"]["message"].endswith(
        "replaces: must be an upload below uploads/shop/, as the source is"
    )
    assert await parted.upload(MINE) is None


@ON_BOTH
async def test_an_app_cannot_delete_anothers_upload(site: Site) -> None:
    await site.send("blog", {"source": THEIRS})
    await site.take()
    entry = await site.send("shop", {"delete": str(default_id(THEIRS)), "original": True})
    await site.take()

    assert (await site.upload(THEIRS)).state is State.QUEUED
    [answer] = await site.heard("shop")
    assert refused(answer) == ("upload.failed", "invalid_event", entry, None, str(default_id(THEIRS)))


@ON_BOTH
async def test_an_app_cannot_delete_an_upload_that_another_is_about_to_announce(site: Site) -> None:
    await site.send("shop", {"delete": str(default_id(THEIRS))})
    await site.take()
    assert await site.upload(THEIRS) is None
    await site.queue.stream.announce(THEIRS, 1)  # as a bucket says that it was written before
    await site.take()

    assert (await site.upload(THEIRS)).state is State.QUEUED


async def test_an_app_deletes_its_own_upload(site: Site) -> None:
    await site.send("shop", {"source": MINE})
    await site.send("shop", {"delete": str(default_id(MINE))})
    await site.take()

    assert (await site.upload(MINE)).state is State.DELETING


async def test_fields_of_an_app_that_look_like_the_relays_count_for_nothing(site: Site) -> None:
    fields = {"event": orjson.dumps({"source": THEIRS}), "moved-from": BLOG, "moved-id": "1-1"}
    async with redis_client.Redis.from_url(site.users["shop"]) as client:
        entry = str(await client.xadd(SHOP, fields), "ascii")
    await site.take()

    assert await site.upload(THEIRS) is None
    assert [one["entry"] for one in await site.heard("shop")] == [entry]


async def test_what_was_moved_from_a_stream_that_is_not_listed_is_refused(site: Site) -> None:
    event = orjson.dumps({"source": THEIRS})
    entry = {"moved-event": event, "moved-from": f"{STREAM}:gone", "moved-id": "1-1"}
    await site.queue.redis.xadd(STREAM, entry)  # type: ignore[arg-type]
    await site.take()

    assert await site.upload(THEIRS) is None
    [letter] = await site.catalog.dead_letters.newest(9)
    assert "MEDIA_STREAMS does not list" in letter.message


async def test_a_letter_that_is_sent_once_more_is_still_its_apps(site: Site) -> None:
    await site.send("shop", {"source": THEIRS})
    await site.take()
    stores = Stores(site.catalog, None)  # type: ignore[arg-type]
    tried = await retry(await choose(site.catalog, None, None, None), stores, site.queue)
    await site.take()

    assert len(tried.sent) == 1
    assert await site.upload(THEIRS) is None
    assert len(await site.heard("shop")) == 2


async def test_a_letter_of_an_app_that_is_listed_no_more_is_not_sent_again(site: Site) -> None:
    await site.send("shop", {"source": THEIRS})
    await site.take()
    stores = Stores(site.catalog, None)  # type: ignore[arg-type]
    alone = Queue(site.queue.redis, STREAM, "me", 1000)
    tried = await retry(await choose(site.catalog, None, None, None), stores, alone)

    assert (tried.sent, await site.catalog.dead_letters.count()) == ([], 1)


async def test_a_worker_that_knows_of_no_app_streams_trusts_nothing_that_was_moved(site: Site) -> None:
    await site.send("shop", {"source": MINE})
    await site.relay.drain()
    [(_, fields)] = await site.queue.redis.xrange(STREAM)

    assert b"event" not in fields


# -- the relay


async def exists(site: Site, key: str) -> bool:
    return bool(await site.queue.redis.exists(key))


async def nothing_waits(site: Site) -> bool:
    return not await site.queue.apps.depth()


async def moved(queue: Queue) -> list[str]:
    """The IDs, in apps' streams, of what was moved, in the order of the stream of all."""
    found = await queue.redis.xrange(STREAM)
    return [fields[b"moved-id"].decode() for _, fields in found]


async def test_a_relay_that_dies_between_reading_and_moving_loses_and_doubles_nothing(site: Site) -> None:
    sent = [await site.send("shop", {"source": MINE}) for _ in range(25)]
    dead = queue_of(site.queue.redis, "dead")
    assert await dead.apps.lead(60_000)
    entries = await dead.apps.read(SHOP, 10)
    assert not await site.queue.apps.lead(5000)
    await site.queue.redis.delete(f"{STREAM}:relay")  # as when its lease ends
    await site.relay.drain()

    assert not await dead.apps.move(SHOP, entries, 5000)
    assert await moved(site.queue) == sent


async def test_where_redis_can_number_nothing_more_an_apps_entries_stay(site: Site) -> None:
    await site.send("shop", {"source": MINE})
    await site.queue.redis.xadd(STREAM, {"event": "{}"}, id=f"{2**64 - 1}-{2**64 - 1}")
    await site.queue.apps.lead(5000)

    with pytest.raises(QueueUnavailable, match="media stream reset"):
        await site.relay.step()
    assert await site.queue.apps.depth() == 1


async def test_two_relays_at_once_keep_the_order_of_a_stream(site: Site) -> None:
    sent = [await site.send("shop", {"source": MINE}) for _ in range(55)]
    other = queue_of(site.queue.redis, "other")
    await asyncio.gather(site.relay.drain(), relay_on(other).drain())

    assert await moved(site.queue) == sent
    assert await site.queue.apps.depth() == 0


async def test_another_relay_goes_on_once_the_first_has_ended(site: Site) -> None:
    assert await site.queue.apps.lead(60_000)
    other = queue_of(site.queue.redis, "other").apps
    assert not await other.lead(60_000)
    await site.relay.close()

    assert await other.lead(60_000)
    await site.queue.apps.end()
    assert not await site.queue.apps.lead(60_000)  # the lease of the other is left alone


async def test_a_lease_that_does_not_end_is_nobodys(site: Site) -> None:
    await site.queue.redis.set(f"{STREAM}:relay", "somebody")
    assert not await site.queue.apps.lead(5000)

    assert 0 < await site.queue.redis.pttl(f"{STREAM}:relay") <= 5000


async def test_a_running_relay_moves_what_comes_and_pauses_while_the_stream_is_deep(site: Site) -> None:
    for _ in range(DEEP):
        await site.queue.stream.add({"source": "uploads/x.jpg"})
    running = asyncio.create_task(site.relay.run())
    await site.send("shop", {"source": MINE})
    await until(lambda: exists(site, f"{STREAM}:relay"))
    assert await site.queue.apps.depth() == 1
    await site.queue.redis.xtrim(STREAM, 0, approximate=False)
    await until(lambda: nothing_waits(site))
    site.stopping.set()
    await running

    assert len(await moved(site.queue)) == 1
    assert not await exists(site, f"{STREAM}:relay")


async def test_entries_that_are_no_events_or_too_large_become_letters(site: Site) -> None:
    async with redis_client.Redis.from_url(site.users["shop"]) as client:
        await client.xadd(SHOP, {"other": "field"})
        await client.xadd(SHOP, {f"f{number}": b"x" * 10_000 for number in range(40)})
    await site.send("shop", b"{")
    await site.send("shop", {"source": MINE})
    await site.take()

    letters = await site.catalog.dead_letters.newest(9)
    assert [letter.message.partition(",")[0] for letter in letters] == [f"on {SHOP}"] * 3
    assert [letter.body for letter in letters] == [b"{", b"", b"other=field"]
    assert await site.heard("shop") == []
    assert (await site.upload(MINE)).state is State.QUEUED


async def test_what_waits_on_streams_of_apps_counts(site: Site) -> None:
    await site.send("shop", {"source": MINE})
    await site.queue.stream.add({"source": "uploads/x.jpg"})

    assert await site.queue.depth() == 2
    assert (await site.queue.waits()).startswith("2 events wait, the oldest for")
