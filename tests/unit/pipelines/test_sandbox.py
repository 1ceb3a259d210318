"""The sandbox: what a decoder may answer, and what becomes of one that goes bad, and of its neighbours."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from pipelines.errors import (
    DecoderBloated,
    DecoderCrashed,
    DecoderUnavailable,
    DecodeTimeout,
    PictureRefused,
    PipelineError,
    SourceChanged,
)
from pipelines.formats import MIB
from pipelines.recipe import Variant
from pipelines.sandbox import Rendered, Sandbox, open_sandbox, protocol
from pipelines.sandbox.child import Child
from pipelines.sandbox.fork_server import ForkServer
from tests.support.sandboxes import (
    BOTH,
    ROGUE,
    allowance,
    bitmap,
    children,
    descriptor,
    fork_servers,
    has_ended,
    jpeg,
    ordered,
    render,
)


async def renders_well(sandbox: Sandbox) -> bool:
    """Whether a good picture comes out, by one living child and beside no dead one."""
    rendered = await render(sandbox, jpeg())
    assert rendered is not None
    sizes = [(variant.name, variant.width, variant.height) for variant in rendered.variants]
    states = list(children().values())
    return sizes == [("thumb", 40, 30), ("large", 40, 30)] and len(states) == 1 and states != ["Z"]


# -- a decoder gone bad

LIES = {
    "frames": ["not json", "not utf-8", "an empty frame", "a list", "deep json", "a huge frame"],
    "answers": ["an unknown status", "no status", "wrong types", "a number too large", "a negative estimate"],
    "more answers": ["an extra field", "an unknown code", "a bug without end"],
    "turns": ["done without consent", "probed twice", "unchanged although nothing was known"],
    "variants": ["too many variants", "too few variants", "other names", "other order"],
    "facts": ["another size", "more bytes than written", "another content", "another picture"],
    "places": ["another place", "a place before the first", "far more bytes than a picture takes"],
    "files": ["nothing written", "not a jpeg", "a truncated jpeg", "a jpeg without its end"],
    "extras": ["trailing bytes", "a second picture behind the first", "bytes hidden between two ends"],
    "contents": ["a second frame header", "exif", "a comment", "an icc profile"],
    "deaths": ["close", "segv", "abort", "exit"],
}


@pytest.mark.parametrize("fault", [each for kind in LIES.values() for each in kind])
@pytest.mark.rotating(15)
async def test_a_decoder_that_lies_or_dies_is_ended_and_replaced(rogue: Sandbox, fault: str) -> None:
    before = set(children())
    with pytest.raises(DecoderCrashed):
        await render(rogue, ordered(fault))

    assert set(children()) & before == set()
    assert await renders_well(rogue)


@pytest.mark.fault(5)
@pytest.mark.parametrize("fault", ["hang", "spin", "deaf", "half a frame"])
@pytest.mark.rotating(2)
async def test_a_decoder_that_never_answers_is_ended_soon_after_its_time(rogue: Sandbox, fault: str) -> None:
    began = time.monotonic()
    with pytest.raises(DecodeTimeout, match=r"longer to decode than the 0\.2 seconds"):
        await render(rogue, ordered(fault))

    assert time.monotonic() - began < 2 * 0.6 + 5
    assert children() == {}
    assert await renders_well(rogue)


@pytest.fixture
def ample_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little of the processor the machine gives a decoder, only CPU time ends it."""
    monkeypatch.setattr(protocol, "WALL_FACTOR", 300)


@pytest.mark.usefixtures("ample_wall_time")
async def test_header_and_pixels_share_one_time_limit(rogue: Sandbox) -> None:
    with pytest.raises(DecodeTimeout) as ended:  # 0.15 s for each, of 0.2 s
        await render(rogue, ordered("slow twice"))

    assert ended.value.of_cpu


async def test_a_header_gets_a_quarter_of_the_time_but_at_least_a_second() -> None:
    async with open_sandbox(allowance(seconds=4), (*ROGUE, "starts")) as rogue:
        with pytest.raises(DecodeTimeout, match="the 1 seconds allowed"):
            await render(rogue, ordered("slow header"))


@pytest.mark.fault(4)
@pytest.mark.parametrize("fault", ["grow", "grow after consent", "write too much"])
async def test_a_decoder_that_takes_more_memory_than_announced_is_ended(fault: str) -> None:
    async with open_sandbox(allowance(seconds=5), (*ROGUE, "starts")) as rogue:
        with pytest.raises(DecoderBloated, match="more memory than its header announced") as refused:
            await render(rogue, ordered(fault))

        assert refused.value.code == "too_much_memory"
        assert children() == {}
        assert await renders_well(rogue)


