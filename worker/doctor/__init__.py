"""The doctor: checks what a worker needs, for `media doctor` and for the console."""
