"""Small pictures that wait at the same moment go to one decoder together, and each is judged by itself."""

import asyncio
import errno
import io
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.accounts import Meter
from pipelines.batch import process_uploads
from pipelines.errors import (
    DecoderBloated,
    DecoderCrashed,
    DecoderFailed,
    DecoderStarved,
    DecodeTimeout,
    PictureRefused,
    SourceChanged,
)
from pipelines.formats import MIB, Engine
from pipelines.metrics import End, Metrics
from pipelines.placeholders import Kind
from pipelines.recipe import DEFAULT, Variant
from pipelines.sandbox import Rendered, Sandbox, group_attempt, open_sandbox, protocol, rooms
from pipelines.sandbox.group_attempt import GroupAttempt
from pipelines.sandbox.groups import MOST_IN_GROUP, Alike, GroupMember, Groups, SingleError
from pipelines.sandbox.protocol import Task
from pipelines.slots import Slots
from storage.blobs.memory import MemoryBlobs
from storage.blobs.memory_file import memory_file
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from tests.support.batches import Uploads, batch_context
from tests.support.catalogs import dispatch
from tests.support.polling import until
from tests.support.sandboxes import (
    BOTH,
    ROGUE,
    allowance,
    bitmap,
    children,
    descriptor,
    jpeg,
    ordered,
    render,
)

COLOURS = [(20 * n, 250 - 20 * n, 100) for n in range(8)]
SMALL = [jpeg(40, 30, colour) for colour in COLOURS]


class CountedDecoders(Metrics):
    """How many decoders were started, and why others were ended."""

    def __init__(self) -> None:
        self.started = 0
        self.ended: list[End] = []

    def decoder_started(self, engine: Engine) -> None:
        self.started += 1

    def decoder_ended(self, reason: End) -> None:
        self.ended.append(reason)


@pytest.fixture
def counted() -> CountedDecoders:
    return CountedDecoders()


@pytest.fixture
async def patient(counted: CountedDecoders) -> AsyncIterator[Sandbox]:
    """A rogue for groups, which has time enough, while the whole of a group has little."""
    async with open_sandbox(allowance(seconds=0.5), (*ROGUE, "starts"), counted) as sandbox:
        yield sandbox
    assert children() == {}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[list[type]]:
    """What came of the pictures of each group that was begun, before any of them goes alone."""
    said: list[list[type]] = []
    settle = GroupAttempt.settle

    def noted(self: GroupAttempt, cpu_s: float) -> Sequence[GroupMember]:
        said.append([type(result) for result in self.results])
        return settle(self, cpu_s)

    monkeypatch.setattr(GroupAttempt, "settle", noted)
    return said


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_attempt, "LONGEST_S", 0.3)


async def together(sandbox: Sandbox, *pictures: bytes) -> Sequence[Rendered | BaseException | None]:
    """What comes of pictures that are there at once."""
    return await asyncio.gather(*(render(sandbox, each) for each in pictures), return_exceptions=True)


def with_fault(fault: str, at: int) -> list[bytes]:
    """Eight small pictures, one of which makes the rogue do that."""
    return [*SMALL[:at], ordered(fault), *SMALL[at + 1 :]]


def are_own(results: Sequence[object], *, but: Sequence[int] = ()) -> bool:
    """Whether each of eight is the picture that was given, as the rogue copies it; but those."""
    return all(
        isinstance(result, Rendered) and result.variants[0].content == content
        for number, (result, content) in enumerate(zip(results, SMALL, strict=True))
        if number not in but
    )


# -- what comes of a group


async def test_pictures_of_a_group_become_what_each_becomes_alone(sandbox: Sandbox) -> None:
    alone = [await render(sandbox, content) for content in SMALL]
    rendered = await together(sandbox, *SMALL)

    for one, other in zip(alone, rendered, strict=True):
        assert isinstance(one, Rendered)
        assert isinstance(other, Rendered)
        assert one.ms.keys() == other.ms.keys()
        assert replace(one, ms={}) == replace(other, ms={})


