"""Hardened units: what a system refuses a decoder costs only the protection that needs it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.errors import DecoderUnavailable
from pipelines.sandbox import DECODER, open_sandbox
from pipelines.sandbox.answers import Hello
from tests.support import filtered
from tests.support.sandboxes import allowance, jpeg, render
from worker.doctor.decoders import inspect_confinement, inspect_missing

FILTER = str(Path(filtered.__file__))
pytestmark = pytest.mark.skipif(
    not Path("/proc/sys/kernel/seccomp").exists() or os.uname().machine not in ("x86_64", "aarch64"),
    reason="there are no seccomp filters here",
)


def under(action: str, *calls: str) -> Sequence[str]:
    """The decoder, to which these calls are refused."""
    return (sys.executable, FILTER, action, *calls, "--", *DECODER)


async def greeted(command: Sequence[str]) -> Hello:
    """What a decoder says that then renders a picture."""
    async with open_sandbox(allowance(seconds=10), command) as sandbox:
        assert await render(sandbox, jpeg()) is not None
        return await sandbox.hello("vips")


@pytest.mark.parametrize("action", ["EPERM", "ENOSYS"])
async def test_limits_that_cannot_be_set_keep_no_decoder_from_its_work_and_are_reported(action: str) -> None:
    hello = await greeted(under(action, "nice", "setrlimit"))

    [finding] = inspect_missing([hello])
    assert set(hello.lacks) >= {"nice", "memory-limit", "core-limit"}
    assert finding.level == "warning"
    assert "a limit on memory, which only the worker then watches" in finding.detail
    assert "@resources" in (finding.advice or "")


@pytest.mark.parametrize("call", ["landlock_create_ruleset", "landlock_restrict_self"])
async def test_a_decoder_that_may_not_use_landlock_works_and_says_so(call: str) -> None:
    hello = await greeted(under("EPERM", call))

    assert hello.landlock == 0
    assert hello.calls_closed
    assert "no Landlock" in inspect_confinement([hello]).detail


async def test_a_decoder_that_may_not_ask_which_pages_are_memory_works() -> None:
    assert (await greeted(under("EPERM", "mincore"))).calls_closed


async def test_where_nothing_is_refused_nothing_is_said() -> None:
    assert inspect_missing([await greeted(DECODER)]) == []


@pytest.mark.parametrize("call", ["landlock_create_ruleset", "nice", "mincore"])
async def test_a_filter_that_kills_is_named_with_the_directive_that_mends_it(call: str) -> None:
    with pytest.raises(DecoderUnavailable) as answer:
        await greeted(under("kill", call))

    assert answer.value.reason == "a decoder did not start: a system call filter killed the decoder (SIGSYS)"
    assert "SystemCallErrorNumber=EPERM" in answer.value.remedy


RENDERS = """
import asyncio, os, tempfile
from pipelines.sandbox import open_sandbox
from tests.support.sandboxes import BOTH, allowance, children, jpeg

async def main():
    with tempfile.TemporaryFile() as file:
        size = file.write(jpeg())
        file.flush()
        async with open_sandbox(allowance(seconds=10)) as sandbox:
            rendered = await sandbox.render(file.fileno(), size, BOTH, None)
            [pid] = children()
            print(len(rendered.variants), *sorted(os.listdir(f"/proc/{pid}/fd")))

asyncio.run(main())
"""


def renders_under(*wrapper: str) -> str:
    """What a process says that makes two variants and looks at its decoder's descriptors."""
    command = [*wrapper, sys.executable, "-c", RENDERS]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ended.stdout.strip() or ended.stderr


@pytest.mark.parametrize(("action", "call"), [("EPERM", "memfd_create"), ("ENOSYS", "close_range")])
@pytest.mark.rotating(1)
def test_without_files_in_memory_or_a_quick_way_to_close_them_all_is_done(action: str, call: str) -> None:
    assert renders_under(sys.executable, FILTER, action, call, "--") == "2 0 1 2 3"


