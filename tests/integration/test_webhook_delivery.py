"""Webhooks reach an app that is slow, wrong or away: nothing is lost, and each upload keeps its order."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
import structlog

from storage.catalog.opening import Catalog
from storage.catalog.webhook_routes import WebhookRoute, WebhookRule
from storage.catalog.webhooks import TAKEN, EndpointState, Webhooks
from storage.errors import CatalogUnavailable
from tests.support.catalogs import claim, commit, failed, ready, take, upload_event
from tests.support.host_clock import Clock
from tests.support.polling import until
from tests.support.ports import free_port
from tests.support.receiver import OLD_SECRET, SECRET, Hook, HookReceiver, HookReply, receiving
from tests.support.tls import CA, OTHER_CA, make_certificates
from worker.degradation import watch_webhooks
from worker.documents import payload
from worker.webhooks.deliverer import GIVEN_UP_AFTER_MS, WebhookDeliverer
from worker.webhooks.endpoint import WebhookEndpoint
from worker.webhooks.pacing import CONCURRENCY, DOWN_AFTER
from worker.webhooks.sending import WebhookSender
from worker.webhooks.signing import parse_secrets

CAT, DOG = UUID(int=1), UUID(int=2)
Delivering = Callable[..., AbstractAsyncContextManager[WebhookDeliverer]]
LEASE_S = 30.0
NO = HookReply(500, body=b"the database is away")


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    with receiving() as started:
        yield started


@pytest.fixture
def delivering(catalog: Catalog) -> Delivering:
    """Delivers what is in the catalog to a URL, as a worker of that name does, until the end of the body."""

    @asynccontextmanager
    async def deliver(
        url: str,
        holder: str = "me",
        timeout_s: float = 10,
        lease_s: float = LEASE_S,
        webhooks: Webhooks | None = None,
    ) -> AsyncIterator[WebhookDeliverer]:
        deliverer = deliverer_of(
            catalog, url, holder, timeout_s=timeout_s, lease_s=lease_s, webhooks=webhooks
        )
        await deliverer.begin()
        running = asyncio.create_task(deliverer.run())
        try:
            yield deliverer
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await deliverer.close()

    return deliver


def deliverer_of(
    catalog: Catalog,
    url: str,
    holder: str,
    stopping: Callable[[], bool] = lambda: False,
    timeout_s: float = 10,
    lease_s: float = LEASE_S,
    webhooks: Webhooks | None = None,
) -> WebhookDeliverer:
    secrets = parse_secrets(f"{SECRET} {OLD_SECRET}")
    sender = WebhookSender(
        WebhookEndpoint(url, secrets, True, timeout_s), CONCURRENCY, catalog.webhooks.now_ms
    )
    return WebhookDeliverer(
        *(webhooks or catalog.webhooks, catalog.outbox, sender, catalog.id, holder, lease_s, stopping)
    )


_numbers = iter(range(1, 1_000_000))


async def publish(catalog: Catalog, *ids: UUID, folder: str = "") -> list[int]:
    """A message about each of these uploads, in that order; returns their `seq`."""
    before = await catalog.outbox.given_seq()
    for start in range(0, len(ids), len({*ids})):  # each upload once, all together
        events = [
            upload_event(next(_numbers), each, f"uploads/{folder}{each.int}.jpg")
            for each in ids[start : start + len({*ids})]
        ]
        jobs = (await take(catalog, *events)).jobs
        claims = [
            await catalog.claims.claim(each, job_id, "worker")
            for job_id, all_of in jobs.items()
            for each in all_of
        ]
        await catalog.claims.commit([ready(one) for one in claims if one is not None])
    return [one.seq for one in await catalog.outbox.since(before)]


async def await_that(receiver: HookReceiver, holds: Callable[[], object]) -> None:
    await asyncio.to_thread(receiver.await_that, holds)


async def await_problem(webhooks: Webhooks, words: str) -> None:
    async def is_told() -> bool:
        return any(words in (one.problem or "") for one in await webhooks.waiting(100))

    await until(is_told)


async def await_word(webhooks: Webhooks, word: str) -> None:
    async def is_so() -> bool:
        state = await webhooks.state()
        return state is not None and state.word == word

    await until(is_so)


async def is_empty(webhooks: Webhooks) -> bool:
    return (await webhooks.backlog()).oldest_ms is None


def others(count: int) -> list[UUID]:
    return [UUID(int=100 + number) for number in range(count)]


async def test_a_message_arrives_as_it_is_on_the_stream_signed_by_every_secret(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering
) -> None:
    async with delivering(receiver.url) as deliverer:
        await publish(catalog, CAT)
        await take(catalog, upload_event(next(_numbers), DOG, "uploads/dog.jpg", post=7))
        await commit(catalog, failed(await claim(catalog, DOG)))
        deliverer.wake()
        await await_that(receiver, lambda: len(receiver.taken) == 2)
        await until(lambda: is_empty(catalog.webhooks))

    published = [payload(one) for one in await catalog.outbox.since(0)]
    hooks = sorted(receiver.hooks, key=lambda hook: hook.message["seq"])
    assert [hook.message for hook in hooks] == published
    assert all(hook.is_signed_by(SECRET) and hook.is_signed_by(OLD_SECRET) for hook in hooks)
    assert {hook.headers["content-type"] for hook in hooks} == {"application/json"}
    assert len({hook.headers["webhook-id"] for hook in hooks}) == 2


async def test_an_app_that_is_slow_is_sent_eight_at_once_and_each_upload_in_order(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering
) -> None:
    slow = threading.Event()
    receiver.answer = lambda _: HookReply() if slow.wait(20) else NO
    ids = others(9)
    async with delivering(receiver.url):
        seqs = await publish(catalog, *ids, *ids, *ids)
        await await_that(receiver, lambda: receiver.in_hand == CONCURRENCY)
        slow.set()
        await await_that(receiver, lambda: len(receiver.taken) == 27)

    assert receiver.most_in_hand == CONCURRENCY
    assert sorted(receiver.taken_seqs()) == seqs
    for each in ids:
        assert receiver.taken_seqs(each) == sorted(receiver.taken_seqs(each))
        assert len(receiver.taken_seqs(each)) == 3


async def test_a_message_that_is_refused_holds_up_its_own_upload_alone(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering, put_clock: Clock
) -> None:
    receiver.answer = lambda hook: NO if hook.message["id"] == str(CAT) else HookReply()
    async with delivering(receiver.url) as deliverer:
        seqs = await publish(catalog, CAT, DOG, CAT, DOG)
        await await_that(receiver, lambda: receiver.taken_seqs(DOG) == [seqs[1], seqs[3]])
        await await_problem(catalog.webhooks, "it answered 500: the database is away")
        assert [hook.message["seq"] for hook in receiver.hooks].count(seqs[2]) == 0
        receiver.answer = lambda _: HookReply()
        put_clock(7)
        deliverer.wake()
        await await_that(receiver, lambda: len(receiver.taken) == 4)

    assert receiver.taken_seqs(CAT) == [seqs[0], seqs[2]]
    first, again = [hook for hook in receiver.hooks if hook.message["seq"] == seqs[0]]
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] != again.headers["webhook-timestamp"]


async def test_one_message_that_is_refused_for_hours_delays_none_of_other_uploads(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering, put_clock: Clock
) -> None:
    receiver.answer = lambda hook: NO if hook.message["id"] == str(CAT) else HookReply()
    async with delivering(receiver.url) as deliverer:
        await publish(catalog, CAT)
        await await_attempts(catalog.webhooks, 1)
        for number, minutes in enumerate((1, 2, 3, 5, 8, 12), 2):
            put_clock(60 * minutes)
            deliverer.wake()
            await await_attempts(catalog.webhooks, number)
        [seq] = await publish(catalog, DOG)
        deliverer.wake()
        await await_that(receiver, lambda: receiver.taken_seqs() == [seq])


async def test_an_app_that_was_dead_for_ten_minutes_gets_everything_in_order_for_each_upload(
    catalog: Catalog, delivering: Delivering, put_clock: Clock
) -> None:
    port, ids = free_port(), others(DOWN_AFTER + 1)
    async with delivering(f"http://127.0.0.1:{port}/hooks") as deliverer:
        seqs = await publish(catalog, *ids, *ids)
        await await_word(catalog.webhooks, "down")
        await await_attempts(catalog.webhooks, len(ids))
        for number, seconds in enumerate(
            (14, 40, 92, 194, 396), 1
        ):  # a quarter more than 10, 20, 40, 80, 160
            put_clock(seconds)
            deliverer.wake()
            await await_attempts(catalog.webhooks, len(ids) + number)
        assert await watch_webhooks([catalog.webhooks])() is None
        with receiving(port) as receiver:
            put_clock(780)
            deliverer.wake()
            await await_that(receiver, lambda: len(receiver.taken) == len(seqs))

            assert sorted(receiver.taken_seqs()) == seqs
            for each in ids:
                assert receiver.taken_seqs(each) == sorted(receiver.taken_seqs(each))
        await await_word(catalog.webhooks, "ok")


async def test_uploads_that_an_app_always_refuses_hold_up_no_other(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering, put_clock: Clock
) -> None:
    receiver.answer = lambda hook: HookReply() if hook.message["id"] == str(DOG) else NO
    async with delivering(receiver.url) as deliverer:
        await publish(catalog, *others(DOWN_AFTER))
        await await_word(catalog.webhooks, "down")
        await publish(catalog, DOG)
        put_clock(7)
        deliverer.wake()
        await await_that(receiver, lambda: receiver.taken)

    assert [hook.message["id"] for hook in receiver.hooks].count(str(DOG)) == 1
    assert len(receiver.hooks) >= DOWN_AFTER + 1


@pytest.mark.parametrize("takes_others", [True, False])
async def test_what_was_never_tried_is_given_up_only_where_an_app_took_nothing_in_three_days(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering, put_clock: Clock, takes_others: bool
) -> None:
    receiver.answer = lambda _: NO
    await catalog.webhooks.begin()
    [seq] = await publish(catalog, CAT)
    await catalog.webhooks.take(TAKEN)
    put_clock(GIVEN_UP_AFTER_MS / 1000 + 10)
    delivered_ms = catalog.webhooks.now_ms() - 3_600_000 if takes_others else 0
    await catalog.webhooks.note_state(EndpointState("down", 0, "it answered 500", delivered_ms))
    async with delivering(receiver.url) as deliverer:
        await deliverer.turn()
        if takes_others:
            await await_problem(catalog.webhooks, "it answered 500")

        assert [one.seq for one in await catalog.webhooks.given_up(10)] == ([] if takes_others else [seq])


async def await_attempts(webhooks: Webhooks, times: int) -> None:
    async def are_so_many() -> bool:
        return sum(one.attempts for one in await webhooks.waiting(100)) == times

    await until(are_so_many)


async def test_a_dead_app_costs_one_page_of_rows_however_many_messages_follow(
    catalog: Catalog, delivering: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.webhooks.deliverer.TAKEN", 10)
    assert TAKEN == 500
    async with delivering(f"http://127.0.0.1:{free_port()}/") as deliverer:
        await publish(catalog, *others(8))
        await await_word(catalog.webhooks, "down")
        await publish(catalog, *others(30))
        deliverer.wake()

        async def is_full() -> bool:
            backlog = await catalog.webhooks.backlog()
            return (backlog.waiting, backlog.behind) == (10, 28)

        await until(is_full)


async def test_what_was_not_taken_in_three_days_is_given_up_and_can_be_sent_again(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering, put_clock: Clock
) -> None:
    receiver.answer = lambda _: NO
    async with delivering(receiver.url, "first") as deliverer:
        [seq] = await publish(catalog, CAT)
        for number, seconds in enumerate((0, 10, 30), 1):
            put_clock(seconds)
            deliverer.wake()
            await await_attempts(catalog.webhooks, number)
    put_clock(1000)
    assert "it answered 500" in (await watch_webhooks([catalog.webhooks])() or "")
    put_clock(GIVEN_UP_AFTER_MS / 1000 + 10)
    receiver.answer = lambda _: HookReply()
    async with delivering(receiver.url, "second") as deliverer:

        async def is_given_up() -> bool:
            return [one.seq for one in await catalog.webhooks.given_up(10)] == [seq]

        await until(is_given_up)
        assert receiver.taken == []
        assert await catalog.webhooks.replay(seq - 1) == 1
        deliverer.wake()
        await await_that(receiver, lambda: receiver.taken_seqs() == [seq])


async def test_a_redirect_is_not_followed(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering
) -> None:
    receiver.answer = lambda _: HookReply(307, {"location": receiver.url + "/elsewhere"})
    async with delivering(receiver.url):
        await publish(catalog, CAT)
        await await_problem(catalog.webhooks, "it answered 307: a redirect, which is not followed")

    assert {hook.path for hook in receiver.hooks} == {"/hooks"}


async def test_an_answer_is_read_in_part_and_what_takes_too_long_is_left(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering
) -> None:
    never = threading.Event()

    def answer(hook: Hook) -> HookReply:
        if hook.message["id"] == str(CAT):
            return HookReply(400, body=b"x" * 10_000_000)
        never.wait(20)
        return HookReply()

    receiver.answer = answer
    async with delivering(receiver.url, timeout_s=0.3):
        await publish(catalog, CAT, DOG)
        await await_problem(catalog.webhooks, "it answered 400: xxx")
        await await_problem(catalog.webhooks, "nothing came within 0.3 s")
    never.set()

    assert max(len(one.problem or "") for one in await catalog.webhooks.waiting(10)) < 1024


async def test_an_app_that_says_it_is_gone_is_left_alone_until_a_worker_starts_again(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering
) -> None:
    receiver.answer = lambda _: HookReply(410)
    async with delivering(receiver.url, "first") as deliverer:
        [first] = await publish(catalog, CAT)
        await await_word(catalog.webhooks, "gone")
        [second] = await publish(catalog, DOG)
        for _ in range(3):
            await deliverer.turn()
        assert len(receiver.hooks) == 1
        assert "it answered 410" in (await watch_webhooks([catalog.webhooks])() or "")
    receiver.answer = lambda _: HookReply()
    async with delivering(receiver.url, "second") as deliverer:
        await catalog.webhooks.make_due()
        deliverer.wake()
        await await_that(receiver, lambda: sorted(receiver.taken_seqs()) == [first, second])


async def test_all_messages_wait_as_long_as_a_busy_app_asks_for(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering, put_clock: Clock
) -> None:
    receiver.answer = lambda _: HookReply(429, {"retry-after": "600"})
    async with delivering(receiver.url) as deliverer:
        await publish(catalog, CAT)
        await await_problem(catalog.webhooks, "it answered 429")
        receiver.answer = lambda _: HookReply()
        await publish(catalog, DOG)
        put_clock(590)
        for _ in range(3):
            await deliverer.turn()
        assert len(receiver.hooks) == 1
        put_clock(610)
        deliverer.wake()
        await await_that(receiver, lambda: len(receiver.taken) == 2)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_receiver(certificates: Path) -> Iterator[HookReceiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with receiving(tls=context) as started:
        yield started


async def test_nothing_is_sent_to_an_app_whose_certificate_is_not_good(
    catalog: Catalog,
    tls_receiver: HookReceiver,
    certificates: Path,
    delivering: Delivering,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / OTHER_CA))
    async with delivering(tls_receiver.url):
        await publish(catalog, CAT)
        await await_problem(catalog.webhooks, "certificate verify failed")

    assert tls_receiver.hooks == []


async def test_a_certificate_must_be_of_the_host_that_the_url_names(
    catalog: Catalog,
    tls_receiver: HookReceiver,
    certificates: Path,
    delivering: Delivering,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / CA))
    async with delivering(tls_receiver.url.replace("127.0.0.1", "localhost")):
        await publish(catalog, CAT)
        await await_problem(catalog.webhooks, "certificate")
    async with delivering(tls_receiver.url, "second") as deliverer:
        await catalog.webhooks.make_due()
        deliverer.wake()
        await await_that(tls_receiver, lambda: len(tls_receiver.taken) == 1)


async def test_an_endpoint_that_is_dead_holds_up_no_other(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering
) -> None:
    pictures = WebhookRule(owners=frozenset({"pictures"}))
    shop = catalog.webhooks.to("shop", WebhookRoute(pictures))
    default = catalog.webhooks.to("default", WebhookRoute(earlier=[pictures]))
    ids = others(DOWN_AFTER)
    async with (
        delivering(f"http://127.0.0.1:{free_port()}/", webhooks=shop) as dead,
        delivering(receiver.url, webhooks=default) as living,
    ):
        await publish(catalog, *ids, folder="pictures/")
        dead.wake()
        await await_word(shop, "down")
        seqs = await publish(catalog, CAT, CAT)
        living.wake()
        await await_that(receiver, lambda: receiver.taken_seqs() == seqs)
        await until(lambda: is_empty(default))

        assert [one.upload_id for one in await shop.waiting(10)] == ids
        assert len(receiver.hooks) == 2


async def test_a_second_worker_delivers_only_once_the_first_has_ended(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(delivering(receiver.url, "first", lease_s=3))
        await first.turn()
        async with delivering(receiver.url, "second", lease_s=3) as second:
            await second.turn()
            await publish(catalog, CAT)
            for each in (second, first):
                await each.turn()
            await await_that(receiver, lambda: len(receiver.taken) == 1)
            await stack.aclose()
            await publish(catalog, DOG)
            await await_that(receiver, lambda: len(receiver.taken) == 2)

    assert [hook.message["id"] for hook in receiver.hooks] == [str(CAT), str(DOG)]


async def cut_off(catalog: Catalog, *, is_away: bool) -> None:
    """Have no worker renew its lease, or all again."""
    before, after = ("kv", "kv_away") if is_away else ("kv_away", "kv")
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")


async def test_a_worker_that_cannot_renew_its_lease_leads_no_more_until_it_can(
    catalog: Catalog, receiver: HookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = 1000.0
    monkeypatch.setattr("worker.webhooks.deliverer.monotonic", lambda: moment)
    deliverer, another = (
        deliverer_of(catalog, receiver.url, "first"),
        deliverer_of(catalog, receiver.url, "second"),
    )
    await deliverer.begin()
    await deliverer.turn()
    moment += LEASE_S / 2
    await cut_off(catalog, is_away=True)
    for _ in range(2):  # it asks each time
        with pytest.raises(CatalogUnavailable):
            await deliverer.turn()
    await cut_off(catalog, is_away=False)
    assert await catalog.webhooks.lease("first", 0)  # it has ended meanwhile
    await another.turn()
    [seq] = await publish(catalog, CAT)
    await deliverer.turn()
    await another.turn()
    await await_that(receiver, lambda: receiver.taken_seqs() == [seq])
    for each in (another, deliverer):
        await each.close()

    assert len(receiver.hooks) == 1


async def test_a_worker_that_stops_gives_its_lease_back_before_its_uploads_end(
    catalog: Catalog, receiver: HookReceiver
) -> None:
    stopping = asyncio.Event()
    deliverer = deliverer_of(catalog, receiver.url, "first", stopping.is_set)
    await deliverer.begin()
    await publish(catalog, CAT)
    await deliverer.turn()
    await await_that(receiver, lambda: receiver.taken)
    assert not await catalog.webhooks.lease("second", LEASE_S)
    stopping.set()

    async def may_another() -> bool:
        await deliverer.turn()
        return await catalog.webhooks.lease("second", LEASE_S)

    await until(may_another)
    assert await is_empty(catalog.webhooks)
    await deliverer.close()
    assert not await catalog.webhooks.lease("third", LEASE_S)


async def test_a_private_address_is_told_once_in_the_log_with_the_setting_that_allows_it(
    catalog: Catalog, receiver: HookReceiver
) -> None:
    endpoint = WebhookEndpoint(receiver.url, parse_secrets(SECRET), False, 5)
    sender = WebhookSender(endpoint, CONCURRENCY, catalog.webhooks.now_ms)
    deliverer = WebhookDeliverer(catalog.webhooks, catalog.outbox, sender, catalog.id, "me", LEASE_S)
    await deliverer.begin()
    await publish(catalog, *others(3))
    with structlog.testing.capture_logs() as lines:
        await deliverer.turn()

        async def are_tried() -> bool:
            await deliverer.turn()
            return all(one.attempts for one in await catalog.webhooks.waiting(10))

        await until(are_tried)
    await deliverer.close()

    [told] = [line for line in lines if line["event"] == "webhooks_forbidden"]
    assert (told["endpoint"], told["log_level"]) == ("default", "error")
    assert "127.0.0.1, which is not public: MEDIA_WEBHOOK_ALLOW_PRIVATE=1 allows it" in told["reason"]
    assert receiver.hooks == []


async def test_a_worker_that_stops_keeps_its_lease_while_an_attempt_runs(
    catalog: Catalog, receiver: HookReceiver, put_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, answers, stopping = 1000.0, threading.Event(), asyncio.Event()
    monkeypatch.setattr("worker.webhooks.deliverer.monotonic", lambda: moment)
    receiver.answer = lambda _: HookReply() if answers.wait(20) else NO
    deliverer = deliverer_of(catalog, receiver.url, "first", stopping.is_set)
    await deliverer.begin()
    await publish(catalog, CAT)
    await deliverer.turn()
    await await_that(receiver, lambda: receiver.in_hand == 1)
    stopping.set()
    await cut_off(catalog, is_away=True)
    moment += LEASE_S / 3
    with pytest.raises(CatalogUnavailable):
        await deliverer.turn()
    await cut_off(catalog, is_away=False)
    for seconds in (LEASE_S / 2, LEASE_S, LEASE_S * 1.5):
        moment = 1000 + seconds
        put_clock(seconds)
        await deliverer.turn()
        assert not await catalog.webhooks.lease("second", LEASE_S)
    answers.set()
    await deliverer.close()

    assert await catalog.webhooks.lease("second", LEASE_S)
    assert len(receiver.taken) == 1


async def test_a_catalog_that_is_away_for_a_moment_delays_and_loses_nothing(
    catalog: Catalog, receiver: HookReceiver, delivering: Delivering
) -> None:
    async with delivering(receiver.url) as deliverer:
        with structlog.testing.capture_logs():
            async with catalog.database.writing() as connection:
                await connection.exec_driver_sql("ALTER TABLE webhook_deliveries RENAME TO away")
            [seq] = await publish(catalog, CAT)
            with pytest.raises(CatalogUnavailable):
                await deliverer.turn()
            async with catalog.database.writing() as connection:
                await connection.exec_driver_sql("ALTER TABLE away RENAME TO webhook_deliveries")
        deliverer.wake()
        await await_that(receiver, lambda: receiver.taken_seqs() == [seq])
