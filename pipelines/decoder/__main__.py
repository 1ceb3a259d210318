"""The decoders' program: a parent that is set up forks children, which confine themselves and decode."""

import gc
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle
from typing import Any

import orjson

from pipelines import formats
from pipelines.decoder import (
    fork_loop,
    landlock,
    limits,
    pixel_memory,
    seccomp,
    session,
    thumbnail_jpeg,
    vips,
)
from pipelines.decoder.jpeg_options import has_tables
from pipelines.decoder.reading import Output
from pipelines.decoder.refusal import Declined
from pipelines.decoder.wire import Channel, close_all
from pipelines.placeholders import Kind

# Bytes of an estimate; after a usual photo the memory is kept: asking for it again costs a tenth of the time
_TRIM_ABOVE = 64 * 1024 * 1024
_WARM_UP = tuple(
    {"name": "warm", "box": 40, "fit": fit, "format": kind, "quality": 80, "background": [255, 255, 255]}
    for fit, kind in (("inside", "jpeg"), ("cover", "webp"))
)
_FIRST_INHERITED = 3  # descriptor after standard input, output and error
_MOST_DESCRIPTORS = 32  # that come with a request: two for each picture of a group
_KINDS: tuple[Kind, ...] = ("thumbhash", "blurhash")


def main(argument: str) -> None:
    """Fork decoders for the worker at descriptor 0 until it closes; each serves its own socket there."""
    config = orjson.loads(argument)
    limits.die_with(config["parent"])
    limits.close_from(_FIRST_INHERITED)
    limits.ignore_signals()
    limits.gain_nothing()
    limits.keep_heap()
    with suppress(OSError):  # of which each child tells
        limits.drop_capabilities()
    vips.set_up(config["formats"])
    thumbnail_jpeg.set_up()
    control = Channel(socket.socket(fileno=0), fork_loop.DESCRIPTORS)
    limits.trim_heap()
    gc.freeze()  # what is looked through is copied into each child
    prepare = partial(_prepare, max_pixels=config["max_pixels"])
    decode(fork_loop.ForkLoop(control, prepare).next_order(), config)


def _prepare(engine: str, max_pixels: int) -> None:
    """Do once what each child would do."""
    _engine(engine, max_pixels)
    limits.look_for_tasks()


def decode(order: fork_loop.Order, config: dict[str, Any]) -> None:
    """Be a decoder: give up every right, say hello, answer requests."""
    output, lacks = limits.give_up(config["memory_mb"], order.output)
    decoder = _engine(order.engine, config["max_pixels"])
    bounds = session.Limits(
        engine=order.engine,
        max_bytes=config["max_bytes"],
        max_pixels=config["max_pixels"],
        formats=tuple(config["formats"]),
        damaged=config["damaged"],
        decoder=decoder,
        output=output,
    )
    channel = Channel(
        socket.socket(fileno=0), _MOST_DESCRIPTORS
    )  # which asks of what kind it is: later nothing may ask
    # Before libvips starts its first thread: both bind the calling thread and those it starts.
    is_off = config["confinement"] == "off"
    landlock_version, calls_closed = (0, False) if is_off else (landlock.confine(), seccomp.confine())
    if order.warm_up:
        _warm_up(bounds)
        lacks += [] if has_tables() else ["mozjpeg"]
        gc.collect()
    gc.freeze()
    channel.send(
        {
            "hello": 1,
            "engine": bounds.engine,
            "version": decoder.version(),
            "landlock": landlock_version,
            "calls_closed": calls_closed,
            "lacks": lacks,
        }
    )
    serve(channel, bounds)


def _engine(engine: str, max_pixels: int) -> session.Decoder:
    if engine == "vips":
        return vips
    # Only here: a child for libvips' own formats starts faster and stays smaller without pillow-heif.
    from pipelines.decoder import pillow

    pillow.set_up(max_pixels)
    return pillow


def _warm_up(bounds: session.Limits) -> None:
    """Let tiny pictures go the whole way: a library that fails when confined is told of at the start."""
    kinds = cycle(_KINDS)
    for data in _samples(bounds):
        work = session.Work()
        picture = session.check(bytearray(data), bounds, work)
        session.make(picture, _WARM_UP, Output(bounds.output), work, {"warm"}, next(kinds))
    try:
        session.check(bytearray(b"nothing"), bounds, session.Work())
    except Declined:
        traceback.format_exc()
    limits.trim_large_heap()


def _samples(bounds: session.Limits) -> Iterator[bytes]:
    for name in bounds.formats:
        if formats.BY_NAME[name].engine in ("vips", bounds.engine):
            yield from bounds.decoder.samples(name)


def serve(channel: Channel, bounds: session.Limits) -> None:
    """Answer requests until the parent closes or an answer was a bug."""
    while (received := channel.receive()) is not None:
        request, descriptors = received
        if "trim" in request:
            _give_back()
            continue
        answer = session.answer_group if "group" in request else _answer_one
        try:
            works = answer(channel, request, descriptors, bounds)
        finally:
            close_all(descriptors)
        if any(work.bug for work in works):
            break
        gc.collect()
        if any(work.estimate - work.held > _TRIM_ABOVE for work in works):
            _give_back()


def _give_back() -> None:
    pixel_memory.give_back()
    limits.trim_heap()


def _answer_one(
    channel: Channel, request: dict[str, Any], descriptors: list[int], bounds: session.Limits
) -> Sequence[session.Work]:
    return [session.answer(channel, request, descriptors, bounds)]


if __name__ == "__main__":
    main(sys.argv[1])
