"""The schemas of a catalog that this program knows; numbers below the first were of development versions."""

SCHEMAS: tuple[str, ...] = ("1000",)  # oldest first; a test compares them with the migrations' folder


def is_obsolete(schema: str) -> bool:
    """Whether a development version wrote it: no migration starts there."""
    return schema < SCHEMAS[0]
