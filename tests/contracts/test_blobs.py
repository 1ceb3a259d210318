"""The contract of blobs: what every backend promises, whatever it is made of."""

import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from scripts.s3_server import S3Server
from storage.blobs import BlobInfo, Existence, Storage
from storage.blobs.local import LocalBlobs
from storage.blobs.memory import MemoryBlobs
from storage.blobs.opening import links_to, open_blobs
from storage.blobs.s3_place import S3Place
from storage.blobs.watched import WatchedBlobs
from storage.errors import BlobChanged, BlobNotFound, KeyRefused, RootMismatch
from storage.keys import AREAS, COPIED, MARKER, UNFINISHED
from tests.support.blobs import chunks, info_of, is_there, listed, stat_of
from tests.support.s3 import new_place
from tests.support.s3_console import make_folder
from tests.support.watches import RecordedWatch

MIB = 1024 * 1024
HOSTILE = {
    "empty": "",
    "climbing": "uploads/../../etc/passwd",
    "only dots": "..",
    "a dot": "uploads/./a",
    "absolute": "/etc/passwd",
    "empty segment": "uploads//a",
    "trailing slash": "uploads/a/",
    "nul": "uploads/a\0.jpg",
    "newline": "uploads/a\nb",
    "escape": "uploads/\x1b[31m",
    "c1 control": "uploads/\x9b31m",
    "lone surrogate": "uploads/\ud800",
    "long segment": "uploads/" + "a" * 256,
    "long segment in bytes": "uploads/" + "ä" * 128,
    "long key": "uploads/" + "/".join(["a" * 200] * 12),
}


async def opened(blobs: Storage, key: str) -> None:
    async with blobs.open(key):
        pass


Verb = Callable[[Storage, str], Awaitable[object]]


async def read(blobs: Storage, key: str) -> None:
    await anext(blobs.read(key))


VERBS: dict[str, Verb] = {
    "read": read,
    "read a part": lambda blobs, key: blobs.read_part(key, 0, 1),
    "open": opened,
    "get": lambda blobs, key: blobs.get(key),
    "put": lambda blobs, key: blobs.put(key, chunks(b"x")),
    "store": lambda blobs, key: blobs.store([(key, b"x")]),
    "delete": lambda blobs, key: blobs.delete(key),
    "move": lambda blobs, key: blobs.move(key, "trash/a"),
    "move to": lambda blobs, key: blobs.move("uploads/there", key),
    "list": listed,
    "folders": lambda blobs, key: blobs.folders(key),
    "stat": lambda blobs, key: blobs.stat(["uploads/there", key]),
}


async def is_refused(verb: Verb, blobs: Storage, key: str) -> bool:
    try:
        await verb(blobs, key)
    except KeyRefused:
        return True
    return False


