"""The catalog's history, additive only: an older program must be able to read what a newer one wrote."""
