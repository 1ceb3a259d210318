"""Two hosts with clocks 5 minutes apart, each a process of its own, share one catalog in Postgres."""

import time
from uuid import UUID

import pytest

from storage.keys import variant_key
from tests.support import pictures
from tests.support.elsewhere import ahead_by
from tests.support.workplace import Workplace, eventually

APART_S, GRACE_S, UPLOADS = 300, 240, 6
CAT = UUID("4a2ca705-03aa-52b8-a8b8-e2aa1374070e")
SWEPT_AFTER_S = 6  # when a minute begins by the clock that is ahead
LONG_S = 180.0


@pytest.mark.fault(28)
def test_hosts_with_clocks_five_minutes_apart_do_all_work_once_and_take_nothing_young_away(
    workplace: Workplace, postgres_catalog_url: str
) -> None:
    workplace.settings |= {"MEDIA_CATALOG_URL": postgres_catalog_url, "MEDIA_GRACE": str(GRACE_S)}
    workplace.put("uploads/unannounced.jpg", pictures.small())
    right = workplace.start("media")
    young = workplace.put(variant_key(CAT, "jpeg"), b"about to get its row")
    workplace.settings |= {"MEDIA_SWEEP_CRON": "* * * * *", "MEDIA_SWEEP_APPLY": "1"}
    workplace.settings |= ahead_by(APART_S + 60 - SWEPT_AFTER_S - int(time.time()) % 60)
    ahead = workplace.start("media")
    sources = [workplace.put(f"uploads/{number}.jpg", pictures.small()) for number in range(UPLOADS)]

    workplace.send_all({"source": source} for source in sources)
    workplace.await_end_of(*sources, within=LONG_S)
    swept = ahead.await_log("sweep_purged", LONG_S)
    eventually(lambda: _latest_tick_s(workplace) > time.time() + APART_S / 2, LONG_S)

    assert (right.stop(), ahead.stop()) == (0, 0)
    answers = {message["seq"]: message["type"] for message in workplace.messages}  # each at least once
    assert list(answers.values()) == ["upload.ready"] * UPLOADS
    assert not right.logged("originals_without_record") + ahead.logged("originals_without_record")
    assert not right.logged("swept")
    assert "orphan" not in ahead.logged("swept")[0]
    assert (workplace.root / young).is_file(), swept


def _latest_tick_s(place: Workplace) -> float:
    """When the reconciler was last due, by the clock of its worker: arq keeps the lock for a minute."""
    locks = place.redis.scan_iter("arq:in-progress:reconcile:*", count=1000)
    return max(int(lock.rpartition(b":")[2]) / 1000 for lock in locks)
