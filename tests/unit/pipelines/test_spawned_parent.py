"""The parent of decoders that was started before its sandbox, so that it sets itself up meanwhile."""

import os
import signal

import pytest

from pipelines.errors import DecoderUnavailable
from pipelines.sandbox import open_sandbox
from pipelines.sandbox.fork_server import ForkServer, config_of
from tests.support.sandboxes import allowance, fork_servers, has_ended, jpeg, render


async def test_decoders_are_forked_from_the_parent_that_was_spawned_for_them() -> None:
    others = fork_servers()
    spawned = ForkServer.spawn(config_of(allowance()))

    async with open_sandbox(allowance(), spawned=spawned) as sandbox:
        assert await render(sandbox, jpeg()) is not None
        assert set(fork_servers()) == {*others, spawned.pid}

    assert spawned.has_ended
    assert fork_servers() == others


async def test_a_spawned_parent_that_has_ended_meanwhile_is_replaced() -> None:
    spawned = ForkServer.spawn(config_of(allowance()))
    os.kill(spawned.pid, signal.SIGKILL)
    assert has_ended(spawned.pid, 5)

    async with open_sandbox(allowance(), spawned=spawned) as sandbox:
        assert await render(sandbox, jpeg()) is not None
        assert spawned.pid not in fork_servers()


async def test_a_parent_that_cannot_be_spawned_is_told_of_by_whoever_spawns_it() -> None:
    with pytest.raises(DecoderUnavailable, match="No such file"):
        ForkServer.spawn({}, ("/no/such/program",))


async def test_a_spawned_parent_that_nobody_took_is_gone_once_it_is_closed() -> None:
    spawned = ForkServer.spawn(config_of(allowance()))

    await spawned.close()

    assert spawned.has_ended
    with pytest.raises(ProcessLookupError):
        os.kill(spawned.pid, 0)