async def test_what_a_decoder_writes_later_is_not_in_what_was_checked(rogue: Sandbox) -> None:
    content = ordered("keep writing")
    rendered = await render(rogue, content)
    await render(rogue, jpeg())

    assert rendered is not None
    assert {variant.content for variant in rendered.variants} == {jpeg()}
    assert {variant.sha256 for variant in rendered.variants} == {sha256(jpeg()).hexdigest()}


@pytest.mark.parametrize(("count", "most_mib"), [(1, 32), (4, 300)], ids=["the budget", "the estimate"])
async def test_no_more_is_read_than_a_picture_may_take(rogue: Sandbox, count: int, most_mib: int) -> None:
    rogue.guard.most = most_mib * MIB
    wanted = [Variant(f"large-{number}", 4000) for number in range(count)]
    with pytest.raises(DecoderCrashed, match="variants of more bytes than its picture may take"):
        await render(rogue, ordered("claim too much"), wanted)


async def test_variants_that_overlap_are_refused(rogue: Sandbox) -> None:
    with pytest.raises(DecoderCrashed, match="overlap"):
        await render(rogue, ordered("places that overlap"))


async def test_variants_that_are_one_file_are_read_once(rogue: Sandbox) -> None:
    rendered = await render(rogue, jpeg())

    assert rendered is not None
    first, second = rendered.variants
    assert first.content is second.content


async def test_a_decoder_that_shouts_fills_no_memory(rogue: Sandbox) -> None:
    await render(rogue, ordered("shout"))

    [pid] = children()
    assert os.readlink(f"/proc/{pid}/fd/2").startswith("pipe:")  # which holds 64 KiB


async def test_what_a_decoder_says_after_its_answer_is_not_taken_for_the_next_one(rogue: Sandbox) -> None:
    [babbler] = children()
    rendered = await render(rogue, ordered("babble"))
    again = await render(rogue, jpeg())

    assert rendered is not None
    assert again is not None
    assert babbler not in children()


async def test_a_refusal_is_reported_without_anything_that_a_terminal_obeys(rogue: Sandbox) -> None:
    with pytest.raises(PictureRefused) as refused:
        await render(rogue, ordered("refuse colourfully"))

    message = str(refused.value)
    assert message.startswith(" [31mred name")
    assert message.isprintable()
    assert len(message) <= 300


async def test_a_refused_picture_leaves_its_decoder_in_service(rogue: Sandbox) -> None:
    before = children()
    with pytest.raises(PictureRefused):
        await render(rogue, ordered("refuse colourfully"))

    assert await renders_well(rogue)
    assert children().keys() == before.keys()


async def test_a_variant_of_another_size_than_the_recipe_asks_for_is_refused(rogue: Sandbox) -> None:
    with pytest.raises(DecoderCrashed, match="another size"):
        await render(rogue, jpeg(), [Variant("tiny", 20)])


async def test_a_picture_that_kills_its_decoder_gets_one_more_try_alone(
    rogue: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "picture"
    file.write_bytes(ordered("once"))
    with file.open("rb") as source:
        rendered = await rogue.render(source.fileno(), file.stat().st_size, BOTH, None)

    assert rendered is not None
    assert len(rendered.variants) == 2


@pytest.mark.usefixtures("ample_wall_time")
async def test_a_picture_that_uses_its_cpu_time_up_gets_no_second_try(rogue: Sandbox) -> None:
    for _ in range(5):  # other programs may leave who watches it too little of the processor
        [decoder], used_before = children(), _seconds_of_ended_decoders()
        with pytest.raises(DecodeTimeout, match=r"the 0\.2 seconds allowed") as ended:
            await render(rogue, ordered("spin"))
        used = _seconds_of_ended_decoders() - used_before
        assert ended.value.of_cpu
        assert children() == {}  # a second try would have been that of a second decoder
        await render(rogue, jpeg())
        assert decoder not in children()
        if used < 2 * 0.2:
            break

    assert 0.1 < used < 2 * 0.2


async def test_a_small_picture_gets_less_cpu_time_than_is_set_for_large_ones() -> None:
    async with open_sandbox(allowance(seconds=20), (*ROGUE, "starts")) as rogue:
        used_before = _seconds_of_children()
        with pytest.raises(DecodeTimeout, match=r"than the 2\.\d seconds allowed"):
            await render(rogue, ordered("spin after consent"))

    assert _seconds_of_children() - used_before < 4


def _seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _seconds_of_ended_decoders() -> float:
    """What the decoders of this process have taken whose parents live."""
    clocks = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15] for pid in fork_servers()
    ]
    return sum(int(ticks) for both in clocks for ticks in both) / os.sysconf("SC_CLK_TCK")


