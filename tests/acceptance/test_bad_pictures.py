"""A picture that crashes or hangs its decoder costs itself; its neighbours are not even attempted twice."""

import pytest

from storage.catalog import tokens
from tests.support import pictures
from tests.support.workplace import Workplace


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (b"--crash--", "decoder_crashed"),
        pytest.param(b"--hang--", "decode_timeout", marks=pytest.mark.campaign),
    ],
)
@pytest.mark.rotating(1)
def test_a_picture_that_kills_its_decoder_harms_no_neighbour(
    workplace: Workplace, ending: bytes, code: str
) -> None:
    worker = workplace.start("stub", MEDIA_IMAGE_TIMEOUT="0.5")
    good = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(20)]
    bad = [workplace.put(f"uploads/bad-{n}.jpg", pictures.small(n) + ending) for n in range(2)]
    workplace.send_all({"source": source} for source in [*good[:10], bad[0], *good[10:], bad[1]])

    ends = workplace.await_end_of(*good, *bad)

    assert {ends[source]["type"] for source in good} == {"upload.ready"}
    assert {ends[source]["error"]["code"] for source in bad} == {code}
    uploads = workplace.check().uploads
    rows = [uploads[source] for source in good]
    assert {(row["attempts"], tokens.count(row["claim"])) for row in rows} == {(0, 1)}
    assert worker.process.poll() is None
    assert worker.stop() == 0
    workplace.check()


def test_a_broken_picture_between_good_ones_fails_alone_with_its_reason(live: Workplace) -> None:
    good = [live.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(5)]
    broken = live.put("uploads/broken.jpg", pictures.medium()[:2000])
    text = live.put("uploads/text.jpg", b"hello")
    live.send_all({"source": source} for source in [*good[:2], broken, text, *good[2:]])

    ends = live.await_end_of(*good, broken, text)

    assert ends[broken]["error"]["code"] == "corrupt_image"
    assert ends[text]["error"]["code"] == "unsupported_format"
    assert live.check().states == {"ready": 5, "failed": 2}


def test_a_failed_upload_is_ready_once_its_original_is_replaced(live: Workplace) -> None:
    source = live.put("uploads/mended.jpg", b"not yet")
    live.send({"source": source})
    first = live.await_end_of(source)[source]
    live.put(source, pictures.small())

    live.send({"source": source})
    second = live.await_end_of(source, times=2)[source]

    assert [first["type"], second["type"]] == ["upload.failed", "upload.ready"]
    live.check()
