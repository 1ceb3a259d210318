"""A real worker behind three Sentinels whose primary is killed in the middle of its work."""

from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.sentinels import replicated
from tests.support.workplace import Workplace

MANY = 20


@pytest.mark.fault(12)
@WITH_SERVICES
def test_a_worker_goes_on_at_the_new_primary_and_loses_nothing(migrated: Path, tmp_path: Path) -> None:
    with replicated(tmp_path / "redis", sentinels=3) as redises:
        place = Workplace(tmp_path, redises.primary.url, migrated, MEDIA_REDIS_URL=redises.url)
        sources = [place.put(f"uploads/{n}.jpg", pictures.medium(n % 5)) for n in range(MANY)]
        worker = place.start("media")
        place.send_all({"source": source} for source in sources[:-1])
        place.listen(lambda got: len(got) >= 5)
        place.redis = redises.fail_over().client
        place.send({"source": sources[-1]})

        place.await_end_of(*sources)

        assert place.check().states == {"ready": MANY}
        assert worker.stop() == 0
        place.close()
