"""`media doctor`: what it says of the endpoint of webhooks, to which it connects and posts nothing."""

from pathlib import Path

import pytest

from storage.catalog.webhooks import EndpointState, Word
from tests.support.ports import free_port
from tests.support.receiver import SECRET, receiving
from worker.doctor.webhooks import check_webhooks, inspect_webhooks
from worker.lifecycle import check_webhook_extra
from worker.settings import Settings
from worker.webhooks import endpoint as endpoints
from worker.webhooks.endpoint import WebhookAnswer, WebhookEndpoint


def settings_of(url: str, *, allow_private: bool = True) -> Settings:
    return Settings.model_validate(
        {"webhook_url": url, "webhook_secret": SECRET, "webhook_allow_private": allow_private}
    )


async def test_without_an_endpoint_there_is_nothing_to_say() -> None:
    assert await check_webhooks(Settings()) == []


async def test_an_endpoint_that_can_be_reached_is_told_with_its_origin_but_not_its_path() -> None:
    with receiving() as receiver:
        [found] = await check_webhooks(settings_of(f"{receiver.url}?token=hidden"))

        assert receiver.hooks == []
    assert (found.level, found.what) == ("ok", "Webhooks")
    assert found.detail == f"{receiver.url.removesuffix('hooks')}… can be reached"


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("http://app.example/", "warning"),
        ("http://10.0.0.7:8000/", "warning"),
        ("http://127.example.org/", "warning"),
        ("http://127.0.0.1:8000/", "ok"),
        ("http://127.9.9.9/", "ok"),
        ("http://[::1]:8000/", "ok"),
        ("http://LOCALHOST:8000/", "ok"),
        ("https://app.example/", "ok"),
    ],
)
def test_an_endpoint_without_tls_is_a_warning_unless_it_is_on_this_machine(url: str, level: str) -> None:
    endpoint = WebhookEndpoint(url, [b"x"], True, 15)
    [found] = inspect_webhooks(endpoint, WebhookAnswer("delivered"), None)

    assert found.level == level
    assert ("without TLS" in found.detail) == (level == "warning")


async def test_an_endpoint_that_nobody_serves_or_that_is_not_public_is_an_error() -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    [nobody] = await check_webhooks(settings_of(url))
    [private] = await check_webhooks(settings_of(url, allow_private=False))

    assert (nobody.level, private.level) == ("error", "error")
    assert "cannot be reached" in nobody.detail
    assert "MEDIA_WEBHOOK_ALLOW_PRIVATE=1" in (private.advice or "")


async def test_a_host_without_the_extra_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "PACKAGES", ("no_such_package",))
    [found] = await check_webhooks(settings_of("https://app.example/hook"))

    assert found.level == "error"
    assert "the extra webhooks, which is not installed" in found.detail
    with pytest.raises(SystemExit):
        check_webhook_extra(settings_of("https://app.example/hook"))
    check_webhook_extra(Settings())


@pytest.mark.parametrize(
    ("word", "problem", "level", "words"),
    [
        ("ok", "it answered 500: once", "ok", "can be reached"),
        ("down", "it answered 401: bad signature", "error", "Compare its secret with MEDIA_WEBHOOK_SECRET"),
        ("down", "it answered 404", "error", "Correct the path of MEDIA_WEBHOOK_URL"),
        ("down", "it answered 500: boom", "error", "media webhooks list"),
        ("gone", "it answered 410", "error", "restart the workers"),
    ],
)
def test_an_endpoint_that_takes_nothing_is_an_error_with_what_to_do(
    word: Word, problem: str, level: str, words: str
) -> None:
    endpoint = WebhookEndpoint("https://app.example/hook", [b"x"], False, 15)
    [found] = inspect_webhooks(endpoint, WebhookAnswer("delivered"), EndpointState(word, 1, problem))

    assert found.level == level
    assert words in f"{found.detail} {found.advice}"


async def test_each_endpoint_has_a_finding_of_its_own_and_a_recipe_that_is_not_there_a_warning(
    tmp_path: Path,
) -> None:
    file = tmp_path / "endpoints.toml"
    table = f'[shop]\nurl = "http://127.0.0.1:{free_port()}/"\nsecret = "{SECRET}"\nrecipes = ["shop"]\n'
    file.write_text(table)
    with receiving() as receiver:
        settings = settings_of(receiver.url)
        found = await check_webhooks(settings.model_copy(update={"webhook_endpoints": file}))

    assert [(one.what, one.level) for one in found] == [
        ("Webhooks", "ok"),
        ("Webhooks to shop", "error"),
        ("Webhooks", "warning"),
    ]
    assert "correct the url of shop in MEDIA_WEBHOOK_ENDPOINTS" in (found[1].advice or "")
    assert "shop is for the recipe shop, and there is none of that name" in found[2].detail
