"""Questions to a worker over Redis: the state of an upload, and what uploads may be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from redis.exceptions import TimeoutError

from media_worker_client.errors import MediaError, MediaTimeout
from media_worker_client.events import UploadId, encoded, status_question
from media_worker_client.messages import STATUS, Upload, parse_message, parse_upload, read_document
from media_worker_client.steps import Steps, as_text, command, entries_in

_COUNT = 100


def send(stream: str, event: Mapping[str, Any]) -> Steps[str]:
    """Put an event on the stream; returns its ID there."""
    return as_text((yield command("XADD", stream, "*", "event", encoded(event))))


def ask_status(
    stream: str,
    events: str,
    id: UploadId,
    timeout_s: float,
    block_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Steps[Upload | None]:
    """The upload as a worker has it; None where it knows none of that id.

    Raises: MediaTimeout where nobody answers in time, MediaError where the question is refused.
    """
    question = status_question(id)
    newest = yield command("XREVRANGE", events, "+", "-", "COUNT", 1)
    after = as_text(newest[0][0]) if newest else "0"
    entry = yield from send(stream, question)
    until = clock() + timeout_s
    while (left_s := until - clock()) > 0:
        block_ms = max(1, int(min(left_s, block_s) * 1000))
        words = ("COUNT", _COUNT, "BLOCK", block_ms, "STREAMS", events, after)
        try:
            found = entries_in((yield command("XREAD", *words)))
        except TimeoutError:  # the client's own timeout is shorter
            continue
        for entry_id, fields in found:
            after = entry_id
            document = read_document(fields.get("event"))
            if document is not None and document.get("entry") == entry:
                return _answer(document)
    raise MediaTimeout(
        "no_answer",
        f"No worker has answered on {events} within {timeout_s:g} s. Does one run that reads {stream}?",
    )


def limits_key(stream: str) -> str:
    """Where workers write what uploads may be: `media:limits` beside `media:uploads`."""
    prefix, _, last = stream.rpartition(":")
    return f"{prefix if prefix and last == 'uploads' else stream}:limits"


def read_limits(stream: str) -> Steps[dict[str, Any]]:
    """What uploads may be, as workers have written it. Raises: MediaError where none has."""
    key = limits_key(stream)
    document = read_document((yield command("GET", key)))
    if document is None:
        raise MediaError("limits_unknown", f"No worker has written its limits to {key}.")
    return dict(document)


def _answer(document: Mapping[str, Any]) -> Upload | None:
    if document.get("type") == STATUS:
        return None if document.get("state") == "unknown" else parse_upload(document)
    message = parse_message(document)
    error = message.error if message else None
    raise MediaError(
        error.code if error else "internal_error", error.message if error else "The question was refused."
    )
