"""What messages tell a restore of the time after a copy, and which copy is taken."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from storage.backups.folder import BackupCopy
from storage.backups.manifest import MANIFEST, Manifest, dump_manifest
from storage.catalog.replay import LaterState
from storage.errors import CopyDamaged, CopyRefused
from worker.restoring import LaterMessages, choose_copy

CAT = UUID("4a2ca705-03aa-52b8-a8b8-e2aa1374070e")
DOG = UUID("11111111-0000-4000-8000-000000000000")
SOURCE = "uploads/cat.jpg"
NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def message(seq: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"upload.{kind}", "seq": seq, "id": str(CAT), "source": SOURCE, "metadata": {}, **fields}


def states(*messages: dict[str, Any]) -> list[LaterState]:
    read = LaterMessages()
    for each in messages:
        read.add(each)
    return list(read.states())


def test_the_newest_message_of_an_upload_counts_whatever_comes_first() -> None:
    early = message(1, "ready", recipe="default", metadata={"a": 1})
    late = message(2, "ready", recipe="large", metadata={"a": 2})

    assert states(early, late) == states(late, early) == [LaterState(CAT, False, SOURCE, "large", {"a": 2})]
    assert states(late, message(3, "deleted")) == [LaterState(CAT, True, SOURCE)]
    assert states(message(3, "deleted"), message(4, "failed")) == [LaterState(CAT, False, SOURCE, None, {})]


def test_a_deletion_without_a_source_keeps_that_of_the_announcement() -> None:
    assert states(message(1, "ready"), message(2, "deleted", source=None)) == [LaterState(CAT, True, SOURCE)]
    assert states(message(2, "deleted", source=None)) == [LaterState(CAT, True, None)]


@pytest.mark.parametrize(("said", "by"), [(str(DOG), DOG), ("nobody", None), (7, None), (None, None)])
def test_a_deletion_tells_what_has_come_in_its_place(said: object, by: UUID | None) -> None:
    assert states(message(2, "deleted", replaced_by=said)) == [LaterState(CAT, True, SOURCE, replaced_by=by)]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"type": "sweep.stopped", "seq": 0, "id": None, "source": None},
        message(1, "failed", error={"code": "invalid_event"}, entry="1-0"),
        message(1, "failed", error={"code": "unknown_recipe"}, entry="1-0"),
        message(1, "ready", source="/etc/passwd"),
        message(1, "ready", source=["a"]),
        message(1, "ready", id="no id"),
        {**message(1, "ready"), "seq": "x"},
        message(1, "began"),
    ],
)
def test_what_tells_of_no_upload_changes_none(said: dict[str, Any]) -> None:
    assert states(said) == []


def saved(folder: Path, hours: int, catalog: str = "ours") -> BackupCopy:
    time_ms = int((NOON - timedelta(hours=hours)).timestamp() * 1000)
    manifest = Manifest(time_ms, catalog, "1000", 1, 1, 0, None, {}, {}, 0, "catalog.db", 0, "", "1")
    path = folder / f"{hours}-{catalog}"
    path.mkdir(parents=True)
    (path / MANIFEST).write_bytes(dump_manifest(manifest))
    return BackupCopy(path, manifest)


def test_the_newest_copy_of_the_storages_catalog_is_taken(tmp_path: Path) -> None:
    saved(tmp_path, 0, "theirs")
    newer, older = saved(tmp_path, 1), saved(tmp_path, 2)

    assert choose_copy(tmp_path, None, "ours") == newer
    assert choose_copy(tmp_path, NOON - timedelta(hours=1.5), "ours") == older
    assert choose_copy(older.path, None, "ours") == older


def test_what_is_no_copy_of_the_storages_catalog_is_refused(tmp_path: Path) -> None:
    for place, said in ((tmp_path / "nowhere", "is no copy"), (tmp_path, "is no copy")):
        with pytest.raises(CopyRefused, match=said):
            choose_copy(place, None, None)
    saved(tmp_path, 1)
    saved(tmp_path, 2, "theirs")
    with pytest.raises(CopyRefused, match="copies of several catalogs: name the copy itself"):
        choose_copy(tmp_path, None, None)
    with pytest.raises(CopyRefused, match="of other catalogs alone, and the storage belongs to another"):
        choose_copy(tmp_path, None, "another")
    with pytest.raises(CopyRefused, match="its oldest is of 2026-11-29T10:00:00"):
        choose_copy(tmp_path, NOON - timedelta(days=9), "ours")


@pytest.mark.parametrize("manifest", [b"", b"[]", b'{"form": 1}', b'{"form": 2}'])
def test_a_manifest_that_cannot_be_read_is_a_damaged_copy(tmp_path: Path, manifest: bytes) -> None:
    copy = tmp_path / "2026"
    copy.mkdir()
    (copy / MANIFEST).write_bytes(manifest)

    for place in (copy, tmp_path):
        with pytest.raises(CopyDamaged, match=f"the copy {copy} (is damaged|was made by a newer version)"):
            choose_copy(place, None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"file": "../catalog.db"},
        {"file": "/etc/passwd"},
        {"file": "other.db"},
        {"time_ms": "soon"},
        {"time_ms": 2**62},
        {"time_ms": -1},
        {"bytes": True},
        {"uploads": {"ready": "3"}},
        {"rows": []},
        {"entry": 5},
        {"catalog": None},
    ],
)
def test_a_manifest_with_a_wrong_value_is_named_and_hides_no_other_copy(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    good, bad = saved(tmp_path, 1), saved(tmp_path, 0).path
    said = orjson.loads((bad / MANIFEST).read_bytes())
    (bad / MANIFEST).write_bytes(orjson.dumps({**said, **wrong}))

    with pytest.raises(CopyDamaged, match=f"the copy {bad} is damaged: its manifest.json is none"):
        choose_copy(bad, None, None)
    assert choose_copy(tmp_path, None, "ours") == good
