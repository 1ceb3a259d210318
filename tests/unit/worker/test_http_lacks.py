"""What an HTTP server says before catalog and storage are there: why not, and no place."""

import pytest

from storage.errors import (
    BlobsAway,
    CatalogAway,
    CatalogTooOld,
    CatalogUnfit,
    NoCatalog,
    RootMismatch,
    StorageError,
    VolumeMissing,
)
from worker.http.face import lack_of


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCatalog("/srv/media/catalog.db"), "no worker has made it yet, or the disk it lies on is away"),
        (VolumeMissing("/srv/media/uploads is not mounted"), "The storage does not answer"),
        (BlobsAway("no server at minio:9000"), "The storage does not answer"),
        (CatalogAway("no server at db:5432"), "The catalog does not answer"),
        (RootMismatch("/srv/media is another's"), "its disk is away, or another storage is in its place"),
        (CatalogUnfit("/srv/media is a folder"), "cannot be used as they are"),
    ],
)
def test_why_there_is_no_answer_yet_is_told_in_true_words_without_a_place(
    error: StorageError, words: str
) -> None:
    said = lack_of(error)

    assert words in said
    assert not any(place in said for place in ("/srv", "minio", "5432"))


def test_a_schema_of_another_version_is_told_in_its_own_words() -> None:
    assert lack_of(CatalogTooOld("its schema is 1003")) == "its schema is 1003"
