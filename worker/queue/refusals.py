"""A Redis that answers and says no: the one place that knows what its refusals mean, and their remedies."""

import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.queue.errors import QueueRefused, Refusal

_OF_ANOTHER_NAME = (62, 64)  # OpenSSL's codes for a host and an address that do not match
_SHOWN = 6  # names in one message
DOCS = "docs/redis.md has the lines for worker, reader and app"
_WITH_PASSWORD = "redis://user:password@host:port/0 in MEDIA_REDIS_URL"  # noqa: S105 (how it is written)
_DEFAULT_USER = "; with nothing but requirepass the user is `default`"
_CLUSTER = ("CROSSSLOT", "MOVED", "ASK ", "CLUSTERDOWN", "TRYAGAIN", "SELECT is not allowed in cluster mode")
_NO_WRITES = re.compile(r"(?:MISCONF|NOREPLICAS) ([^.']*)")  # a sentence; redis-py quotes that of a pipeline
_NO_MORE_CLIENTS = re.compile("max number of clients")
_DENIED = re.compile(r"^DENIED ")  # instead of any answer, and then the connection is closed
_BUSY = re.compile(r"(?:^|: )BUSY ")
_PRIMARY_DOWN = re.compile(r"(?:^|: )MASTERDOWN ")
_LONGEST = 200  # characters of what a Redis says that nobody knows
_COMMAND = re.compile(r"(?:run the '|[Uu]nknown (?:sub)?command [`'\"]?)([^'`\",]+)")
_transient = partial(Refusal, transient=True)  # it may end without anybody's doing


class ConnectionRefused(RedisError):
    """Redis refuses a connection; a RedisError, so that the client passes it on."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def refusal_of(error: BaseException) -> Refusal | None:
    """The refusal in a Redis' answer `error`; None where it is unreachable, or for other errors."""
    return next((found for cause in _causes(error) if (found := _translated(cause))), None)


def is_denied(error: BaseException) -> bool:
    """Whether Redis refuses the connection itself, not a command."""
    return isinstance(error, AuthenticationError) or bool(_DENIED.search(str(error)))


def is_no_permission(error: BaseException) -> bool:
    """Whether the user lacks a right; an EXEC is refused with EXECABORT."""
    return isinstance(error, NoPermissionError) or "NOPERM" in str(error)


def is_missing_right(error: BaseException) -> bool:
    """Whether the user lacks a right, or the server has no such command."""
    return is_no_permission(error) or "unknown command" in str(error).lower()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _translated(error: BaseException) -> Refusal | None:
    if isinstance(error, ConnectionRefused | QueueRefused):
        return error.refusal
    if isinstance(error, ssl.SSLError):
        return _of_tls(error)
    said = str(error)
    if isinstance(error, BusyLoadingError):
        return _LOADING
    if isinstance(error, RedisConnectionError) and _NO_MORE_CLIENTS.search(said):
        return _TOO_MANY
    if not isinstance(error, AuthenticationError | ResponseError | InvalidResponse):
        return None
    if isinstance(error, AuthenticationError):
        return _of_password(said)
    if any(word in said for word in _CLUSTER):
        return Refusal(
            "it is in cluster mode, which is not supported: keys that belong together lie apart there",
            "Use one that is not in cluster mode; a primary with replicas is right",
        )
    if isinstance(error, InvalidResponse):
        return Refusal(
            "what answers there does not speak Redis' protocol", "Correct host and port in MEDIA_REDIS_URL"
        )
    return _of_right(error, said) or _of_state(error, said)


def _of_password(said: str) -> Refusal:
    if "required" in said.lower():
        return Refusal("it requires a password", f"Write {_WITH_PASSWORD}{_DEFAULT_USER}")
    if "without any password" in said:
        return Refusal(
            "it has no password, and was sent one", "Take user and password out of MEDIA_REDIS_URL"
        )
    return Refusal("the user or the password is wrong", f"Correct {_WITH_PASSWORD}{_DEFAULT_USER}")


def _of_tls(error: ssl.SSLError) -> Refusal:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OF_ANOTHER_NAME:
            return Refusal(
                f"its certificate is for another name: {error.verify_message.rstrip('.')}",
                "Write the name in the certificate as the host in MEDIA_REDIS_URL",
            )
        return Refusal(
            f"its certificate is not trusted: {error.verify_message}",
            "Name the authority's file: rediss://…?ssl_ca_certs=/path/ca.pem in MEDIA_REDIS_URL",
        )
    return Refusal(
        f"TLS fails: {error.reason or error}",
        "Use redis:// where it does not speak TLS; where it requires a client certificate: "
        "rediss://…?ssl_certfile=/path&ssl_keyfile=/path",
    )


def _of_right(error: BaseException, said: str) -> Refusal | None:
    if "EXEC without MULTI" in said:  # MULTI was refused, which the client passes over
        return missing_rights(["MULTI"])
    if is_no_permission(error):
        if command := _COMMAND.search(said):
            return missing_rights([command[1].replace("|", " ").upper()])
        return Refusal(
            "this user may not touch one of the keys that this needs", f"`media doctor` says which; {DOCS}"
        )
    if is_missing_right(error):
        command = _COMMAND.search(said)
        return no_command(command[1].strip() if command else said)
    return None


