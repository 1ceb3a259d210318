"""What is told of a replica of the catalog, in whose place the catalog itself is read."""

from collections.abc import Callable

from storage.errors import CatalogUnavailable

OnReplica = Callable[[str, CatalogUnavailable | None], object]
"""Told once the name of a replica that does not answer, and why; once that it answers again (None)."""
