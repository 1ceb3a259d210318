"""A URL of Sentinels: what it says of them, and what of the primary."""

import pytest

from worker.queue.url import Monitored, check_url, monitored_by, server_of


@pytest.mark.parametrize(
    ("url", "monitored", "server"),
    [
        ("redis+sentinel://a/main", ((("a", 26379),), "main", {}), {}),
        ("redis+sentinel://a:1,b/main/3", ((("a", 1), ("b", 26379)), "main", {}), {"db": 3}),
        ("redis+sentinel://a,[::1]:1,[::2]/m", ((("a", 26379), ("::1", 1), ("::2", 26379)), "m", {}), {}),
        (
            "redis+sentinel://u:p%40w@a/my%2Fname/1?sentinel_username=s&sentinel_password=x%26y",
            ((("a", 26379),), "my/name", {"username": "s", "password": "x&y"}),
            {"username": "u", "password": "p@w", "db": 1},
        ),
        ("rediss+sentinel://a/m?ssl_ca_certs=ca", ((("a", 26379),), "m", {}), {"ssl_ca_certs": "ca"}),
    ],
)
def test_user_database_and_options_are_the_primarys(
    url: str, monitored: tuple[tuple[tuple[str, int], ...], str, dict[str, str]], server: dict[str, object]
) -> None:
    found = server_of(url)

    assert monitored_by(url) == Monitored(*monitored)
    assert ("connection_class" in found) is url.startswith("rediss")
    assert {n: v for n, v in found.items() if n not in ("host", "port", "connection_class")} == server


@pytest.mark.parametrize(
    "url", ["redis+sentinel://a, b/m", "redis+sentinel://a ,b/m", "redis+sentinel:// a:1/m", "redis:// h/0"]
)
def test_a_blank_at_a_host_is_a_mistake(url: str) -> None:
    with pytest.raises(ValueError, match="has a blank in a host"):
        check_url(url)


@pytest.mark.parametrize("url", ["redis://h/0", "rediss://h/0", "unix:///run/redis.sock"])
def test_other_urls_name_no_sentinels(url: str) -> None:
    assert monitored_by(url) is None
