"""Catalogs as older versions of this program left them."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

import storage.catalog

OLD_ROWS = """
INSERT INTO kv VALUES ('id', 'old'), ('root', 'bound');
INSERT INTO uploads (id, source, state, recipe, metadata, event_ms, event_n, job_id, generation, claim,
    crash_count, attempts, queued_ms, changed_ms, not_before_ms, revive, delete_original,
    error_code, format, bytes)
VALUES ('a', 'uploads/a', 'ready', 'default', '{}', 1, 0, '', 0, 1, 0, 0, 1, 1, 1, 0, 0, NULL, 'png', 900),
    ('b', 'uploads/b', 'ready', 'default', '{}', 1, 0, '', 0, 1, 0, 0, 1, 1, 1, 0, 0, NULL, 'png', 100),
    ('c', 'uploads/c', 'failed', 'default', '{}', 1, 0, '', 0, 1, 0, 0, 1, 1, 1, 0, 0,
        'corrupt_image', NULL, NULL);
INSERT INTO variants (key, upload_id, name, width, height, bytes, sha256, made_ms, superseded_ms)
VALUES ('variants/1.jpg', 'a', 'thumb', 1, 1, 10, '', 86400000, NULL),
    ('variants/2.webp', 'b', 'thumb', 1, 1, 20, '', 86400000, NULL),
    ('variants/3.jpg', 'b', 'thumb', 1, 1, 40, '', 1, 5);
INSERT INTO dead_letters (stream_id, code, message, body, received_ms)
VALUES ('1-0', 'invalid_event', '', 'abc', 1);
"""


def make_old(path: Path, schema: str = "0004") -> None:
    """A catalog as an older version of this program left it."""
    config = Config()
    config.set_main_option("script_location", str(Path(storage.catalog.__file__).parent / "migrations"))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, schema)
        for statement in filter(str.strip, OLD_ROWS.split(";\n")):
            connection.execute(text(statement))
    engine.dispose()
