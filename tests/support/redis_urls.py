"""URLs of a test's Redis: by another port, and as another user."""

import re


def by_port(url: str, port: int, database: int | str | None = None) -> str:
    """The same Redis by way of another port of 127.0.0.1, such as a proxy's."""
    before, _, place = url.rpartition(":")
    return f"{before}:{port}/{place.partition('/')[2] if database is None else database}"


def as_user(url: str, user: str = "", password: str = "") -> str:
    """The same Redis with that name and password instead of its own; without both: as anybody reaches it."""
    sign_in = f"{user}:{password}@" if user or password else ""
    return re.sub(r"//([^/@]*@)?", f"//{sign_in}", url, count=1)
