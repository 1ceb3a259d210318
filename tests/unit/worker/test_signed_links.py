"""Signed links to files."""

from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from worker.http.links import SIGNED_FOR_S, Links

KEY = "variants/ab/cd/abcd5678-1234-5678-9234-567812345678.jpg"
NOW = 1_800_000_000.0
LINKS = Links("https://media.example.com", "a-secret-of-the-tests-with-32-bytes", lambda: NOW)


def asked(url: str) -> tuple[str, str]:
    query = parse_qs(urlsplit(url).query)
    return query["expires"][0], query["signature"][0]


def test_a_link_counts_for_one_to_two_hours() -> None:
    left = LINKS.left_s(KEY, *asked(LINKS.of(KEY)))

    assert left is not None
    assert SIGNED_FOR_S <= left <= 2 * SIGNED_FOR_S


def test_a_link_is_the_same_for_an_hour_so_that_browsers_keep_the_file() -> None:
    later = Links(LINKS.base, LINKS.secret, lambda: NOW // 3600 * 3600 + 3599)

    assert later.of(KEY) == LINKS.of(KEY)


def test_a_link_that_has_expired_counts_no_more() -> None:
    expires, signature = asked(LINKS.of(KEY))
    clock = iter([int(expires) - 1, int(expires), int(expires) + 1])
    links = Links(LINKS.base, LINKS.secret, lambda: next(clock))

    assert [links.left_s(KEY, expires, signature) for _ in range(3)] == [1, None, None]


@pytest.mark.parametrize("change", ["", "1", "x", "-1", "+1", " 1", "9" * 13, "1e9", "٣", "0x7", "\ud800"])
def test_another_time_is_not_signed(change: str) -> None:
    assert LINKS.left_s(KEY, change, asked(LINKS.of(KEY))[1]) is None


def test_a_time_has_one_spelling() -> None:
    expires, signature = asked(LINKS.of(KEY))

    assert LINKS.left_s(KEY, f"0{expires}", signature) is None


def test_another_file_secret_or_signature_does_not_count() -> None:
    expires, signature = asked(LINKS.of(KEY))
    other = KEY.replace("abcd5678", "abcd5679")

    assert LINKS.left_s(other, expires, signature) is None
    assert (
        Links("", "another-secret-with-more-than-32-b", lambda: NOW).left_s(KEY, expires, signature) is None
    )
    assert Links("", "", lambda: NOW).left_s(KEY, expires, signature) is None
    for wrong in ("", signature[:-1], f"{signature}=", signature.swapcase(), "\u00e9"):
        assert LINKS.left_s(KEY, expires, wrong) is None


def test_a_plain_link_lasts() -> None:
    assert Links("").of(KEY) == f"/files/{KEY}"


@pytest.mark.parametrize(
    ("base", "path"),
    [("", ""), ("https://cdn.example.com", ""), ("https://example.com/media", "/media")],
)
def test_an_uploads_own_address_is_on_the_host_that_was_asked(base: str, path: str) -> None:
    assert Links(base).of_upload(UUID(int=1)) == f"{path}/v1/uploads/{UUID(int=1)}"
