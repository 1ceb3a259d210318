"""The contract of blobs: what every backend promises, whatever it is made of."""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from storage.blobs import Blobs, Existence, Staged
from storage.blobs.local import LocalBlobs
from storage.blobs.memory import MemoryBlobs
from storage.errors import BlobNotFound, BlobsUnavailable, KeyRefused
from storage.keys import UNFINISHED

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


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def opened(blobs: Blobs, key: str) -> None:
    async with blobs.open(key):
        pass


async def listed(blobs: Blobs, prefix: str) -> list[str]:
    return [info.key async for info in blobs.list(prefix)]


async def published(blobs: Blobs, key: str) -> None:
    async with blobs.stage(1) as [staged]:
        await blobs.publish([(staged, key)])


Verb = Callable[[Blobs, str], Awaitable[object]]

VERBS: dict[str, Verb] = {
    "open": opened,
    "get": lambda blobs, key: blobs.get(key),
    "put": lambda blobs, key: blobs.put(key, chunks(b"x")),
    "publish": published,
    "store": lambda blobs, key: blobs.store([(key, b"x")]),
    "delete": lambda blobs, key: blobs.delete(key),
    "move": lambda blobs, key: blobs.move(key, "trash/a"),
    "move to": lambda blobs, key: blobs.move("uploads/there", key),
    "exists": lambda blobs, key: blobs.exists(key),
    "list": listed,
    "keys": lambda blobs, key: anext(blobs.keys(key), None),
    "look": lambda blobs, key: blobs.look(["uploads/there", key]),
}


async def is_refused(verb: Verb, blobs: Blobs, key: str) -> bool:
    try:
        await verb(blobs, key)
    except KeyRefused:
        return True
    return False


