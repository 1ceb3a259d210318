"""The URL of a Redis, or of Sentinels: what it says of them, and what of the primary."""

from pathlib import Path
from urllib.parse import quote

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


@pytest.mark.parametrize("password", ["p@ss w/rd", "p/w", "p?w", "p#w", "s3cr/et?"])
def test_a_password_that_is_not_encoded_is_answered_with_how_it_is(password: str) -> None:
    with pytest.raises(ValueError, match="%2F stands for /") as refused:
        check_url(f"redis://:{password}@127.0.0.1:6379/0")

    assert password not in str(refused.value)
    assert check_url(f"redis://:{quote(password, safe='')}@127.0.0.1:6379/0")


@pytest.mark.parametrize("url", ["redis://h/0", "rediss://h/0", "unix:///run/redis.sock"])
def test_other_urls_name_no_sentinels(url: str) -> None:
    assert monitored_by(url) is None


@pytest.mark.parametrize("url", ["REDIS://h/0", "Rediss://h/0", "UNIX:///run/redis.sock", "unix:/run/s"])
def test_a_scheme_is_refused_that_the_client_does_not_know(url: str) -> None:
    with pytest.raises(ValueError, match="must begin with redis://, rediss://, unix://"):
        check_url(url)


@pytest.mark.parametrize("secret", ["100%41", "a%25b", "%", "p+q &=#?/:@", "ü"])
def test_an_option_is_what_was_encoded_once_as_every_client_does(secret: str) -> None:
    encoded = quote(secret, safe="")
    url = f"redis://host:1/2?username={encoded}&password={encoded}"
    of_sentinels = monitored_by(f"redis+sentinel://a/main?sentinel_password={encoded}")

    found = server_of(check_url(url))

    assert (found["username"], found["password"], found["db"]) == (secret, secret, 2)
    assert of_sentinels is not None
    assert of_sentinels.options == {"password": secret}


def test_the_first_of_an_option_that_is_there_twice_is_checked_and_used(tmp_path: Path) -> None:
    certificate = tmp_path / "a%41.pem"
    certificate.touch()
    option = f"ssl_ca_certs={quote(str(certificate))}"
    url = check_url(f"rediss://host?{option}&ssl_ca_certs=/nowhere")

    assert server_of(url)["ssl_ca_certs"] == str(certificate)
    with pytest.raises(ValueError, match="/nowhere"):
        check_url(f"rediss://host?ssl_ca_certs=/nowhere&{option}")


def test_user_and_password_before_the_host_come_before_options() -> None:
    found = server_of("redis://one:100%2541@host?username=two&password=other")

    assert (found["username"], found["password"]) == ("one", "100%41")
