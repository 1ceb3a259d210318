"""The client over HTTP, for apps that share neither folder nor Redis with the worker (`media serve`)."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import socket
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, Union, cast
from urllib.parse import quote, urlencode, urlsplit

from media_worker_client.errors import MediaError, MediaTimeout
from media_worker_client.events import UploadId, id_text
from media_worker_client.messages import Message, Upload, parse_message, parse_upload

T = TypeVar("T")
Picture = Union[bytes, bytearray, memoryview, str, "os.PathLike[str]", BinaryIO]
"""The picture itself, the path of its file, or that file, opened for bytes; it is read from the beginning."""

_AGAIN = (408, 425, 429, 502, 503, 504)
_TRIES = 4
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_PAGE = 100
_MOST_ANSWER = 64 * 1024 * 1024  # bytes of an answer


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    document: Any

    def content(self) -> Mapping[str, Any]:
        """The object of JSON that was answered. Raises: MediaError where there is none."""
        if isinstance(self.document, dict):
            return self.document
        said = f"The server answered with {self.status} and no object of JSON: is it the URL of media serve?"
        raise MediaError("unexpected_answer", said, self.status)


class HttpMediaClient:
    """Uploads pictures over HTTP, deletes them and asks about them. Many threads may use it.

    What was not answered, or with "later" (429, 503, ...), is tried again a few times. Raises: MediaError,
    with the code and the status of the answer, MediaTimeout where there was none.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        secret: str | None = None,
        timeout: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`url` is that of `media serve`, `key` one of `media keys new`. With `secret`, the server's
        `MEDIA_HTTP_SECRET`, tokens are signed here, for any owner. `timeout` is in seconds, of each try.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"The URL of media serve begins with http:// or https://: {url!r}")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ValueError(
                "The key has a character that no header may have: is it a line break at its end?"
            )
        self._is_tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._key = key
        self._secret = secret
        self._timeout = timeout
        self._sleep = sleep

    def upload(
        self,
        picture: Picture,
        *,
        content_type: str | None = None,
        filename: str | None = None,
        recipe: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        owner: str | None = None,
        idempotency_key: str | None = None,
        wait: float = 0,
    ) -> Upload:
        """Upload a picture: its bytes, the path of its file, or a file that is open. With `wait`, the answer
        has the variants if they are there within so many seconds, 30 at most.

        `filename` goes into the metadata. The same `idempotency_key` is the same upload, also of another
        process; without, each call is an upload of its own. `owner` needs the `secret`.
        """
        about = dict(metadata or {})
        if filename is not None:
            about["filename"] = filename
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        if content_type is not None:
            headers["Content-Type"] = content_type
        if recipe is not None:
            headers["Media-Recipe"] = recipe
        if about:
            headers["Media-Metadata"] = json.dumps(about, allow_nan=False, separators=(",", ":"))
        if wait:
            headers["Prefer"] = f"wait={int(wait)}"
        authorization = None if owner is None else self._sign({"owner": owner}, 600)["token"]
        path = "/v1/uploads"
        answer = self._request("POST", path, headers, picture, authorization, patience_s=wait)
        return parse_upload(answer.content())

    def status(self, id: UploadId, *, wait: float = 0) -> Upload | None:
        """The upload as it is, or within `wait` seconds (30 at most) its outcome; None where there is none of
        that id, or none any more.
        """
        query = f"?{urlencode({'wait': int(wait)})}" if wait else ""
        try:
            answer = self._request("GET", f"/v1/uploads/{_id(id)}{query}", patience_s=wait)
        except MediaError as error:
            if error.status == http.client.NOT_FOUND and error.code == "not_found":
                return None
            raise
        return parse_upload(answer.content())

    def delete(self, id: UploadId, *, original: bool = False) -> None:
        """Delete an upload, with `original` also what was uploaded; an unknown one is an error (404)."""
        self._request("DELETE", f"/v1/uploads/{_id(id)}{'?original=1' if original else ''}")

    def token(
        self,
        *,
        max_bytes: int | None = None,
        expires_in: int = 600,
        recipe: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        count: int | None = None,
        owner: str | None = None,
    ) -> dict[str, Any]:
        """A token with which a browser uploads: `token`, `expires` and `url`.

        It counts for `expires_in` seconds, and allows `count` uploads of at most `max_bytes`. `owner` needs
        the `secret`; with it, the server is not asked.
        """
        limits = {"max_bytes": max_bytes, "recipe": recipe, "metadata": metadata}
        given = {name: value for name, value in limits.items() if value is not None}
        if owner is not None or self._secret is not None:
            claims = {**given, "n": count, "owner": owner}
            return self._sign(
                {name: value for name, value in claims.items() if value is not None}, expires_in
            )
        body = {**given, "expires_in": expires_in, **({} if count is None else {"count": count})}
        headers = {"Content-Type": "application/json"}
        answer = self._request("POST", "/v1/tokens", headers, json.dumps(body, allow_nan=False).encode())
        return dict(answer.content())

    def limits(self) -> dict[str, Any]:
        """What uploads may be: `max_bytes`, `max_pixels`, `formats`, `recipes`; it needs no key."""
        return dict(self._request("GET", "/v1/limits").content())

    def events(self, since: int = 0) -> Iterator[Message]:
        """The messages after that `seq`, up to now; go on later with the `seq` of the last one.

        One of the type `gap` says that messages between were forgotten (`raw` has `from` and `to`): ask for
        the state of what you wait for.
        """
        while True:
            query = urlencode({"since": since, "limit": _PAGE})
            page = self._request("GET", f"/v1/events?{query}", {"Accept": "application/json"}).content()
            yield from messages_of(page)
            if page.get("next") is None:
                return
            since = page["next"]

    # -- how it is sent

    def _sign(self, claims: Mapping[str, Any], expires_in: int) -> dict[str, Any]:
        """A token that is signed here. Raises: ValueError without a secret."""
        if self._secret is None:
            raise ValueError("To name an owner, the client needs the server's MEDIA_HTTP_SECRET as `secret`.")
        expires_at = int(time.time()) + expires_in
        said = {"aud": "media", "exp": expires_at, "jti": uuid.uuid4().hex, **claims}
        head = _base64url(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
        signed = f"{head}.{_base64url(json.dumps(said, allow_nan=False).encode())}"
        signature = hmac.new(self._secret.encode(), signed.encode(), hashlib.sha256).digest()
        expires = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(expires_at))
        return {
            "token": f"{signed}.{_base64url(signature)}",
            "expires": expires,
            "url": self._url("/v1/uploads"),
        }

    def _url(self, path: str) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        port = "" if self._port is None else f":{self._port}"
        return f"{'https' if self._is_tls else 'http'}://{host}{port}{self._base}{path}"

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Picture | None = None,
        authorization: str | None = None,
        patience_s: float = 0,
    ) -> _Answer:
        """The answer of a request, which is tried again where that may help: all of them may come twice."""
        bearer = authorization or self._key
        sent = {
            "Accept": "application/json",
            **(headers or {}),
            **({"Authorization": f"Bearer {bearer}"} if bearer else {}),
        }
        with _opened(body) as stream:
            return self._persist(method, path, sent, stream, patience_s)

    def _persist(
        self, method: str, path: str, headers: Mapping[str, str], body: BinaryIO, patience_s: float
    ) -> _Answer:
        for tries in range(1, _TRIES + 1):
            body.seek(0)
            try:
                answer = self._try(method, path, headers, body, patience_s)
            except (OSError, http.client.HTTPException) as error:
                if tries == _TRIES:
                    raise _unanswered(error, self._url("")) from error
                pause_s = 0.0
            else:
                # The try before may have deleted it, though its answer was lost.
                is_deleted = method == "DELETE" and tries > 1 and answer.status == http.client.NOT_FOUND
                if answer.status < http.client.MULTIPLE_CHOICES or is_deleted:
                    return answer
                pause_s = _retry_after_s(answer)
                if tries == _TRIES or answer.status not in _AGAIN or pause_s > self._timeout:
                    raise _refused(answer)
            usual_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (tries - 1))
            self._sleep(max(pause_s, usual_s))
        raise AssertionError("unreachable")

    def _try(
        self, method: str, path: str, headers: Mapping[str, str], body: BinaryIO, patience_s: float
    ) -> _Answer:
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout + patience_s)
        size = body.seek(0, os.SEEK_END) - body.seek(0)
        has_body = method == "POST"
        more = {"Content-Length": str(size)} if has_body else {}
        try:
            connection.connect()
            # A server that refuses a body by its length does not read it; its answer may be here already.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._base + path, body if has_body else None, {**headers, **more})
            answer = connection.getresponse()
            return _Answer(answer.status, _lower(answer.getheaders()), _document(answer))
        finally:
            connection.close()