def missing_rights(commands: Sequence[str] = (), keys: Sequence[str] = ()) -> Refusal:
    """The user may not run `commands`, or not touch `keys` (patterns of an ACL)."""
    lacks = [f"run {_some(commands)}"] if commands else []
    lacks += [f"touch the keys {_some(keys)}"] if keys else []
    rules = [f"+{name.lower().replace(' ', '|')}" for name in commands] + [f"~{key}" for key in keys]
    rule = f"Give it {' '.join(rules)}; " if 0 < len(rules) <= _SHOWN else ""
    return Refusal(f"this user may not {', and not '.join(lacks)}", f"{rule}{DOCS}")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def of_another(stream: str, owner: str, catalog_id: str) -> Refusal:
    return Refusal(
        f"{stream} belongs to the catalog {owner}, but the catalog in use is {catalog_id}: "
        "another installation takes these uploads",
        "Give one of them other names in MEDIA_STREAM and MEDIA_EVENTS, or another database in "
        f"MEDIA_REDIS_URL. If the other catalog is gone for good: DEL {stream}:catalog",
        by="The stream is another's",
    )


_BY_SENTINEL = "redis+sentinel://host:26379/NAME/0 in MEDIA_REDIS_URL"
SENTINEL = Refusal(
    "it is a Sentinel, which only knows where the primary is",
    f"Write {_BY_SENTINEL}, with the NAME that it has for the primary; or the primary's own host and port",
)


def by_sentinel(address: str, name: str, error: BaseException) -> Refusal | None:
    """What a Sentinel that is asked for the primary `name` refuses for good; None where that may pass."""
    found = refusal_of(error)
    if "No such master" in str(error):
        return Refusal(
            f"the Sentinel {address} knows no primary with the name {name}",
            f"Correct the NAME: {_BY_SENTINEL}; SENTINEL MASTERS there lists them",
        )
    if is_no_permission(error) or (found and isinstance(error, ConnectionRefused)):
        return Refusal(
            f"the Sentinel {address} refuses to be asked: {found.what if found else error}",
            "Its own user and password are the options sentinel_username and sentinel_password: "
            "redis+sentinel://…?sentinel_password=…; those before the hosts are the primary's. "
            "The user needs +sentinel|master",
        )
    if is_missing_right(error):
        return no_sentinel(address)
    if found is None or found.transient:
        return None
    return replace(found, what=f"the Sentinel {address} cannot be asked: {found.what}")


def no_sentinel(address: str) -> Refusal:
    return Refusal(f"{address} is no Sentinel", "Name Sentinels in MEDIA_REDIS_URL, or the Redis by redis://")


_LOADING = _transient("it is loading its data from the disk", "Wait: its log says how far it is")
_TOO_MANY = _transient(
    "it has reached `maxclients`",
    "Raise `maxclients`, and its limit of open files; CLIENT LIST there says who they are",
)


def unknown(command: str, said: str) -> Refusal:
    """An answer that no version of Redis is known to send for a command that a worker runs."""
    return _transient(
        f"it answers {command} with: {said[:_LONGEST].rstrip('.')}",
        "See its log, and that of a proxy before it",
    )


def no_command(name: str) -> Refusal:
    if name.upper() == "SELECT":
        return Refusal(
            "it has no command SELECT, as a Sentinel or a proxy",
            f"Write {_BY_SENTINEL} for a Sentinel; where a proxy is the one, no database",
        )
    return Refusal(
        f"it has no command {name.upper()}",
        "Update to Redis 6.2 or newer, or Valkey; take back the `rename-command` of it; or, where a Sentinel "
        "listens there, name the primary",
    )


def _of_state(error: BaseException, said: str) -> Refusal | None:
    if isinstance(error, OutOfMemoryError):
        return _transient(
            "it is full (over `maxmemory`) and accepts no event, job or message",
            "Raise `maxmemory`, or find out what fills it",
        )
    if isinstance(error, ReadOnlyError):
        return _transient("it is a replica, which accepts no writes", "Point MEDIA_REDIS_URL at the primary")
    if found := _NO_WRITES.search(said):
        return _transient(
            f"it accepts no writes: {found[1]}",
            "See its log: a full disk, a folder that it may not write, replicas that are away",
        )
    if _BUSY.search(said):
        return _transient(
            "it is busy with a script or a module, and does nothing else",
            "Wait, or end it there: SCRIPT KILL, FUNCTION KILL",
        )
    if _PRIMARY_DOWN.search(said):
        return _transient(
            "it is a replica that has lost its primary, and serves no stale data",
            "Point MEDIA_REDIS_URL at the primary, or mend the replication",
        )
    if _DENIED.search(said):
        return Refusal(
            "it is in protected mode: without a password it only serves its own machine",
            f"Give it a password (`requirepass`, or ACL SETUSER), and write {_WITH_PASSWORD}; or set "
            "`protected-mode no` where nobody else can reach it",
        )
    if "WRONGTYPE" in said:
        return Refusal(
            "a key of ours holds something else",
            "Another program writes it: name other keys in MEDIA_STREAM and MEDIA_EVENTS",
        )
    if "DB index" in said:
        return Refusal("it has no database of that number", "Correct the number in MEDIA_REDIS_URL")
    return None
