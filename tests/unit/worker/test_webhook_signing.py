"""Signatures of webhooks: those of the specification, by every secret, verified by the words of the page."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.receiver import OLD_SECRET, SECRET
from worker.settings import Settings, SettingsError
from worker.webhooks.signing import parse_secrets, signed_headers

PAGE = (Path(__file__).parents[3] / "docs/webhooks.md").read_text("utf-8")
SNIPPETS = dict(re.findall(r"<!-- snippet: verify-(\w+) -->\n```\w+\n(.*?)```\n", PAGE, re.DOTALL))
BODY = '{"source": "uploads/\N{SNOWMAN}.jpg"}'.encode()


def test_a_signature_is_that_of_the_specifications_test_vector() -> None:
    [secret] = parse_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [secret])

    assert headers == [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]


def signed(*secrets: str, time_s: int | None = None) -> dict[str, str]:
    moment = int(time.time()) if time_s is None else time_s
    return dict(signed_headers("msg_1", moment, BODY, parse_secrets(" ".join(secrets))))


def verify_in_python(secret: str, headers: dict[str, str], body: bytes) -> bool:
    known: dict[str, Any] = {}
    exec(SNIPPETS["python"], known)
    return bool(known["verify"](secret, headers, body))


def verify_in_node(secret: str, headers: dict[str, str], body: bytes) -> bool:
    if shutil.which("node") is None:
        pytest.skip("no node")
    call = f"verify({json.dumps(secret)}, {json.dumps(headers)}, Buffer.from({json.dumps(body.decode())}))"
    script = f"{SNIPPETS['node']}\nconsole.log({call});"
    return subprocess.run(["node", "-e", script], check=True, capture_output=True).stdout == b"true\n"


@pytest.mark.parametrize("verify", [verify_in_python, verify_in_node])
def test_the_snippets_of_the_page_take_what_is_signed_by_either_of_two_secrets(verify: Any) -> None:
    both = signed(SECRET, OLD_SECRET)

    assert verify(SECRET, both, BODY)
    assert verify(OLD_SECRET, both, BODY)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (signed(OLD_SECRET), BODY),
        (signed(SECRET), BODY + b" "),
        (signed(SECRET, time_s=1614265330), BODY),
        ({**signed(SECRET), "webhook-id": "msg_2"}, BODY),
        ({**signed(SECRET), "webhook-signature": "v1,\N{LATIN SMALL LETTER E WITH ACUTE} v2,x"}, BODY),
        ({}, BODY),
    ],
    ids=["another secret", "another body", "old", "another id", "no signature", "nothing"],
)
def test_the_snippet_for_python_refuses_everything_else(headers: dict[str, str], body: bytes) -> None:
    assert not verify_in_python(SECRET, headers, body)


def test_the_snippet_for_node_refuses_another_secret_and_what_has_no_signature() -> None:
    assert not verify_in_node(SECRET, signed(OLD_SECRET), BODY)
    assert not verify_in_node(SECRET, {}, BODY)


@pytest.mark.parametrize(
    ("url", "secret", "variable", "words"),
    [
        ("https://app.example/hook", "", "SECRET", "must be set where MEDIA_WEBHOOK_URL is"),
        ("https://app.example/hook", "hunter2", "SECRET", "must be whsec_ and 24 to 64 bytes"),
        ("https://app.example/hook", "whsec_c2hvcnQ=", "SECRET", "openssl rand -base64 32"),
        ("https://app.example/hook", f"{SECRET} {SECRET}", "SECRET", "names one secret twice"),
        ("ftp://app.example/hook", SECRET, "URL", "must be a URL such as https://"),
        ("https:///hook", SECRET, "URL", "must be a URL such as https://"),
        ("https://app.example:99999/hook", SECRET, "URL", "must be a URL such as https://"),
        ("https://me:hunter2@app.example/hook", SECRET, "URL", "without a user, a password"),
    ],
)
def test_a_wrong_url_or_secret_is_refused_at_the_start_and_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, url: str, secret: str, variable: str, words: str
) -> None:
    monkeypatch.setenv("MEDIA_WEBHOOK_URL", url)
    monkeypatch.setenv("MEDIA_WEBHOOK_SECRET", secret)

    with pytest.raises(SettingsError, match=f"MEDIA_WEBHOOK_{variable}: .*{re.escape(words)}") as refused:
        Settings.load()
    assert "hunter2" not in str(refused.value)