def messages_of(page: Mapping[str, Any]) -> Iterator[Message]:
    """The messages of a page, and first that there is a gap before them."""
    gap = page.get("gap")
    if gap:
        yield Message(type="gap", id=None, seq=int(gap["to"]), source=None, state=None, raw=gap)
    for document in page.get("items") or ():
        message = parse_message(document)
        if message is not None:
            yield message


def _opened(body: Picture | None) -> AbstractContextManager[BinaryIO]:
    """A body to read, from its beginning for each try; what the app has opened, it closes.

    Raises: OSError for a file that cannot be read, TypeError for one of text.
    """
    if body is None:
        return BytesIO()
    if hasattr(body, "read"):
        file = cast(BinaryIO, body)
        if not isinstance(file.read(0), bytes):
            raise TypeError("A picture is a binary file: open it with the mode rb.")
        return contextlib.nullcontext(file)
    if isinstance(body, (bytes, bytearray, memoryview)):
        return BytesIO(body)
    return Path(body).open("rb")


def _id(given: UploadId) -> str:
    return quote(id_text(given))


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _lower(headers: list[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


def _document(answer: http.client.HTTPResponse) -> Any:  # noqa: ANN401 (JSON; None for what is none)
    try:
        return json.loads(answer.read(_MOST_ANSWER) or b"null")
    except ValueError:
        return None


def _refused(answer: _Answer) -> MediaError:
    """What a problem (RFC 9457) says; a proxy has pages of its own."""
    if answer.status < http.client.BAD_REQUEST:
        there = answer.headers.get("location", "another URL, which it does not name")
        return MediaError(
            "redirected", f"The server redirects to {there}: give the URL there.", answer.status
        )
    problem = answer.document if isinstance(answer.document, dict) else {}
    reason = http.client.responses.get(answer.status, "")
    code, detail = problem.get("code"), problem.get("detail")
    return MediaError(
        code if isinstance(code, str) else f"http_{answer.status}",
        detail
        if isinstance(detail, str)
        else f"The server, or a proxy, answered with {answer.status} {reason}.",
        answer.status,
    )


def _unanswered(error: Exception, url: str) -> MediaError:
    if isinstance(error, (TimeoutError, socket.timeout)):  # of Python 3.9 the second is no first
        return MediaTimeout("no_answer", f"{url} did not answer in time.")
    return MediaError("unreachable", f"{url} cannot be reached: {error}")


def _retry_after_s(answer: _Answer) -> float:
    given = answer.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdigit() else 0.0
