"""Settings turned back into the variables that make them."""

import pytest

from worker.queue.url import shown_url
from worker.settings import Settings
from worker.variables import SET, environment, shown_settings, written


def test_the_variables_of_settings_make_the_same_settings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_construct(
        cpus=3, image_timeout=2.5, formats=("png", "gif"), delete_originals=True, damaged="accept"
    )
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    assert Settings.load() == settings


def test_what_is_not_set_is_left_out() -> None:
    assert "MEDIA_RECIPES" not in environment(Settings.model_construct(cpus=1))


@pytest.mark.parametrize(
    ("value", "text"), [(True, "1"), (False, "0"), (("a", "b"), "a,b"), (8, "8"), (0.5, "0.5"), ("x", "x")]
)
def test_a_value_is_written_as_an_operator_writes_it(value: object, text: str) -> None:
    assert written(value) == text


def test_settings_are_shown_without_any_secret() -> None:
    urls = {
        "redis_url": "rediss://worker:hidden@redis.example:6380/2?ssl_cert_reqs=none&password=hidden",
        "catalog_url": "postgresql+asyncpg://media:hidden@db.example/media?sslpassword=hidden",
        "catalog_read_url": "postgresql+asyncpg://media:hidden@replica.example/media",
        "http_secret": "hidden" * 6,
        "webhook_url": "https://app.example/hidden/hook?token=hidden",
        "webhook_secret": "whsec_" + "hidden" * 8,
        "s3_endpoint": "http://s3.example:8333",
        "cpus": 3,
    }

    shown = {one.variable: one for one in shown_settings(Settings.model_validate(urls))}

    assert "hidden" not in "".join(one.value for one in shown.values())
    assert shown["MEDIA_REDIS_URL"].value == "rediss://worker@redis.example:6380/2?…"
    assert shown["MEDIA_CATALOG_URL"].value == "postgresql://media@db.example/media"
    assert shown["MEDIA_CATALOG_READ_URL"].value == "postgresql://media@replica.example/media"
    assert shown["MEDIA_WEBHOOK_URL"].value == "https://app.example/…"
    assert shown["MEDIA_WEBHOOK_SECRET"].value == SET
    assert (shown["MEDIA_HTTP_SECRET"].value, shown["MEDIA_HTTP_ORIGINS"].value) == (SET, "")
    assert (shown["MEDIA_CPUS"].is_set, shown["MEDIA_BATCH_SIZE"].is_set) == (True, False)


def test_a_setting_that_is_not_printed_is_shown_as_set_unless_it_is_a_url_that_is_masked() -> None:
    hidden = {name for name, field in Settings.model_fields.items() if not field.repr}

    assert hidden == {
        *("redis_url", "catalog_url", "catalog_read_url", "http_secret"),
        *("webhook_url", "webhook_secret"),
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:hidden@h/0", "redis://@h/0"),
        ("redis://u:hid@den@h/0", "redis://u@h/0"),
        ("unix://u:hidden@/run/redis.sock?db=1", "unix://u@/run/redis.sock?…"),
        (
            "redis+sentinel://u:hidden@a,b:1/one/0?sentinel_password=hidden",
            "redis+sentinel://u@a,b:1/one/0?…",
        ),
    ],
)
def test_the_url_of_a_redis_is_shown_without_password_and_options(url: str, shown: str) -> None:
    assert shown_url(url) == shown
