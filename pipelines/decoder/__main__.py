"""The child: gives up every right, confines itself, warms up, says hello, answers one request after another."""

import gc
import json
import socket
import sys

from pipelines.decoder import landlock, limits, session, vips, warmup
from pipelines.decoder.wire import Channel, close_all


def main(argument: str) -> None:
    """Serve the parent at descriptor 0 until it closes."""
    config = json.loads(argument)
    limits.give_up(config["parent"], config["memory_mb"])
    bounds = session.Limits(
        engine=config["engine"],
        max_bytes=config["max_bytes"],
        max_pixels=config["max_pixels"],
        formats=tuple(config["formats"]),
        damaged=config["damaged"],
    )
    vips.set_up(bounds.formats)
    # Before the first picture, and so before libvips starts a thread: Landlock binds this thread and its heirs.
    confined = landlock.confine()
    warmup.run(bounds)
    gc.collect()
    gc.freeze()
    channel = Channel(socket.socket(fileno=0))
    channel.send(
        {
            "hello": 1,
            "engine": bounds.engine,
            "version": vips.version(),
            "formats": bounds.formats,
            "confined": confined,
        }
    )
    serve(channel, bounds)


def serve(channel: Channel, bounds: session.Limits) -> None:
    """Answer requests until the parent closes or an answer was a bug."""
    while (received := channel.receive()) is not None:
        request, descriptors = received
        try:
            usable = session.answer(channel, request, descriptors, bounds)
        finally:
            close_all(descriptors)
        gc.collect()
        if not usable:
            break


if __name__ == "__main__":
    main(sys.argv[1])
