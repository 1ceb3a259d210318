"""The variants of small pictures do not stay in memory once their group has ended."""

import asyncio
import gc
import weakref

from pipelines.sandbox import open_sandbox
from tests.support.sandboxes import allowance, jpeg, render


async def test_what_a_picture_became_is_freed_without_a_collector() -> None:
    async with open_sandbox(allowance()) as sandbox:
        gc.disable()
        try:
            rendered = await asyncio.gather(*(render(sandbox, jpeg(40, 30)) for _ in range(3)))
            found = [weakref.ref(each) for each in rendered]
            del rendered
            await asyncio.sleep(0)  # their group ends
            assert [ref() for ref in found] == [None] * 3
        finally:
            gc.enable()
