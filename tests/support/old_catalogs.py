"""Catalogs of earlier versions, and a program that knows one schema more than this one."""

import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from storage.catalog import schema

NOW = schema.SCHEMAS[-1]
NEXT = str(int(NOW) + 1)
_VARIABLE = "TESTS_NEXT_VERSION"
_MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{NEXT}", "{NOW}", None, None


def upgrade():
    op.add_column("snapshots", sa.Column("note", sa.Text()))
"""
_ROWS = """
INSERT INTO kv VALUES ('id', 'old'), ('root', 'bound');
INSERT INTO uploads (id, source, state, recipe, metadata, event_ms, event_n, event_epoch, job_id, generation,
    claim, crash_count, attempts, queued_ms, changed_ms, not_before_ms, revive, delete_original, adopted,
    error_code, format, bytes)
VALUES
    ('a', 'uploads/a', 'ready', 'default', '{}', 1, 0, 0, '', 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, NULL, 'png', 900),
    ('b', 'uploads/b', 'ready', 'default', '{}', 1, 0, 0, '', 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, NULL, 'png', 100),
    ('c', 'uploads/c', 'failed', 'default', '{}', 1, 0, 0, '', 0, 1, 0, 0, 1, 1, 1, 0, 0, 0,
        'corrupt_image', NULL, NULL);
INSERT INTO variants (key, upload_id, name, number, width, height, bytes, sha256, made_ms, superseded_ms)
VALUES ('variants/1.jpg', 'a', 'thumb', 0, 1, 1, 10, '', 86400000, NULL),
    ('variants/2.webp', 'b', 'thumb', 0, 1, 1, 20, '', 86400000, NULL),
    ('variants/3.jpg', 'b', 'thumb', 0, 1, 1, 40, '', 1, 5);
INSERT INTO dead_letters (stream_id, epoch, code, message, body, received_ms)
VALUES ('1-0', 0, 'invalid_event', '', 'abc', 1);
"""
_DEVELOPMENT = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
CREATE TABLE kv (name VARCHAR(64) NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE condemned ("key" VARCHAR(128) NOT NULL PRIMARY KEY, made_ms INTEGER NOT NULL, moved_ms INTEGER);
INSERT INTO kv VALUES ('id', 'old'), ('root', 'bound');
"""


def make_old(path: Path) -> None:
    """A catalog of today's schema with some rows; it is old to a program that knows the next."""
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, NOW)
        for statement in filter(str.strip, _ROWS.split(";\n")):
            connection.execute(text(statement))
    engine.dispose()


def make_development(path: Path, version: str) -> None:
    """A catalog as a development version left it, with a table that is gone."""
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_DEVELOPMENT)
        database.execute("INSERT INTO alembic_version VALUES (?)", [version])


def migrations_up_to(newest: str, folder: Path) -> Path:
    """The migrations of a program that knows no schema after that one, copied to `folder`."""
    copied = Path(shutil.copytree(schema.MIGRATIONS, folder))
    for later in (copied / "versions").glob("v*.py"):
        if later.name.removeprefix("v").partition("_")[0] > newest:
            later.unlink()
    return copied


def schema_in(path: Path) -> str:
    """The schema that a catalog's file says it has."""
    with closing(sqlite3.connect(path)) as database:
        [found] = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(found)


def next_migrations(folder: Path) -> Path:
    """The migrations of the next version, put into `folder`."""
    migrations = Path(shutil.copytree(schema.MIGRATIONS, folder / "migrations"))
    (migrations / "versions" / f"v{NEXT}_next.py").write_text(_MIGRATION)
    return migrations


def of_next_version(migrations: Path) -> Mapping[str, str]:
    """The variables of a forked command of the next version, whose migrations are in that folder."""
    return {_VARIABLE: str(migrations)}


def move_on() -> None:
    """Be of the next version where the environment says so."""
    if migrations := os.environ.pop(_VARIABLE, ""):
        schema.MIGRATIONS = Path(migrations)
        schema.SCHEMAS = (*schema.SCHEMAS, NEXT)
