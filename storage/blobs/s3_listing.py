"""What of a listing are blobs: the objects that a key of this program can name, and no folders."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing

from storage.blobs import BlobInfo, Existence
from storage.blobs.bucket import Found
from storage.errors import KeyRefused
from storage.keys import AREAS, is_hidden, segments

Stat = Callable[[Sequence[str]], Awaitable[Mapping[str, BlobInfo | Existence]]]


async def blobs_among(
    pages: AsyncGenerator[Sequence[Found], None],
    prefix: str,
    stat: Stat,
    on_misnamed: Callable[[str], object],
) -> AsyncGenerator[Sequence[Found], None]:
    """The blobs of the listing of `prefix`; `on_misnamed` is told of what no key can name."""
    async with aclosing(pages) as found:
        async for page in found:
            if named := await _without_folders(list(_named(page, prefix, on_misnamed)), stat):
                yield named


def _named(page: Sequence[Found], prefix: str, on_misnamed: Callable[[str], object]) -> Iterator[Found]:
    """Those with a name that a key can have and that is no secret of this program's."""
    is_area = prefix in AREAS
    for found in page:
        # A console has made an empty object `uploads/` for the folder itself; the client cuts the slash off.
        if found.key == prefix or (is_area and is_hidden(found.key.split("/")[1])):
            continue
        try:
            segments(found.key)
        except KeyRefused:
            on_misnamed(found.key)
        else:
            yield found


async def _without_folders(page: Sequence[Found], stat: Stat) -> Sequence[Found]:
    """Consoles make an empty object `a/` for a folder `a`, and the client lists it as `a`.

    It lists one with bytes as `a`, too, which nobody makes by accident, and a request for each blob would be
    too many. So who moves, copies or takes in what is listed looks at it by its own key before.
    """
    empty = [found.key for found in page if not found.bytes]
    seen = await stat(empty) if empty else {}
    return [found for found in page if seen.get(found.key) is not Existence.MISSING]
