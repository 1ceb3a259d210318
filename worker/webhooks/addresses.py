"""Which addresses a webhook may be sent to: those of the public internet, unless private ones are allowed."""

import socket
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from storage.threads import in_thread_within

_UNICAST = IPv6Network("2000::/3")  # all that was ever given to anybody
_6TO4 = IPv6Network("2002::/16")  # leads to the IPv4 address that is in it
_NAT64 = IPv6Network("64:ff9b::/96")  # so do these, on a host without IPv4
# Protocol assignments, relays of 6to4, documentation: Python knows some of these only in part, or not yet.
_SPECIAL = [ip_network(one) for one in ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")]
# Of Azure: from inside it leads to the host's own agent, and to metadata.
_OF_CLOUDS = ip_network("168.63.129.16/32")


class AddressForbidden(Exception):
    """The endpoint is at no public address; the message says at which."""


def is_public(address: str) -> bool:
    """Whether that IP address leads to the public internet, by whichever notation."""
    found = ip_address(address)
    if any(found in network for network in _SPECIAL):
        return False
    if isinstance(found, IPv4Address):
        return (
            found.is_global and not found.is_multicast and not found.is_reserved and found not in _OF_CLOUDS
        )
    if found in _NAT64:
        return is_public(str(IPv4Address(int(found) & 0xFFFFFFFF)))
    return _is_public_v6(found)


def _is_public_v6(found: IPv6Address) -> bool:
    """What embeds an IPv4 address is none that anybody has: IPv4-mapped, IPv4-compatible, 6to4, Teredo."""
    return found in _UNICAST and found not in _6TO4 and found.teredo is None and found.is_global


async def resolve(host: str, port: int, within_s: float, *, allow_private: bool) -> Sequence[str]:
    """The addresses of a host that may be connected to, in the order in which they are to be tried.

    Raises: AddressForbidden where it has others alone, OSError where it has none, TimeoutError.
    """
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    # A thread of its own: a resolver that hangs keeps neither the storage's threads nor the process.
    found = await in_thread_within(within_s, ask)
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    allowed = addresses if allow_private else [one for one in addresses if is_public(one)]
    if not allowed:
        raise AddressForbidden(
            f"{host} is at {', '.join(addresses)}, which is not public: MEDIA_WEBHOOK_ALLOW_PRIVATE=1 "
            "allows it"
        )
    return allowed
