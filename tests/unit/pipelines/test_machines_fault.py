"""What the machine refuses a decoder, or does to it, is not the picture's fault."""

import io
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from pipelines.batch import process_uploads
from pipelines.errors import DecoderCrashed, DecoderKilled, DecoderStarved
from pipelines.formats import MIB
from pipelines.sandbox import Sandbox, longest_render_s
from pipelines.sandbox.child import states
from pipelines.sandbox.protocol import WALL_FACTOR
from storage.blobs import Storage
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from storage.errors import BlobsUnavailable
from tests.support import cgroups
from tests.support.batches import Uploads, batch_context
from tests.support.decoder_child import DecoderProcess
from tests.support.sandboxes import BOTH, jpeg, ordered, render
from worker import retry
from worker.health import check_memory

PICTURES = {"vips": ("WEBP", "JPEG", "PNG", "GIF"), "pillow": ("BMP", "ICO", "TIFF", "AVIF")}


def picture(kind: str) -> bytes:
    """A good picture with something in it."""
    file = io.BytesIO()
    noise = Image.frombytes("RGB", (90, 60), os.urandom(90 * 60 * 3))
    noise.resize((256, 256) if kind == "ICO" else (900, 600)).save(file, kind)
    return file.getvalue()


@contextmanager
def crowded(child: DecoderProcess) -> Iterator[None]:
    """The machine gives the child no thread more."""
    try:
        with cgroups.no_more_threads(child.pid):
            yield
    except cgroups.NoCgroupsError as error:
        pytest.skip(str(error))


