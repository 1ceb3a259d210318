"""What people run: thin commands over the worker, the pipelines and the storage."""
