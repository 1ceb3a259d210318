"""A decoder gone bad: it copies a small JPEG honestly, unless the picture's last bytes name a fault.

A sandbox starts it as its command, without libvips, so that it is ready at once. Its first argument names
what it does before that.
"""

import contextlib
import hashlib
import json
import mmap
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.decoder.fork_loop import DESCRIPTORS, ForkLoop, Order
from pipelines.decoder.reading import ANSWER_BYTES, write_answer
from pipelines.decoder.wire import Channel

MIB = 1024 * 1024
PLACEHOLDERS = {
    "thumbhash": "XwgGDISEIGhTNHp1lnb3Vxl/aQ==",
    "blurhash": "LEHV6nWB2yk8pyo0adR*.7kCMdnj",
    "none": None,
}
Message = dict[str, Any]


def receive(connection: socket.socket) -> tuple[Message, list[int]]:
    """The next request and its descriptors; exits when the parent has closed."""
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 100)
    if not head:
        sys.exit(0)
    (length,), body = struct.unpack(">I", head), b""
    while len(body) < length:
        body += connection.recv(length - len(body))  # no more: the next request may be there already
    return json.loads(body), descriptors


def send(connection: socket.socket, message: object) -> None:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    connection.sendall(struct.pack(">I", len(body)) + body)


def forever() -> None:
    while True:
        time.sleep(60)


class Job:
    """One request, answered honestly step by step; what goes wrong changes a step."""

    start = 0  # of its variants
    of = 1  # in its group

    def __init__(self, connection: socket.socket, request: Message, source: int, output: int) -> None:
        self.connection = connection
        self.request = request
        self.source, self.output = source, output
        content = os.pread(self.source, request["bytes"], 0)
        end = content.rfind(b"\xff\xd9") + 2
        self.picture, self.fault = content[:end], content[end:].decode().strip("-")
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.width, self.height = 40, 30

    def probed(self) -> Message:
        size = {"width": self.width, "height": self.height}
        return {"status": "probed", "sha256": self.sha256, "format": "jpeg", **size, "estimate": 30 * MIB}

    def unchanged(self, sha256: str) -> Message:
        return {"status": "unchanged", "sha256": sha256}

    def written(self) -> list[Message]:
        size = {"width": self.width, "height": self.height, "start": self.start, "bytes": len(self.picture)}
        names = [spec["name"] for spec in self.request["variants"]]
        wanted = self.request["missing"] if self.sha256 == self.request["known_sha256"] else names
        return [{"name": name, **size} for name in names if name in wanted]

    def done(self) -> Message:
        ms = {"read": 0.1}
        made = {"color": "#102030", "placeholder": PLACEHOLDERS[self.request["placeholder"]]}
        return {"status": "done", **made, "variants": self.written(), "ms": ms}

    def say(self, message: object) -> None:
        send(self.connection, message)

    def probe(self) -> bool:
        self.say(self.probed())
        return bool(receive(self.connection)[0]["proceed"])

    def write(self, content: bytes | None = None) -> None:
        os.pwrite(self.output, self.picture if content is None else content, self.start)

    def honest(self) -> None:
        if self.request["known_sha256"] == self.sha256 and not self.request["missing"]:
            self.say(self.unchanged(self.sha256))
        elif self.probe():
            self.write()
            self.say(self.done())

    def end(self, content: bytes, **changes: Any) -> None:
        """Write that instead of the picture, and say that all is well."""
        self.picture = content
        self.probe()
        self.write()
        self.say({**self.done(), **changes})


class GroupJob(Job):
    """One request of a group, which has consent in advance, and is answered in the file for its variants."""

    start = ANSWER_BYTES

    def __init__(self, *args: Any, behind: Sequence[int], of: int) -> None:
        super().__init__(*args)
        self.sources, self.others, self.of = {args[2], *behind[::2]}, behind[1::2], of
        self.seen: Message | None = None

    def probe(self) -> bool:
        self.seen = self.probed()
        return True

    def probed(self) -> Message:
        return {**super().probed(), "estimate": 12 * MIB}

    def say(self, message: object) -> None:
        assert isinstance(message, dict)
        write_answer(self.output, self.seen, message)


