"""Sources that are no plain file below uploads/, or change while they are read: refused, or read as one."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.support import pictures
from tests.support.catalog_rows import rows_of
from tests.support.workplace import Workplace, eventually


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _link_to_a_neighbour(path: Path, outside: Path) -> None:
    (path.parent / "plain.jpg").write_bytes(pictures.small())
    path.symlink_to("plain.jpg")


def _dangling_link(path: Path, outside: Path) -> None:
    path.symlink_to("nothing.jpg")


def _fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, outside: Path) -> None:
    path.mkdir()


def _socket(path: Path, outside: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as server:
        os.chdir(path.parent)
        server.bind(path.name)


def _device(path: Path, outside: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero: it has no end
    except PermissionError:
        pytest.skip("only root makes devices")


def _empty(path: Path, outside: Path) -> None:
    path.touch()


@pytest.mark.fault(43)
@pytest.mark.parametrize(
    "make",
    [_link, _link_to_a_neighbour, _dangling_link, _fifo, _folder, _socket, _device, _empty],
    ids=lambda make: make.__name__.strip("_"),
)
@pytest.mark.rotating(3)
def test_a_source_that_is_no_plain_file_is_refused_soon(
    live: Workplace, tmp_path: Path, make: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside.jpg").write_bytes(pictures.small())
    folder = live.root / "uploads" / make.__name__
    folder.mkdir()
    make(folder / "source.jpg", tmp_path / "outside.jpg")

    source = f"uploads/{make.__name__}/source.jpg"
    live.send({"source": source})
    answer = live.await_end_of(source, within=20)[source]

    assert answer["type"] == "upload.failed"
    assert answer["error"]["code"] in {"unsupported_format", "corrupt_image", "source_missing"}
    live.check()


@pytest.mark.fault(43)
def test_a_folder_that_leads_out_of_the_root_is_not_followed(live: Workplace, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(pictures.small())
    (live.root / "uploads/way-out").symlink_to(tmp_path)

    live.send({"source": "uploads/way-out/secret.jpg"})
    answer = live.await_end_of("uploads/way-out/secret.jpg")["uploads/way-out/secret.jpg"]

    assert answer["type"] == "upload.failed"
    assert "variants" not in answer


@contextmanager
def _meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do it again and again until the block ends."""
    enough = threading.Event()

    def again() -> None:
        while not enough.wait(0.002):
            act()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def _rename_over(place: Workplace, source: str, content: bytes) -> None:
    place.put(source, content)


def _overwrite_in_place(place: Workplace, source: str, content: bytes) -> None:
    (place.root / source).write_bytes(content)


@pytest.mark.fault(37)
@pytest.mark.parametrize("change", [_rename_over, _overwrite_in_place])
def test_a_source_that_changes_while_it_is_read_is_tried_again_and_never_mixed(
    live: Workplace, change: Callable[[Workplace, str, bytes], None]
) -> None:
    source, both = f"uploads/{change.__name__}.jpg", cycle((pictures.medium(0), pictures.medium(1)))
    live.put(source, next(both))
    with _meanwhile(lambda: change(live, source, next(both))):
        live.send({"source": source})
        eventually(lambda: _row(live, source)["attempts"] > 0 or _row(live, source)["state"] == "ready")

    live.send({"source": source})
    now = sha256((live.root / source).read_bytes()).hexdigest()
    eventually(lambda: (_row(live, source)["state"], _row(live, source)["sha256"]) == ("ready", now))
    live.await_end_of(source)
    live.check()


def _row(place: Workplace, source: str) -> dict[str, Any]:
    found = rows_of(place.catalog, "SELECT source, state, attempts, sha256 FROM uploads")
    nothing = {"state": None, "attempts": 0, "sha256": None}
    return next((row for row in found if row["source"] == source), nothing)
