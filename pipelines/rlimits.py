"""Limits of a process (ulimit, LimitAS=, LimitDATA=): what this one inherited, and its decoders after it."""

import resource


def memory_limit() -> int | None:
    """The bytes that each process may have, None where nothing limits them."""
    limits = [resource.getrlimit(what)[0] for what in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)
