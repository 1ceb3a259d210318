"""Input formats: the table of those that are accepted, what decoding takes, and words for all others."""

from pipelines.formats.describe import describe
from pipelines.formats.memory import MIB, Shape
from pipelines.formats.table import BY_NAME, FORMATS, HEAD, Engine, Format, loaders, sniff

__all__ = [
    "BY_NAME",
    "FORMATS",
    "HEAD",
    "MIB",
    "Engine",
    "Format",
    "Shape",
    "describe",
    "loaders",
    "sniff",
]
