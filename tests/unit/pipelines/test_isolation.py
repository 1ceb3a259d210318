"""Isolation: which pictures see the same decoder, and what decoders are forked from."""

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pipelines.accounts import Meter
from pipelines.allowance import Isolation
from pipelines.errors import (
    DecoderBloated,
    DecoderCrashed,
    DecoderKilled,
    DecoderUnavailable,
    PictureRefused,
)
from pipelines.formats import MIB
from pipelines.sandbox import Sandbox, open_sandbox
from pipelines.sandbox.child import Child
from pipelines.sandbox.fork_server import ForkServer
from tests.support.decoder_child import DecoderProcess
from tests.support.sandboxes import (
    ROGUE,
    allowance,
    bitmap,
    children,
    has_ended,
    jpeg,
    ordered,
    render,
)


async def render_of(sandbox: Sandbox, owner: str, content: bytes = jpeg()) -> None:
    """Push one picture of that owner through."""
    await render(sandbox, content, meter=Meter(owner))


def parent_of(sandbox: Sandbox) -> int:
    """The process that its decoders are forked from."""
    assert sandbox.pool._server is not None
    return sandbox.pool._server.pid


async def seen(sandbox: Sandbox, *owners: str) -> Sequence[int]:
    """The number of the decoder that each owner's picture saw."""
    found = []
    for owner in owners:
        await render_of(sandbox, owner)
        found.append(sandbox.pool.idle["vips"][-1].pid if sandbox.pool.idle["vips"] else 0)
    return found


async def test_a_decoder_sees_the_pictures_of_one_owner_alone(rogue: Sandbox) -> None:
    first, second, again, third = await seen(rogue, "mia", "tom", "tom", "eve")

    assert second == again
    assert len({first, second, third}) == 3
    assert len(children()) <= rogue.pool._allowance.children


async def test_owners_that_alternate_keep_a_decoder_each_as_far_as_those_go(rogue: Sandbox) -> None:
    first, second, *later = await seen(rogue, "mia", "tom", "mia", "tom")

    assert later == [first, second]


async def test_who_has_rested_longest_makes_room_for_another_owner(rogue: Sandbox) -> None:
    first, second, _, fourth = await seen(rogue, "mia", "tom", "eve", "tom")

    assert fourth == second
    assert first not in children()


async def fill(sandbox: Sandbox, owner: str) -> Child:
    """The decoder of that owner, once large pictures have filled its heap."""
    for _ in range(2):
        await render_of(sandbox, owner, jpeg(5000, 5000))
    filled = sandbox.pool.idle["vips"][-1]
    assert filled.memory() - filled.idle_memory > 12 * MIB
    return filled


async def test_a_decoder_that_photos_have_filled_makes_room_for_that_of_another_owner() -> None:
    async with open_sandbox(allowance()) as sandbox:
        filled = await fill(sandbox, "mia")
        [tom] = await seen(sandbox, "tom")

        assert list(children()) == [tom] != [filled.pid]


async def test_owners_of_photos_who_alternate_keep_a_decoder_each_without_what_those_leave() -> None:
    async with open_sandbox(allowance()) as sandbox:
        await fill(sandbox, "mia")
        filled = await fill(sandbox, "tom")
        [mia] = await seen(sandbox, "mia")
        after = filled.memory() - filled.idle_memory
        again = await seen(sandbox, "tom", "mia")

        assert again == [filled.pid, mia]
        assert after < 6 * MIB


@pytest.mark.parametrize(("isolation", "decoders"), [("off", 1), ("picture", 0)])
async def test_the_operator_says_how_far_pictures_are_kept_apart(isolation: Isolation, decoders: int) -> None:
    async with open_sandbox(replace(allowance(), isolation=isolation), (*ROGUE, "starts")) as sandbox:
        [before] = children()
        await seen(sandbox, "mia", "tom", "mia")

        assert len(children()) == decoders
        assert (before in children()) == (isolation == "off")


async def test_a_decoder_of_the_other_kind_is_one_owners_as_well() -> None:
    async with open_sandbox(allowance()) as sandbox:
        for owner in ("mia", "tom", "mia"):
            await render_of(sandbox, owner, bitmap())
        owners = [child.owner for child in sandbox.pool.idle["pillow"]]

    assert sorted(owners, key=str) == ["mia", "tom"]


async def test_what_is_not_decoded_needs_no_decoder_and_changes_no_owner(rogue: Sandbox) -> None:
    [before] = await seen(rogue, "mia")
    hello = await rogue.hello("vips")

    assert hello.version == "rogue"
    assert len(children()) == 1
    assert before not in await seen(rogue, "tom")


@pytest.mark.parametrize("isolation", ["owner", "picture"])
async def test_a_decoder_has_seen_a_picture_that_it_refused(isolation: Isolation) -> None:
    async with open_sandbox(replace(allowance(), isolation=isolation), (*ROGUE, "starts")) as sandbox:
        [before] = children()
        with pytest.raises(PictureRefused):
            await render_of(sandbox, "mia", ordered("refuse colourfully"))

        assert before not in await seen(sandbox, "tom")
        assert (before in children()) == (isolation == "owner")


async def test_the_owner_for_whom_another_decoder_is_started_pays_for_that() -> None:
    meters = [Meter("mia"), Meter("tom"), Meter("tom")]
    async with open_sandbox(allowance(), (*ROGUE, "starts slowly")) as sandbox:
        for meter in meters:
            await render(sandbox, jpeg(), meter=meter)

    assert [meter.cpu_s >= 0.05 for meter in meters] == [False, True, False]


