"""Bytes and rows: knows nothing of pictures, jobs or the environment."""
