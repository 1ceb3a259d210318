"""The error policies: which error is permanent, which transient, how long to wait, what the last try does."""

import random
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipelines import errors as pictures
from pipelines.sandbox.answers import REFUSALS
from pipelines.watcher import CLOCKS_DIFFER_MS, LONGEST_WRITE_MS
from storage import errors as stores
from storage.blobs import BlobInfo, Existence, fingerprint
from storage.catalog.clock import SKEW_MS
from storage.catalog.records import Claim, Failed, Postponed
from storage.keys import UPLOADS

FIRST_DELAY_MS = 1_000
LONGEST_DELAY_MS = 600_000
PATIENT_DELAY_MS = 15_000
MISSING_FOR_MS = 10_000  # an app may announce a file a moment before the file system shows it


@dataclass(frozen=True)
class ErrorPolicy:
    """The code in messages, whether another try may help, and whether it counts as the upload's attempt."""

    code: str
    transient: bool = False
    counted: bool = True
    patient: bool = False  # a person has to do something: many tries in a minute are of no use


INTERNAL = ErrorPolicy("internal_error", transient=True)

POLICIES: Mapping[type[Exception], ErrorPolicy] = {
    pictures.PictureRefused: ErrorPolicy("corrupt_image"),  # a refusal brings its own code
    pictures.RecipeUnknown: ErrorPolicy("unknown_recipe"),
    pictures.DecoderBloated: ErrorPolicy(pictures.DecoderBloated.code),
    pictures.SourceChanged: ErrorPolicy("source_missing", transient=True),
    pictures.DecodeTimeout: ErrorPolicy(pictures.DecodeTimeout.code),
    pictures.DecoderCrashed: ErrorPolicy(pictures.DecoderCrashed.code),
    pictures.DecoderFailed: INTERNAL,
    pictures.WorkerKiller: ErrorPolicy(pictures.DecoderCrashed.code),
    # What the machine did to a decoder. The sandbox has tried it once more alone, so it is counted: it may
    # be the picture's doing after all, and must end.
    pictures.DecoderStarved: ErrorPolicy("decoder_unavailable", transient=True),
    pictures.DecoderKilled: ErrorPolicy("decoder_crashed", transient=True),
    pictures.DecoderUnavailable: ErrorPolicy("decoder_unavailable", transient=True, counted=False),
    stores.KeyRefused: ErrorPolicy("invalid_event"),
    stores.BlobNotFound: ErrorPolicy("source_missing"),  # transient for the first ten seconds
    stores.BlobChanged: ErrorPolicy("source_missing", transient=True),
    stores.BlobRefused: ErrorPolicy("unsupported_format"),
    stores.BlobsUnavailable: ErrorPolicy("storage_unavailable", transient=True),
    stores.BlobsAway: ErrorPolicy("storage_unavailable", transient=True),
    stores.BlobsUnfit: ErrorPolicy("storage_unavailable", transient=True),
    stores.VolumeMissing: ErrorPolicy("storage_unavailable", transient=True, counted=False),
    stores.BlobForbidden: ErrorPolicy("storage_unavailable", transient=True, patient=True),
    stores.BlobPinned: ErrorPolicy("storage_unavailable", transient=True),
    stores.TargetUnavailable: ErrorPolicy("storage_unavailable", transient=True),
    stores.StorageFull: ErrorPolicy("storage_full", transient=True),
    stores.CatalogUnavailable: ErrorPolicy("catalog_unavailable", transient=True, counted=False),
    stores.CatalogAway: ErrorPolicy("catalog_unavailable", transient=True, counted=False),
    stores.CatalogConflict: ErrorPolicy("catalog_unavailable", transient=True, counted=False),
    stores.CatalogDamaged: ErrorPolicy("catalog_unavailable", transient=True, counted=False),
    # These end a worker before it takes a job; should one meet an upload, it is not the upload's fault.
    stores.RootMismatch: ErrorPolicy("storage_unavailable", transient=True, counted=False),
    stores.BackendMissing: ErrorPolicy("storage_unavailable", transient=True, counted=False),
    stores.FileSystemUnfit: ErrorPolicy("storage_unavailable", transient=True, counted=False),
    stores.CatalogUnfit: ErrorPolicy("catalog_unavailable", transient=True, counted=False),
    stores.CatalogTooNew: ErrorPolicy("catalog_unavailable", transient=True, counted=False),
    stores.CatalogObsolete: ErrorPolicy("catalog_unavailable", transient=True, counted=False),
    stores.CatalogTooOld: ErrorPolicy("catalog_unavailable", transient=True, counted=False),
    stores.CatalogMoved: ErrorPolicy("catalog_unavailable", transient=True, counted=False),
    stores.NoCatalog: ErrorPolicy("catalog_unavailable", transient=True, counted=False),
    # Only backups meet these.
    stores.CopyRefused: ErrorPolicy("storage_unavailable", transient=True, counted=False),
    stores.CopyBusy: ErrorPolicy("storage_unavailable", transient=True, counted=False),
    stores.CopyDamaged: ErrorPolicy("storage_unavailable", transient=True, counted=False),
}