def answer_group(connection: socket.socket, request: Message, descriptors: list[int]) -> None:
    of = len(request["group"])
    for number, asked in enumerate(request["group"]):
        shared = {"variants": request["variants"], "placeholder": request["placeholder"]}
        source, output, *behind = descriptors[2 * number :]
        job = GroupJob(connection, {**asked, **shared}, source, output, behind=behind, of=of)
        for fd in kept:
            os.pwrite(fd, b"<script>" * 100, ANSWER_BYTES)
        FAULTS.get(job.fault, Job.honest)(job)
        os.close(source)
        if output not in kept:
            os.close(output)
    send(connection, {"status": "answered"})


def only_in_groups(fault: Callable[[GroupJob], object]) -> Callable[[Job], None]:
    def chosen(job: Job) -> None:
        if isinstance(job, GroupJob):
            fault(job)
        else:
            job.honest()

    return chosen


def say_early(job: Job) -> None:
    """Say that all are answered, and nothing of this one and those behind it."""
    send(job.connection, {"status": "answered"})
    forever()


def write_into_answer(job: GroupJob) -> None:
    """Have its variants where its answer is."""
    job.start = 4
    job.probe()
    job.say(job.done())


def answer_others(job: GroupJob) -> None:
    """Answer for those behind it as well."""
    job.honest()
    for other in job.others:
        job.output = other
        job.honest()


def ask_for_more(job: GroupJob) -> None:
    """Say that it takes more than was granted, and go on all the same."""
    job.seen = {**job.probed(), "estimate": 200 * MIB}
    job.write()
    job.say(job.done())


def overwrite_all(job: GroupJob) -> None:
    """Write to whatever it has a descriptor of, and die; but to no source: those can only be read."""
    for fd in {*range(3, 128)} - job.sources:
        with contextlib.suppress(OSError):
            os.pwrite(fd, b"<script>" * 100, 0)
            os.pwrite(fd, b"<script>" * 100, ANSWER_BYTES)
    os.abort()


def take_a_while(job: Job) -> None:
    time.sleep(0.15)
    job.honest()


def tell_group(job: Job) -> None:
    """Say in its times how many pictures there are in its group."""
    job.probe()
    job.write()
    job.say({**job.done(), "ms": {"group": float(job.of)}})


hoarded: list[int] = []


def hoard_outputs(job: Job) -> None:
    """Keep the descriptors of outputs, and write into those of groups before."""
    job.honest()
    if isinstance(job, GroupJob):
        for fd in hoarded if len(job.others) == job.of - 1 else ():
            with contextlib.suppress(OSError):
                os.pwrite(fd, bytes(MIB), ANSWER_BYTES)
        hoarded.append(os.dup(job.output))


def refuse_others(job: GroupJob) -> None:
    """Answer those behind it with a refusal, and be gone before they are looked at."""
    job.honest()
    for output in job.others:
        refused = {"status": "refused", "code": "corrupt_image", "message": "no"}
        write_answer(output, None, refused)
    send(job.connection, {"status": "answered"})
    forever()


def defer(job: GroupJob, *, late: bool) -> None:
    job.say({"status": "deferred", "late": late})


def raw(job: Job, content: bytes) -> None:
    job.connection.sendall(content)


def answered(change: Callable[[Job], Message]) -> Callable[[Job], None]:
    """Everything honest but the last answer."""

    def fault(job: Job) -> None:
        job.probe()
        job.write()
        job.say({**job.done(), **change(job)})

    return fault


def with_segment(job: Job, marker: int, body: bytes) -> bytes:
    segment = bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body
    return job.picture[:2] + segment + job.picture[2:]


