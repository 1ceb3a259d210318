"""`media doctor`: what it says of the HTTP server."""

import pytest

from storage.catalog.http_keys import HttpKey
from worker.doctor.face import inspect_http
from worker.settings import Settings

KEY = HttpKey("app", "a" * 64, frozenset({"read"}))
REVOKED = HttpKey("old", "b" * 64, frozenset({"read"}), revoked_ms=1)
ELSEWHERE = "0.0.0.0:8080"
HERE = "127.0.0.1:8080"


@pytest.mark.parametrize(
    ("bind", "keys", "is_installed", "level", "words"),
    [
        (HERE, [], True, "ok", "open to this machine alone"),
        (HERE, [KEY, REVOKED], True, "ok", "1 key, 1 revoked"),
        (ELSEWHERE, [KEY], True, "ok", "1 key, 0 revoked"),
        (ELSEWHERE, [], True, "warning", "does not start without a key"),
        (ELSEWHERE, [], True, "warning", "reached by other machines"),
        ("unix:/run/media.sock", [], True, "warning", "reached by whoever may open that socket"),
        (ELSEWHERE, [REVOKED], True, "warning", "nobody is let in"),
        (HERE, [], False, "ok", "which is fine where nobody uploads over HTTP"),
        (HERE, [], False, "ok", "extra http"),
        (HERE, [KEY], False, "warning", "there are keys, but it is not installed"),
        (HERE, [KEY], False, "warning", "extra http"),
    ],
)
def test_the_doctor_says_whom_the_server_lets_in(
    bind: str, keys: list[HttpKey], is_installed: bool, level: str, words: str
) -> None:
    settings = Settings(http_bind=bind)
    finding = inspect_http(settings, keys, is_installed=is_installed)

    assert finding.level == level
    assert words in f"{finding.detail} {finding.advice}"


@pytest.mark.parametrize(
    ("secret", "words"), [("", "MEDIA_HTTP_SECRET is not set"), ("s" * 32, "are signed")]
)
def test_the_doctor_says_whether_tokens_are_signed_and_not_by_what(secret: str, words: str) -> None:
    finding = inspect_http(Settings(http_secret=secret), [KEY], is_installed=True)

    assert words in finding.detail
    assert not secret or secret not in f"{finding.detail} {finding.advice}"
