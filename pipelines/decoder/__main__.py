"""The child: gives up every right, confines itself, warms up, answers one request after another."""

import gc
import socket
import sys
import traceback
from collections.abc import Iterator
from itertools import cycle

import orjson

from pipelines import formats
from pipelines.decoder import landlock, limits, seccomp, session, vips
from pipelines.decoder.refusal import Declined
from pipelines.decoder.wire import Channel, close_all
from pipelines.placeholders import Kind

# Bytes of an estimate; after a usual photo the memory is kept: asking for it again costs a tenth of the time
_TRIM_ABOVE = 64 * 1024 * 1024
_WARM_UP = tuple(
    {"name": "warm", "box": 40, "fit": fit, "format": kind, "quality": 80, "background": [255, 255, 255]}
    for fit, kind in (("inside", "jpeg"), ("cover", "webp"))
)
_KINDS: tuple[Kind, ...] = ("thumbhash", "blurhash")


def main(argument: str) -> None:
    """Serve the parent at descriptor 0 until it closes."""
    config = orjson.loads(argument)
    output, lacks = limits.give_up(config["parent"], config["memory_mb"], config["output"])
    decoder = _engine(config["engine"], config["max_pixels"])
    bounds = session.Limits(
        engine=config["engine"],
        max_bytes=config["max_bytes"],
        max_pixels=config["max_pixels"],
        formats=tuple(config["formats"]),
        damaged=config["damaged"],
        decoder=decoder,
        output=output,
    )
    vips.set_up(bounds.formats)
    channel = Channel(socket.socket(fileno=0))  # which asks of what kind it is: later nothing may ask
    # Before libvips starts its first thread: both bind the calling thread and those it starts.
    is_off = config["confinement"] == "off"
    landlock_version, calls_closed = (0, False) if is_off else (landlock.confine(), seccomp.confine())
    _warm_up(bounds)
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
    # Only here: a child for libvips' own formats starts faster and stays smaller without Pillow.
    from pipelines.decoder import pillow

    pillow.set_up(max_pixels)
    return pillow


def _warm_up(bounds: session.Limits) -> None:
    """Let tiny pictures go the whole way: codecs and Python load lazily, and later no file can be opened."""
    kinds = cycle(_KINDS)
    for data in _samples(bounds):
        work = session.Work()
        picture = session.check(bytearray(data), bounds, work)
        session.make(picture, _WARM_UP, bounds.output, work, {"warm"}, next(kinds))
    try:
        session.check(bytearray(b"nothing"), bounds, session.Work())
    except Declined:
        traceback.format_exc()


def _samples(bounds: session.Limits) -> Iterator[bytes]:
    for name in bounds.formats:
        if formats.BY_NAME[name].engine in ("vips", bounds.engine):
            yield from bounds.decoder.samples(name)


def serve(channel: Channel, bounds: session.Limits) -> None:
    """Answer requests until the parent closes or an answer was a bug."""
    while (received := channel.receive()) is not None:
        request, descriptors = received
        try:
            work = session.answer(channel, request, descriptors, bounds)
        finally:
            close_all(descriptors)
        if work.bug:
            break
        gc.collect()
        if work.estimate > _TRIM_ABOVE:
            limits.trim_heap()


if __name__ == "__main__":
    main(sys.argv[1])
