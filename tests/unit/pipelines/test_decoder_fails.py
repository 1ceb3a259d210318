"""A bug of our decoder is our fault, not the picture's; and what a decoder says when it dies can be read."""

import socket
import sys
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from pipelines.batch import process_uploads
from pipelines.batch_report import BatchReport
from pipelines.errors import DecoderCrashed, DecoderFailed, DecoderKilled
from pipelines.sandbox import Sandbox, open_sandbox
from storage.blobs import Storage
from storage.catalog.opening import Catalog
from storage.catalog.records import State, Upload
from tests.support.batches import Uploads, batch_context
from tests.support.sandboxes import allowance, children, has_ended, jpeg, ordered, render
from tests.support.stub_decoder import FAIL
from worker import retry


@pytest.fixture
def two_attempts(
    catalog: Catalog,
    blobs: Storage,
    rogue: Sandbox,
    uploads: Uploads,
    monkeypatch: pytest.MonkeyPatch,
) -> "TwoAttempts":
    monkeypatch.setattr(retry, "FIRST_DELAY_MS", 0)
    return TwoAttempts(catalog, blobs, rogue, uploads)


class TwoAttempts:
    """A worker whose decoder does what the picture orders, and who gives up after two attempts."""

    def __init__(self, catalog: Catalog, blobs: Storage, rogue: Sandbox, uploads: Uploads) -> None:
        self._catalog = catalog
        self._uploads = uploads
        classified_by = partial(retry.classify, max_attempts=2)
        self._context = batch_context(catalog, blobs, rogue, classified_by=classified_by)

    async def work(self, upload_id: UUID) -> tuple[Upload, BatchReport]:
        report = await process_uploads([upload_id], await self._uploads.job_id(upload_id), self._context)
        upload = await self._catalog.reports.find(upload_id)
        assert upload is not None
        return upload, report


async def test_an_exception_in_the_decoder_is_reported_with_its_traceback_after_one_try(
    rogue: Sandbox,
) -> None:
    before = set(children())
    with pytest.raises(DecoderFailed, match="KeyError: 'x'") as failed:
        await render(rogue, ordered("a bug"))

    assert failed.value.__notes__ == ["Traceback:\n  File vips.py, line 1"]
    assert not before & set(children())
    assert await render(rogue, jpeg()) is not None


async def test_an_exception_in_the_decoder_is_retried_and_then_an_internal_error_with_its_traceback(
    two_attempts: TwoAttempts, uploads: Uploads
) -> None:
    upload_id = await uploads.put("cat.jpg", ordered("a bug"))

    first, _ = await two_attempts.work(upload_id)
    second, report = await two_attempts.work(upload_id)

    assert [(one.state, one.attempts) for one in (first, second)] == [(State.QUEUED, 1), (State.FAILED, 2)]
    assert second.error_code == "internal_error"
    assert "File vips.py, line 1" in (second.error_message or "")
    assert [words for _, _, words in report.failures] == [second.error_message]


async def test_the_answer_of_a_decoder_that_has_ended_since_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    send_fds = socket.send_fds

    def send_and_wait_for_the_end(*request: Any) -> int:
        sent = send_fds(*request)
        assert all(has_ended(pid, 20) for pid in children())
        return sent

    async with open_sandbox(allowance(), (sys.executable, "-m", "tests.support.stub_decoder")) as sandbox:
        monkeypatch.setattr(socket, "send_fds", send_and_wait_for_the_end)
        with pytest.raises(DecoderFailed, match="KeyError: 'x'"):
            await render(sandbox, jpeg() + FAIL)


async def test_an_exception_that_ends_the_decoder_is_our_fault_too(rogue: Sandbox) -> None:
    with pytest.raises(DecoderFailed, match="an exception of its own ended the decoder") as failed:
        await render(rogue, ordered("raise"))

    assert failed.value.__notes__[0].endswith("KeyError: 'x'")


async def test_a_library_that_exits_with_the_status_of_an_exception_is_a_crash(rogue: Sandbox) -> None:
    with pytest.raises(DecoderCrashed, match="ended with status 1") as crashed:
        await render(rogue, ordered("exit as libjpeg does"))

    assert crashed.value.__notes__ == ["Not a JPEG file: starts with 0x00 0x00"]


async def test_content_on_which_a_library_exits_costs_two_decoders_and_is_poison(
    two_attempts: TwoAttempts, uploads: Uploads, catalog: Catalog
) -> None:
    upload_id = await uploads.put("cat.jpg", ordered("exit as libjpeg does"))
    upload, _ = await two_attempts.work(upload_id)

    assert (upload.state, upload.error_code) == (State.FAILED, "decoder_crashed")
    assert [one.code for one in await catalog.poison.all("test")] == ["decoder_crashed"]


async def test_an_exception_of_many_frames_is_our_fault_too(rogue: Sandbox) -> None:
    with pytest.raises(DecoderFailed) as failed:
        await render(rogue, ordered("raise deep down"))

    assert "Traceback" not in failed.value.__notes__[0]  # the end of it alone is kept


@pytest.mark.parametrize("fault", ["a bug", "raise"])
async def test_content_that_met_a_bug_of_the_decoder_is_not_on_the_poison_list(
    two_attempts: TwoAttempts, uploads: Uploads, catalog: Catalog, fault: str
) -> None:
    upload_id = await uploads.put("cat.jpg", ordered(fault))
    upload, _ = await two_attempts.work(upload_id)

    assert (upload.state, upload.error_code) == (State.QUEUED, "internal_error")
    assert await catalog.poison.all("test") == []


async def test_a_traceback_longer_than_a_record_is_whole_in_the_report(
    two_attempts: TwoAttempts, uploads: Uploads
) -> None:
    upload_id = await uploads.put("cat.jpg", ordered("a long bug"))
    upload, report = await two_attempts.work(upload_id)

    assert len(upload.error_message or "") == 4000
    assert report.details[upload_id] == "Traceback:\n" + "x" * 7000


@pytest.mark.parametrize(("fate", "kind"), [("segv", DecoderCrashed), ("killed", DecoderKilled)])
async def test_the_stderr_of_a_decoder_that_died_is_reported(
    rogue: Sandbox, fate: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as died:
        await render(rogue, ordered(f"{fate} with words"))

    assert died.value.__notes__ == [" [31mvips: out of order\nat line 7"]


async def test_what_a_dying_decoder_wrote_is_in_the_report_and_in_no_message(
    two_attempts: TwoAttempts, uploads: Uploads
) -> None:
    upload_id = await uploads.put("cat.jpg", ordered("segv with words"))
    upload, report = await two_attempts.work(upload_id)

    assert report.details == {upload_id: " [31mvips: out of order\nat line 7"}
    assert upload.error_message == "The decoder died of signal 11"
