"""What an error means: every class has a policy, each wait is longer, and the last try is the last."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from pipelines import errors as pictures
from pipelines.watcher import CLOCKS_DIFFER_MS, LONGEST_WRITE_MS
from storage import errors as stores
from storage.blobs import BlobInfo, Existence, fingerprint
from storage.catalog.clock import now_ms
from storage.catalog.records import Claim, Failed, Postponed, State, Upload
from worker.retry import POLICIES, classify, delay_ms, policy_of

PERMANENT = {
    "invalid_event",
    "unknown_recipe",
    "source_missing",
    "source_too_large",
    "unsupported_format",
    "corrupt_image",
    "too_many_pixels",
    "too_much_memory",
    "decode_timeout",
    "decoder_crashed",
}
TRANSIENT = {
    "storage_unavailable",
    "storage_full",
    "catalog_unavailable",
    "decoder_unavailable",
    "decoder_crashed",  # by whoever killed the decoder, which may pass
    "internal_error",
    "source_missing",
}


def every(kind: type[Exception]) -> Iterator[type[Exception]]:
    for known in kind.__subclasses__():
        yield known
        yield from every(known)


EVERY = [*every(stores.StorageError), *every(pictures.PipelineError)]


def made(kind: type[Exception], text: str = "what happened") -> Exception:
    if kind is pictures.DecoderBloated:
        return kind()
    return pictures.PictureRefused("corrupt_image", text) if kind is pictures.PictureRefused else kind(text)


def claim(attempts: int = 0, queued_ms: int = 0, seen: BlobInfo | Existence | None = None) -> Claim:
    upload = Upload(
        id=uuid4(),
        source="uploads/a",
        state=State.PROCESSING,
        recipe="default",
        metadata={},
        attempts=attempts,
        claims=1,
        queued_ms=queued_ms,
        changed_ms=0,
        not_before_ms=0,
        error_code=None,
        error_message=None,
        original=None,
        variants=[],
        seen=None if seen is None else fingerprint(seen),
    )
    return Claim(upload, 1, 0, 0, began_ms=now_ms())


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_class_has_a_line_in_the_table(kind: type[Exception]) -> None:
    assert kind in POLICIES


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_has_a_code_that_the_contract_names(kind: type[Exception]) -> None:
    found = policy_of(made(kind))

    assert found.code in (TRANSIENT if found.transient else PERMANENT)


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_becomes_an_outcome_in_words(kind: type[Exception]) -> None:
    outcome = classify(made(kind), claim(seen=Existence.MISSING), 8)

    assert isinstance(outcome, Postponed if policy_of(made(kind)).transient else Failed)
    assert outcome.message.splitlines()[-1].strip() != ""


def test_the_table_names_no_class_twice_and_none_that_is_gone() -> None:
    assert set(POLICIES) == set(EVERY)


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("oops"), ZeroDivisionError(), MemoryError()])
def test_an_unknown_error_is_a_bug_with_its_traceback_and_is_tried_again(error: Exception) -> None:
    def fail() -> None:
        raise error

    try:
        fail()
    except Exception as raised:
        outcome = classify(raised, claim(), 8)

    assert isinstance(outcome, Postponed)
    assert (outcome.code, outcome.counted) == ("internal_error", True)
    assert "test_retry.py" in outcome.message
    assert type(error).__name__ in outcome.message
    assert len(outcome.message) <= 4000


def test_a_class_that_has_no_policy_yet_has_that_of_its_nearest_known_one() -> None:
    class DiskOnFire(stores.StorageFull):
        pass

    assert policy_of(DiskOnFire()).code == "storage_full"


@pytest.mark.parametrize("code", ["source_too_large", "unsupported_format", "too_many_pixels"])
def test_a_refused_picture_brings_its_own_code(code: str) -> None:
    outcome = classify(pictures.PictureRefused(code, "too big for us"), claim(), 8)

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.message) == (code, "Too big for us")


def test_a_reason_begins_like_a_sentence_unless_a_key_comes_first() -> None:
    refused = classify(stores.BlobRefused("uploads/a is not a regular file"), claim(), 8)
    full = classify(stores.StorageFull("no room"), claim(), 8)

    assert refused.message == "uploads/a is not a regular file"
    assert full.message == "No room"


def test_an_error_without_words_is_named_by_its_class() -> None:
    assert classify(pictures.DecodeTimeout(), claim(), 8).message == "DecodeTimeout"


@pytest.mark.parametrize(
    ("attempts", "expected"), [(0, Postponed), (6, Postponed), (7, Failed), (99, Failed)]
)
def test_the_last_try_of_a_transient_error_fails(attempts: int, expected: type[object]) -> None:
    assert type(classify(stores.StorageFull("full"), claim(attempts), 8)) is expected


def test_what_a_person_must_put_right_is_tried_seldom_and_fails_within_half_an_hour() -> None:
    forbidden = stores.BlobForbidden("/srv/media/uploads/a.jpg cannot be read by the user media (1001)")
    outcomes = [classify(forbidden, claim(attempts), 8) for attempts in range(8)]
    pauses = [one.delay_ms / 1000 for one in outcomes if isinstance(one, Postponed)]

    assert pauses == [15, 30, 60, 120, 240, 480, 600]
    assert isinstance(outcomes[-1], Failed)
    assert (outcomes[-1].code, outcomes[-1].message) == ("storage_unavailable", str(forbidden))


def test_one_try_means_one_try() -> None:
    assert isinstance(classify(stores.StorageFull("full"), claim(), 1), Failed)


@pytest.mark.parametrize("kind", [stores.CatalogUnavailable, pictures.DecoderUnavailable])
@pytest.mark.parametrize("attempts", [0, 7, 1000])
def test_what_no_upload_can_help_counts_against_none(attempts: int, kind: type[Exception]) -> None:
    outcome = classify(kind("away"), claim(attempts), 8)

    assert isinstance(outcome, Postponed)
    assert not outcome.counted


AN_HOUR_MS = 3_600_000
CLOCKS_MS = [0, 20_000, AN_HOUR_MS, -AN_HOUR_MS, 56 * 365 * 24 * AN_HOUR_MS]
"""By which the clock was put ahead, or back, between an event and the try; 0: it is right."""


@pytest.mark.parametrize("leap_ms", CLOCKS_MS)
def test_a_missing_original_is_looked_for_again_for_ten_seconds_whatever_the_clock_did(leap_ms: int) -> None:
    gone, queued_ms = stores.BlobNotFound("gone"), now_ms() - leap_ms
    first = classify(gone, claim(queued_ms=queued_ms), 8)
    last = classify(gone, claim(queued_ms=queued_ms - 11_000, seen=Existence.MISSING), 8)

    assert isinstance(first, Postponed)
    assert (first.delay_ms, first.counted, first.seen) == (10_000, False, Existence.MISSING)
    assert isinstance(last, Failed)
    assert last.code == "source_missing"


def test_an_original_that_came_and_went_is_looked_for_to_the_end_of_its_ten_seconds() -> None:
    seen = claim(queued_ms=now_ms() - 4_000, seen=Existence.MISSING)
    outcome = classify(stores.BlobNotFound("gone"), seen, 8)

    assert isinstance(outcome, Postponed)
    assert 5_500 < outcome.delay_ms <= 6_000


@pytest.mark.parametrize("ahead_ms", [AN_HOUR_MS, -AN_HOUR_MS])
def test_a_host_whose_clock_is_wrong_waits_for_an_original_as_long_as_any(
    ahead_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = claim(queued_ms=now_ms() - 4_000, seen=Existence.MISSING)
    wrong_ns = (now_ms() + ahead_ms) * 1_000_000
    monkeypatch.setattr("storage.catalog.clock.wall_ns", lambda: wrong_ns)
    outcome = classify(stores.BlobNotFound("gone"), seen, 8)

    assert isinstance(outcome, Postponed)
    assert 5_500 < outcome.delay_ms <= 6_000


def info(age_ms: int = 0, size: int = 9) -> BlobInfo:
    """A file that had not changed for so long, by the clock of its server."""
    return BlobInfo("uploads/a", size, (now_ms() - age_ms) / 1000)


def refused(seen: BlobInfo, code: str = "corrupt_image") -> pictures.PictureRefused:
    """A picture that was refused, whose file looked like that."""
    return pictures.PictureRefused(code, "damaged", seen)


@pytest.mark.parametrize("leap_ms", CLOCKS_MS)
@pytest.mark.parametrize("behind_ms", [0, 30_000, AN_HOUR_MS, -AN_HOUR_MS])
@pytest.mark.parametrize("code", ["corrupt_image", "unsupported_format"])
def test_a_damaged_file_is_refused_at_the_second_look_that_finds_it_unchanged(
    behind_ms: int, leap_ms: int, code: str
) -> None:
    seen, queued_ms = info(behind_ms), now_ms() - leap_ms
    first = classify(refused(seen, code), claim(queued_ms=queued_ms), 8, 10_000)
    second = classify(refused(seen, code), claim(queued_ms=queued_ms, seen=seen), 8, 10_000)

    assert isinstance(first, Postponed)
    assert (first.code, first.delay_ms, first.counted, first.seen) == (code, 10_000, False, seen)
    assert (type(second), second.code) == (Failed, code)


def test_a_damaged_file_that_has_changed_since_it_was_looked_at_is_waited_for_again() -> None:
    outcome = classify(refused(info(size=10)), claim(queued_ms=now_ms(), seen=info()), 8, 10_000)

    assert isinstance(outcome, Postponed)
    assert outcome.delay_ms == 10_000


def test_a_damaged_file_that_nobody_can_be_writing_is_refused_at_once() -> None:
    old = refused(info(CLOCKS_DIFFER_MS + 60_000))

    assert isinstance(classify(old, claim(queued_ms=now_ms()), 8, 10_000), Failed)
    assert isinstance(
        classify(pictures.PictureRefused("corrupt_image", ""), claim(queued_ms=now_ms()), 8, 10_000), Failed
    )


@pytest.mark.parametrize(
    "error", [refused(info()), pictures.SourceChanged("changed"), stores.BlobNotFound("gone")]
)
def test_a_file_that_never_settles_is_taken_as_it_is_at_last(error: Exception) -> None:
    waited = claim(attempts=7, queued_ms=now_ms() - LONGEST_WRITE_MS, seen=info(size=5))

    assert isinstance(classify(error, waited, 8, 10_000), Failed)


def test_a_file_that_is_looked_at_late_may_settle_all_the_same() -> None:
    late = claim(queued_ms=now_ms() - LONGEST_WRITE_MS)

    assert isinstance(classify(refused(info()), late, 8, 10_000), Postponed)


def test_a_file_that_changes_while_it_is_read_is_tried_again_when_it_has_settled() -> None:
    outcome = classify(pictures.SourceChanged("changed"), claim(attempts=7, queued_ms=now_ms()), 8, 10_000)

    assert isinstance(outcome, Postponed)
    assert (outcome.counted, outcome.seen) == (False, Existence.UNKNOWN)


def test_without_a_time_to_settle_every_file_is_taken_at_once() -> None:
    assert isinstance(classify(refused(info()), claim(queued_ms=now_ms()), 8), Failed)


@pytest.mark.parametrize(
    ("attempts", "ceiling"),
    [(0, 1_000), (1, 2_000), (5, 32_000), (9, 512_000), (10, 600_000), (500, 600_000)],
)
def test_the_wait_doubles_to_ten_minutes_and_is_spread_over_the_whole(attempts: int, ceiling: int) -> None:
    waits = [delay_ms(attempts) for _ in range(400)]

    assert 0 <= min(waits) < ceiling * 0.1
    assert ceiling * 0.9 < max(waits) <= ceiling
