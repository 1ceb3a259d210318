"""What is said where no S3 answers, or where it refuses: who was asked, what is wrong, what to do."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from storage.blobs.opening import open_blobs
from storage.blobs.s3_client import open_store
from storage.blobs.s3_place import S3Place
from storage.errors import BlobsAway, BlobsUnavailable, BlobsUnfit
from worker.doctor.bucket import check_use
from worker.settings import Settings

REDIS = b"-ERR unknown command 'GET'\r\n"


def refusal(status: int, code: str, message: str) -> bytes:
    return answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")


def answer(status: int, body: str) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


@contextmanager
def serving(said: bytes) -> Iterator[int]:
    """A server that answers the same whatever it is asked; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    with server.accept()[0] as asked:
                        asked.recv(65536)
                        asked.sendall(said)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "media")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("MEDIA_ENV_FILE", "")
    return monkeypatch


async def error_at(endpoint: str) -> BlobsUnavailable:
    """What the marker of a storage at that endpoint is answered with."""
    async with open_blobs(S3Place("media", endpoint=endpoint).url, create=False) as blobs:
        with pytest.raises(BlobsUnavailable) as raised:
            await blobs.catalog_id()
    return raised.value


SAID = [
    (answer(503, ""), "http", BlobsAway, "503 Service Unavailable"),
    (REDIS, "http", BlobsUnavailable, "what answers at {at} does not speak HTTP"),
    (REDIS, "https", BlobsUnavailable, "{at} does not speak TLS: is it http://?"),
    (
        answer(400, "Client sent an HTTP request to an HTTPS server."),
        "http",
        BlobsUnavailable,
        "{at} speaks TLS: is it https://?",
    ),
    (b"", "http", BlobsAway, "error sending request ({at})"),
]


@pytest.mark.parametrize(("said", "scheme", "kind", "reason"), SAID)
async def test_who_answers_and_is_no_s3_is_named(
    said: bytes, scheme: str, kind: type[BlobsUnavailable], reason: str
) -> None:
    with serving(said) as port:
        found = await error_at(at := f"{scheme}://127.0.0.1:{port}")

    assert str(found) == f"the storage failed at .media-root.json: {reason.format(at=at)}"
    assert type(found) is kind


async def test_where_nobody_listens_the_address_is_named() -> None:
    with serving(b"") as port:
        pass
    found = await error_at(at := f"http://127.0.0.1:{port}")

    assert str(found) == f"the storage failed at .media-root.json: nobody listens at {at}"
    assert type(found) is BlobsAway


REFUSALS = [
    (
        "SignatureDoesNotMatch",
        "Check your key.",
        BlobsUnfit,
        "Check your key. AWS_SECRET_ACCESS_KEY is not that of this AWS_ACCESS_KEY_ID",
    ),
    ("InvalidAccessKeyId", "It does not exist.", BlobsUnfit, "It does not exist. Correct AWS_ACCESS_KEY_ID"),
    (
        "AccessDenied",
        "Access Denied.",
        BlobsUnavailable,
        "Access Denied. It takes the right s3:GetObject, and s3:ListBucket to say that it is missing",
    ),
]


@pytest.mark.parametrize(("code", "message", "kind", "words"), REFUSALS)
async def test_a_refusal_is_a_whole_sentence_with_its_cause(
    code: str, message: str, kind: type[BlobsUnavailable], words: str
) -> None:
    with serving(refusal(403, code, message)) as port:
        found = await error_at(f"http://127.0.0.1:{port}")

    assert str(found) == f"the storage refused .media-root.json: 403 {code}: {words}"
    assert type(found) is kind


async def test_where_no_endpoint_is_named_amazon_s_is_and_why(key: pytest.MonkeyPatch) -> None:
    with serving(refusal(403, "InvalidAccessKeyId", "It does not exist.")) as port:
        key.setenv("AWS_PROXY_URL", f"http://127.0.0.1:{port}")  # which cannot be a way to it
        found = await error_at("")

    assert "amazonaws.com" in str(found)
    assert str(found).endswith("(MEDIA_S3_ENDPOINT names no other server)")


async def test_a_host_without_a_role_lacks_credentials_and_is_not_refused_by_the_bucket(
    key: pytest.MonkeyPatch,
) -> None:
    key.delenv("AWS_ACCESS_KEY_ID")
    key.delenv("AWS_SECRET_ACCESS_KEY")
    with serving(answer(403, "denied")) as port:
        key.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{port}")
        found = await error_at("http://127.0.0.1:1")

    assert "there are no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set" in str(found)
    assert not isinstance(found, BlobsAway)


def test_a_client_that_cannot_be_made_is_no_traceback(key: pytest.MonkeyPatch) -> None:
    key.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BlobsUnfit, match=r"^s3://media cannot be opened: .*Missing SecretAccessKey\. See"):
        open_store(S3Place("media"))


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (answer(503, ""), "that its server runs"),
        (refusal(403, "SignatureDoesNotMatch", "x"), "Correct the variables AWS_*"),
        (refusal(403, "AccessDenied", "x"), "it takes the rights s3:GetObject"),
    ],
)
async def test_what_the_doctor_advises_is_about_what_is_wrong(said: bytes, advice: str) -> None:
    with serving(said) as port:
        [found] = await check_use(Settings(storage_url="s3://media", s3_endpoint=f"http://127.0.0.1:{port}"))

    assert found.level == "error"
    assert advice in (found.advice or "")
