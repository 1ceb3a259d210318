"""A bucket that lists more objects than it has: a proxy before a server answers the listings of one folder.

To put a million objects into a server of the tests takes half an hour. Who lists them notices no difference.
"""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import AbstractContextManager
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from tests.support.s3_proxy import S3Proxy, serving

PAGE = 1000  # the most that S3 lists in one answer
_OBJECT = (
    "<Contents><Key>{}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    "<ETag>&quot;9dd4e461268c8034f5c8564e155c67a6&quot;</ETag><Size>1</Size></Contents>"
)


class LargeBucket(S3Proxy):
    """Stands before a server, and lists `keys`, which are sorted, below `folder`."""

    def __init__(self, endpoint: str, folder: str, keys: Sequence[str]) -> None:
        super().__init__(endpoint)
        self._folder = folder
        self._keys = keys

    @property
    def listings(self) -> int:
        """How many pages were asked for, of whatever folder."""
        return sum("list-type=2" in path for _, path in self.requests)

    def listed(self, method: str, path: str) -> bytes | None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        if method != "GET" or asked.get("prefix") != f"{self._folder}/" or "delimiter" in asked:
            return None
        after = asked.get("continuation-token") or asked.get("start-after") or ""
        start = bisect_right(self._keys, after)
        page = self._keys[start : start + PAGE]
        more = start + PAGE < len(self._keys)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        objects = "".join(_OBJECT.format(escape(key)) for key in page)
        return (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{objects}"
            "</ListBucketResult>"
        ).encode()


def large_bucket(endpoint: str, folder: str, keys: Sequence[str]) -> AbstractContextManager[LargeBucket]:
    """One before that server, in threads of its own."""
    return serving(LargeBucket(endpoint, folder, keys))
