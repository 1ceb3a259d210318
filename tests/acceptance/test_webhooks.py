"""Webhooks of a real worker: its uploads never wait for them, and what it was killed over comes again."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.commands import document, media
from tests.support.ports import free_port
from tests.support.receiver import OLD_SECRET, SECRET, Hook, HookReceiver, HookReply, receiving
from tests.support.scraping import Scraped
from tests.support.workplace import Workplace, database_on, eventually

PICTURE = pictures.small()
METRICS = free_port()


@pytest.fixture
def receiver(app: HookReceiver) -> Iterator[HookReceiver]:
    """The app of the module, which takes everything unless a test says otherwise."""
    yield app
    app.answer = lambda _: HookReply()


@pytest.fixture(scope="module")
def app() -> Iterator[HookReceiver]:
    with receiving() as started:
        yield started


@pytest.fixture(scope="module")
def posting(
    app: HookReceiver, redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A workplace with one worker that posts its messages to the app, those of the shop to another path."""
    home = tmp_path_factory.mktemp("posting")
    endpoints = home / "endpoints.toml"
    endpoints.write_text(f'[shop]\nurl = "{app.url}/shop"\nsecret = "{OLD_SECRET}"\nowners = ["shop"]\n')
    settings = {**app.settings, "MEDIA_METRICS": f"127.0.0.1:{METRICS}"}
    settings["MEDIA_WEBHOOK_ENDPOINTS"] = str(endpoints)
    place = Workplace(home, database_on(redis_server.url), migrated, **settings)
    place.start()
    yield place
    place.close()


def announce(place: Workplace, *names: str) -> list[str]:
    """Put and announce a picture under each name; returns their sources."""
    sources = [place.put(f"uploads/{name}.jpg", PICTURE) for name in names]
    place.send_all([{"source": source} for source in sources])
    return sources


def waiting_at(place: Workplace) -> int:
    """How many messages have a row, because they are not taken."""
    [row] = place.database.rows("SELECT count(*) AS waiting FROM webhook_deliveries")
    return int(row["waiting"])


def about(hooks: Iterator[Hook] | list[Hook], sources: list[str]) -> dict[str, int]:
    """The `seq` of what came about each of these sources."""
    messages = [hook.message for hook in hooks]
    return {one["source"]: one["seq"] for one in messages if one["source"] in sources}


def test_every_message_is_posted_as_it_is_on_the_stream_and_counted(
    posting: Workplace, receiver: HookReceiver
) -> None:
    sources = [*announce(posting, "cat"), posting.put("uploads/torn.jpg", PICTURE[:500])]
    posting.send({"source": sources[1], "metadata": {"post": 7}})
    ended = posting.await_end_of(*sources)
    posting.send({"delete": ended[sources[0]]["id"]})
    posting.await_end_of(sources[0], times=2)
    receiver.await_that(lambda: len([one for one in receiver.taken if one.message["source"] in sources]) == 3)
    came = [hook for hook in receiver.taken if hook.message["source"] in sources]

    on_the_stream = {one["seq"]: one for one in posting.messages if one["source"] in sources}
    assert {hook.message["seq"]: hook.message for hook in came} == on_the_stream
    assert {one["type"] for one in on_the_stream.values()} == {
        "upload.ready",
        "upload.failed",
        "upload.deleted",
    }
    assert all(hook.is_signed_by(SECRET) for hook in came)
    scraped = Scraped(METRICS)
    eventually(
        lambda: (
            (scraped.value("media_webhook_deliveries_total", outcome="delivered", endpoint="default") or 0)
            >= 3
            and scraped.value("media_webhook_oldest_age_seconds", endpoint="default") == 0
        )
    )
    assert (scraped.value("media_webhook_duration_seconds_count", endpoint="default") or 0) >= 3


def test_uploads_end_while_the_app_answers_nothing_and_all_is_posted_once_it_does(
    posting: Workplace, receiver: HookReceiver
) -> None:
    answers = threading.Event()
    receiver.answer = lambda _: HookReply() if answers.wait(30) else HookReply(500)
    before = len(receiver.taken)
    sources = announce(posting, *(f"held-{number}" for number in range(20)))
    ended = posting.await_end_of(*sources)

    assert len(receiver.taken) == before
    assert {one["type"] for one in ended.values()} == {"upload.ready"}
    receiver.await_that(lambda: receiver.in_hand == 8)
    answers.set()
    receiver.await_that(lambda: len(receiver.taken) == before + 20)
    assert about(list(receiver.taken), sources) == {one["source"]: one["seq"] for one in ended.values()}


