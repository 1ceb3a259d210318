"""What an `s3://` URL names; it needs no client, so that settings can be checked without one."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from storage import keys
from storage.errors import KeyRefused

SCHEME = "s3://"
ADDRESSINGS = ("auto", "path")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
LONGEST_KEY = 1024  # bytes, on S3
_LONGEST_PREFIX = 512  # bytes; our keys come after it


@dataclass(frozen=True)
class S3Place:
    """A bucket, the prefix of all keys in it, and where it is; no endpoint: AWS.

    The addressing `auto` has the bucket in the path wherever there is an endpoint, and in the host on AWS.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    addressing: str = "auto"

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}" if self.prefix else f"{SCHEME}{self.bucket}"

    def check_length(self, key: str) -> None:
        """Raises: KeyRefused where the bucket cannot have that key, because of what stands before it."""
        whole = f"{self.prefix}/{key}" if self.prefix else key
        if (size := len(whole.encode(errors="replace"))) > LONGEST_KEY:
            raise KeyRefused(
                f"a key has at most {LONGEST_KEY} bytes in a bucket, with its prefix; this one has {size}"
            )

    @property
    def is_on_aws(self) -> bool:
        """Whether the bucket is Amazon's, so that the host it is asked from may have a role."""
        host = urlsplit(self.endpoint).hostname or ""
        return not host or host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def url(self) -> str:
        """The whole place as a URL that `parse_s3` reads."""
        options = {"endpoint": self.endpoint, "addressing": self.addressing}
        query = urlencode({name: value for name, value in options.items() if value not in ("", "auto")})
        path = f"{SCHEME}{self.bucket}/{quote(self.prefix)}" if self.prefix else str(self)
        return f"{path}?{query}" if query else path


def is_s3(url: str) -> bool:
    """Whether a storage URL names a bucket."""
    return url.startswith(SCHEME)


def parse_s3(url: str) -> S3Place:
    """The place that `url` names. Raises: ValueError, with a reason for people."""
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not is_s3(url) or parts.fragment or not _BUCKET.fullmatch(parts.netloc):
        raise ValueError("must be s3://BUCKET or s3://BUCKET/PREFIX")
    if unknown := given.keys() - {"endpoint", "addressing"}:
        raise ValueError(f"may have endpoint= and addressing= after its ?, not {', '.join(sorted(unknown))}=")
    place = S3Place(
        parts.netloc,
        _prefix(unquote(parts.path)),
        check_endpoint(given.get("endpoint", "")),
        given.get("addressing", "auto"),
    )
    if place.addressing not in ADDRESSINGS:
        raise ValueError(f"may have the addressing {' or '.join(ADDRESSINGS)}, not {place.addressing}")
    return place


def check_endpoint(value: str) -> str:
    """`value` itself where it is empty, or the URL of a server. Raises: ValueError."""
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/")):
        raise ValueError("must be http://HOST[:PORT] or https://HOST[:PORT]")
    if parts.username is not None:
        raise ValueError(
            "must not hold a user; the key and its secret are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return value.rstrip("/")


def _prefix(path: str) -> str:
    prefix = path.strip("/")
    if not prefix:
        return ""
    try:
        keys.segments(prefix)
    except KeyRefused as error:
        raise ValueError(f"has a prefix that cannot be one: {error}") from error
    if len(prefix.encode()) > _LONGEST_PREFIX:
        raise ValueError(f"has a prefix of more than {_LONGEST_PREFIX} bytes")
    return prefix
