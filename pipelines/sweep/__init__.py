"""The sweep: files without records, records without files. Planned first; applied where it still holds."""