def test_a_message_that_was_taken_is_posted_again_from_the_command_line(
    posting: Workplace, receiver: HookReceiver
) -> None:
    [source] = announce(posting, "again")
    seq = posting.await_end_of(source)[source]["seq"]
    receiver.await_that(lambda: seq in receiver.taken_seqs())
    eventually(lambda: waiting_at(posting) == 0)

    listed, shop = document(media(posting.env(), "webhooks", "list", "--json"))["endpoints"]
    assert (listed["name"], shop["name"]) == ("default", "shop")
    assert (listed["state"], listed["problem"], listed["waiting"]) == ("ok", None, [])
    assert listed["url"] == receiver.url.removesuffix("hooks") + "…"
    replayed = media(posting.env(), "webhooks", "replay", "--endpoint", "default", "--since", str(seq - 1))
    assert replayed.stdout == f"1 message after seq {seq - 1} will be sent to default again.\n"
    receiver.await_that(lambda: receiver.taken_seqs().count(seq) == 2)
    first, second = [hook for hook in receiver.taken if hook.message["seq"] == seq]
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_the_messages_of_an_owner_are_posted_to_the_endpoint_that_is_named_for_it_alone(
    posting: Workplace, receiver: HookReceiver
) -> None:
    sources = announce(posting, "shop/shoe", "elsewhere/shoe")
    seqs = [posting.await_end_of(*sources)[source]["seq"] for source in sources]
    receiver.await_that(lambda: {*seqs} <= {*receiver.taken_seqs()})
    replay = ("webhooks", "replay", "--since", str(min(seqs) - 1))
    unclear, unknown, sent = (
        media(posting.env(), *replay, *more) for more in ((), ("--endpoint", "no"), ("--endpoint", "shop"))
    )
    receiver.await_that(lambda: receiver.taken_seqs().count(seqs[0]) == 2)

    paths = {hook.message["seq"]: hook.path for hook in receiver.taken if hook.is_signed_by(OLD_SECRET)}
    assert paths == {seqs[0]: "/hooks/shop"}
    assert receiver.taken_seqs().count(seqs[1]) == 1
    assert (unclear.returncode, unknown.returncode) == (2, 2)
    assert "name one by --endpoint: default, shop" in unclear.stderr
    assert "1 message after seq" in sent.stdout
    elsewhere = posting.env(MEDIA_WEBHOOK_ENDPOINTS="")
    assert "not in MEDIA_WEBHOOK_ENDPOINTS here" in media(elsewhere, *replay, "--endpoint", "shop").stderr
    words = (
        "The endpoint default takes messages.",
        "The endpoint shop takes messages.\nIt is not in the settings here; a worker noted it",
    )
    eventually(lambda: all(one in media(elsewhere, "webhooks", "list").stdout for one in words))
    eventually(lambda: Scraped(METRICS).value("media_webhook_oldest_age_seconds", endpoint="shop") == 0)


@pytest.mark.parametrize(
    ("since", "words"),
    [
        ("yesterday", "neither a date nor a span"),
        ("9" * 5000, "at most 40 characters"),
        ("9" * 20, "No message has the seq"),
    ],
)
def test_what_neither_a_seq_nor_a_time_names_is_wrong_usage(
    posting: Workplace, since: str, words: str
) -> None:
    ended = media(posting.env(), "webhooks", "replay", "--since", since)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr


def test_a_worker_that_is_killed_before_it_can_note_the_answer_loses_no_message(
    workplace: Workplace,
) -> None:
    with receiving() as receiver:
        workplace.settings |= receiver.settings
        worker = workplace.start()
        killed = threading.Lock()

        def die(_: Hook) -> HookReply:
            if killed.acquire(blocking=False):
                worker.kill()
            return HookReply()

        receiver.answer = die
        sources = announce(workplace, *(f"{number}" for number in range(5)))
        receiver.await_that(lambda: receiver.hooks)
        assert worker.wait() != 0
        receiver.answer = lambda _: HookReply()
        workplace.start()
        ended = workplace.await_end_of(*sources)
        wanted = {one["source"]: one["seq"] for one in ended.values()}
        receiver.await_that(lambda: len(about(list(receiver.taken), sources)) == 5)

        assert about(list(receiver.taken), sources).keys() == wanted.keys()
        eventually(lambda: waiting_at(workplace) == 0)
        first = receiver.hooks[0]
        again = [hook for hook in receiver.hooks if hook.headers["webhook-id"] == first.headers["webhook-id"]]
        assert len(again) >= 2
