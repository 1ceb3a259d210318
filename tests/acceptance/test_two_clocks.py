"""Two hosts with clocks 5 minutes apart, each a process of its own, share one catalog in Postgres."""

from pathlib import Path
from uuid import UUID

import pytest

from storage.keys import variant_key
from tests.support import pictures
from tests.support.commands import MEDIA, document, run_installed
from tests.support.workplace import Workplace

APART_S, GRACE_S, UPLOADS = 300, 120, 6
CAT = UUID("4a2ca705-03aa-52b8-a8b8-e2aa1374070e")
LONG_S = 180.0  # what is not forked may have to compile all that it imports
CLOCK_APART = str(Path(pictures.__file__).parent / "clock_apart")  # reads CLOCK_AHEAD_S


@pytest.mark.fault(28)
def test_hosts_with_clocks_five_minutes_apart_do_all_work_once_and_take_nothing_young_away(
    workplace: Workplace, postgres_catalog_url: str
) -> None:
    workplace.settings |= {"MEDIA_CATALOG_URL": postgres_catalog_url, "MEDIA_GRACE": str(GRACE_S)}
    workplace.put("uploads/unannounced.jpg", pictures.small())
    right = workplace.start("media")
    workplace.settings |= {"PYTHONPATH": CLOCK_APART, "CLOCK_AHEAD_S": str(APART_S)}
    ahead = workplace.start("media", ready=False)
    ahead.await_log("worker_started", LONG_S)
    young = workplace.put(variant_key(CAT, "jpeg"), b"about to get its row")
    sources = [workplace.put(f"uploads/{number}.jpg", pictures.small()) for number in range(UPLOADS)]

    workplace.send_all({"source": source} for source in sources)
    workplace.await_end_of(*sources, within=LONG_S)
    sweep = [str(MEDIA), "sweep", "--apply", "--json"]
    swept = document(run_installed(sweep, workplace.env(), workplace.home, LONG_S))["findings"]

    assert (right.stop(), ahead.stop()) == (0, 0)
    answers = {message["seq"]: message["type"] for message in workplace.messages}  # each at least once
    assert list(answers.values()) == ["upload.ready"] * UPLOADS
    assert not right.logged("originals_without_record") + ahead.logged("originals_without_record")
    assert swept["orphan"]["count"] == 0
    assert (workplace.root / young).is_file()
