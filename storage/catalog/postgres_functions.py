"""The functions of catalogs on Postgres: where tables are dropped, their triggers go, and these stay."""

from collections.abc import Sequence

from sqlalchemy import bindparam, text

from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.errors import CatalogUnfit

_COUNTS = "INSERT INTO totals_delta"
COUNTED = ("uploads", "variants", "dead_letters", "outbox")
"""The tables whose triggers run them."""
SIGNS = {
    **dict.fromkeys(("count_upload", "count_original", "count_variant", "count_dead_letter"), _COUNTS),
    "wait_for_seq": "media-worker:outbox",
}
"""The functions that the migrations make, and what says that one of that name is a catalog's."""
_FOUND = text("""
    SELECT proname, prosrc, pg_get_userbyid(proowner) AS owner,
        pg_has_role(proowner, 'USAGE') AS may_be_dropped,
        coalesce(bool_or(is_ours), false) AS ours_use_it,
        coalesce(bool_or(NOT is_ours), false) AS others_use_it
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    LEFT JOIN (
        SELECT tgfoid, relname IN :tables AS is_ours
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    ) AS uses ON tgfoid = pg_proc.oid
    WHERE nspname = current_schema() AND pronargs = 0 AND proname IN :names
    GROUP BY proname, prosrc, proowner ORDER BY proname
""").bindparams(bindparam("names", list(SIGNS), expanding=True), bindparam("tables", COUNTED, expanding=True))


async def find_left(connection: AsyncConnection, name: str) -> Sequence[str]:
    """The functions in the schema of the catalog `name` that no table of a catalog has any more.

    Raises: CatalogUnfit where one of those names is another program's, or another role's.
    """
    left: list[str] = []
    for one in (await connection.execute(_FOUND)).all():
        if one.ours_use_it and not one.others_use_it:
            continue  # it goes with them
        if one.others_use_it or SIGNS[one.proname] not in one.prosrc:
            raise CatalogUnfit(
                f"the database {name} belongs to another program (it has a function {one.proname}()): "
                "create one for the catalog"
            )
        if not one.may_be_dropped:
            raise CatalogUnfit(
                f"the database {name} has a function {one.proname}() of the role {one.owner}, left of a "
                f"catalog whose tables are gone: as that role, DROP FUNCTION {one.proname}()"
            )
        left.append(one.proname)
    return left


async def drop_left(connection: AsyncConnection, name: str) -> None:
    """Remove the functions of a catalog whose tables are gone, so that they can be made anew.

    Raises: CatalogUnfit where one of those names is another program's, or another role's.
    """
    for function in await find_left(connection, name):
        await connection.exec_driver_sql(f"DROP FUNCTION {function}()")
