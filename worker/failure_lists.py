"""The failures that people are shown: failed uploads, those that wait for another try, dead letters."""

from typing import Any

from storage.catalog.database import Database
from storage.catalog.dead_letters import DeadLetters
from storage.catalog.failures import Failures
from storage.catalog.records import State
from storage.catalog.reports import Reports
from worker.documents import dead_letter_document, failure_document, retry_document


async def list_failures(database: Database, limit: int) -> dict[str, Any]:
    """The newest `limit` of each kind, and how many there are, as JSON. Raises: CatalogUnavailable."""
    failures, letters = Failures(database), DeadLetters(database)
    return {
        "uploads": [failure_document(upload) for upload in await failures.newest(limit)],
        "waiting": [retry_document(upload) for upload in await failures.waiting(limit)],
        "dead_letters": [dead_letter_document(one) for one in await letters.newest(limit)],
        "total": {
            "uploads": (await Reports(database).states())[State.FAILED],
            "waiting": await failures.count_waiting(),
            "dead_letters": await letters.count(),
        },
    }
