"""Tombstones of ids that never had an upload: they answer an app that deletes twice, and keep nothing off."""

from storage.catalog.database import Database
from storage.catalog.pruning import prune
from storage.catalog.tables import uploads


class Tombstones:
    """The tombstones of one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prune_unseen(self, before_ms: int) -> int:
        """Delete those of ids that never had an upload, unless an event asked later than `before_ms`.

        There may be more of them: returns how many went. Those of uploads stay, or adoption would take their
        originals for new ones.
        """
        # Nothing else has no source; asked for the state, SQLite would take the index of all deleted ones.
        return await prune(self._database, uploads.c.changed_ms, before_ms, uploads.c.source.is_(None))