class BlobsContract:
    """Run by every backend; a subclass has a fixture `blobs`."""

    async def test_what_is_put_can_be_got(self, blobs: Storage) -> None:
        size = await blobs.put("uploads/2026/cat.jpg", chunks(b"one ", b"two"))

        assert size == 7
        assert await blobs.get("uploads/2026/cat.jpg") == b"one two"

    async def test_an_empty_blob_is_a_blob(self, blobs: Storage) -> None:
        size = await blobs.put("uploads/empty", chunks())

        assert size == 0
        assert await blobs.get("uploads/empty") == b""
        assert await is_there(blobs, "uploads/empty")

    async def test_names_from_all_over_the_world_are_kept_as_they_are(self, blobs: Storage) -> None:
        names = [
            "uploads/ü.jpg",
            "uploads/a b'c\".jpg",
            "uploads/猫.jpg",
            "uploads/😺",
            "uploads/-rf",
            "uploads/.a",
        ]
        for name in names:
            await blobs.put(name, chunks(name.encode()))

        assert sorted(await listed(blobs, "uploads")) == sorted(names)
        assert [await blobs.get(name) for name in names] == [name.encode() for name in names]

    async def test_putting_again_replaces_the_whole(self, blobs: Storage) -> None:
        await blobs.put("uploads/a", chunks(b"a long first content"))
        await blobs.put("uploads/a", chunks(b"short"))

        assert await blobs.get("uploads/a") == b"short"

    async def test_getting_or_opening_the_absent_says_that_it_is_not_found(self, blobs: Storage) -> None:
        with pytest.raises(BlobNotFound, match="uploads/none"):
            await blobs.get("uploads/none")
        with pytest.raises(BlobNotFound, match="uploads/none"):
            await opened(blobs, "uploads/none")

    async def test_deleting_removes_and_deleting_the_absent_is_fine(self, blobs: Storage) -> None:
        await blobs.put("variants/ab/a", chunks(b"a"))
        await blobs.delete("variants/ab/a")
        await blobs.delete("variants/ab/a")
        await blobs.delete("variants/no/such/folder")

        assert await stat_of(blobs, "variants/ab/a") is Existence.MISSING

    async def test_moving_gives_another_key_and_moving_the_absent_is_fine(self, blobs: Storage) -> None:
        await blobs.put("uploads/a", chunks(b"a"))
        await blobs.move("uploads/a", "trash/plan/uploads/a")
        await blobs.move("uploads/a", "trash/plan/uploads/a")
        await blobs.move("no/such/folder", "trash/b")

        assert await stat_of(blobs, "uploads/a") is Existence.MISSING
        assert await blobs.get("trash/plan/uploads/a") == b"a"
        assert await listed(blobs, "trash") == ["trash/plan/uploads/a"]

    async def test_moving_without_replacing_leaves_both_blobs_where_they_are(self, blobs: Storage) -> None:
        await blobs.put("uploads/a", chunks(b"a"))
        await blobs.put("uploads/b", chunks(b"b"))
        await blobs.move("uploads/a", "uploads/b", replace=False)
        await blobs.move("uploads/b", "trash/b", replace=False)
        await blobs.move("uploads/none", "trash/c", replace=False)

        assert await blobs.get("uploads/a") == b"a"
        assert await listed(blobs, "trash") == ["trash/b"]

    async def test_many_keys_are_looked_at_in_one_go(self, blobs: Storage) -> None:
        for key in ("uploads/a", "variants/ab/c", "variants/ab/d"):
            await blobs.put(key, chunks(key.encode()))
        wanted = ["uploads/a", "variants/ab/c", "variants/ab/none", "variants/none/e"]

        found = await blobs.stat(wanted)

        there = [await info_of(blobs, key) for key in wanted[:2]]
        assert found == dict(zip(wanted, [*there, Existence.MISSING, Existence.MISSING], strict=True))

    async def test_present_and_missing_are_distinguished(self, blobs: Storage) -> None:
        await blobs.put("uploads/a", chunks(b"a"))

        assert await is_there(blobs, "uploads/a")
        assert await stat_of(blobs, "uploads/b") is Existence.MISSING
        assert await stat_of(blobs, "uploads/b/c/d") is Existence.MISSING

    async def test_a_list_is_in_order_of_the_whole_key_and_names_each_once(self, blobs: Storage) -> None:
        names = [f"variants/{number:04}" for number in range(510)]
        names += ["variants/a.jpg", "variants/a/b.jpg", "variants/a-b/c", "variants/ä", "variants/Z/z"]
        await blobs.store([(name, b"") for name in names])

        assert await listed(blobs, "variants") == sorted(names, key=str.encode)
        infos = [info.key async for info in blobs.list_infos("variants")]
        assert infos == sorted(names, key=str.encode)

    async def test_a_list_goes_on_after_any_key_wherever_that_lies(self, blobs: Storage) -> None:
        names = ["uploads/a", "uploads/b/c", "uploads/b/d/e", "uploads/b.jpg", "uploads/z"]
        await blobs.store([(name, b"") for name in names])
        whole = await listed(blobs, "uploads")

        for at, key in enumerate(whole):
            rest = await listed(blobs, "uploads", after=key)
            infos = [info.key async for info in blobs.list_infos("uploads", after=key)]

            assert rest == infos == whole[at + 1 :]

    async def test_a_list_holds_only_what_is_below_its_folder(self, blobs: Storage) -> None:
        for key in ("uploads/a", "uploads-of-another/b", "variants/c"):
            await blobs.put(key, chunks(b"x"))

        assert await listed(blobs, "uploads") == ["uploads/a"]
        assert await listed(blobs, "nowhere") == []

    async def test_a_list_has_sizes_and_ages(self, blobs: Storage) -> None:
        await blobs.put("uploads/a", chunks(b"12345"))
        [info] = [info async for info in blobs.list_infos("uploads")]

        assert info.bytes == 5
        assert info.changed_at == pytest.approx(time.time(), abs=60)

    async def test_an_opened_blob_is_a_descriptor_that_can_be_read_anywhere(self, blobs: Storage) -> None:
        await blobs.put("uploads/a", chunks(b"12345"))
        async with blobs.open("uploads/a") as source:
            size, tail, whole = source.bytes, os.pread(source.fd, 2, 3), os.pread(source.fd, 99, 0)

        assert (size, tail, whole) == (5, b"45", b"12345")

    async def test_an_opened_blob_cannot_be_written(self, blobs: Storage) -> None:
        await blobs.put("uploads/a", chunks(b"12345"))
        async with blobs.open("uploads/a") as source:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.pwrite(source.fd, b"x", 0)

    async def test_the_stamp_of_a_blob_is_that_with_which_it_is_opened(self, blobs: Storage) -> None:
        await blobs.put("uploads/a", chunks(b"one"))
        async with blobs.open("uploads/a", fetched=False) as source:
            assert await blobs.stamp("uploads/a") == source.stamp
        await blobs.put("uploads/a", chunks(b"two"))

        assert await blobs.stamp("uploads/a") != source.stamp

    async def test_what_is_missing_or_has_no_key_has_no_stamp(self, blobs: Storage) -> None:
        with pytest.raises(BlobNotFound):
            await blobs.stamp("uploads/none")
        for key in HOSTILE.values():
            with pytest.raises(KeyRefused):
                await blobs.stamp(key)

    async def test_the_stamp_stays_until_the_blob_changes(self, blobs: Storage) -> None:
        stamps = []
        for content in (b"first", None, b"other"):
            if content is not None:
                await blobs.put("uploads/a", chunks(content))
            async with blobs.open("uploads/a") as source:
                stamps.append(source.stamp)

        first, again, other = stamps
        assert first == again
        assert first != other

    async def test_an_opened_blob_stays_readable_when_it_is_deleted(self, blobs: Storage) -> None:
        await blobs.put("uploads/a", chunks(b"12345"))
        async with blobs.open("uploads/a") as source:
            await blobs.delete("uploads/a")

            assert os.pread(source.fd, 99, 0) == b"12345"

    async def test_what_is_stored_together_can_be_got(self, blobs: Storage) -> None:
        await blobs.store([("variants/thumb", b"small"), ("variants/large", b"big" * 100_000)])

        assert await blobs.get("variants/thumb") == b"small"
        assert await blobs.get("variants/large") == b"big" * 100_000
        assert await _files_in_staging(blobs) == []

    async def test_what_is_stored_again_replaces_what_was_there(self, blobs: Storage) -> None:
        await blobs.store([("variants/thumb", b"a longer one")])
        await blobs.store([("variants/thumb", b"another")])

        assert await blobs.get("variants/thumb") == b"another"

    async def test_nothing_is_stored_where_one_key_is_refused(self, blobs: Storage) -> None:
        with pytest.raises(KeyRefused):
            await blobs.store([("variants/thumb", b"small"), ("../large", b"big")])

        assert await listed(blobs, "variants") == []
        assert await _files_in_staging(blobs) == []

    async def test_a_half_written_blob_is_never_visible(self, blobs: Storage) -> None:
        seen: list[BlobInfo | Existence] = []

        async def broken_off() -> AsyncIterator[bytes]:
            yield b"half"
            seen.append(await stat_of(blobs, "uploads/a"))
            raise EOFError("the sender went away")

        with suppress(EOFError):
            await blobs.put("uploads/a", broken_off())

        assert seen == [Existence.MISSING]
        assert await stat_of(blobs, "uploads/a") is Existence.MISSING
        assert await _files_in_staging(blobs) == []

    async def test_a_put_that_breaks_off_leaves_the_old_content(self, blobs: Storage) -> None:
        async def broken_off() -> AsyncIterator[bytes]:
            yield b"new"
            raise EOFError("the sender went away")

        await blobs.put("uploads/a", chunks(b"old"))
        with suppress(EOFError):
            await blobs.put("uploads/a", broken_off())

        assert await blobs.get("uploads/a") == b"old"

    @pytest.mark.parametrize("size", [0, 1, MIB // 2, 3 * MIB])
    async def test_a_blob_whose_size_is_known_before_is_put_whole(self, blobs: Storage, size: int) -> None:
        content = random.Random(size).randbytes(size)
        parts = [content[at : at + 100_000] for at in range(0, size, 100_000)]

        assert await blobs.put("uploads/a ä+%.jpg", chunks(*parts), size) == size
        assert await blobs.get("uploads/a ä+%.jpg") == content

    async def test_a_put_that_breaks_off_after_its_last_byte_leaves_the_old_content(
        self, blobs: Storage
    ) -> None:
        async def refused() -> AsyncIterator[bytes]:
            for _ in range(8):
                yield bytes(MIB // 4)
            raise EOFError("that is not what was to come")

        await blobs.put("uploads/a", chunks(b"old"))
        with pytest.raises(EOFError):
            await blobs.put("uploads/a", refused(), 2 * MIB)

        assert await blobs.get("uploads/a") == b"old"
        assert await _files_in_staging(blobs) == []

    async def test_it_belongs_to_the_catalog_it_was_bound_to(self, blobs: Storage) -> None:
        assert await blobs.catalog_id() is None
        await blobs.bind("first", catalog_is_new=True)
        await blobs.bind("first", catalog_is_new=False)

        for is_new in (True, False):
            with pytest.raises(RootMismatch):
                await blobs.bind("second", catalog_is_new=is_new)
        assert await blobs.catalog_id() == "first"

        await blobs.rebind("second")
        await blobs.bind("second", catalog_is_new=False)
        assert await blobs.catalog_id() == "second"

    async def test_one_that_says_no_catalog_is_none_of_an_old_one(self, blobs: Storage) -> None:
        with pytest.raises(RootMismatch):
            await blobs.bind("first", catalog_is_new=False)
        assert await blobs.catalog_id() is None

    async def test_it_can_be_made_ready_at_any_time(self, blobs: Storage) -> None:
        await blobs.prepare()
        await blobs.store([("variants/a", b"kept")])
        await blobs.prepare()
        await blobs.enter("variants")

        assert await blobs.find_lacks() == []
        assert await blobs.get("variants/a") == b"kept"

    async def test_there_is_no_more_room_than_all_room(self, blobs: Storage) -> None:
        space = await blobs.space()

        assert space is None or 0 <= space.free_bytes <= space.bytes

    async def test_a_large_blob_is_written_and_read_part_by_part(self, blobs: Storage) -> None:
        parts = [bytes([number]) * 1_000_000 for number in range(18)]

        assert await blobs.put("uploads/large", chunks(*parts)) == 18_000_000
        read = [part async for part in blobs.read("uploads/large")]
        assert max(map(len, read)) < 9_000_000
        assert b"".join(read) == b"".join(parts)

    async def test_a_part_of_nothing_is_nothing(self, blobs: Storage) -> None:
        await blobs.put("uploads/empty", chunks())

        assert b"".join([part async for part in blobs.read("uploads/empty")]) == b""
        with pytest.raises(BlobNotFound):
            await anext(blobs.read("uploads/absent"))

    @pytest.mark.parametrize(
        ("start", "most", "expected"),
        [
            (0, 3, b"012"),
            (0, 99, b"0123456789"),
            (4, 2, b"45"),
            (8, 9, b"89"),
            (-3, 2, b"78"),
            (-99, 1, b"0"),
        ],
    )
    async def test_some_bytes_are_read_with_the_size_of_the_whole(
        self, blobs: Storage, start: int, most: int, expected: bytes
    ) -> None:
        await blobs.put("uploads/a", chunks(b"0123456789"))
        part = await blobs.read_part("uploads/a", start, most)

        assert (part.content, part.bytes) == (expected, 10)
        assert b"0123456789"[part.start :].startswith(expected)

    async def test_behind_the_end_are_no_bytes(self, blobs: Storage) -> None:
        await blobs.store([("uploads/a", b"0123"), ("uploads/empty", b"")])
        asked = [("uploads/a", 4, 1), ("uploads/a", 99, 1), ("uploads/a", 0, 0), ("uploads/empty", 0, 9)]

        found = [await blobs.read_part(*each) for each in asked]
        assert [(part.content, part.bytes) for part in found] == [(b"", 4), (b"", 4), (b"", 4), (b"", 0)]

    async def test_parts_are_of_one_content_or_it_is_said(self, blobs: Storage) -> None:
        await blobs.put("uploads/a", chunks(b"0123456789"))
        stamp = (await blobs.read_part("uploads/a", 0, 5)).stamp
        rest = await blobs.read_part("uploads/a", 5, 5, stamp)
        await blobs.put("uploads/a", chunks(b"another and longer"))

        assert rest.content == b"56789"
        for start, most in ((0, 5), (5, 5), (0, 0)):
            with pytest.raises(BlobChanged):
                await blobs.read_part("uploads/a", start, most, stamp)

    async def test_of_the_absent_no_part_is_read(self, blobs: Storage) -> None:
        for start, most in ((0, 5), (5, 5), (0, 0)):
            with pytest.raises(BlobNotFound):
                await blobs.read_part("uploads/none", start, most)

    async def test_what_this_program_hides_in_an_area_is_listed_only_where_it_is_asked_for(
        self, blobs: Storage
    ) -> None:
        await blobs.store([(f"{COPIED}/a", b"x"), ("trash/b", b"x")])

        assert await listed(blobs, "trash") == ["trash/b"]
        assert await listed(blobs, COPIED) == [f"{COPIED}/a"]

    async def test_folders_are_told_by_how_their_names_begin_whatever_lies_in_them(
        self, blobs: Storage
    ) -> None:
        names = ["plan-1/a", "plan-1/b/c", "plan-1-b/a", "plan-2/ä b+c/d", "planned", "delete-1/a"]
        await blobs.store([(f"trash/{name}", b"x") for name in names])
        await blobs.store([(f"{COPIED}/a", b"x"), ("trash-of-another/plan-3/a", b"x")])

        assert await blobs.folders("trash", "plan-") == ["plan-1", "plan-1-b", "plan-2"]
        assert await blobs.folders("trash") == ["delete-1", "plan-1", "plan-1-b", "plan-2"]
        assert await blobs.folders("trash/plan-2") == ["ä b+c"]
        assert await blobs.folders("nowhere") == []

    @pytest.mark.fault(43)
    @pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
    async def test_every_verb_refuses_hostile_keys(self, blobs: Storage, verb: Verb) -> None:
        await blobs.put("uploads/there", chunks(b"kept"))
        accepted = [name for name, key in HOSTILE.items() if not await is_refused(verb, blobs, key)]

        assert accepted == []
        assert await blobs.get("uploads/there") == b"kept"


class TestMemoryBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self) -> MemoryBlobs:
        return MemoryBlobs()


class S3Contract(BlobsContract):
    """Run by every server of S3; a subclass also has a fixture `place`."""

    @pytest.fixture
    async def blobs(self, place: S3Place) -> AsyncIterator[Storage]:
        async with open_blobs(place.url, create=True) as blobs:
            yield blobs

    async def test_a_folder_that_a_console_made_is_no_blob(self, blobs: Storage, place: S3Place) -> None:
        for name in ("uploads", "uploads/a", "variants", "variants/ab", "trash"):
            make_folder(place, name)
        await blobs.bind("ours", catalog_is_new=True)
        await blobs.store([("uploads/a/b.jpg", b"x"), ("variants/ab/cd", b"")])

        found = [await listed(blobs, area) for area in AREAS]
        assert found == [["uploads/a/b.jpg"], ["variants/ab/cd"], [], []]
        assert [info.key async for info in blobs.list_infos("uploads/a")] == ["uploads/a/b.jpg"]

    async def test_a_signed_link_opens_one_object_to_anybody_for_a_while(
        self, blobs: Storage, place: S3Place
    ) -> None:
        await blobs.store([("variants/a b+ä.jpg", b"bytes"), ("variants/other.jpg", b"secret")])
        links = links_to(place.url)
        assert links is not None
        url = await links.sign("variants/a b+ä.jpg", 60)
        async with httpx.AsyncClient() as anybody:
            found = await anybody.get(url)
            other = await anybody.get(url.replace(quote("a b+ä.jpg"), "other.jpg"))

        assert (found.content, found.headers["content-type"]) == (b"bytes", "image/jpeg")
        assert (other.status_code, other.content == b"secret") == (403, False)
        with pytest.raises(KeyRefused):
            await links.sign("../x", 60)


class TestS3BlobsOnSeaweedFS(S3Contract):
    """An independent server with conditions; it sorts what a folder holds behind the folder's bare name."""

    async def test_a_list_is_in_order_of_the_whole_key_and_names_each_once(self, blobs: Storage) -> None:
        names = [f"variants/{number:04}" for number in range(510)]
        names += ["variants/a.jpg", "variants/a/b.jpg", "variants/a-b/c", "variants/ä", "variants/Z/z"]
        await blobs.store([(name, b"") for name in names])

        assert sorted(await listed(blobs, "variants")) == sorted(names)  # each once, though out of order

    @pytest.fixture
    def place(self, seaweedfs: S3Server) -> S3Place:
        return new_place(seaweedfs)


class TestS3BlobsOnMinistack(S3Contract):
    @pytest.fixture
    def place(self, ministack: S3Server) -> S3Place:
        return new_place(ministack)


class TestLocalBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self, local_blobs: LocalBlobs) -> LocalBlobs:
        return local_blobs


class TestWatchedLocalBlobs(BlobsContract):
    @pytest.fixture
    def watch(self) -> RecordedWatch:
        return RecordedWatch()

    @pytest.fixture
    def blobs(self, local_blobs: LocalBlobs, watch: RecordedWatch) -> Storage:
        return WatchedBlobs(local_blobs, watch)

    async def test_each_verb_is_told_of_once(self, blobs: Storage, watch: RecordedWatch) -> None:
        for verb in VERBS.values():
            with suppress(BlobNotFound):
                await verb(blobs, "uploads/a")
        await blobs.probe()

        assert watch.operations == {
            "open": 1,
            "read": 3,
            "store": 2,
            "delete": 1,
            "move": 2,
            "exists": 1,
            "list": 2,
            "probe": 1,
        }

    async def test_what_the_storage_cannot_do_is_told_of_and_a_wrong_key_is_not(
        self, blobs: Storage, watch: RecordedWatch, root: Path
    ) -> None:
        await blobs.put("uploads/a", chunks(b"x"))
        with pytest.raises(BlobNotFound):
            await blobs.get("uploads/b")
        with pytest.raises(KeyRefused):
            await blobs.delete("uploads/../a")
        await blobs.bind("ours", catalog_is_new=True)
        (root / MARKER).unlink()
        with pytest.raises(RootMismatch):
            await blobs.probe()

        assert watch.failures == {"probe": 1}


class TestLocalBlobsOnSeveralVolumes(BlobsContract):
    @pytest.fixture
    def blobs(self, local_blobs: LocalBlobs, root: Path, volume: Path) -> LocalBlobs:
        for area in ("uploads", "variants"):
            (volume / area).mkdir()
            (root / area).symlink_to(volume / area)
        return local_blobs


class TestLocalBlobsWithItsStagingElsewhere(BlobsContract):
    @pytest.fixture
    def blobs(self, local_blobs: LocalBlobs, root: Path, volume: Path) -> LocalBlobs:
        (root / "staging").symlink_to(volume)
        return local_blobs


async def _files_in_staging(blobs: Storage) -> Sequence[str]:
    return [key for place in UNFINISHED for key in await listed(blobs, place)]