async def test_neighbours_of_a_bad_picture_are_rendered() -> None:
    orders = ["abort", "spin", "not json", "exif", "hang"]
    async with open_sandbox(allowance(decoders=2, seconds=1), (*ROGUE, "starts")) as rogue:
        pictures = [content for order in orders for content in (ordered(order), jpeg())]
        answers = await asyncio.gather(
            *(render(rogue, picture) for picture in pictures), return_exceptions=True
        )

    assert [type(answer) for answer in answers[1::2]] == [Rendered] * len(orders)
    assert all(isinstance(answer, PipelineError) for answer in answers[::2])


async def test_a_picture_whose_decoder_hangs_once_it_has_answered_does_not_cost_the_next(
    rogue: Sandbox,
) -> None:
    assert await render(rogue, ordered("hang afterwards")) is not None

    assert await render(rogue, jpeg()) is not None


@pytest.mark.parametrize("start", ["exits", "lies", "stammers", "says deep things"])
async def test_a_decoder_that_cannot_start_says_nothing_about_a_picture(start: str) -> None:
    with pytest.raises(DecoderUnavailable, match="did not start"):
        async with open_sandbox(allowance(), (*ROGUE, start)):
            pass

    assert children() == {}


async def test_the_stderr_of_a_decoder_that_cannot_start_is_reported() -> None:
    with pytest.raises(DecoderUnavailable, match="no libvips here"):
        async with open_sandbox(allowance(), (*ROGUE, "exits")):
            pass


async def test_of_a_decoder_that_dies_at_start_without_a_word_it_is_asked_whether_it_had_room() -> None:
    with pytest.raises(DecoderUnavailable, match=r"died of signal 11\. Is there room for its threads"):
        async with open_sandbox(allowance(), (*ROGUE, "crashes")):
            pass


async def test_a_decoder_that_uses_the_cpu_while_it_has_nothing_to_do_is_ended(rogue: Sandbox) -> None:
    await render(rogue, ordered("burn while idle"))
    [pid] = children()

    async with asyncio.timeout(5):
        while pid in children():
            await rogue.pool.end_restless()
            await asyncio.sleep(0.01)

    assert await render(rogue, jpeg()) is not None


async def test_a_decoder_that_rests_is_kept(rogue: Sandbox) -> None:
    await render(rogue, jpeg())
    before = children().keys()
    await rogue.pool.end_restless()

    assert await render(rogue, jpeg()) is not None
    assert children().keys() == before


async def test_decoders_that_must_be_confined_and_cannot_be_do_not_start() -> None:
    unconfined = (*ROGUE, "is unconfined")

    with pytest.raises(DecoderUnavailable, match=r"seccomp.*MEDIA_CONFINEMENT=try"):
        async with open_sandbox(replace(allowance(), confinement="require"), unconfined):
            pass
    assert children() == {}
    async with open_sandbox(replace(allowance(), confinement="try"), unconfined) as sandbox:
        assert not (await sandbox.hello("vips")).calls_closed


async def test_decoders_are_unconfined_where_that_is_asked_for() -> None:
    async with open_sandbox(replace(allowance(), confinement="off")) as sandbox:
        hello = await sandbox.hello("vips")

    assert (hello.calls_closed, hello.landlock) == (False, 0)


