"""What a worker logs of single uploads of a batch: those that are not as they should be."""

from uuid import uuid4

from structlog.testing import capture_logs

from pipelines.batch_report import BatchReport
from worker.tasks import log_report


def test_an_upload_that_is_ready_although_its_decoder_failed_is_one_warning() -> None:
    bug, refused = uuid4(), uuid4()
    report = BatchReport()
    report.undecoded += [(bug, "internal_error", "KeyError"), (refused, "corrupt_image", "It is torn.")]
    report.details[bug] = "Traceback"
    with capture_logs() as lines:
        log_report(report)

    warned = {"event": "upload_ready_undecoded", "log_level": "warning"}
    assert lines == [
        {
            **warned,
            "upload": str(bug),
            "code": "internal_error",
            "reason": "KeyError",
            "details": "Traceback",
        },
        {**warned, "upload": str(refused), "code": "corrupt_image", "reason": "It is torn."},
    ]


def test_an_upload_that_failed_is_one_warning_that_says_whether_it_is_tried_again() -> None:
    ids = [uuid4(), uuid4()]
    report = BatchReport(failures=[(one, "storage_full", "No room.") for one in ids], left_over=ids[:1])
    with capture_logs() as lines:
        log_report(report)

    assert {line["event"] for line in lines} == {"upload_not_ready"}
    assert [(line["upload"], line["will_retry"]) for line in lines] == [
        (str(ids[0]), True),
        (str(ids[1]), False),
    ]
