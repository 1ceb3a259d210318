"""What the decoder's child gives up before it sees a picture, and what it is therefore unable to do."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import pyvips

from pipelines import formats
from pipelines.decoder import landlock, seccomp
from tests.support.decoder_child import ALL, DecoderProcess

ATTEMPTS = """
import ctypes, os, socket, threading
from pipelines.decoder import landlock, seccomp

def outcome_of(attempt):
    try:
        attempt()
    except OSError as error:
        return error.strerror
    return "allowed"

def tcp():
    with socket.socket() as tried:
        tried.connect(("127.0.0.1", 9))

def fork():
    if os.fork() == 0:
        os._exit(0)

libc = ctypes.CDLL(None, use_errno=True)

def call(*numbers):
    if libc.syscall(*numbers) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

attempts = {
    "read": lambda: open("/etc/hostname"),
    "write": lambda: open("/tmp/of-a-confined-process", "w"),
    "list": lambda: os.listdir("/"),
    "tcp": tcp,
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "program": lambda: os.execv("/bin/true", ["true"]),
    "signal": lambda: os.kill(os.getppid(), 0),
    "fork": fork,
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "clone3": lambda: call(435, 0, 0),
    "memory": lambda: os.memfd_create("hidden"),
}
CONFINE
found = {}
for name, attempt in attempts.items():
    thread = threading.Thread(target=lambda: found.update({name: outcome_of(attempt)}))
    thread.start()
    thread.join()
for name, words in found.items():
    print(name, words)
"""


@pytest.fixture(scope="module", params=["vips", "pillow"])
def child(request: pytest.FixtureRequest) -> Iterator[DecoderProcess]:
    with DecoderProcess(request.param) as running:
        yield running


def attempts(confine: str) -> dict[str, str]:
    """What a new process may still do, in a thread of its own, after it has confined itself."""
    program = ATTEMPTS.replace("CONFINE", confine)
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in said.splitlines())


@pytest.mark.skipif(landlock.version() < 4, reason="the kernel has no Landlock for files and TCP")
def test_landlock_leaves_a_process_no_file_and_no_tcp_connection() -> None:
    found = attempts("landlock.confine()")

    assert {found[name] for name in ("read", "write", "list", "tcp", "program")} == {"Permission denied"}


@pytest.mark.skipif(not Path("/proc/sys/kernel/seccomp").exists(), reason="the kernel has no seccomp filters")
def test_seccomp_leaves_a_process_no_socket_no_program_and_nobody_to_signal() -> None:
    found = attempts("seccomp.confine()")

    assert {found[name] for name in ("tcp", "udp", "unix", "program", "signal", "read")} == {
        "Operation not permitted"
    }


@pytest.mark.skipif(not Path("/proc/sys/kernel/seccomp").exists(), reason="the kernel has no seccomp filters")
def test_seccomp_leaves_a_process_threads_and_no_other_process() -> None:
    found = attempts("seccomp.confine()")  # each attempt is made in a thread

    assert {found[name] for name in ("fork", "spawn", "memory")} == {"Operation not permitted"}
    assert found["clone3"] == "Function not implemented"


def test_every_call_that_is_allowed_has_a_number_on_each_architecture() -> None:
    known = [*seccomp._CALLS.values(), seccomp._MMAP, seccomp._MPROTECT]
    for column in range(2):
        numbers = [pair[column] for pair in (*known, seccomp._CLONE, seccomp._CLONE3, seccomp._PRCTL)]

        assert len(set(numbers)) == len(numbers)


def test_the_child_says_what_it_is_and_whether_it_is_confined(child: DecoderProcess) -> None:
    assert child.hello["hello"] == 1
    assert child.hello["version"].startswith("libvips 8.")
    assert ("pillow" in child.hello["version"]) == (child.hello["engine"] == "pillow")
    assert child.hello["landlock"] == landlock.version()
    assert child.hello["calls_closed"] == Path("/proc/sys/kernel/seccomp").exists()


def test_the_child_holds_no_descriptor_but_its_four(child: DecoderProcess) -> None:
    assert child.descriptors() == {0, 1, 2, 3}


def test_the_child_is_the_first_to_go_when_memory_runs_out_and_leaves_no_core(child: DecoderProcess) -> None:
    status = Path(f"/proc/{child.pid}")

    assert (status / "oom_score_adj").read_text().strip() == "1000"
    assert resource.prlimit(child.pid, resource.RLIMIT_CORE) == (0, 0)
    assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE)[1] <= 128
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == os.nice(0) + 5
    assert "NoNewPrivs:\t1" in (status / "status").read_text()


def test_the_memory_it_may_ask_for_is_limited() -> None:
    with DecoderProcess(memory_mb=200) as child:
        assert resource.prlimit(child.pid, resource.RLIMIT_DATA) == (200 * 1024 * 1024,) * 2


def test_no_signal_ends_it_that_is_sent_to_the_group_or_by_an_operator(child: DecoderProcess) -> None:
    for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "PWR", "XCPU"):
        os.kill(child.pid, signal.Signals[f"SIG{name}"])

    assert child.run(b"").code == "corrupt_image"


def test_it_ends_when_the_parent_closes() -> None:
    with DecoderProcess(names=["jpeg"]) as child:
        pass

    assert child.returncode == 0


def test_it_dies_with_its_parent() -> None:
    program = (
        "import sys, time; from tests.support.decoder_child import DecoderProcess;"
        "child = DecoderProcess(names=['jpeg']);"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as said:
        pid = int(said.readline())
    parent.kill()
    parent.wait()

    assert is_gone(pid, within=2.0)


def test_it_does_not_start_for_another_parent_than_its_own() -> None:
    with pytest.raises(EOFError, match="the parent is gone"):
        DecoderProcess(names=["jpeg"], parent=1)


def test_every_loader_of_the_table_exists_under_that_name() -> None:
    for loader in formats.loaders(ALL):
        assert pyvips.type_from_name(loader) != 0, loader


@pytest.mark.parametrize("kind", ["svg", "csv", "vips", "pdf", "ppm", "raw", "tiff"])
def test_only_the_loaders_of_the_formats_that_are_on_can_be_used(kind: str) -> None:
    program = f"""
import pyvips
from pipelines.decoder import vips
tiff, svg = pyvips.Image.black(9, 9).tiffsave_buffer(), b"<svg width='9' height='9'/>"
samples = {{"tiff": tiff, "svg": svg, "csv": b"1,2"}}
jpeg = pyvips.Image.black(9, 9).jpegsave_buffer()
vips.set_up(["jpeg"])
assert pyvips.Image.new_from_source(pyvips.Source.new_from_memory(jpeg), "").width == 9
try:
    pyvips.Operation.call("{kind}load_source", pyvips.Source.new_from_memory(samples.get("{kind}", b"x")))
except (pyvips.Error, AttributeError) as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert "blocked" in said or "no such operation" in said or "not found" in said


def test_a_loader_that_libvips_does_not_know_is_an_error_and_not_ignored() -> None:
    program = (
        "from pipelines import formats; from pipelines.decoder import vips;"
        "vips.loaders = lambda names: ('VipsForeignLoadJepgSource',); vips.set_up(['jpeg'])"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stderr

    assert "libvips has no loader VipsForeignLoadJepgSource" in said


def is_gone(pid: int, within: float) -> bool:
    """Whether that process has ended, zombies of others included."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False