def leave_grown(job: Job) -> None:
    """Close, take more memory than announced, and be gone before that is seen."""
    job.probe()
    job.connection.shutdown(socket.SHUT_RDWR)
    grown = seeming_to_grow()
    time.sleep(0.04)
    os._exit(len(grown) % 7)


def stumble(job: Job) -> None:
    raise KeyError("x")


def stumble_below(job: Job, depth: int = 0) -> None:
    """Raise below more frames than the end of standard error shows; two in turn, so that none is left out."""
    raise KeyError("x") if depth > 50 else stumble_between(job, depth + 1)


def stumble_between(job: Job, depth: int) -> KeyError:
    stumble_below(job, depth)
    return KeyError("unreached")


kept: list[int] = []


def keep_writing(job: Job) -> None:
    job.honest()
    kept.append(job.output)


def burn_idle(job: Job) -> None:
    job.honest()
    burn(3600)


def write_too_much(job: Job) -> None:
    job.probe()
    at = 0
    while True:
        os.pwrite(job.output, bytes(MIB), at)
        at += MIB
        time.sleep(0.01)


def claim_too_much(job: Job) -> None:
    """Say of each variant that it has 20 MiB, of its own, as one of its size may have."""
    job.width = job.height = 4000
    job.probe()
    os.ftruncate(job.output, 256 * MIB)
    size = {"width": job.width, "height": job.height, "bytes": 20 * MIB}
    specs = enumerate(job.request["variants"])
    variants = [{"name": spec["name"], "start": at * 20 * MIB, **size} for at, spec in specs]
    job.say({**job.done(), "variants": variants})


def having_replaced_source(then: Callable[[Job], object]) -> Callable[[Job], None]:
    """Put another picture into its place first, as an app may do meanwhile."""

    def fault(job: Job) -> None:
        replace_source(job)
        then(job)

    return fault


def replace_source(job: Job) -> None:
    place = os.readlink(f"/proc/self/fd/{job.source}")
    with open(place + ".new", "wb") as file:
        file.write(b"another picture")
    os.rename(place + ".new", place)


def grow(job: Job) -> None:
    grown = seeming_to_grow()
    signal.pause()
    del grown


def seeming_to_grow() -> Sequence[mmap.mmap]:
    """Seem to take more than any header may cost, by the same pages again and again.

    Fresh ones can take a machine longer than the time that a picture has here.
    """
    pages = os.memfd_create("grown")
    os.ftruncate(pages, 8 * MIB)
    shared = mmap.MAP_SHARED | mmap.MAP_POPULATE
    return [mmap.mmap(pages, 8 * MIB, shared) for _ in range(40)]


def hoard(job: Job) -> None:
    """Take ever more memory, until there is no more."""
    taken = []
    while True:
        taken.append(b"x" * (4 * MIB))
        time.sleep(0.01)


def grow_after_consent(job: Job) -> None:
    job.probe()
    grow(job)


def grow_somewhat(job: Job, mib: int) -> None:
    """Take so much beyond what is honest, and have it for a while."""
    job.probe()
    hoard = os.urandom(MIB) * mib
    time.sleep(1)
    del hoard
    job.write()
    job.say(job.done())


def grow_and_keep(job: Job) -> None:
    global keepsake
    keepsake = os.urandom(MIB) * 60  # fat, but less than a header may cost
    job.honest()


keepsake = b""


def shout(job: Job) -> None:
    line = b"error " * 10_000
    for _ in range(2_000):
        with contextlib.suppress(OSError):
            os.write(2, line)
    job.honest()


def hang(job: Job) -> None:
    job.probe()
    forever()


def hang_afterwards(job: Job) -> None:
    job.honest()
    forever()


def stop(job: Job) -> None:
    """Get no CPU time more, as under a quota that is used up."""
    job.probe()
    os.kill(os.getpid(), signal.SIGSTOP)