NO_SEALS = """
import fcntl, os
memfd_create = os.memfd_create
os.memfd_create = lambda name, flags=os.MFD_CLOEXEC: memfd_create(name, flags & ~os.MFD_ALLOW_SEALING)
"""
RENDERS_TOGETHER = """
import asyncio, tempfile
from pipelines.metrics import Metrics
from pipelines.sandbox import open_sandbox
from tests.support.sandboxes import BOTH, allowance, jpeg

class Ended(Metrics):
    def decoder_ended(self, reason):
        print("ended", reason)

async def main():
    with tempfile.TemporaryFile() as file:
        size = file.write(jpeg())
        file.flush()
        async with open_sandbox(allowance(seconds=10), metrics=Ended()) as sandbox:
            for _ in range(2):
                made = [sandbox.render(file.fileno(), size, BOTH, None) for _ in range(4)]
                print(len(await asyncio.gather(*made)))
            print(sandbox.rooms.most == sandbox.rooms.few)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("wrapper", "before"),
    [((sys.executable, FILTER, "EPERM", "memfd_create", "--"), ""), ((), NO_SEALS)],
    ids=["refused", "without seals"],
)
def test_where_files_in_memory_cannot_be_sealed_pictures_go_one_by_one_to_one_decoder(
    wrapper: Sequence[str], before: str
) -> None:
    command = [*wrapper, sys.executable, "-c", before + RENDERS_TOGETHER]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert ended.stdout.split() == ["4", "4", "True"], ended.stderr


def test_a_read_only_proc_keeps_no_decoder_from_its_work() -> None:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("mounting a read-only /proc needs root and unshare")
    readonly = ["/bin/sh", "-c", 'mount -o remount,ro /proc && exec "$@"', "sh"]
    said = renders_under("unshare", "--mount", "--pid", "--fork", "--mount-proc", *readonly)
    if "unshare" in said:
        pytest.skip(f"no namespaces can be had here: {said}")

    assert said == "2 0 1 2 3"


RENDERS_FOR_MANY = """
import asyncio
from pipelines.accounts import Meter
from pipelines.sandbox import open_sandbox
from tests.support.sandboxes import allowance, jpeg, render

async def main():
    async with open_sandbox(allowance(seconds=10)) as sandbox:
        for number in range(12):
            await render(sandbox, jpeg(), meter=Meter(f"owner {number}"))
    print("12 owners")

asyncio.run(main())
"""


def test_where_processes_of_others_are_invisible_decoders_are_forked_as_elsewhere() -> None:
    if any(shutil.which(tool) is None for tool in ("unshare", "setpriv")) or os.geteuid() != 0:
        pytest.skip("hiding processes needs root, unshare and setpriv")
    hides = 'mount -t proc -o hidepid=invisible proc /proc && exec "$@"'
    without_rights = ["setpriv", "--regid=12345", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    wrapper = ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", hides, "sh", *without_rights]
    ended = subprocess.run(
        [*wrapper, sys.executable, "-c", RENDERS_FOR_MANY], capture_output=True, text=True, timeout=60
    )
    if "unshare" in ended.stderr or "mount:" in ended.stderr:
        pytest.skip(f"no namespaces can be had here: {ended.stderr}")

    assert ended.stdout == "12 owners\n", ended.stderr


def test_only_descriptors_that_are_open_are_closed_for_the_limit_can_be_a_billion() -> None:
    program = (
        "import os, resource; from pipelines.decoder import limits\n"
        "os.dup2(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1)\n"
        "os.sysconf = lambda _: 2**30\n"
        "limits.close_from(3); print(*os.listdir('/proc/self/fd'))"
    )
    command = [sys.executable, FILTER, "ENOSYS", "close_range", "--", sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)

    assert set(ended.stdout.split()) == {"0", "1", "2", "3"}  # the last is the listing's own