# -- the parent of decoders


async def test_the_parent_of_decoders_has_one_thread_and_no_right_to_a_terminal() -> None:
    async with open_sandbox(allowance()) as sandbox:
        await asyncio.gather(render(sandbox, jpeg()), render(sandbox, bitmap()))
        pid = parent_of(sandbox)
        threads = os.listdir(f"/proc/{pid}/task")
        opened = sorted(os.readlink(f"/proc/{pid}/fd/{fd}")[:6] for fd in os.listdir(f"/proc/{pid}/fd"))

    assert len(threads) == 1
    assert opened == ["/dev/n", "pipe:[", "socket"]


async def test_when_the_parent_of_decoders_is_killed_others_are_started_and_nothing_is_lost(
    rogue: Sandbox,
) -> None:
    server, [before] = parent_of(rogue), children()
    os.kill(server, signal.SIGKILL)

    assert has_ended(before, within_s=5)
    with capture_logs() as logs:
        assert await render(rogue, jpeg()) is not None
    assert parent_of(rogue) != server
    [told] = [line for line in logs if line["event"] == "decoder_parent_replaced"]
    assert "was killed, and not by the worker" in told["reason"]


async def test_a_picture_whose_decoder_died_with_its_parent_is_tried_again(rogue: Sandbox) -> None:
    task = asyncio.create_task(render(rogue, ordered("hang")))
    await asyncio.wait({task}, timeout=0.1)
    os.kill(parent_of(rogue), signal.SIGKILL)
    _, tried = await asyncio.gather(render(rogue, jpeg()), task, return_exceptions=True)

    assert "longer to decode" in str(tried)  # alone, by a decoder of the next parent


async def test_a_worker_that_is_killed_leaves_neither_decoders_nor_their_parent() -> None:
    server = await ForkServer.start({}, (*ROGUE, "starts"))
    child = await Child.start(server, "vips")
    server._connection.close()  # as the kernel does

    assert has_ended(child.pid, within_s=5)
    assert has_ended(server.pid, within_s=5)
    await child.kill()
    await server.close()


async def test_a_parent_that_does_not_answer_is_replaced(
    rogue: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.sandbox.fork_server.START_TIMEOUT_S", 0.5)
    server = parent_of(rogue)
    os.kill(server, signal.SIGSTOP)

    assert len(await seen(rogue, "mia", "tom")) == 2
    assert has_ended(server, within_s=5)


async def test_a_decoder_is_killed_at_once_whatever_its_parent_does(rogue: Sandbox) -> None:
    [child], server = rogue.pool.idle["vips"], parent_of(rogue)
    os.kill(server, signal.SIGSTOP)
    killing = asyncio.create_task(child.kill())
    await asyncio.sleep(0)  # until it waits for the parent

    assert has_ended(child.pid, within_s=2)
    os.kill(server, signal.SIGCONT)
    await killing


@pytest.mark.parametrize("turns", range(8))
async def test_a_start_that_is_cancelled_leaves_no_decoder(turns: int) -> None:
    server = await ForkServer.start({}, (*ROGUE, "hangs"))
    task = asyncio.create_task(Child.start(server, "vips"))
    for _ in range(turns):
        await asyncio.sleep(0)
    if turns == 7:
        await asyncio.wait({task}, timeout=0.05)  # until it waits for the decoder's hello
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert children() == {}
    await server.close()


@pytest.mark.parametrize("after_ms", [0, 2, 5, 8, 12, 20])
async def test_a_picture_that_is_cancelled_while_its_decoder_ends_holds_nobody_up(
    rogue: Sandbox, after_ms: int
) -> None:
    async with asyncio.timeout(10):
        for _ in range(5):
            task = asyncio.create_task(render(rogue, ordered("exit")))
            await asyncio.wait({task}, timeout=after_ms / 1000)
            task.cancel()
            with pytest.raises((asyncio.CancelledError, DecoderCrashed)):
                await task

        assert await render(rogue, jpeg()) is not None


async def test_a_decoder_that_leaves_while_it_is_ended_holds_nobody_up(rogue: Sandbox) -> None:
    async with asyncio.timeout(20):
        for _ in range(5):
            with pytest.raises((DecoderBloated, DecoderCrashed)):
                await render(rogue, ordered("leave grown"))

        assert await render(rogue, jpeg()) is not None


async def test_a_supervisor_that_ignores_ended_children_makes_no_difference() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # which programs inherit
    try:
        server = await ForkServer.start({}, (*ROGUE, "exits"))
    finally:
        signal.signal(signal.SIGCHLD, before)
    for _ in range(2):
        with pytest.raises(DecoderUnavailable, match="no libvips here"):
            await Child.start(server, "vips")
    await server.close()


async def test_an_exit_is_told_once_and_of_strangers_nothing(rogue: Sandbox) -> None:
    server = await ForkServer.start({}, (*ROGUE, "exits"))
    with pytest.raises(DecoderUnavailable, match="no libvips here"):
        await Child.start(server, "vips")

    assert await server.exit_status(os.getpid()) is None
    await server.close()
    with pytest.raises(DecoderKilled):
        await server.exit_status(os.getpid())


def test_decoders_share_what_their_parent_has_loaded() -> None:
    """Measured: a decoder's own memory is a few MiB, where a process of its own has 13."""
    with DecoderProcess() as child:
        lines = Path(f"/proc/{child.pid}/smaps_rollup").read_text().splitlines()
        [own] = [int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")]

    assert own < 10 * 1024
