"""A catalog of any size on either database, made by statements that both run, as a console has to show it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from storage.catalog.opening import Catalog

LAST_HOUR = 0.05  # of all uploads came then, the others within a year
OWNERS = 40
BOXES = {"thumb": 150, "medium": 800, "large": 1920}
KINDS = {"usual": (2, 0), "failed": (90, 0), "waiting": (2, 90)}
"""How many of a hundred uploads have failed, and how many wait for another try, in each kind of catalog."""

_BULK = 50_000  # uploads in a transaction: on a server none may last long
_SPREAD = "(n * 48271 % 2147483647)"  # each number once, in no order
_DIGITS = "substr(CAST(10000000000 + {spread} AS TEXT), 2)"
_NUMBER = "substr(CAST(1000000000000 + n AS TEXT), 2)"
_ID = f"substr({{d}}, 1, 8) || '-' || substr({{d}}, 9) || '00-4000-8000-' || {_NUMBER}"

_UPLOADS = """
    INSERT INTO uploads (id, source, state, recipe, metadata, event_ms, event_n, event_epoch, job_id,
        generation, claim, holder, crash_count, attempts, queued_ms, changed_ms, not_before_ms, revive,
        delete_original, adopted, error_code, error_message, stamp, sha256, bytes, format, width, height,
        color)
    WITH RECURSIVE one (n) AS (SELECT CAST(:first AS BIGINT) UNION ALL SELECT n + 1 FROM one WHERE n < :last),
    of_state (n, state, ms) AS (
        SELECT n,
            CASE WHEN n % 100 < :failed THEN 'failed' WHEN n % 100 < :failed + :waiting THEN 'queued'
                WHEN n % 1000 = 991 THEN 'queued'
                WHEN n % 100 = 99 THEN 'deleted' WHEN n > :uploads - 300 AND n % 50 = 48 THEN 'processing'
                ELSE 'ready' END,
            :now - CASE WHEN n > :old THEN (:uploads - n) * 3600000 / (:uploads - :old)
                ELSE 3600000 + (:old - n) * 31500000000 / :old END
        FROM one
    )
    SELECT {id}, 'uploads/o' || ({spread} / 1000 % {owners}) || '/' || (n / 1000) || '/' || n || '.jpg',
        state, CASE WHEN n % 100 = 3 THEN 'shop' ELSE 'default' END, '{{"owner":"42"}}', ms - 1500, 0, 0, '',
        1, 1, CASE state WHEN 'processing' THEN 'worker-' || (n % 4) END, 0, 1, ms - 1500, ms, ms, false,
        false, false,
        CASE state WHEN 'failed' THEN CASE n % 4 WHEN 0 THEN 'corrupt_image' WHEN 1 THEN 'source_missing'
            WHEN 2 THEN 'decode_timeout' ELSE 'storage_full' END
            WHEN 'queued' THEN CASE WHEN n % 100 < :failed + :waiting THEN 'storage_full' END END,
        CASE state WHEN 'failed' THEN 'It went wrong.' END,
        CASE state WHEN 'ready' THEN '1:2:3' END, CASE state WHEN 'ready' THEN {digits} END,
        CASE state WHEN 'ready' THEN 100000 + {spread} % 9000000 END,
        CASE state WHEN 'ready' THEN 'jpeg' END, CASE state WHEN 'ready' THEN 4000 END,
        CASE state WHEN 'ready' THEN 3000 END, CASE state WHEN 'ready' THEN '#a0b0c0' END
    FROM of_state
"""
_VARIANTS = """
    INSERT INTO variants (key, upload_id, name, number, width, height, bytes, sha256, made_ms)
    SELECT 'variants/' || substr(id, 1, 2) || '/' || substr(id, 3, 2) || '/'
            || replace(id, '-4000-', '-400{place}-') || '.jpg',
        id, '{name}', {place}, {box}, {box} * 3 / 4, {box} * 100, '', changed_ms
    FROM uploads WHERE state = 'ready' AND number BETWEEN :first AND :last
