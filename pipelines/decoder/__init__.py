"""The child's program: bytes in; sha256, probe and variants out; the only importer of pyvips and Pillow."""