async def test_eight_small_pictures_are_one_exchange_and_a_ninth_is_another(patient: Sandbox) -> None:
    [child] = patient.pool.idle["vips"]
    results = await together(patient, *with_fault("number of the group", 3), SMALL[0])

    assert isinstance(results[3], Rendered)
    assert (results[3].ms["group"], child.is_used) == (8.0, True)
    assert are_own(results[:8], but=[3])


async def test_refusals_in_a_group_are_each_pictures_own(sandbox: Sandbox, counted: CountedDecoders) -> None:
    [before] = children()
    results = await together(sandbox, SMALL[0], b"no picture at all", SMALL[1], SMALL[2][:200], SMALL[3])

    codes = [result.code if isinstance(result, PictureRefused) else None for result in results]
    assert codes == [None, "unsupported_format", None, "corrupt_image", None]
    assert before in children()


async def test_of_what_is_known_only_the_missing_is_made_in_a_group(sandbox: Sandbox) -> None:
    known = await render(sandbox, SMALL[0])
    assert known is not None
    with descriptor(SMALL[0]) as fd:
        same = sandbox.render(fd, len(SMALL[0]), BOTH, known.sha256)
        lacking = sandbox.render(fd, len(SMALL[0]), BOTH, known.sha256, missing=BOTH[1:])
        other, nothing, one = await asyncio.gather(render(sandbox, SMALL[1]), same, lacking)

    assert nothing is None
    assert other is not None
    assert one is not None
    assert (len(other.variants), list(one.variants)) == (2, [known.variants[1]])


async def test_a_picture_of_many_pixels_in_few_bytes_leaves_its_group(
    sandbox: Sandbox, said: list[list[type]]
) -> None:
    many = jpeg(3000, 3000)
    assert len(many) < 256 * 1024
    results = await together(sandbox, SMALL[0], many, SMALL[1])

    assert said == [[Rendered, SingleError, Rendered]]
    assert [isinstance(result, Rendered) for result in results] == [True] * 3


async def test_a_picture_that_fits_if_it_is_streamed_stays_in_its_group(
    sandbox: Sandbox, said: list[list[type]]
) -> None:
    slide = jpeg(1920, 1080)  # whose pixels and variant take 32.2 MiB if all are held
    assert len(slide) < 256 * 1024
    with descriptor(slide) as fd:
        renders = [sandbox.render(fd, len(slide), DEFAULT.variants, None) for _ in range(2)]
        await asyncio.gather(*renders)

    assert said == [[Rendered, Rendered]]


async def test_a_picture_that_would_get_other_bytes_if_it_is_streamed_leaves_its_group(
    sandbox: Sandbox, said: list[list[type]]
) -> None:
    photo = gradients(2560, 1440)  # of which colours are decoded coarsely where all of it is held
    assert len(photo) < 256 * 1024
    with descriptor(photo) as fd:
        alone = await sandbox.render(fd, len(photo), DEFAULT.variants, None)
        renders = [sandbox.render(fd, len(photo), DEFAULT.variants, None) for _ in range(2)]
        both = await asyncio.gather(*renders)

    assert said == [[SingleError, SingleError]]
    assert {digests(each) for each in both} == {digests(alone)}


