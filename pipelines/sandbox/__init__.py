"""Decoders as children: how many there are, how much each may take, and what they may answer."""

from pipelines.sandbox.exits import more_threads
from pipelines.sandbox.fork_server import DECODER, ForkServer
from pipelines.sandbox.output_check import Rendered, RenderedVariant
from pipelines.sandbox.sandbox import Sandbox, decoder_version, longest_render_s, open_sandbox

__all__ = [
    "DECODER",
    "ForkServer",
    "Rendered",
    "RenderedVariant",
    "Sandbox",
    "decoder_version",
    "longest_render_s",
    "more_threads",
    "open_sandbox",
]
