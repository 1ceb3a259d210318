"""For an app's tests: pictures that need neither a Redis nor a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from media_worker_client.fake import FakeMedia

from media_worker_django import conf
from media_worker_django.receiving import receive


@contextmanager
def fake_media() -> Iterator[FakeMedia]:
    """A worker that is none, while it is entered; its variants are of a bundled picture, in `MEDIA_ROOT`.

    `deliver()` has the app receive what became of its uploads. A `TestCase` commits nothing: its events are
    sent by `captureOnCommitCallbacks(execute=True)`.
    """
    media = FakeMedia(settings.MEDIA_ROOT or None)
    media.listen(receive)
    with conf.instead(media):
        yield media
