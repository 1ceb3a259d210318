"""The limits that a sandbox is opened with, and how its memory is divided."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipelines.formats import FORMATS, MIB

PARENT_MEMORY = 96 * MIB
CHILD_MEMORY = 96 * MIB  # an idle decoder, and one ordinary picture
_IDLE_MEMORY = CHILD_MEMORY // 2

Confinement = Literal["require", "try", "off"]
"""Whether decoders must be confined by a list of system calls, are where that can be, or are not."""

Isolation = Literal["picture", "owner", "off"]
"""Which pictures a decoder may see one after another: a single one, those of one owner, or all."""


@dataclass(frozen=True)
class Allowance:
    """Limits of pictures and decoders. Sizes in bytes, times in CPU seconds."""

    decoders: int
    memory: int
    max_source_bytes: int
    max_pixels: int
    image_timeout_s: float
    accept_damaged: bool = False
    confinement: Confinement = "try"
    isolation: Isolation = "owner"
    formats: Sequence[str] = field(default_factory=lambda: tuple(known.name for known in FORMATS))

    @property
    def children(self) -> int:
        """How many decoders may live: one more than work, so that alternating engines or owners need no new
        one.
        """
        return self.decoders + 1

    @property
    def memory_alone(self) -> int:
        """Bytes for one picture whose decoder is the only one."""
        return max(_IDLE_MEMORY, self.memory - PARENT_MEMORY - _IDLE_MEMORY)

    @property
    def memory_shared(self) -> int:
        """Bytes for all pictures that are decoded at once, beside the idle memory of all decoders."""
        return max(_IDLE_MEMORY, self.memory - PARENT_MEMORY - self.children * _IDLE_MEMORY)
