"""Pictures of every weight beside each other: who waits, who overtakes, who runs alone, who is killed."""

import asyncio
import os
import signal
import time

import pytest

from pipelines.errors import DecoderBloated
from pipelines.formats import MIB
from pipelines.recipe import Variant
from pipelines.sandbox import Rendered, Sandbox, open_sandbox
from tests.support.sandboxes import ROGUE, allowance, children, jpeg, ordered, render
from tests.support.worst_cases import WORST

THUMB = [Variant("thumb", 150)]


async def _order(sandbox: Sandbox, pictures: dict[str, bytes]) -> list[str]:
    """The names of pictures that were given in at once, in the order in which they came out."""
    ended = []

    async def one(name: str, content: bytes) -> None:
        assert isinstance(await render(sandbox, content, THUMB), Rendered)
        ended.append(name)

    await asyncio.gather(*(one(name, content) for name, content in pictures.items()))
    return ended


async def test_small_pictures_go_on_while_big_ones_wait_for_each_other() -> None:
    big = WORST["scans.jpg"](30_000_000)  # two of these do not fit beside each other
    pictures = dict.fromkeys(("big 1", "big 2", "big 3"), big) | {f"small {n}": jpeg() for n in range(6)}
    async with open_sandbox(allowance(decoders=2)) as sandbox:
        ended = await _order(sandbox, pictures)

    assert [name[:5] for name in ended[:6]] == ["small"] * 6
    assert sorted(ended[6:]) == ["big 1", "big 2", "big 3"]


async def test_what_fits_only_without_other_decoders_runs_alone() -> None:
    huge = WORST["scans.jpg"](50_000_000)
    async with open_sandbox(allowance(decoders=3)) as sandbox:
        assert len(children()) == 3
        ended = await _order(sandbox, {"huge": huge})
        left = len(children())
        again = await _order(sandbox, {"small": jpeg()})

    assert (ended, again) == (["huge"], ["small"])
    assert left <= 1


async def test_a_picture_beyond_its_estimate_is_killed_at_once_where_all_is_given_out() -> None:
    async with open_sandbox(allowance(seconds=5), (*ROGUE, "starts")) as rogue:
        rogue.guard.most = 31 * MIB  # one more than the rogue's estimate
        with pytest.raises(DecoderBloated):
            await render(rogue, ordered("grow after consent"))

        assert rogue.pool.growth() < 8 * MIB


async def test_of_two_beyond_their_estimates_the_one_farther_beyond_is_killed() -> None:
    async with open_sandbox(allowance(decoders=2), (*ROGUE, "starts")) as rogue:
        rogue.guard.most = 70 * MIB  # each alone would be within its overdraft
        little, lot = await asyncio.gather(
            render(rogue, ordered("grow a little")),
            render(rogue, ordered("grow a lot")),
            return_exceptions=True,
        )

    assert isinstance(little, Rendered)
    assert isinstance(lot, DecoderBloated)


async def test_a_worker_frozen_while_its_decoder_works_fails_no_picture() -> None:
    async with open_sandbox(allowance(seconds=0.2)) as sandbox:
        [decoder] = children()
        rendering = asyncio.create_task(render(sandbox, jpeg()))
        await _frozen_with(decoder, 1.0)

        assert isinstance(await rendering, Rendered)


async def _frozen_with(decoder: int, seconds: float) -> None:

    os.kill(decoder, signal.SIGSTOP)
    await asyncio.sleep(0.1)  # the picture is sent, and no answer can come
    time.sleep(seconds)  # noqa: ASYNC251 (as SIGSTOP does: nothing of this process runs)
    os.kill(decoder, signal.SIGCONT)
