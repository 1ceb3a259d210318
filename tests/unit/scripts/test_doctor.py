"""`media doctor`: what it says of decoders that are confined, half or not at all."""

import pytest

from pipelines.sandbox.answers import Hello
from scripts.doctor.decoders import judge_confinement


@pytest.mark.parametrize(
    ("files", "calls", "level", "words"),
    [
        (True, True, "ok", "can open no file and no socket"),
        (False, True, "warning", "no Landlock: a decoder can open files"),
        (True, False, "warning", "no seccomp: a decoder can open sockets"),
        (False, False, "warning", "no Landlock and no seccomp"),
    ],
)
def test_the_doctor_says_which_half_of_the_confinement_is_missing(
    files: bool, calls: bool, level: str, words: str
) -> None:
    hello = Hello(
        hello=1, engine="vips", version="libvips", formats=[], files_closed=files, calls_closed=calls
    )
    finding = judge_confinement([hello])

    assert finding.level == level
    assert words in finding.detail
