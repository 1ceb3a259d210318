"""One upload, from XADD to files, row and message, through each way to run a worker."""

import pytest

from tests.support import pictures
from tests.support.workplace import Workplace


@pytest.mark.parametrize("by", ["arq", "media"])
def test_an_upload_becomes_three_variants_through_either_command(workplace: Workplace, by: str) -> None:
    worker = workplace.start(by)
    source = workplace.put("uploads/2026/cat.jpg", pictures.medium())

    workplace.send({"source": source, "metadata": {"owner": "42"}})
    answer = workplace.await_end_of(source)[source]

    assert answer["type"] == "upload.ready"
    assert answer["metadata"] == {"owner": "42"}
    sizes = {variant["name"]: (variant["width"], variant["height"]) for variant in answer["variants"]}
    assert sizes == {"thumb": (150, 113), "medium": (800, 600), "large": (1200, 900)}
    assert worker.stop() == 0
    workplace.check()
