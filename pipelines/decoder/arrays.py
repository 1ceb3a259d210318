"""NumPy as decoders load it: its linear algebra on one thread, for a process that forks may have no other."""

import os

# OpenBLAS reads it as it is loaded, and would start a thread for each core.
os.putenv("OPENBLAS_NUM_THREADS", "1")

import numpy

__all__ = ["numpy"]
