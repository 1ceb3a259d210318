"""Pictures that kill their decoder, among good ones: each costs itself, and nobody anything else."""

import os
import signal
import time
from collections import Counter
from contextlib import closing
from sqlite3 import connect

import pytest

from storage.catalog import tokens
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import document, media
from tests.support.stub_decoder import CRASH, EAT, FAIL, HANG
from tests.support.workplace import Workplace, eventually

CODES = {CRASH: "decoder_crashed", HANG: "decode_timeout", EAT: "too_much_memory"}


@pytest.mark.fault(3, 53)
def test_of_forty_uploads_the_three_that_kill_their_decoder_fail_alone(workplace: Workplace) -> None:
    worker = workplace.start("stub", MEDIA_IMAGE_TIMEOUT="1", MEDIA_CPUS="2")
    good = [workplace.put(f"uploads/good/{n}.jpg", pictures.small(n)) for n in range(37)]
    bad = {workplace.put(f"uploads/{CODES[mark]}", pictures.small() + mark): mark for mark in CODES}
    began = time.monotonic()
    workplace.send_all({"source": source} for source in good[:15])
    workplace.await_end_of(*good[:15])
    fifteen_took = time.monotonic() - began
    sources = [*good[15:25], *bad, *good[25:]]
    began = time.monotonic()

    workplace.send_all({"source": source} for source in sources)
    ends = workplace.await_end_of(*good, *bad)

    took = time.monotonic() - began
    print(f"15 good ones took {fifteen_took:.1f} s, 22 and 3 bad ones {took:.1f} s")  # noqa: T201
    assert Counter(answer["type"] for answer in ends.values()) == {"upload.ready": 37, "upload.failed": 3}
    assert {source: ends[source]["error"]["code"] for source in bad} == {
        source: CODES[mark] for source, mark in bad.items()
    }
    assert took < 5 + 10 * fifteen_took  # a time limit of 1 s, twice; and six decoders that are started anew
    assert worker.process.poll() is None
    rows = workplace.check().uploads
    assert {(rows[source]["attempts"], tokens.count(rows[source]["claim"])) for source in good} == {(0, 1)}
    assert {rows[source]["attempts"] for source in bad} == {1}


def test_a_picture_known_to_kill_is_refused_under_any_name_without_another_decoder(
    workplace: Workplace,
) -> None:
    worker = workplace.start("stub", MEDIA_CPUS="1")
    killer, innocent = pictures.small(1) + CRASH, pictures.small(2) + b"--harmless--"[: len(CRASH)]
    assert len(killer) == len(innocent)
    workplace.send({"source": workplace.put("uploads/first.jpg", killer)})
    workplace.await_end_of("uploads/first.jpg")
    workplace.send({"source": workplace.put("uploads/warm.jpg", pictures.small())})
    workplace.await_end_of("uploads/warm.jpg")
    decoders = worker.decoders()

    workplace.send({"source": workplace.put("uploads/second.jpg", killer)})
    workplace.send({"source": workplace.put("uploads/same-size.jpg", innocent)})
    ends = workplace.await_end_of("uploads/second.jpg", "uploads/same-size.jpg")

    assert ends["uploads/second.jpg"]["error"]["code"] == "decoder_crashed"
    assert ends["uploads/same-size.jpg"]["type"] == "upload.ready"
    assert worker.decoders() == decoders


@WITH_SERVICES
def test_failed_retry_forgets_what_killed_a_decoder_in_every_worker(workplace: Workplace) -> None:
    first = workplace.start("stub")
    killer = workplace.put("uploads/killer.jpg", pictures.small() + CRASH)
    workplace.send({"source": killer})
    workplace.await_end_of(killer)
    first.stop()
    # The real decoder finds the stub's mark harmless, but does not get to see it.
    for _ in range(2):
        workplace.start("arq")
    again = [workplace.put(f"uploads/again-{n}.jpg", pictures.small() + CRASH) for n in range(4)]
    workplace.send_all({"source": source} for source in again)
    workplace.await_end_of(*again)

    retried = media(workplace.env(), "failed", "retry", "--all", "--json")
    ends = workplace.await_end_of(killer, *again, times=2)

    assert len(document(retried)["uploads"]) == 5
    assert {answer["type"] for answer in ends.values()} == {"upload.ready"}
    workplace.check()


def test_a_bug_of_the_decoder_is_an_internal_error_whose_traceback_is_in_the_log(
    workplace: Workplace,
) -> None:
    worker = workplace.start("stub", MEDIA_MAX_ATTEMPTS="1")
    workplace.send({"source": workplace.put("uploads/cat.jpg", pictures.small() + FAIL)})
    ends = workplace.await_end_of("uploads/cat.jpg")
    logged = worker.await_log("upload_not_ready")

    assert ends["uploads/cat.jpg"]["error"]["code"] == logged["code"] == "internal_error"
    assert "stub_decoder.py" in logged["reason"]
    assert "KeyError: 'x'" in logged["reason"]


def test_what_a_decoder_wrote_before_it_died_is_in_the_log(workplace: Workplace) -> None:
    worker = workplace.start("stub")
    workplace.send({"source": workplace.put("uploads/cat.jpg", pictures.small() + CRASH)})
    ends = workplace.await_end_of("uploads/cat.jpg")
    logged = worker.await_log("upload_not_ready")

    assert logged["details"] == "vips: out of order"
    assert "vips" not in ends["uploads/cat.jpg"]["error"]["message"]


def test_with_another_version_of_the_decoder_a_picture_is_tried_again(workplace: Workplace) -> None:
    worker = workplace.start("stub")
    killer = workplace.put("uploads/killer.jpg", pictures.small() + CRASH)
    workplace.send({"source": killer})
    workplace.await_end_of(killer)
    worker.stop()
    with closing(connect(workplace.catalog)) as catalog, catalog:
        catalog.execute("UPDATE poison_contents SET version = 'an older one'")

    workplace.start("arq")
    workplace.send({"source": killer})
    answer = workplace.await_end_of(killer, times=2)[killer]

    assert answer["type"] == "upload.ready"


def test_a_worker_frozen_for_longer_than_the_wall_limit_fails_no_picture(workplace: Workplace) -> None:
    worker = workplace.start("media", MEDIA_IMAGE_TIMEOUT="0.4", MEDIA_CPUS="1", MEDIA_LEASE="30")
    frozen = [*worker.decoders(), worker.pid]
    os.kill(frozen[0], signal.SIGSTOP)  # it will be asked, and not have answered when the worker freezes
    source = workplace.put("uploads/small.jpg", pictures.small())
    workplace.send({"source": source})
    eventually(lambda: "processing" in workplace.check(settled=False).states)
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(1.5)  # more than three times the time limit, which is what is tested

    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    answer = workplace.await_end_of(source)[source]

    assert answer["type"] == "upload.ready"
    assert worker.decoders() == frozen[:1]
