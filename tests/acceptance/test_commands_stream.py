"""`media stream reset`: the cure of a stream whose IDs lie ahead of every clock."""

import time
from uuid import NAMESPACE_URL, uuid5

from tests.support import pictures
from tests.support.commands import document, media
from tests.support.workplace import Workplace

AN_HOUR_MS = 3_600_000


def test_after_a_reset_events_of_earlier_uploads_are_taken_by_a_running_worker(
    workplace: Workplace,
) -> None:
    sources = [workplace.put(f"uploads/{number}.jpg", pictures.small(number)) for number in range(2)]
    ahead = int(time.time() * 1000) + AN_HOUR_MS
    worker = workplace.start("media")
    for number, source in enumerate(sources):
        workplace.send_raw({"event": f'{{"source": "{source}"}}'}, stream_id=f"{ahead}-{number}")
    workplace.await_end_of(*sources)

    answer = document(media(workplace.env(), "stream", "reset", "--json"))

    assert (answer["epoch"], answer["discarded"]) == (1, 0)
    workplace.put(sources[0], pictures.small(7))
    workplace.send({"source": sources[0]})
    workplace.send({"delete": str(uuid5(NAMESPACE_URL, f"media:{sources[1]}"))})
    ends = workplace.await_end_of(*sources, times=2)
    assert [ends[source]["type"] for source in sources] == ["upload.ready", "upload.deleted"]
    assert workplace.check().letters == []
    assert worker.stop() == 0


def test_a_stream_in_which_events_wait_is_not_reset_unless_they_are_to_be_thrown_away(
    workplace: Workplace,
) -> None:
    assert workplace.run("media", "--burst").returncode == 0
    workplace.send({"source": "uploads/cat.jpg"})

    refused = media(workplace.env(), "stream", "reset")
    left = workplace.redis.xlen("media:uploads")
    discarded = document(media(workplace.env(), "stream", "reset", "--discard", "--json"))

    assert (refused.returncode, left) == (1, 1)
    assert "--discard" in refused.stderr
    assert (discarded["discarded"], workplace.redis.xlen("media:uploads")) == (1, 0)
