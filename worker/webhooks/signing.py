"""What settings say of webhooks, and signatures as Standard Webhooks says: an HMAC by each secret."""

import hmac
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence
from urllib.parse import urlsplit

PREFIX = "whsec_"
MAKE = "printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\""
_LEAST, _MOST = 24, 64  # bytes of a secret, by the specification


def parse_secrets(value: str) -> Sequence[bytes]:
    """The secrets that are separated by spaces, the newest first. Raises: ValueError."""
    secrets = [_parse(one) for one in value.split()]
    if len(set(secrets)) < len(secrets):
        raise ValueError("names one secret twice")
    return secrets


def _parse(text: str) -> bytes:
    try:
        secret = b64decode(text.removeprefix(PREFIX), validate=True)
    except (Error, ValueError):
        secret = b""
    if not text.startswith(PREFIX) or not _LEAST <= len(secret) <= _MOST:
        raise ValueError(
            f"must be {PREFIX} and {_LEAST} to {_MOST} bytes in base64, or several of these with spaces "
            f"between them; {MAKE} makes one"
        )
    return secret


def signed_headers(
    message_id: str, time_s: int, body: bytes, secrets: Sequence[bytes]
) -> Sequence[tuple[str, str]]:
    """The headers `webhook-id`, `webhook-timestamp` and `webhook-signature` of a body."""
    content = f"{message_id}.{time_s}.".encode() + body
    digests = [hmac.digest(secret, content, "sha256") for secret in secrets]
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", str(time_s)),
        ("webhook-signature", " ".join(f"v1,{b64encode(digest).decode()}" for digest in digests)),
    ]


def check_endpoint_url(value: str) -> str:
    """The URL of an endpoint. Raises: ValueError, whose message does not show it."""
    parts = urlsplit(value)
    try:
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port
        is_whole = False
    if not is_whole or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be a URL such as https://app.example.com/hooks/media, in ASCII")
    if parts.username is not None or parts.fragment:
        raise ValueError("must be a URL without a user, a password and #: messages are signed instead")
    return value


def shown_endpoint(url: str) -> str:
    """The URL for people: without its path and query, which may hold a secret."""
    parts = urlsplit(url)
    more = "…" if parts.path.strip("/") or parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{more}" if url else ""