CODES = frozenset({found.code for found in POLICIES.values()} | set(REFUSALS))
"""Every code that an upload can fail with."""


_OURS = frozenset(
    {
        "unknown_recipe",  # an operator has removed it since the event came
        "decoder_unavailable",
        "storage_unavailable",
        "storage_full",
        "catalog_unavailable",
        INTERNAL.code,
    }
)
_OF_PICTURES = CODES - _OURS


def blame_of(code: str) -> Literal["picture", "us"]:
    """Whose fault a failed try is: that of the picture and its app, or that of whoever runs the worker."""
    return "picture" if code in _OF_PICTURES else "us"


def policy_of(error: Exception) -> ErrorPolicy:
    """The policy of the nearest class of `error`; an error that the table lacks is a bug of ours."""
    for kind in type(error).__mro__:
        if kind in POLICIES:
            return POLICIES[kind]
    return INTERNAL


def classify(error: Exception, claim: Claim, max_attempts: int, settle_ms: int = 0) -> Failed | Postponed:
    """The outcome that `error` is for the upload that met it.

    An original that may still be written is tried again until it has been seen the same for `settle_ms`.
    """
    found = policy_of(error)
    code = error.code if isinstance(error, pictures.PictureRefused) else found.code
    text = _text_of(error) if found is not INTERNAL else "".join(traceback.format_exception(error))[-4000:]
    if wait := _wait_for_original(error, claim, settle_ms):
        wait_ms, seen = wait
        return Postponed(claim, code, text, wait_ms, counted=False, seen=seen)
    if not found.transient or (found.counted and claim.upload.attempts + 1 >= max_attempts):
        return Failed(claim, code, text)
    pause = patient_ms(claim.upload.attempts) if found.patient else delay_ms(claim.upload.attempts)
    return Postponed(claim, code, text, pause, counted=found.counted)


def patient_ms(attempts: int) -> int:
    """How long to wait after that many tries for what a person has to put right: from 15 s to 10 min."""
    return min(LONGEST_DELAY_MS, PATIENT_DELAY_MS << attempts)


def _wait_for_original(
    error: Exception, claim: Claim, settle_ms: int
) -> tuple[int, BlobInfo | Existence] | None:
    """How many ms to wait for the original, and how it is now.

    Each wait happens once and in full, whatever the clocks say. Clocks are corrected, a queue may be long,
    and a file server has a clock of its own: an original has settled if it is found the same twice. This
    host's clock is not asked: how long the upload waited until its claim, the catalog's alone can say.
    """
    seen_before = claim.upload.seen
    waited_ms = claim.began_ms - claim.upload.queued_ms
    may_be_written = seen_before is None or -SKEW_MS <= waited_ms < LONGEST_WRITE_MS
    match error:
        case stores.BlobNotFound() if may_be_written:
            if seen_before != fingerprint(Existence.MISSING):
                return MISSING_FOR_MS, Existence.MISSING
            left_ms = MISSING_FOR_MS - max(0, waited_ms)
            return (left_ms, Existence.MISSING) if left_ms > 0 else None
        case pictures.SourceChanged() if settle_ms and may_be_written:
            return settle_ms, Existence.UNKNOWN
        case pictures.PictureRefused(seen=BlobInfo() as seen) if settle_ms and may_be_written:
            is_old = claim.began_ms - seen.changed_at * 1000 > CLOCKS_DIFFER_MS
            return None if is_old or fingerprint(seen) == seen_before else (settle_ms, seen)
        case _:
            return None


def delay_ms(attempts: int) -> int:
    """How long to wait after that many tries: doubling from 1 s to 10 min, with full jitter."""
    ceiling = min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2**attempts)
    return random.randint(0, ceiling)  # noqa: S311 (spreads load, guards nothing)


def _text_of(error: Exception) -> str:
    text = str(error).strip()
    if not text:
        return type(error).__name__
    return text if text.startswith(f"{UPLOADS}/") else text[:1].upper() + text[1:]  # a key stays as it is
