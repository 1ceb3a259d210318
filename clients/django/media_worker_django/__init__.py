"""Pictures of a Django app that media-worker makes variants of."""