@contextmanager
def short_of_memory(child: DecoderProcess, left_mib: int = 1) -> Iterator[None]:
    """The machine gives the child hardly a page more than it has, as with strict overcommit."""
    pages = int(Path(f"/proc/{child.pid}/statm").read_text().split()[0])
    before = resource.prlimit(child.pid, resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + left_mib * MIB
    resource.prlimit(child.pid, resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.prlimit(child.pid, resource.RLIMIT_AS, before)


@contextmanager
def without_descriptors(child: DecoderProcess) -> Iterator[None]:
    """The machine gives the child no descriptor more."""
    before = resource.prlimit(child.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (max(child.descriptors()) + 1, before[1]))
    yield
    resource.prlimit(child.pid, resource.RLIMIT_NOFILE, before)


Shortage = Callable[[DecoderProcess], AbstractContextManager[None]]
SHORTAGES: list[Shortage] = [crowded, short_of_memory, without_descriptors]


@pytest.mark.parametrize("shortage", SHORTAGES, ids=lambda shortage: shortage.__name__)
@pytest.mark.parametrize("engine", PICTURES)
@pytest.mark.rotating(3)
def test_no_picture_is_refused_for_what_the_machine_lacks(engine: str, shortage: Shortage) -> None:
    for content in [picture(kind) for kind in PICTURES[engine]]:
        with DecoderProcess(engine) as child:
            try:
                with shortage(child):
                    meanwhile = child.run(content)
            except EOFError as died:  # glib ends the process for memory, which its parent takes for the same
                if "failed to allocate" not in str(died):
                    raise
                continue

            assert meanwhile.status in ("starved", "done"), meanwhile.answer
            assert child.run(content).status == "done"


def large(kind: str) -> bytes:
    """A picture whose pixels are all in memory at once."""
    file = io.BytesIO()
    Image.new("L", (9000, 6000), 200).save(file, kind, **{"JPEG": {"progressive": True}}.get(kind, {}))
    return file.getvalue()


@pytest.mark.parametrize(("engine", "kind"), [("vips", "JPEG"), ("pillow", "BMP")])
@pytest.mark.rotating(1)
def test_no_picture_is_too_large_for_a_machine_that_gives_only_what_a_small_one_needs(
    engine: str, kind: str
) -> None:
    left = 60 if kind == "JPEG" else 80
    with DecoderProcess(engine, max_bytes=100 * MIB, memory_mb=512) as child, short_of_memory(child, left):
        meanwhile = child.run(large(kind))

    assert meanwhile.status == "starved"
    assert "MiB of memory cannot be had" in meanwhile.answer["message"]


@pytest.mark.parametrize("shortage", SHORTAGES[:1], ids=lambda shortage: shortage.__name__)
def test_a_damaged_picture_is_not_called_so_before_the_machine_gives_what_it_takes(
    shortage: Shortage,
) -> None:
    damaged = picture("WEBP")[:-100]
    with DecoderProcess() as child:
        with shortage(child):
            meanwhile = child.run(damaged)

        assert meanwhile.status == "starved"
        assert child.run(damaged).code == "corrupt_image"


# -- what the machine does to a decoder


FATES: dict[str, tuple[type[Exception], str, str]] = {
    "killed": (DecoderKilled, "decoder_crashed", "killed, and not by the worker"),
    "filtered": (DecoderKilled, "decoder_crashed", "SystemCallErrorNumber=EPERM"),
    "died of SIGQUIT": (DecoderKilled, "decoder_crashed", "somebody ended the decoder with SIGQUIT"),
    "died of SIGXCPU": (DecoderKilled, "decoder_crashed", "LimitCPU"),
    "starved": (DecoderStarved, "decoder_unavailable", "no thread can be started"),
    "died for a thread": (DecoderStarved, "decoder_unavailable", "TasksMax"),
    "died for memory": (DecoderStarved, "decoder_unavailable", "for want of memory"),
    "stopped": (DecoderStarved, "decoder_unavailable", "the machine gave the decoder .* of CPU time"),
    "stopped, then asleep": (DecoderStarved, "decoder_unavailable", "the machine gave the decoder"),
    "waits for the storage": (BlobsUnavailable, "storage_unavailable", "could not be read within 0.6 s"),
}


@pytest.mark.parametrize("fate", ["killed once", "starved once", "stopped once"])
async def test_what_happened_to_a_decoder_beside_others_costs_its_picture_only_another_try(
    rogue: Sandbox, tmp_path: Path, fate: str
) -> None:
    file = tmp_path / "picture"
    file.write_bytes(ordered(fate))
    with file.open("rb") as source:
        rendered = await rogue.render(source.fileno(), file.stat().st_size, BOTH, None)

    assert rendered is not None


async def test_a_picture_on_a_machine_that_stops_takes_no_longer_than_its_job_may(
    rogue: Sandbox, tmp_path: Path
) -> None:
    await render(rogue, jpeg())  # a decoder that has been used may itself be why the storage hangs
    file = tmp_path / "picture"
    file.write_bytes(ordered("waits for the storage once, then stopped"))
    began = time.monotonic()
    with file.open("rb") as source, pytest.raises(DecoderStarved):
        await rogue.render(source.fileno(), file.stat().st_size, BOTH, None)
    took = time.monotonic() - began

    wall_s = 0.2 * WALL_FACTOR
    assert took > 3 * wall_s
    assert took < longest_render_s(0.2)


@pytest.mark.parametrize("fate", FATES)
async def test_what_a_machine_does_to_a_decoder_is_distinguished_from_a_crash(
    rogue: Sandbox, fate: str
) -> None:
    kind, _, words = FATES[fate]
    with pytest.raises(kind, match=words):
        await render(rogue, ordered(fate))

    assert await render(rogue, jpeg()) is not None
    assert await check_memory(rogue)() is None  # who kills itself turns no light red


FROM_OUTSIDE = ["HUP", "INT", "TERM", "QUIT", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "XCPU"]


@pytest.mark.parametrize("name", FROM_OUTSIDE)
async def test_no_picture_is_poison_for_a_signal_that_only_others_send(rogue: Sandbox, name: str) -> None:
    with pytest.raises(DecoderKilled, match=f"SIG{name}"):
        await render(rogue, ordered(f"died of SIG{name}"))


@pytest.mark.parametrize("name", ["SEGV", "BUS", "ABRT", "ILL", "FPE", "TRAP"])
async def test_a_signal_that_a_program_brings_on_itself_is_a_crash(rogue: Sandbox, name: str) -> None:
    with pytest.raises(DecoderCrashed, match="died of signal"):
        await render(rogue, ordered(f"died of SIG{name}"))


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.rotating(4)
async def test_a_picture_that_only_pretends_so_ends_after_its_tries_and_is_not_remembered(
    rogue: Sandbox,
    catalog: Catalog,
    blobs: Storage,
    uploads: Uploads,
    monkeypatch: pytest.MonkeyPatch,
    fate: str,
) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY_MS", 0)
    context = batch_context(catalog, blobs, rogue, classified_by=partial(retry.classify, max_attempts=3))
    upload_id = await uploads.put("cat.jpg", ordered(fate))
    attempts = []
    for _ in range(3):
        report = await process_uploads([upload_id], await uploads.job_id(upload_id), context)
        found = await catalog.reports.find(upload_id)
        assert found is not None
        attempts.append((found.state, found.attempts))
        answer = found.error_code, found.error_message

    assert attempts == [(State.QUEUED, 1), (State.QUEUED, 2), (State.FAILED, 3)]
    assert [(code, words) for _, code, words in report.failures] == [answer]
    assert answer[0] == FATES[fate][1]
    assert await catalog.poison.all("test") == []


ONE_OF_TWO = """
import os, threading

def work():
    while True:
        pass

threading.Thread(target=work).start()
os.write(1, b"!")
threading.Event().wait()
"""


def test_a_decoder_is_at_work_while_one_of_its_threads_is() -> None:
    with subprocess.Popen([sys.executable, "-c", ONE_OF_TWO], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        found = states(process.pid)
        process.kill()

    assert "R" in found


LIMITED = """
import asyncio, sys
from pipelines.errors import PipelineError
from pipelines.sandbox import open_sandbox
from tests.support.sandboxes import ROGUE, allowance, ordered, render
from worker.health import check_memory

async def main():
    async with open_sandbox(allowance(), (*ROGUE, "starts")) as sandbox:
        try:
            await render(sandbox, ordered("hoard"))
        except PipelineError as error:
            print(type(error).__name__, error, "Red:", await check_memory(sandbox)())

asyncio.run(main())
"""


def test_a_decoder_killed_for_memory_fails_no_picture_and_makes_the_worker_unhealthy() -> None:
    words = (
        "the kernel killed the decoder, for the container of 128 MiB ran out of memory. "
        "Give it more memory, or let less run beside the worker."
    )
    try:
        with cgroups.open_cgroup(128, 2) as cgroup:
            command = cgroup.inside([sys.executable, "-c", LIMITED])
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            kills = cgroup.kills
    except cgroups.NoCgroupsError as error:
        pytest.skip(str(error))

    assert said == f"DecoderKilled {words} Red: {words}"
    assert kills >= 2