def stop_until_the_last_moment(job: Job) -> None:
    """Lie stopped for most of the time on the wall, and then asleep."""
    myself = os.getpid()
    if os.fork() == 0:
        time.sleep(0.5)
        os.kill(myself, signal.SIGCONT)
        os._exit(0)
    os.kill(myself, signal.SIGSTOP)
    forever()


def deaf(job: Job) -> None:
    job.probe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    forever()


def spin(job: Job) -> None:
    while True:
        pass


def spin_after_consent(job: Job) -> None:
    job.probe()
    spin(job)


def burn(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def slow_twice(job: Job) -> None:
    burn(0.15)
    job.probe()
    burn(0.15)
    job.write()
    job.say(job.done())


def slow_header(job: Job) -> None:
    burn(1.5)
    job.honest()


def half_a_frame(job: Job) -> None:
    job.probe()
    raw(job, struct.pack(">I", 1000) + b'{"status"')
    forever()


def close(job: Job) -> None:
    job.connection.shutdown(socket.SHUT_RDWR)
    job.connection.close()
    forever()


def babble(job: Job) -> None:
    job.honest()
    job.say(job.unchanged("0" * 64))


def refuse(job: Job, code: str, message: str) -> None:
    job.say({"status": "refused", "code": code, "message": message})


def fail(job: Job, traceback: str) -> None:
    job.say({"status": "bug", "message": "KeyError: 'x'", "traceback": f"Traceback:\n{traceback}"})


def unasked(job: Job) -> None:
    job.write()
    job.say(job.done())


def answer_only(job: Job) -> None:
    job.probe()
    job.say(job.done())


def probe_twice(job: Job) -> None:
    job.probe()
    job.say(job.probed())


def once(fault: Callable[[Job], object], then: Callable[[Job], object] = Job.honest) -> Callable[[Job], None]:
    """Only where another child has not done so before, which a mark on the source's folder says."""

    def first(job: Job) -> None:
        mark = os.readlink(f"/proc/self/fd/{job.source}") + ".mark"
        if not os.path.exists(mark):
            os.close(os.open(mark, os.O_CREAT))
            fault(job)
        else:
            then(job)

    return first


def die_of(number: signal.Signals, stderr: str = "") -> Callable[[Job], None]:
    def fault(job: Job) -> None:
        os.write(2, stderr.encode())
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)  # what a shell starts in the background ignores some
        os.kill(os.getpid(), number)

    return fault


def starve(job: Job) -> None:
    job.say({"status": "starved", "message": "no thread can be started"})


def hidden(job: Job) -> bytes:
    """Something between the picture's end and another end marker, dressed as a segment."""
    payload = b"<script>alert(1)</script>"
    return job.picture + (len(payload) + 2).to_bytes(2) + payload + b"\xff\xd9"


def second_frame(job: Job) -> bytes:
    """A second frame header, for a reader that believes the first one."""
    at = job.picture.index(b"\xff\xc0")
    header = job.picture[at : at + 2 + int.from_bytes(job.picture[at + 2 : at + 4])]
    huge = header[:5] + b"\xff\xff\xff\xff" + header[9:]
    return job.picture[:at] + huge + job.picture[at:]


