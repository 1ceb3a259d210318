"""The seal of a catalog on Postgres: triggers that keep it as it is while it moves, and once it has moved."""

from collections.abc import Sequence

from storage.catalog.postgres_errors import SEALED_STATE
from storage.catalog.tables import SEALED


def seal(reason: str) -> Sequence[str]:
    """Statements that make triggers, which raise, each statement, before it has changed a row."""
    text = reason.replace("'", "''")
    function = f"""CREATE OR REPLACE FUNCTION sealed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION USING ERRCODE = '{SEALED_STATE}', MESSAGE = '{text}';
    END $$"""
    each = "INSERT OR UPDATE OR DELETE"
    triggers = (
        f"CREATE TRIGGER sealed BEFORE {each} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION sealed()"
        for table in SEALED
    )
    # The row that is written as it is, to find out whether the catalog can be written.
    root = (
        "CREATE TRIGGER sealed BEFORE UPDATE ON kv FOR EACH ROW WHEN (OLD.name = 'root') "
        "EXECUTE FUNCTION sealed()"
    )
    return [*unseal(), function, *triggers, root]


def unseal() -> Sequence[str]:
    """Statements after which these triggers are gone."""
    return [f"DROP TRIGGER IF EXISTS sealed ON {table}" for table in (*SEALED, "kv")]