"""
_MESSAGES = """
    INSERT INTO outbox (body, made_ms, sent_ms)
    SELECT '{"seq":0,"kind":"' || state || '","id":"' || id || '","source":"' || source
        || '","recipe":"' || recipe || '","metadata":{},"time_ms":' || changed_ms
        || ',"attempts":1,"error_code":null,"error_message":null,"original":null,"variants":[],'
        || '"original_kept":false,"entry":null}', changed_ms, changed_ms
    FROM uploads WHERE state IN ('ready', 'failed') AND number > :old AND number BETWEEN :first AND :last
    ORDER BY number
"""
_LETTERS = """
    INSERT INTO dead_letters (stream_id, epoch, code, message, body, received_ms)
    WITH RECURSIVE one (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM one WHERE n < :letters)
    SELECT n || '-0', 0, 'invalid_event', 'It is no event.', CAST('no JSON' AS {bytes}),
        :now - (:letters - n) * 60000
    FROM one
"""
_SNAPSHOTS = """
    INSERT INTO snapshots (day, time_ms, uploads, ready, failed, originals, original_bytes, variants,
        variant_bytes, superseded, superseded_bytes, free_bytes)
    WITH RECURSIVE one (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM one WHERE n < 365)
    SELECT :now / 86400000 - 365 + n, :now - (365 - n) * 86400000, n, n, 0, n, n * 1000000, 3 * n,
        n * 100000, 0, 0, 1000000000000 - n * 1000000000
    FROM one
"""


async def crowd(catalog: Catalog, uploads: int, kind: str = "usual") -> None:
    """Put so many uploads into an empty catalog, with variants, an hour's messages, and all else."""
    old = int(uploads * (1 - LAST_HOUR))
    failed, waiting = KINDS[kind]
    values = {"uploads": uploads, "old": old, "now": catalog.outbox.now_ms()}
    values |= {"failed": failed, "waiting": waiting, "letters": min(uploads, 9_000)}
    digits = _DIGITS.format(spread=_SPREAD)
    made = _UPLOADS.format(id=_ID.format(d=digits), owners=OWNERS, digits=digits, spread=_SPREAD)
    variants = [
        _VARIANTS.format(name=name, place=place, box=box) for place, (name, box) in enumerate(BOXES.items())
    ]
    async with catalog.database.writing() as connection:
        is_server = connection.dialect.name == "postgresql"
    letters = _LETTERS.format(bytes="bytea" if is_server else "BLOB")
    async with _without_triggers(catalog, is_server=is_server):
        for first in range(1, uploads + 1, _BULK):
            bulk = {**values, "first": first, "last": min(first + _BULK - 1, uploads)}
            for statement in (made, *variants, _MESSAGES):
                await _run(catalog, _filled(statement, bulk))
        for statement in (letters, _SNAPSHOTS):
            await _run(catalog, _filled(statement, values))
    await catalog.reports.correct(await catalog.reports.check_totals())
    if is_server:
        await _run(catalog, "ANALYZE")


async def _run(catalog: Catalog, statement: str) -> None:
    """Run it in a transaction of its own."""
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql(statement)


def _filled(statement: str, values: Mapping[str, int]) -> str:
    """The statement with its numbers in it; the colons in its texts are none of parameters."""
    for name, value in values.items():
        statement = statement.replace(f":{name}", str(value))
    return statement


@asynccontextmanager
async def _without_triggers(catalog: Catalog, *, is_server: bool) -> AsyncIterator[None]:
    """Whoever fills a catalog counts it once, at the end."""
    if is_server:
        for table in ("uploads", "variants", "dead_letters", "outbox"):
            await _run(catalog, f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        for table in ("uploads", "variants", "dead_letters", "outbox"):
            await _run(catalog, f"ALTER TABLE {table} ENABLE TRIGGER USER")
        return
    async with catalog.database.reading() as connection:
        found = await connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = found.all()
    for trigger in triggers:
        await _run(catalog, f"DROP TRIGGER {trigger.name}")
    yield
    for trigger in triggers:
        await _run(catalog, trigger.sql)