FAULTS: dict[str, Callable[[Job], None]] = {
    # frames
    "not json": lambda job: job.say(b"<html>"),
    "not utf-8": lambda job: job.say(b'"\xff\xfe"'),
    "an empty frame": lambda job: job.say(b""),
    "a list": lambda job: job.say([1, 2]),
    "deep json": lambda job: job.say(b"[" * 65_000),
    "a huge frame": lambda job: raw(job, struct.pack(">I", 2**32 - 1) + b"x" * 1000),
    "an unknown status": lambda job: job.say({"status": "fine"}),
    "no status": lambda job: job.say({}),
    "wrong types": lambda job: job.say({**job.probed(), "width": "40"}),
    "a number too large": lambda job: job.say({**job.probed(), "width": 10**30}),
    "a negative estimate": lambda job: job.say({**job.probed(), "estimate": -1}),
    "an extra field": lambda job: job.say({**job.probed(), "path": "/etc/passwd"}),
    "a bug": lambda job: fail(job, "  File vips.py, line 1"),
    "a long bug": lambda job: fail(job, "x" * 7000),
    "a bug without end": lambda job: fail(job, "x" * 60_000),
    # turns
    "done without consent": unasked,
    "probed twice": probe_twice,
    "unchanged although nothing was known": lambda job: job.say(job.unchanged(job.sha256)),
    "an unknown code": lambda job: refuse(job, "internal_error", "no"),
    # of groups
    "take a while": take_a_while,
    "number of the group": tell_group,
    "answered early": say_early,
    "no answer": only_in_groups(lambda _: None),
    "outputs kept": hoard_outputs,
    "refusals for others": only_in_groups(refuse_others),
    "answers for others": only_in_groups(answer_others),
    "variants over its answer": only_in_groups(write_into_answer),
    "more than was granted": only_in_groups(ask_for_more),
    "late": only_in_groups(lambda job: defer(job, late=True)),
    "deferred": only_in_groups(lambda job: defer(job, late=False)),
    "all overwritten": only_in_groups(overwrite_all),
    # what was made
    "too many variants": answered(lambda job: {"variants": [*job.written(), *job.written()]}),
    "too few variants": answered(lambda job: {"variants": job.written()[:1]}),
    "other names": answered(lambda job: {"variants": [{**each, "name": "other"} for each in job.written()]}),
    "other order": answered(lambda job: {"variants": job.written()[::-1]}),
    "another size": answered(lambda job: {"variants": [{**each, "width": 39} for each in job.written()]}),
    "more bytes than written": answered(
        lambda job: {"variants": [{**each, "bytes": each["bytes"] + 1} for each in job.written()]}
    ),
    "far more bytes than a picture takes": answered(
        lambda job: {"variants": [{**each, "bytes": 200 * MIB} for each in job.written()]}
    ),
    "another place": answered(lambda job: {"variants": [{**each, "start": 1} for each in job.written()]}),
    "a place before the first": answered(
        lambda job: {"variants": [{**each, "start": -1} for each in job.written()]}
    ),
    "places that overlap": answered(
        lambda job: {"variants": [{**each, "start": at} for at, each in enumerate(job.written())]}
    ),
    "another content": answered(lambda job: {"sha256": "0" * 64}),
    "no placeholder": answered(lambda job: {"placeholder": None}),
    "a placeholder of the other kind": answered(lambda job: {"placeholder": PLACEHOLDERS["blurhash"]}),
    "a placeholder that is a page": answered(lambda job: {"placeholder": "<script>alert(1)</script>"}),
    "a placeholder that is too long": answered(lambda job: {"placeholder": "A" * 400}),
    "a placeholder with more than it has": answered(
        lambda job: {"placeholder": "XwgGDISEIGhTNHp1lnb3Vxl/aQA="}
    ),
    "another picture": answered(lambda job: {"width": 99}),
    "nothing written": answer_only,
    # what was written
    "not a jpeg": lambda job: job.end(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "a truncated jpeg": lambda job: job.end(job.picture[:-20]),
    "a jpeg without its end": lambda job: job.end(job.picture[:-2]),
    "trailing bytes": lambda job: job.end(job.picture + b"<script>alert(1)</script>"),
    "a second picture behind the first": lambda job: job.end(job.picture * 2),
    "bytes hidden between two ends": lambda job: job.end(hidden(job)),
    "a second frame header": lambda job: job.end(second_frame(job)),
    "exif": lambda job: job.end(with_segment(job, 0xE1, b"Exif\0\0" + bytes(20))),
    "a comment": lambda job: job.end(with_segment(job, 0xFE, b"by an attacker")),
    "an icc profile": lambda job: job.end(with_segment(job, 0xE2, b"ICC_PROFILE\0" + bytes(20))),
    # the process
    "close": close,
    "segv": lambda job: os.kill(os.getpid(), signal.SIGSEGV),
    "abort": lambda job: os.abort(),
    "exit": lambda job: os._exit(3),
    "exit as libjpeg does": lambda job: sys.exit("Not a JPEG file: starts with 0x00 0x00"),
    "raise": stumble,
    "raise deep down": stumble_below,
    "hang": hang,
    "spin": spin,
    "spin after consent": spin_after_consent,
    "deaf": deaf,
    "slow twice": slow_twice,
    "slow header": slow_header,
    "half a frame": half_a_frame,
    "grow": grow,
    "hoard": hoard,
    "grow after consent": grow_after_consent,
    "grow and keep": grow_and_keep,
    "leave grown": leave_grown,
    "grow a little": lambda job: grow_somewhat(job, 34),
    "grow a lot": lambda job: grow_somewhat(job, 48),
    "shout": shout,
    "babble": babble,
    "refuse colourfully": lambda job: refuse(
        job, "corrupt_image", "\x1b[31mred\r\n\u202e\x9bname" + "x" * 999
    ),
    "once": once(lambda job: os.abort()),
    # what the machine does, or is said to have done
    "killed": die_of(signal.SIGKILL),
    "killed once": once(die_of(signal.SIGKILL)),
    "filtered": die_of(signal.SIGSYS),
    "hang afterwards": hang_afterwards,
    "stopped": stop,
    "stopped once": once(stop),
    "stopped, then asleep": stop_until_the_last_moment,
    "waits for the storage": lambda job: forever(),
    "waits for the storage once, then stopped": once(lambda job: forever(), stop),
    "starved": starve,
    "starved once": once(starve),
    **{f"died of {number.name}": die_of(number) for number in signal.Signals if number != signal.SIGCHLD},
    "segv with words": die_of(signal.SIGSEGV, "\x1b[31mvips: out of order\nat line 7\n"),
    "killed with words": die_of(signal.SIGKILL, "\x1b[31mvips: out of order\nat line 7\n"),
    "died for a thread": die_of(signal.SIGTRAP, "GLib: creating thread 'pool': Error creating thread"),
    "died for memory": die_of(signal.SIGTRAP, "GLib: failed to allocate 2160000 bytes"),
    "keep writing": keep_writing,
    "burn while idle": burn_idle,
    "write too much": write_too_much,
    "claim too much": claim_too_much,
    "replace the source": having_replaced_source(Job.honest),
    "replace the source and refuse": having_replaced_source(lambda job: refuse(job, "corrupt_image", "no")),
    "replace the source and abort": having_replaced_source(lambda job: os.abort()),
}


def hello(order: Order) -> Message:
    return {
        "hello": 1,
        "engine": order.engine,
        "version": "rogue",
        "landlock": 0,
        "calls_closed": True,
    }


def main() -> None:
    start = sys.argv[1]
    order = ForkLoop(Channel(socket.socket(fileno=0), DESCRIPTORS), len).next_order()
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # as every decoder: it is killed for memory before its worker
    connection = socket.socket(fileno=0)
    match start:
        case "exits":
            sys.exit("no libvips here")
        case "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "starts slowly":
            burn(0.05)
            send(connection, hello(order))
        case "hangs":
            forever()
        case "lies":
            send(connection, {**hello(order), "hello": 2})
        case "is unconfined":
            send(connection, {**hello(order), "calls_closed": False})
        case "stammers":
            connection.sendall(b"\xff\xff\xff\xffhello")
        case "says deep things":
            send(connection, b"[" * 60_000)
        case _:
            send(connection, hello(order))
    while True:
        request, descriptors = receive(connection)
        if "group" in request:
            answer_group(connection, request, descriptors)
            continue
        job = Job(connection, request, descriptors[0], order.output)
        for fd in kept:
            os.pwrite(fd, b"<script>", 0)
        FAULTS.get(job.fault, Job.honest)(job)
        for fd in descriptors:
            os.close(fd)


if __name__ == "__main__":
    main()
