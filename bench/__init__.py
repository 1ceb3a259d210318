"""The instrument: this worker, its peers and the bare libvips loop, measured in one run on the same cores."""
