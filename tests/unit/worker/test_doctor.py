"""`media doctor`: what it says of decoders that are confined, half or not at all."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import cgroups
from pipelines import libraries as pipeline_libraries
from pipelines.allowance import Isolation
from pipelines.formats import MIB
from pipelines.sandbox.answers import Hello
from storage.catalog.sqlite_file import FileRoom
from storage.totals import Count, StorageTotals, Swept, Total
from worker.doctor import decoders
from worker.doctor.decoders import (
    check_libraries,
    check_limits,
    inspect_confinement,
    inspect_encoder,
    inspect_isolation,
    inspect_libraries,
    inspect_missing,
)
from worker.doctor.rows import by_python, inspect_growth, inspect_room
from worker.settings import Settings


@pytest.mark.parametrize(
    ("landlock", "calls", "level", "words"),
    [
        (7, True, "ok", "opens no file, no socket and no process; Landlock 7"),
        (0, True, "ok", "no Landlock"),
        (7, False, "warning", "no seccomp; Landlock 7: a decoder can open sockets, start processes"),
        (2, False, "warning", "start processes, truncate files, speak TCP, signal other processes"),
        (
            0,
            False,
            "warning",
            "no Landlock: a decoder can open sockets, start processes, open and change files",
        ),
    ],
)
def test_the_doctor_says_what_a_decoder_can_do(landlock: int, calls: bool, level: str, words: str) -> None:
    hello = Hello(hello=1, engine="vips", version="libvips", landlock=landlock, calls_closed=calls)
    finding = inspect_confinement([hello])

    assert finding.level == level
    assert words in finding.detail


def test_the_doctor_says_that_somebody_switched_the_confinement_off() -> None:
    hello = Hello(hello=1, engine="vips", version="libvips", landlock=0, calls_closed=False)
    finding = inspect_confinement([hello], "off")

    assert (finding.level, finding.advice) == ("warning", "Unset it, unless a debugger needs it.")
    assert "MEDIA_CONFINEMENT is off" in finding.detail


@pytest.mark.parametrize(
    ("isolation", "level", "words"),
    [("owner", "ok", "of one owner"), ("picture", "ok", "one picture"), ("off", "warning", "of all owners")],
)
def test_the_doctor_says_whose_pictures_a_decoder_sees(isolation: Isolation, level: str, words: str) -> None:
    finding = inspect_isolation(isolation)

    assert finding.level == level
    assert words in finding.detail


def test_the_doctor_warns_of_a_libvips_without_mozjpeg_and_blames_no_limit() -> None:
    told = {"hello": 1, "engine": "vips", "version": "libvips 8.14", "landlock": 7, "calls_closed": True}
    hello = Hello.model_validate(told | {"lacks": ["mozjpeg"]})

    assert [finding.advice for finding in inspect_encoder([hello])] == [
        "Install pyvips-binary, whose libvips has it."
    ]
    assert inspect_missing([hello]) == inspect_encoder([Hello.model_validate(told)]) == []


@pytest.mark.parametrize(
    ("turbo", "is_glibc", "more"),
    [("", True, "; no simplejpeg (the extra turbo), which decodes plain JPEGs in less time"), ("", False, "")]
    + [(", simplejpeg 1.9.0", is_glibc, ", simplejpeg 1.9.0") for is_glibc in (True, False)],
)
def test_the_doctor_names_each_library_once_and_the_one_that_would_spare_time(
    turbo: str, is_glibc: bool, more: str
) -> None:
    versions = "libvips 8.18.7", f"libvips 8.18.7, pillow 13.0.0{turbo}"
    hellos = [Hello(hello=1, engine="vips", version=one, landlock=7, calls_closed=True) for one in versions]

    found = inspect_libraries(hellos, is_glibc=is_glibc)

    assert (found.level, found.detail) == ("ok", f"libvips 8.18.7, pillow 13.0.0{more}")


async def test_libraries_that_cannot_be_asked_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_libraries, "_ASK", (sys.executable, "-c", "import sys; sys.exit('gone')"))

    [finding] = await check_libraries()

    assert (finding.what, finding.level) == ("Libraries", "warning")
    assert "do not tell their versions: gone" in finding.detail


GB = 10**9


def grown(superseded: int, orphans: int = 0, trash: int = 0, variants: int = 0) -> StorageTotals:
    """A catalog with so many bytes of each."""
    totals = [
        Total("superseded", "thumb", "jpg", 1, 5, superseded),
        Total("variant", "thumb", "jpg", 1, 5, variants),
    ]
    found = {"orphan": Count(1, orphans)} if orphans else {}
    return StorageTotals(totals, [], [], Swept("plan", 1, Count(), Count(), found, Count(1, trash)))


def test_files_that_could_be_removed_and_are_not_are_reported_with_their_size() -> None:
    found = inspect_growth(grown(2 * GB, 3 * GB, 4 * GB), applied=False)

    assert found is not None
    assert found.level == "warning"
    for part in (
        "2.0 GB in superseded variants",
        "3.0 GB in orphans",
        "4.0 GB in the trash",
        "MEDIA_SWEEP_APPLY=0",
    ):
        assert part in found.detail


@pytest.mark.parametrize(
    ("totals", "applied"),
    [(grown(GB), False), (grown(9 * GB, variants=100 * GB), False), (grown(5 * GB), True)],
    ids=["little", "little beside the rest", "the worker does it"],
)
def test_what_is_little_or_removed_by_the_worker_is_not_reported(
    totals: StorageTotals, *, applied: bool
) -> None:
    assert inspect_growth(totals, applied=applied) is None


@pytest.mark.parametrize(
    ("limit_mb", "memory_mb", "wider", "advice"),
    [
        (None, 288, "a larger MEDIA_MEMORY_MB", None),
        (4096, 288, "a larger MEDIA_MEMORY_MB", None),
        (288, 288, "a larger container and MEDIA_MEMORY_MB", None),
        (
            256,
            512,
            "a larger container",
            "Raise the container's limit to 512 MiB, or set MEDIA_MEMORY_MB=256.",
        ),
        (128, 512, "a larger container", "Raise the container's limit to 512 MiB; 192 MiB are the least."),
        (128, 192, "a larger container and MEDIA_MEMORY_MB", "Raise the container's limit to 192 MiB."),
        (None, 2048, None, None),
    ],
)
def test_what_is_said_of_memory_helps_and_contradicts_nothing(
    monkeypatch: pytest.MonkeyPatch,
    limit_mb: int | None,
    memory_mb: int,
    wider: str | None,
    advice: str | None,
) -> None:
    monkeypatch.setattr(cgroups, "memory_limit", lambda: limit_mb and limit_mb * MIB)

    limits, *_, budget = check_limits(Settings(memory_mb=memory_mb, cpus=4))

    assert limits.detail.partition("more decoders need ")[2] == (wider or "")
    assert budget.advice == advice


@pytest.mark.parametrize(
    ("what", "limit", "level", "words"),
    [
        ("RLIMIT_AS", 700 * MIB, "error", "a process may have 700 MiB of address space"),
        ("RLIMIT_AS", 1500 * MIB, "warning", "a process may have 1500 MiB of address space"),
        ("RLIMIT_NOFILE", 40, "warning", "a process may have 40 files open"),
    ],
)
def test_limits_of_a_process_that_a_worker_meets_are_told_before_it_does(
    monkeypatch: pytest.MonkeyPatch, what: str, limit: int, level: str, words: str
) -> None:
    monkeypatch.setattr(
        resource, "getrlimit", lambda asked: [limit if asked == getattr(resource, what) else -1] * 2
    )

    [found] = [one for one in check_limits(Settings(memory_mb=512)) if one.what == "Process limits"]

    assert (found.level, found.detail) == (level, words)
    assert "ulimit -" in str(found.advice)


@pytest.mark.parametrize(("cpus", "answer"), [(1, "1 decoder for 1 CPU,"), (2, "2 decoders for 2 CPUs,")])
def test_one_is_no_plural(monkeypatch: pytest.MonkeyPatch, cpus: int, answer: str) -> None:
    monkeypatch.setattr(decoders, "available_cpus", lambda: cpus)

    assert check_limits(Settings(cpus=cpus))[0].detail.startswith(answer)


def test_what_the_doctor_has_sqlite_do_needs_no_program_but_python(migrated: Path, tmp_path: Path) -> None:
    path = tmp_path / "it's a catalog.db"
    shutil.copy(migrated, path)
    line = by_python(path, "PRAGMA quick_check")
    env = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}/bin"}

    assert subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True).stdout == "('ok',)\n"


MIB_PAGES = 1024 * 1024 // 4096


@pytest.mark.parametrize(
    ("mode", "used", "free", "level"),
    [
        (2, 100, 5000, None),
        (0, 100, 90, None),
        (0, 10, 60, None),
        (0, 10, 100, "ok"),
        (0, 100, 300, "warning"),
    ],
)
def test_a_catalog_with_much_free_space_is_reported_with_the_line_that_returns_it(
    migrated: Path, tmp_path: Path, mode: int, used: int, free: int, level: str | None
) -> None:
    shutil.copy(migrated, tmp_path / "catalog.db")
    room = FileRoom(mode, 4096, (used + free) * MIB_PAGES, free * MIB_PAGES)
    found = inspect_room(room, tmp_path / "catalog.db")

    assert (found and found.level) == level
    if found and level == "warning":
        line = str(found.advice).partition("and then: ")[2]
        assert subprocess.run(["sh", "-c", line], capture_output=True).returncode == 0
