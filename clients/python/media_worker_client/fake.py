"""A worker that is none, for an app's tests: no Redis, no processes, the same verbs and messages."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from media_worker_client import async_client
from media_worker_client.announcing import Announcing
from media_worker_client.client import run
from media_worker_client.cursors import Cursor, SeqStore
from media_worker_client.events import UploadId, encoded, event_of, status_question
from media_worker_client.messages import Message, Upload, parse_message, parse_upload
from media_worker_client.options import Stop
from media_worker_client.steps import Call, Steps

PICTURES = Path(__file__).parent / "pictures"
_VARIANTS = (("thumb", 150, 113), ("medium", 480, 360), ("large", 480, 360))
_FILES = {
    "thumb": "thumb.jpg",
    "medium": "large.jpg",
    "large": "large.jpg",
}  # small pictures are not enlarged
_ORIGINAL = {"width": 480, "height": 360, "format": "jpeg", "color": "#5a6b46"}
_REFUSED = {"invalid_event", "unknown_recipe"}
"""What is wrong with an event: it is answered, and the upload stays as it is."""
_MESSAGES = {
    "source_missing": "There is no such file.",
    "source_too_large": "The file has 20.5 MB; at most 10 MiB are accepted.",
    "unsupported_format": "This is no picture of a format that is accepted.",
    "corrupt_image": "The file is damaged or incomplete.",
    "too_many_pixels": "The picture has too many pixels.",
}


class FakeMedia(Announcing):
    """`MediaClient` for tests: every upload is ready at once, unless the test says how it fails.

    What an app sends is kept in `sent`; `deliver` gives the messages to those who listen. With `root`, a
    folder, there are files under the keys of variants, of a bundled picture.
    """

    def __init__(self, root: Path | str | None = None, *, url: str = "") -> None:
        """`url` is what stands before keys in links, such as `http://testserver/files/`."""
        self.sent: list[dict[str, Any]] = []
        """The events, as they came."""
        self._root = None if root is None else Path(root)
        self._url = url
        self._failures: dict[str, tuple[str, str]] = {}
        self._uploads: dict[str, dict[str, Any]] = {}
        self._undelivered: list[dict[str, Any]] = []
        self._handlers: list[tuple[str | None, Callable[[Message], Any]]] = []
        self._seq = 0

    # -- what a test says

    def fail(self, source: str, code: str = "corrupt_image", message: str | None = None) -> None:
        """Have uploads of `source` fail from now on."""
        self._failures[source] = (code, message or _MESSAGES.get(code, "It failed, as the test asked."))

    def succeed(self, source: str) -> None:
        """Have uploads of `source` succeed again."""
        self._failures.pop(source, None)

    def deliver(self) -> list[Message]:
        """Give the messages that wait to all who listen, in their order; returns them.

        What a handler raises comes through, and its message waits on.
        """
        return run(self.delivery())

    def delivery(self) -> Steps[list[Message]]:
        """What `deliver` does, step by step."""
        delivered: list[Message] = []
        while self._undelivered:
            message = parse_message(self._undelivered[0], f"{self._undelivered[0]['seq']}-0")
            assert message is not None
            for handler in self._listeners():
                yield Call(handler, (message,))
            self._undelivered.pop(0)
            delivered.append(message)
        return delivered

    # -- the verbs

    def status(self, id: UploadId, *, timeout: float = 5.0) -> Upload | None:
        """As of `MediaClient`, at once."""
        upload = self._uploads.get(status_question(id)["status"])
        return None if upload is None else parse_upload(upload)

    def limits(self) -> dict[str, Any]:
        """Those of a worker with default settings, and its default recipe by name."""
        return {
            "version": "fake",
            "max_bytes": 10_485_760,
            "max_pixels": 100_000_000,
            "formats": ["jpeg", "png", "webp", "gif", "tiff", "avif", "heic", "bmp", "ico"],
            "recipes": [
                {
                    "name": "default",
                    "placeholder": "thumbhash",
                    "variants": [
                        {"name": name, "box": box, "fit": "inside", "format": "jpeg", "quality": 80}
                        for name, box in (("thumb", 150), ("medium", 800), ("large", 1920))
                    ],
                }
            ],
            "headers": [],
        }

    def send(self, event: Mapping[str, Any]) -> str:
        """Take an event, and have its messages wait. Raises: ValueError for what a worker would refuse."""
        taken = event_of(event)
        self.sent.append(taken)
        arrived = json.loads(encoded(taken))  # a worker has nothing but JSON
        if "delete" in arrived:
            self._delete(arrived)
        else:
            self._process(arrived)
        return f"{len(self.sent)}-0"

    def listen(
        self,
        handler: Callable[[Message], Any],
        group: str | None = None,
        consumer: str | None = None,
        cursor: Cursor | None = None,
        stop: Stop | None = None,
        *,
        pending: Callable[[], Iterable[UploadId]] | None = None,
        seqs: SeqStore | None = None,
        claim_after: float = 60.0,
    ) -> None:
        """Have `deliver` call `handler`, too; it returns at once.

        Of the listeners of a group one has the messages: the one that came last.
        """
        self._handlers.append((group, handler))

    def close(self) -> None:
        """Nothing."""

    def __enter__(self) -> FakeMedia:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listeners(self) -> Iterable[Callable[[Message], Any]]:
        """All that listen alone, and one of each group."""
        last = {group: at for at, (group, _) in enumerate(self._handlers)}
        return [one for at, (group, one) in enumerate(self._handlers) if group is None or last[group] == at]

    # -- what a worker would do

    def _process(self, event: Mapping[str, Any]) -> None:
        source, known = event["source"], self._uploads.get(event["id"])
        about = {"id": event["id"], "source": source, "metadata": event.get("metadata", {})}
        traced = _trace_of(event)
        code, message = self._failures.get(source, (None, None))
        if known is not None and known["source"] not in (source, None):
            code, message = "invalid_event", "the id belongs to another source"
        error = {"code": code, "message": message}
        if code in _REFUSED:
            entry = f"{len(self.sent)}-0"
            seq = self._tell("failed", {**about, "attempts": 0, "error": error, **traced, "entry": entry})
            if known is not None:
                self._keep(known, seq)
            return
        recipe = event.get("recipe", "default")
        if code is not None:
            seq = self._tell("failed", {**about, "attempts": 1, "error": error, **traced})
            self._keep({**about, "state": "failed", "recipe": recipe, "attempts": 1, "error": error}, seq)
            return
        made = self._made(event["id"])
        replaces = event.get("replaces")
        replaced = {"replaces": replaces} if replaces else {}
        seq = self._tell("ready", {**about, "recipe": recipe, **made, **replaced, **traced})
        self._keep({**about, "state": "ready", "recipe": recipe, "attempts": 1, **made}, seq)
        if replaces:
            self._delete({"delete": replaces, "replaced_by": event["id"], **traced})

    def _made(self, id: str) -> dict[str, Any]:
        """What an upload has that is ready."""
        variants = [self._variant(id, *of) for of in _VARIANTS]
        widths = {one["width"]: one for one in reversed(variants)}
        return {
            "original": {**_ORIGINAL, "bytes": (PICTURES / "large.jpg").stat().st_size},
            "thumbhash": "1mYGRZYXaIhwh4iBilmIhhePcnAI",
            "blurhash": None,
            "variants": variants,
            "srcset": ", ".join(f"{self._url}{one['key']} {width}w" for width, one in sorted(widths.items())),
        }

    def _delete(self, event: Mapping[str, Any]) -> None:
        id = event["delete"]
        known = self._uploads.get(id, {"source": None, "metadata": {}})
        if self._root is not None and "replaced_by" not in event:
            for variant in known.get("variants", ()):
                (self._root / variant["key"]).unlink(missing_ok=True)
        by = event.get("replaced_by", known.get("replaced_by"))
        about = {"id": id, "source": known["source"], **({"replaced_by": by} if by else {})}
        fate = "missing" if known["source"] is None else "kept"
        told = {**about, "metadata": known["metadata"], "original": fate, **_trace_of(event)}
        seq = self._tell("deleted", told)
        self._keep({**about, "state": "deleted", "recipe": "default", "attempts": 0, "metadata": {}}, seq)

    def _variant(self, upload: str, name: str, width: int, height: int) -> dict[str, Any]:
        file = PICTURES / _FILES[name]
        of = str(uuid.uuid5(uuid.UUID(upload), name))
        key = f"variants/{of[:2]}/{of[2:4]}/{of}.jpg"
        if self._root is not None:
            place = self._root / key
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        size = file.stat().st_size
        return {"name": name, "key": key, "width": width, "height": height, "bytes": size}

    def _tell(self, state: str, about: Mapping[str, Any]) -> int:
        """Have a message wait; returns its `seq`."""
        self._seq += 1
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._undelivered.append({"type": f"upload.{state}", "seq": self._seq, **about, "time": time})
        return self._seq

    def _keep(self, upload: Mapping[str, Any], seq: int) -> None:
        """Have an upload as `status` tells it."""
        self._uploads[upload["id"]] = {**upload, "seq": seq}


def _trace_of(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"traceparent": event["traceparent"]} if "traceparent" in event else {}


class AsyncFakeMedia:
    """`AsyncMediaClient` for tests, see `FakeMedia`; `deliver` awaits what handlers return."""

    def __init__(self, root: Path | str | None = None, *, url: str = "") -> None:
        """As of `FakeMedia`."""
        self._fake = FakeMedia(root, url=url)

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The events, as they came."""
        return self._fake.sent

    def fail(self, source: str, code: str = "corrupt_image", message: str | None = None) -> None:
        """Have uploads of `source` fail from now on."""
        self._fake.fail(source, code, message)

    def succeed(self, source: str) -> None:
        """Have uploads of `source` succeed again."""
        self._fake.succeed(source)

    async def deliver(self) -> list[Message]:
        """Give the messages that wait to all who listen, in their order; returns them."""
        return await async_client.run(self._fake.delivery())

    async def announce(self, source: str, **about: Any) -> str:  # noqa: ANN401
        """As of `AsyncMediaClient`."""
        return self._fake.announce(source, **about)

    async def replace(self, old: UploadId, source: str, **about: Any) -> str:  # noqa: ANN401
        """As of `AsyncMediaClient`."""
        return self._fake.replace(old, source, **about)

    async def delete(self, id: UploadId, *, original: bool = False, traceparent: str | None = None) -> None:
        """As of `AsyncMediaClient`."""
        self._fake.delete(id, original=original, traceparent=traceparent)

    async def status(self, id: UploadId, *, timeout: float = 5.0) -> Upload | None:
        """As of `AsyncMediaClient`, at once."""
        return self._fake.status(id, timeout=timeout)

    async def limits(self) -> dict[str, Any]:
        """As of `FakeMedia`."""
        return self._fake.limits()

    async def send(self, event: Mapping[str, Any]) -> str:
        """As of `FakeMedia`."""
        return self._fake.send(event)

    async def listen(
        self, handler: Callable[[Message], Any], group: str | None = None, *_: object, **options: object
    ) -> None:
        """Have `deliver` await `handler`, too; it returns at once, see `FakeMedia`."""
        self._fake.listen(handler, group)

    async def close(self) -> None:
        """Nothing."""

    async def __aenter__(self) -> AsyncFakeMedia:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
