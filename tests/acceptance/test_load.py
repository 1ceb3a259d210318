"""Many events, two workers, one catalog: all ready, none twice, memory flat. And one event, soon."""

import time
from pathlib import Path

import pytest

from storage.catalog import tokens
from tests.support import pictures, processes
from tests.support.clients import WITH_SERVICES
from tests.support.floor import floor_in
from tests.support.workplace import Workplace

_PROGRAM = ""  # not forked, which shares memory at first, and copies it where it is written
_GROWTH_MIB = 48  # of two process trees between a quarter and the end of the work
_DECODER_MIB = 40  # and as much for each that was started in between: a slow machine starts some late
_SOON = 2.0  # times what the libvips loop takes, of one upload of a photo


@pytest.mark.parametrize("count", [120, pytest.param(2000, marks=pytest.mark.campaign)])
@pytest.mark.rotating(1)
@WITH_SERVICES
def test_two_workers_on_one_catalog_do_everything_once(workplace: Workplace, count: int) -> None:
    workers = [workplace.start(by, PYTHONPATH=_PROGRAM, MEDIA_LEASE="15") for by in ("arq", "media")]
    sources = [workplace.put(f"uploads/{n % 50}/{n}.jpg", pictures.small(n)) for n in range(count)]
    began = time.monotonic()
    workplace.send_all({"source": source} for source in sources)
    workplace.listen(lambda got: len(got) >= count // 4)
    early, before = _mib(workplace), len(_pids(workplace))
    answer = workplace.await_end_of(*sources, within=600)
    took = time.monotonic() - began
    late, started = _mib(workplace), len(_pids(workplace)) - before

    figures = (
        f"{count} in {took:.1f} s, {count / took:.0f} a second; {early:.0f} MiB early, {late:.0f} MiB late, "
        f"{started} processes more"
    )
    print(figures)  # noqa: T201
    assert {message["type"] for message in answer.values()} == {"upload.ready"}
    assert len(workplace.messages) == len({message["seq"] for message in workplace.messages}) == count
    assert late - early < _GROWTH_MIB + _DECODER_MIB * max(0, started), figures
    assert [worker.stop() for worker in workers] == [0, 0]
    found = workplace.check()
    rows = found.uploads.values()
    assert {(tokens.count(upload["claim"]), upload["attempts"]) for upload in rows} == {(1, 0)}
    assert found.unreferenced == set()
    logs = "\n".join(worker.text for worker in workers)
    assert "locked" not in logs
    assert not [line for worker in workers for line in worker.log if line["level"] in ("error", "critical")]


def _mib(place: Workplace) -> float:
    """What the trees of all workers take together."""
    return processes.proportional_kib(_pids(place)) / 1024


def _pids(place: Workplace) -> list[int]:
    return [pid for worker in place.workers for pid in (worker.pid, *processes.children_of(worker.pid))]


@WITH_SERVICES
def test_a_single_upload_is_ready_soon(workplace: Workplace, corpus: Path) -> None:
    """By what the bare libvips loop takes for the same picture between the uploads: machines differ."""
    photo = corpus / "photos" / "Issue_266.jpg"
    worker = workplace.start("arq", PYTHONPATH=_PROGRAM, MEDIA_RECONCILE_INTERVAL="15", MEDIA_LEASE="15")
    uploads: list[float] = []
    loops: list[float] = []
    with floor_in(workplace.home) as floor:
        # The least disturbed of each, and more of both while others keep the CPUs busy.
        while len(loops) < 8 or (len(loops) < 40 and min(uploads) >= _SOON * min(loops)):
            uploads.append(_ms_until_ready(workplace, f"uploads/{len(loops)}.jpg", photo.read_bytes()))
            loops.append(floor.ms(photo))

    stages = [
        {key: value for key, value in line.items() if key.endswith("_ms")} for line in worker.logged("batch")
    ]
    figures = f"uploads {sorted(map(round, uploads))} ms, the loop {sorted(map(round, loops))} ms"
    print(figures)  # noqa: T201
    assert min(uploads) < _SOON * min(loops), (figures, stages[-3:])


def _ms_until_ready(place: Workplace, source: str, content: bytes) -> float:
    place.put(source, content)
    began = time.perf_counter()
    place.send({"source": source})
    place.await_end_of(source)
    return (time.perf_counter() - began) * 1000
