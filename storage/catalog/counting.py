"""What all rows add up to, and whether the totals that triggers keep say the same."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Executable, select

from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.tables import totals
from storage.totals import Count, Total

Place = tuple[str, str, str, int]


async def amounts(connection: AsyncConnection, query: Executable) -> Mapping[Place, Count]:
    """What the rows of `query` say of each place."""
    found: defaultdict[Place, Count] = defaultdict(Count)
    for what, name, detail, day, files, size in await connection.execute(query):
        found[what, name, detail, day] = Count(files, size)
    return found


async def find_wrong_totals(connection: AsyncConnection, counted: Executable) -> Sequence[Total]:
    """What has to be added to the totals; nothing if all is right. The query `counted` reads every row."""
    kept = await amounts(connection, select(totals))
    real = await amounts(connection, counted)
    wrong = sorted(place for place in kept.keys() | real.keys() if kept[place] != real[place])
    return [
        Total(*place, real[place].count - kept[place].count, real[place].bytes - kept[place].bytes)
        for place in wrong
    ]
