"""Backups: a folder of copies of the catalog, and the originals beside them."""