async def test_a_decoder_that_is_not_installed_is_reported() -> None:
    with pytest.raises(DecoderUnavailable, match="could not be started"):
        async with open_sandbox(allowance(), ("/no/such/program",)):
            pass


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """This process may open so many descriptors and no more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(_descriptors()) + 1 + count
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
        with suppress(OSError):
            while True:
                taken.append(os.dup(2))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


async def started() -> None:
    """Start the parent of decoders, and one of them, from nothing."""
    server = await ForkServer.start({}, (*ROGUE, "starts"))
    try:
        await (await Child.start(server, "vips")).kill()
    finally:
        await server.close()


@pytest.mark.parametrize("count", range(7))
async def test_without_descriptors_a_decoder_is_unavailable_and_none_is_lost(count: int) -> None:
    before = len(_descriptors())
    with room_for(count), pytest.raises(DecoderUnavailable, match=r"could not be started: .*open files"):
        await started()

    assert len(_descriptors()) == before
    assert children() == {}


async def test_a_render_that_is_cancelled_ends_its_decoder(rogue: Sandbox) -> None:
    [before] = children()
    task = asyncio.create_task(render(rogue, ordered("hang")))
    await asyncio.wait({task}, timeout=0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert before not in children()
    assert await renders_well(rogue)


# -- the real decoder


async def test_a_picture_becomes_its_variants_and_what_was_measured_of_it(sandbox: Sandbox) -> None:
    content = jpeg(400, 200, (0, 0, 255))
    rendered = await render(sandbox, content)

    assert rendered is not None
    assert (rendered.sha256, rendered.format) == (sha256(content).hexdigest(), "jpeg")
    assert (rendered.width, rendered.height) == (400, 200)
    assert [(each.name, each.width, each.height) for each in rendered.variants] == [
        ("thumb", 150, 75),
        ("large", 400, 200),
    ]


async def test_every_size_comes_out_as_the_recipe_says(sandbox: Sandbox) -> None:
    wanted = [Variant("inside", 100), Variant("cover", 64, fit="cover"), Variant("tiny", 7)]
    sizes = [(1, 1), (101, 3), (3, 1001), (333, 250), (201, 134), (99, 99), (1000, 1), (150, 149), (640, 427)]
    for width, height in sizes:
        rendered = await render(sandbox, jpeg(width, height), wanted)

        assert rendered is not None
        expected = [variant.size_of(width, height) for variant in wanted]
        assert [(each.width, each.height) for each in rendered.variants] == expected


async def test_known_content_is_not_decoded(sandbox: Sandbox) -> None:
    content = jpeg()

    assert await render(sandbox, content, known=sha256(content).hexdigest()) is None
    assert await render(sandbox, content, known="0" * 64) is not None


async def test_a_source_of_another_size_than_said_has_changed(sandbox: Sandbox) -> None:
    content = jpeg()
    for said in (len(content) - 1, len(content) + 1):
        with descriptor(content) as source, pytest.raises(SourceChanged):
            await sandbox.render(source, said, BOTH, None)


async def test_a_picture_that_is_none_is_refused_in_words(sandbox: Sandbox) -> None:
    with pytest.raises(PictureRefused) as refused:
        await render(sandbox, b"%PDF-1.7 and so on")

    assert refused.value.code == "unsupported_format"


async def test_a_picture_that_would_take_more_memory_than_there_is_is_refused_before_it_is_decoded() -> None:
    async with open_sandbox(allowance()) as sandbox:
        sandbox.guard.most = MIB
        with pytest.raises(PictureRefused, match=r"would take about \d+ MiB of memory; 1 MiB are there"):
            await render(sandbox, jpeg())
        sandbox.guard.most = 100 * MIB

        assert await render(sandbox, jpeg()) is not None


async def test_an_idle_decoder_grown_fat_is_replaced(rogue: Sandbox) -> None:
    [slim] = children()
    async with open_sandbox(allowance(), (*ROGUE, "starts")) as roomy:
        rendered = await render(roomy, ordered("grow and keep"))
        left = set(children()) - {slim}

    assert rendered is not None
    assert left == set()


async def test_decoders_of_both_kinds_are_kept_but_only_one_more_than_there_are_places() -> None:
    async with open_sandbox(allowance(decoders=2)) as sandbox:
        answers = await asyncio.gather(*(render(sandbox, bitmap()) for _ in range(2)))
        at_most = len(children())

    assert all(answers)
    assert at_most == 3


async def test_a_decoder_has_no_environment_worth_reading(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIA_REDIS_URL", "redis://:secret@example")
    async with open_sandbox(allowance()) as another:
        pids = children()
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in pids]
        await render(another, jpeg())

    expected = {b"MALLOC_ARENA_MAX=1", b"VIPS_CONCURRENCY=1"}
    assert [set(each.strip(b"\0").split(b"\0")) for each in environments] == [expected] * 2


async def test_a_decoder_holds_no_descriptor_but_its_own(sandbox: Sandbox, tmp_path: Path) -> None:
    inherited = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        async with open_sandbox(allowance()) as another:
            await render(another, jpeg())
            opened = [_targets(pid) for pid in children()]
    finally:
        os.close(inherited)

    for targets in opened:
        assert targets.keys() == {0, 1, 2, 3}
        assert targets[0].startswith("socket:")
        assert targets[1] == "/dev/null"
        assert targets[2].startswith("pipe:")
        assert targets[3].startswith("/memfd:decoder-output")


def _targets(pid: int) -> dict[int, str]:
    return {int(fd.name): os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}


HOLDER = """
import asyncio, sys
from pathlib import Path
from pipelines.sandbox import open_sandbox
from tests.support.sandboxes import allowance, children

async def main():
    async with open_sandbox(allowance(decoders=2)):
        print(*children(), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_decoders_die_with_a_worker_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        decoders = [int(pid) for pid in worker.stdout.readline().split()]
        alive = [Path(f"/proc/{pid}").exists() for pid in decoders]
        worker.send_signal(signal.SIGKILL)

    assert alive == [True, True]
    assert [has_ended(pid, 5) for pid in decoders] == [True, True]


def test_a_signal_to_the_group_does_not_end_a_decoder_before_its_worker() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as worker:
        assert worker.stdout is not None
        decoders = [int(pid) for pid in worker.stdout.readline().split()]
        for pid in decoders:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        ended = [has_ended(pid, 0.1) for pid in decoders]
        worker.kill()

    assert ended == [False, False]