class BlobsContract:
    """Run by every backend; a subclass has a fixture `blobs`."""

    async def test_what_is_put_can_be_got(self, blobs: Blobs) -> None:
        size = await blobs.put("uploads/2026/cat.jpg", chunks(b"one ", b"two"))

        assert size == 7
        assert await blobs.get("uploads/2026/cat.jpg") == b"one two"

    async def test_an_empty_blob_is_a_blob(self, blobs: Blobs) -> None:
        size = await blobs.put("uploads/empty", chunks())

        assert size == 0
        assert await blobs.get("uploads/empty") == b""
        assert await blobs.exists("uploads/empty") is Existence.PRESENT

    async def test_names_from_all_over_the_world_are_kept_as_they_are(self, blobs: Blobs) -> None:
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

    async def test_putting_again_replaces_the_whole(self, blobs: Blobs) -> None:
        await blobs.put("uploads/a", chunks(b"a long first content"))
        await blobs.put("uploads/a", chunks(b"short"))

        assert await blobs.get("uploads/a") == b"short"

    async def test_getting_or_opening_the_absent_says_that_it_is_not_found(self, blobs: Blobs) -> None:
        with pytest.raises(BlobNotFound, match="uploads/none"):
            await blobs.get("uploads/none")
        with pytest.raises(BlobNotFound, match="uploads/none"):
            await opened(blobs, "uploads/none")

    async def test_deleting_removes_and_deleting_the_absent_is_fine(self, blobs: Blobs) -> None:
        await blobs.put("variants/ab/a", chunks(b"a"))
        await blobs.delete("variants/ab/a")
        await blobs.delete("variants/ab/a")
        await blobs.delete("variants/no/such/folder")

        assert await blobs.exists("variants/ab/a") is Existence.MISSING

    async def test_moving_gives_another_key_and_moving_the_absent_is_fine(self, blobs: Blobs) -> None:
        await blobs.put("uploads/a", chunks(b"a"))
        await blobs.move("uploads/a", "trash/plan/uploads/a")
        await blobs.move("uploads/a", "trash/plan/uploads/a")
        await blobs.move("no/such/folder", "trash/b")

        assert await blobs.exists("uploads/a") is Existence.MISSING
        assert await blobs.get("trash/plan/uploads/a") == b"a"
        assert await listed(blobs, "trash") == ["trash/plan/uploads/a"]

    async def test_moving_without_replacing_leaves_both_blobs_where_they_are(self, blobs: Blobs) -> None:
        await blobs.put("uploads/a", chunks(b"a"))
        await blobs.put("uploads/b", chunks(b"b"))
        await blobs.move("uploads/a", "uploads/b", replace=False)
        await blobs.move("uploads/b", "trash/b", replace=False)
        await blobs.move("uploads/none", "trash/c", replace=False)

        assert await blobs.get("uploads/a") == b"a"
        assert await listed(blobs, "trash") == ["trash/b"]

    async def test_many_keys_are_looked_at_in_one_go(self, blobs: Blobs) -> None:
        for key in ("uploads/a", "variants/ab/c", "variants/ab/d"):
            await blobs.put(key, chunks(key.encode()))
        wanted = ["uploads/a", "variants/ab/c", "variants/ab/none", "variants/none/e"]

        found = await blobs.look(wanted)

        there = [await blobs.info(key) for key in wanted[:2]]
        assert found == dict(zip(wanted, [*there, Existence.MISSING, Existence.MISSING], strict=True))

    async def test_present_and_missing_are_told_apart(self, blobs: Blobs) -> None:
        await blobs.put("uploads/a", chunks(b"a"))

        assert await blobs.exists("uploads/a") is Existence.PRESENT
        assert await blobs.exists("uploads/b") is Existence.MISSING
        assert await blobs.exists("uploads/b/c/d") is Existence.MISSING

    async def test_a_list_is_in_order_of_the_whole_key_and_names_each_once(self, blobs: Blobs) -> None:
        names = [f"variants/{number:04}" for number in range(510)]
        names += ["variants/a.jpg", "variants/a/b.jpg", "variants/a-b/c", "variants/ä", "variants/Z/z"]
        async with blobs.stage(len(names)) as staged:
            await blobs.publish(list(zip(staged, names, strict=True)))

        assert await listed(blobs, "variants") == sorted(names, key=str.encode)
        assert [key async for page in blobs.keys("variants") for key in page] == sorted(names, key=str.encode)

    async def test_a_list_goes_on_after_any_key_wherever_that_lies(self, blobs: Blobs) -> None:
        names = ["uploads/a", "uploads/b/c", "uploads/b/d/e", "uploads/b.jpg", "uploads/z"]
        async with blobs.stage(len(names)) as staged:
            await blobs.publish(list(zip(staged, names, strict=True)))
        whole = await listed(blobs, "uploads")

        for at, key in enumerate(whole):
            rest = [info.key async for info in blobs.list("uploads", after=key)]
            keys = [found async for page in blobs.keys("uploads", after=key) for found in page]

            assert rest == keys == whole[at + 1 :]

    async def test_a_list_holds_only_what_is_below_its_folder(self, blobs: Blobs) -> None:
        for key in ("uploads/a", "uploads-of-another/b", "variants/c"):
            await blobs.put(key, chunks(b"x"))

        assert await listed(blobs, "uploads") == ["uploads/a"]
        assert await listed(blobs, "nowhere") == []

    async def test_a_list_tells_sizes_and_ages(self, blobs: Blobs) -> None:
        await blobs.put("uploads/a", chunks(b"12345"))
        [info] = [info async for info in blobs.list("uploads")]

        assert info.bytes == 5
        assert info.changed_at == pytest.approx(time.time(), abs=60)

    async def test_an_opened_blob_is_a_descriptor_that_can_be_read_anywhere(self, blobs: Blobs) -> None:
        await blobs.put("uploads/a", chunks(b"12345"))
        async with blobs.open("uploads/a") as source:
            size, tail, whole = source.bytes, os.pread(source.fd, 2, 3), os.pread(source.fd, 99, 0)

        assert (size, tail, whole) == (5, b"45", b"12345")

    async def test_an_opened_blob_cannot_be_written(self, blobs: Blobs) -> None:
        await blobs.put("uploads/a", chunks(b"12345"))
        async with blobs.open("uploads/a") as source:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.pwrite(source.fd, b"x", 0)

    async def test_the_stamp_stays_until_the_blob_changes(self, blobs: Blobs) -> None:
        stamps = []
        for content in (b"first", None, b"other"):
            if content is not None:
                await blobs.put("uploads/a", chunks(content))
            async with blobs.open("uploads/a") as source:
                stamps.append(source.stamp)

        first, again, other = stamps
        assert first == again
        assert first != other

    async def test_an_opened_blob_stays_readable_when_it_is_deleted(self, blobs: Blobs) -> None:
        await blobs.put("uploads/a", chunks(b"12345"))
        async with blobs.open("uploads/a") as source:
            await blobs.delete("uploads/a")

            assert os.pread(source.fd, 99, 0) == b"12345"

    async def test_what_is_stored_together_can_be_got(self, blobs: Blobs) -> None:
        await blobs.store([("variants/thumb", b"small"), ("variants/large", b"big" * 100_000)])

        assert await blobs.get("variants/thumb") == b"small"
        assert await blobs.get("variants/large") == b"big" * 100_000
        assert await _files_in_staging(blobs) == []

    async def test_what_is_stored_again_replaces_what_was_there(self, blobs: Blobs) -> None:
        await blobs.store([("variants/thumb", b"a longer one")])
        await blobs.store([("variants/thumb", b"another")])

        assert await blobs.get("variants/thumb") == b"another"

    async def test_nothing_is_stored_where_one_key_is_refused(self, blobs: Blobs) -> None:
        with pytest.raises(KeyRefused):
            await blobs.store([("variants/thumb", b"small"), ("../large", b"big")])

        assert await listed(blobs, "variants") == []
        assert await _files_in_staging(blobs) == []

    async def test_a_staged_file_is_visible_only_once_it_is_published(self, blobs: Blobs) -> None:
        async with blobs.stage(2) as [thumb, large]:
            os.write(thumb.fd, b"small")
            os.write(large.fd, b"big")
            before = [await listed(blobs, "variants"), await blobs.exists("variants/thumb")]
            await blobs.publish([(thumb, "variants/thumb"), (large, "variants/large")])

        assert before == [[], Existence.MISSING]
        assert await blobs.get("variants/thumb") == b"small"
        assert await blobs.get("variants/large") == b"big"

    async def test_a_staged_file_that_is_not_published_leaves_nothing(self, blobs: Blobs) -> None:
        async with blobs.stage(2) as [first, second]:
            os.write(first.fd, b"kept")
            os.write(second.fd, b"dropped")
            await blobs.publish([(first, "variants/first")])

        assert await listed(blobs, "variants") == ["variants/first"]
        assert await _files_in_staging(blobs) == []

    async def test_a_staged_file_cannot_be_used_after_its_time(self, blobs: Blobs) -> None:
        async with blobs.stage(1) as [staged]:
            pass
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(staged.fd)

    async def test_a_half_written_blob_is_never_visible(self, blobs: Blobs) -> None:
        seen: list[Existence] = []

        async def broken_off() -> AsyncIterator[bytes]:
            yield b"half"
            seen.append(await blobs.exists("uploads/a"))
            raise EOFError("the sender went away")

        with suppress(EOFError):
            await blobs.put("uploads/a", broken_off())

        assert seen == [Existence.MISSING]
        assert await blobs.exists("uploads/a") is Existence.MISSING
        assert await _files_in_staging(blobs) == []

    async def test_a_put_that_breaks_off_leaves_the_old_content(self, blobs: Blobs) -> None:
        async def broken_off() -> AsyncIterator[bytes]:
            yield b"new"
            raise EOFError("the sender went away")

        await blobs.put("uploads/a", chunks(b"old"))
        with suppress(EOFError):
            await blobs.put("uploads/a", broken_off())

        assert await blobs.get("uploads/a") == b"old"

    async def test_only_a_file_that_was_handed_out_is_published(self, blobs: Blobs) -> None:
        async with blobs.stage(2) as [first, second]:
            mixed = Staged(first.fd, second.name)
            with pytest.raises(BlobsUnavailable, match="another file"):
                await blobs.publish([(second, "variants/second"), (mixed, "variants/mixed")])

        assert await listed(blobs, "variants") == []

    async def test_there_is_no_more_room_than_all_room(self, blobs: Blobs) -> None:
        space = await blobs.space()

        assert space is None or 0 <= space.free_bytes <= space.bytes

    @pytest.mark.fault(43)
    @pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
    async def test_every_verb_refuses_hostile_keys(self, blobs: Blobs, verb: Verb) -> None:
        await blobs.put("uploads/there", chunks(b"kept"))
        accepted = [name for name, key in HOSTILE.items() if not await is_refused(verb, blobs, key)]

        assert accepted == []
        assert await blobs.get("uploads/there") == b"kept"


class TestMemoryBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self) -> MemoryBlobs:
        return MemoryBlobs()


class TestLocalBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self, local_blobs: LocalBlobs) -> LocalBlobs:
        return local_blobs


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


async def _files_in_staging(blobs: Blobs) -> Sequence[str]:
    return [key for place in UNFINISHED for key in await listed(blobs, place)]
