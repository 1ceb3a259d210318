"""Bytes that make our own code raise what nobody foresaw: refused at once, and told to the operator alone."""

import sys
from collections.abc import Sequence

import pytest

from pipelines.errors import PictureRefused
from pipelines.sandbox import open_sandbox
from tests.support.sandboxes import allowance, children, jpeg, render

# The decoder, whose code fails at one place as bytes that no test knows may make it fail.
RAISING = """
import sys
from pipelines.decoder import headers, vips
from pipelines.decoder.__main__ import main

real = headers.jpeg_shape

def jpeg_shape(data, width, height):
    if b"--hostile--" in data:
        raise OverflowError("Python int too large to convert to C long")
    return real(data, width, height)

headers.jpeg_shape = jpeg_shape
main(sys.argv[-1])
"""
HOSTILE = jpeg() + b"--hostile--"
COMMAND: Sequence[str] = (sys.executable, "-c", RAISING)


async def test_an_exception_on_a_files_bytes_refuses_it_at_once_and_ends_no_decoder() -> None:
    async with open_sandbox(allowance(), COMMAND) as sandbox:
        before = children().keys()
        with pytest.raises(PictureRefused) as refused:
            await render(sandbox, HOSTILE)

        assert await render(sandbox, jpeg()) is not None
        assert children().keys() == before
    assert (refused.value.code, str(refused.value)) == (
        "corrupt_image",
        "The JPEG picture is damaged or incomplete.",
    )


async def test_its_traceback_is_for_the_operator_and_not_in_the_message() -> None:
    async with open_sandbox(allowance(), COMMAND) as sandbox:
        with pytest.raises(PictureRefused) as refused:
            await render(sandbox, HOSTILE)

    [traceback] = refused.value.__notes__
    assert "OverflowError" in traceback
    assert "jpeg_shape" in traceback
    assert "OverflowError" not in str(refused.value)
