"""The report: what the catalog has counted, beside what is on the disk, and how both grow."""
