"""The time for one try at a picture, and whose fault it is when that is over."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pipelines.errors import DecoderStarved, DecodeTimeout
from storage.errors import BlobsUnavailable

# States of proc_pid_stat(5); D waits for a disk, and who is throttled is R, who is stopped T.
_ASLEEP, _WAITING = frozenset("S"), frozenset("SD")
_DECISIVE_SHARE = 1 / 2  # of its CPU time makes a picture slow, and of its waiting makes a storage slow
_MORE_CPU = "Give the worker a larger CPU quota, or let less run beside it."


@dataclass
class Budget:
    """The CPU and wall seconds for one try at a picture, and how much of them is spent.

    `slept` are the wall seconds in which the decoder was idle although it had the picture: its own fault.
    `starved_of_source` are those in which it was idle before it had the picture.
    """

    cpu_s: float
    wall_s: float
    cpu_used: float = 0.0
    waited: float = 0.0
    slept: float = 0.0
    starved_of_source: float = 0.0
    has_picture: bool = False

    def count_idle(self, seconds: float, states: AbstractSet[str]) -> None:
        """Count `seconds` without CPU time towards what the `states` of the decoder's threads say."""
        if self.has_picture and states == _ASLEEP:
            self.slept += seconds
        elif not self.has_picture and states and states <= _WAITING:
            self.starved_of_source += seconds

    def check(self, most_cpu_s: float) -> None:
        """Raises: DecodeTimeout, DecoderStarved, BlobsUnavailable where it, or `most_cpu_s`, is spent."""
        if self.cpu_used > most_cpu_s:
            raise _too_slow(most_cpu_s, of_cpu=True)
        if self.waited <= self.wall_s:
            return
        if self.cpu_used + self.slept > self.cpu_s * _DECISIVE_SHARE:
            raise _too_slow(self.cpu_s, of_cpu=False)
        if self.starved_of_source > self.waited * _DECISIVE_SHARE:
            raise BlobsUnavailable(f"the original could not be read within {self.wall_s:.3g} s")
        given = f"{self.cpu_used:.1f} s of CPU time in {self.wall_s:.3g} s"
        raise DecoderStarved(f"the machine gave the decoder {given}. {_MORE_CPU}")


def _too_slow(most_cpu_s: float, *, of_cpu: bool) -> DecodeTimeout:
    allowed = f"the {most_cpu_s:g} seconds allowed"
    return DecodeTimeout(f"The picture took longer to decode than {allowed}.", of_cpu=of_cpu)
