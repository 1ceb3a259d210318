"""What a key or a token may allow."""

SCOPES = ("upload", "read", "operate", "originals")