def gradients(width: int, height: int) -> bytes:
    """A JPEG of few bytes in which each pixel has a colour of its own."""
    across, round_it = Image.linear_gradient("L").rotate(90), Image.radial_gradient("L")
    file = io.BytesIO()
    mixed = Image.merge("RGB", (across, round_it, across.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    mixed.resize((width, height)).save(file, "JPEG")
    return file.getvalue()


def digests(rendered: Rendered | None) -> tuple[str, ...]:
    assert rendered is not None
    return tuple(variant.sha256 for variant in rendered.variants)


async def test_pictures_for_both_kinds_of_decoders_form_groups_of_their_own(sandbox: Sandbox) -> None:
    results = await together(sandbox, SMALL[0], bitmap(), SMALL[1], bitmap())

    assert [result.format for result in results if isinstance(result, Rendered)] == ["jpeg", "bmp"] * 2


async def test_what_a_group_takes_is_divided_among_its_pictures(sandbox: Sandbox) -> None:
    meters = [Meter("mia") for _ in SMALL]
    before = sandbox.pool.cpu_s()
    await asyncio.gather(*(render(sandbox, *(each,), meter=m) for each, m in zip(SMALL, meters, strict=True)))
    taken = sandbox.pool.cpu_s() - before

    assert all(meter.cpu_s > 0 for meter in meters)
    assert sum(meter.cpu_s for meter in meters) == pytest.approx(taken, abs=0.01)
    assert sandbox._accounts.used_s("mia") == pytest.approx(sum(meter.cpu_s for meter in meters), rel=0.01)


async def test_bytes_of_a_bucket_are_fetched_for_a_group_and_released_once_it_has_them(
    sandbox: Sandbox,
) -> None:
    released: list[int] = []

    async def one(number: int, content: bytes) -> Rendered | None:
        with descriptor(b"") as fd:

            async def fetch() -> None:
                os.pwrite(fd, content, 0)

            release = lambda: released.append(number)  # noqa: E731
            return await sandbox.render(fd, len(content), BOTH, None, fetch=fetch, release=release)

    results = await asyncio.gather(*(one(number, content) for number, content in enumerate(SMALL)))

    assert all(results)
    assert sorted(released) == list(range(8))


async def test_a_file_that_changes_before_its_turn_in_a_group_is_told_of_alone(sandbox: Sandbox) -> None:
    with descriptor(SMALL[0]) as fd:
        changed = sandbox.render(fd, len(SMALL[0]) + 7, BOTH, None)
        results = await asyncio.gather(
            render(sandbox, SMALL[1]), changed, render(sandbox, SMALL[2]), return_exceptions=True
        )

    assert isinstance(results[1], SourceChanged)
    assert isinstance(results[0], Rendered)
    assert isinstance(results[2], Rendered)


# -- who is to blame

ENDS: dict[str, type[Exception]] = {
    "segv": DecoderCrashed,
    "abort": DecoderCrashed,
    "exit": DecoderCrashed,
    "close": DecoderCrashed,
    "a huge frame": DecoderCrashed,
    "an unknown status": DecoderCrashed,
    "wrong types": DecoderCrashed,
    "an extra field": DecoderCrashed,
    "other names": DecoderCrashed,
    "another size": DecoderCrashed,
    "trailing bytes": DecoderCrashed,
    "exif": DecoderCrashed,
    "nothing written": DecoderCrashed,
    "no placeholder": DecoderCrashed,
    "far more bytes than a picture takes": DecoderCrashed,
    "a place before the first": DecoderCrashed,
    "unchanged although nothing was known": DecoderCrashed,
    "a bug": DecoderFailed,
    "raise": DecoderFailed,
    "starved": DecoderStarved,
    "hang": DecodeTimeout,
    "spin": DecodeTimeout,
    "deaf": DecodeTimeout,
    "grow": DecoderBloated,
    "write too much": DecoderBloated,
}
NEEDS_THE_WALL = {"close", "hang", "deaf"}
"""What neither ends by itself nor takes CPU time."""


@pytest.mark.parametrize("fault", ENDS)
@pytest.mark.rotating(8)
async def test_who_ends_a_decoder_in_the_middle_of_eight_is_the_only_one_to_blame(
    patient: Sandbox, fault: str, said: list[list[type]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if (
        fault not in NEEDS_THE_WALL
    ):  # a busy machine gives so little within the wall's time that it is to blame
        monkeypatch.setattr(group_attempt, "LONGEST_S", 60)
        monkeypatch.setattr(protocol, "WALL_FACTOR", 300)
    results = await together(patient, *with_fault(fault, 4))

    # A crash is told at once; of what closed its connection and lives on nobody knows in time that it has.
    crashes = ENDS[fault] is DecoderCrashed and fault != "close"
    assert said == [[*[Rendered] * 4, DecoderCrashed if crashes else SingleError]]
    assert isinstance(results[4], ENDS[fault])
    assert are_own(results, but=[4])


async def test_a_killer_in_a_group_ends_that_decoder_and_one_alone(
    patient: Sandbox, counted: CountedDecoders
) -> None:
    await together(patient, *with_fault("segv", 4))

    assert counted.ended == ["crashed", "crashed"]


async def test_two_killers_in_a_group_end_no_decoder_of_the_others(
    patient: Sandbox, counted: CountedDecoders
) -> None:
    pictures = with_fault("segv", 2)
    pictures[5] = ordered("abort")
    results = await together(patient, *pictures)

    assert [isinstance(each, DecoderCrashed) for each in results] == [n in (2, 5) for n in range(8)]
    assert len(counted.ended) <= 4 + 1  # each alone twice; and one idle, before somebody is alone


LIES = [
    *("answered early", "no answer", "answers for others", "more than was granted"),
    *("variants over its answer", "late", "deferred", "all overwritten"),
]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("at", [0, 4, 7])
@pytest.mark.rotating(9)
async def test_whatever_a_decoder_says_of_a_group_each_gets_its_own_picture(
    patient: Sandbox, lie: str, at: int
) -> None:
    results = await together(patient, *with_fault(lie, at))

    assert are_own(results, but=[at])
    assert isinstance(results[at], DecoderCrashed if lie == "answered early" else Rendered)


async def test_a_decoder_that_was_taken_over_refuses_those_behind_it_and_none_before(
    patient: Sandbox,
) -> None:
    results = await together(patient, *with_fault("refusals for others", 4))

    assert are_own(results, but=[4, 5, 6, 7])
    assert isinstance(results[4], Rendered)
    assert [isinstance(each, PictureRefused) for each in results[5:]] == [True] * 3


async def test_outputs_that_a_decoder_has_kept_take_no_memory_after_their_group(patient: Sandbox) -> None:
    [pid] = children()
    for _ in range(3):
        await together(patient, *[ordered("outputs kept")] * 8)
    held = [os.stat(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]

    assert pid in children()
    assert len(held) >= 24
    assert sum(file.st_blocks for file in held) * 512 < MIB


async def test_where_a_group_gets_no_outputs_its_pictures_go_one_by_one_and_no_decoder_ends(
    patient: Sandbox, counted: CountedDecoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    memfd_create = os.memfd_create

    def too_many(name: str, flags: int = os.MFD_CLOEXEC) -> int:
        if flags & os.MFD_ALLOW_SEALING:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return memfd_create(name, flags)

    monkeypatch.setattr(os, "memfd_create", too_many)

    assert are_own(await together(patient, *SMALL))
    assert counted.ended == []


async def test_who_is_late_in_a_group_keeps_its_bytes_for_the_next_one(patient: Sandbox) -> None:
    late, fetched = ordered("late"), []

    async def one(content: bytes) -> Rendered | None:
        with memory_file() as file:

            async def fetch() -> None:
                if not file.size:
                    fetched.append(content)
                    file.append(content)

            return await patient.render(file.fd, len(content), BOTH, None, fetch=fetch, release=file.empty)

    results = await asyncio.gather(*(one(content) for content in [SMALL[0], late, late, SMALL[1]]))

    assert all(results)
    assert len(fetched) == 4


async def test_outputs_of_megabytes_are_not_checked_where_the_event_loop_runs(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_attempt, "_JUDGED_INLINE", 1)
    checked_in: set[int] = set()
    judge = GroupAttempt._judge

    def noted(self: GroupAttempt, *arguments: Any) -> None:
        checked_in.add(threading.get_ident())
        judge(self, *arguments)

    monkeypatch.setattr(GroupAttempt, "_judge", noted)
    assert all(await together(sandbox, *SMALL))

    assert checked_in
    assert threading.get_ident() not in checked_in


async def test_what_a_decoder_writes_over_a_group_later_is_not_in_what_was_checked(patient: Sandbox) -> None:
    results = await together(patient, *with_fault("keep writing", 4))
    await render(patient, jpeg())

    assert are_own(results, but=[4])


async def test_a_killer_in_a_job_of_eight_fails_alone_and_is_alone_remembered(
    catalog: Catalog, blobs: MemoryBlobs, uploads: Uploads, patient: Sandbox
) -> None:
    ids = [
        await uploads.put(f"{number}.jpg", content) for number, content in enumerate(with_fault("segv", 3))
    ]
    await catalog.requeuer.requeue_stalled(await catalog.requeuer.overdue(-1000, 10_000))
    [job_id] = await dispatch(catalog)
    await process_uploads(ids, job_id, batch_context(catalog, blobs, patient, slots=8))
    found = [await catalog.reports.find(each) for each in ids]

    assert [one.state for one in found if one] == [State.FAILED if n == 3 else State.READY for n in range(8)]
    assert {one.attempts for one in found if one and one.state is State.READY} == {0}
    assert len(await catalog.poison.all("test")) == 1


class Full(MemoryBlobs):
    """Stores nothing until it is `emptied`."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0
        self.is_waited_for, self.emptied = asyncio.Event(), asyncio.Event()

    async def store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        if any(key.startswith("variants/") for key, _ in contents):
            self.waiting += 1
            self.is_waited_for.set()
            await self.emptied.wait()
        await super().store(contents)


async def test_while_nothing_can_be_stored_no_more_is_rendered_than_may_wait_for_it(
    catalog: Catalog, tmp_path: Path, patient: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "_MOST_UNSTORED", 1)
    full = Full()
    uploads = Uploads(catalog, full, tmp_path)

    async def are_free() -> bool:  # also of those who only look whether anything may be rendered
        return patient.admission.slots.are_free

    ids = [await uploads.put(f"{n}.jpg", SMALL[n % 8]) for n in range(MOST_IN_GROUP + 4)]
    await catalog.requeuer.requeue_stalled(await catalog.requeuer.overdue(-1000, 10_000))
    [job_id] = await dispatch(catalog)
    context = batch_context(catalog, full, patient, slots=len(ids))
    work = asyncio.create_task(process_uploads(ids, job_id, context))
    await full.is_waited_for.wait()
    await until(are_free)
    await settled()
    waiting, busy = full.waiting, patient.admission.slots.busy
    full.emptied.set()

    assert 1 <= waiting <= MOST_IN_GROUP
    assert busy == 0
    assert (await work).outcomes == Counter(ready=len(ids))


# -- who leaves


async def test_a_caller_that_is_cancelled_leaves_its_group_and_the_others_come_out(patient: Sandbox) -> None:
    tasks = [asyncio.create_task(render(patient, each)) for each in with_fault("take a while", 0)]
    await asyncio.wait(tasks, timeout=0.05)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(results[3], asyncio.CancelledError)
    assert isinstance(results[0], Rendered)
    assert are_own(results, but=[0, 3])


async def test_a_group_that_nobody_waits_for_any_more_ends_with_its_decoder(patient: Sandbox) -> None:
    [before] = children()
    tasks = [asyncio.create_task(render(patient, each)) for each in with_fault("hang", 0)]
    await asyncio.wait(tasks, timeout=0.05)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(result) for result in results} == {asyncio.CancelledError}
    assert before not in children()
    assert are_own(await together(patient, *SMALL))


@pytest.mark.parametrize("turns", range(6))
async def test_a_group_is_cancelled_at_any_moment_and_keeps_no_place(patient: Sandbox, turns: int) -> None:
    tasks = [asyncio.create_task(render(patient, each)) for each in SMALL]
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    assert patient.admission.slots.busy == 0
    assert are_own(await together(patient, *SMALL))


async def test_a_group_whose_decoders_are_all_ended_is_done_by_others(patient: Sandbox) -> None:
    async def is_at_work() -> bool:
        return patient.admission.slots.busy > 0

    await render(patient, SMALL[0])  # from now on a decoder rests, which has the group at once
    tasks = [asyncio.create_task(render(patient, each)) for each in with_fault("hang", 0)]
    await until(is_at_work)
    await patient.pool.close()  # as at the end of a worker
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(results[0], DecodeTimeout)  # alone, by a decoder of the next parent
    assert are_own(results, but=[0])


# -- how groups are formed


class Recorded:
    """Stands for decoders: notes the groups that it gets, and answers each when it is told to."""

    def __init__(self, places: int = 1) -> None:
        self.slots = Slots(places)
        self.groups = Groups(self.slots, self.decode)
        self.sizes: list[int] = []
        self.alike: list[Alike] = []
        self.go_on = asyncio.Event()

    async def decode(self, alike: Alike, group: Sequence[GroupMember]) -> Sequence[GroupMember]:
        self.sizes.append(len(group))
        self.alike.append(alike)
        await self.go_on.wait()
        for one in group:
            one.give(None)
        return []

    def ask(
        self,
        owner: str = "mia",
        engine: Engine = "vips",
        variants: Sequence[Variant] = BOTH,
        placeholder: Kind = "thumbhash",
    ) -> None:
        task = Task(0, 1, variants, None, placeholder=placeholder, meter=Meter(owner))
        self.asked.append(asyncio.create_task(self.groups.render(task, engine)))

    asked: list[asyncio.Task[Rendered | None]]


@pytest.fixture
async def recorded(request: pytest.FixtureRequest) -> AsyncIterator[Recorded]:
    recorded = Recorded(getattr(request, "param", 1))
    recorded.asked = []
    yield recorded
    recorded.go_on.set()
    await asyncio.gather(*recorded.asked)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_comes_while_a_group_is_at_work_forms_the_next_one(recorded: Recorded) -> None:
    recorded.ask()
    await settled()
    for _ in range(5):
        recorded.ask()
    await settled()
    recorded.go_on.set()
    await settled()

    assert recorded.sizes == [1, 5]


async def test_no_group_is_larger_than_the_most(recorded: Recorded) -> None:
    for _ in range(2 * MOST_IN_GROUP + 3):
        recorded.ask()
    recorded.go_on.set()
    await asyncio.gather(*recorded.asked)

    assert recorded.sizes == [MOST_IN_GROUP, MOST_IN_GROUP, 3]


@pytest.mark.parametrize("recorded", [2], indirect=True)
async def test_two_decoders_that_are_free_share_who_waits(recorded: Recorded) -> None:
    for _ in range(6):
        recorded.ask()
    await settled()

    assert recorded.sizes == [3, 3]


async def test_owners_kinds_of_decoders_and_recipes_are_never_mixed(recorded: Recorded) -> None:
    for _ in range(2):
        recorded.ask("mia")
        recorded.ask("tom")
        recorded.ask("mia", "pillow")
        recorded.ask("mia", variants=BOTH[:1])
        recorded.ask("mia", placeholder="blurhash")
    recorded.go_on.set()
    await asyncio.gather(*recorded.asked)

    assert recorded.sizes == [2] * 5
    assert recorded.alike == [
        Alike("mia", "vips", tuple(BOTH), "thumbhash"),
        Alike("tom", "vips", tuple(BOTH), "thumbhash"),
        Alike("mia", "pillow", tuple(BOTH), "thumbhash"),
        Alike("mia", "vips", tuple(BOTH[:1]), "thumbhash"),
        Alike("mia", "vips", tuple(BOTH), "blurhash"),
    ]


async def test_where_each_picture_has_its_own_decoder_there_are_no_groups(counted: CountedDecoders) -> None:
    kept_apart = replace(allowance(), isolation="picture")
    async with open_sandbox(kept_apart, (*ROGUE, "starts"), counted) as sandbox:
        assert are_own(await together(sandbox, *SMALL))

    assert counted.started >= len(SMALL)
