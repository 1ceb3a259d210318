"""Decoders as children: how many there are, how much each may take, and what they may answer."""

from pipelines.sandbox.child import DECODER
from pipelines.sandbox.exits import TOO_CROWDED
from pipelines.sandbox.output_check import Rendered, RenderedVariant
from pipelines.sandbox.sandbox import Sandbox, decoder_version, longest_render_s, open_sandbox

__all__ = [
    "DECODER",
    "TOO_CROWDED",
    "Rendered",
    "RenderedVariant",
    "Sandbox",
    "decoder_version",
    "longest_render_s",
    "open_sandbox",
]
