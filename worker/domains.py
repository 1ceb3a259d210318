"""Apps as domains: the streams of their own, and which sources an app on one of them may speak of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from storage.catalog.records import DeletionRequested, Domain, StatusAsked, UploadRequested
from storage.errors import KeyRefused
from storage.keys import source_key
from worker.upload_ids import default_id

_SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OURS = ("jobs", "queues", "workers", "catalog", "relay")  # what follows the stream's name in keys beside it
_RANDOM = (4, 7)  # versions of UUIDs that nobody can compute from a source
_ORIGIN = re.compile(r"on (\S+), \S+: ")

Event = UploadRequested | DeletionRequested | StatusAsked


@dataclass(frozen=True)
class Domains:
    """The apps that have a stream beside `stream`; what they are told goes to one beside `events`."""

    stream: str = "media:uploads"
    events: str = "media:events"
    all: Sequence[Domain] = ()

    def of_stream(self, name: str) -> Domain | None:
        """The app of that stream."""
        return next((domain for domain in self.all if domain.stream == name), None)

    def of_source(self, source: str | None) -> Domain | None:
        """The app whose that source is."""
        return next((domain for domain in self.all if source is not None and domain.holds(source)), None)

    def messages_of(self, domain: Domain) -> str:
        """The stream of messages for that app: that of all messages, and what follows in its own's name."""
        return self.events + domain.stream.removeprefix(self.stream)

    def told(self, stream: str | None, source: str | None) -> str | None:
        """Where an app hears of it: the one on `stream`, or else the one whose `source` it is."""
        domain = self.of_stream(stream) if stream is not None else self.of_source(source)
        return self.messages_of(domain) if domain else None

    @property
    def streams(self) -> Sequence[str]:
        return [domain.stream for domain in self.all]


def parse_domains(value: str, stream: str, events: str) -> Domains:
    """The apps of a setting such as `media:uploads:shop=uploads/shop/,…`. Raises: ValueError."""
    prefixes: dict[str, str] = {}
    for part in filter(None, map(str.strip, value.split(","))):
        name, is_given, prefix = part.partition("=")
        suffix = name.removeprefix(f"{stream}:")
        if not is_given:
            raise ValueError(f"lists STREAM=PREFIX, such as {stream}:shop=uploads/shop/, not {part}")
        if re.search(r"\s", stream):
            raise ValueError(f"needs a MEDIA_STREAM without spaces, not {stream!r}")
        if suffix == name or not _SUFFIX.fullmatch(suffix):
            raise ValueError(f"needs streams such as {stream}:shop (letters, digits, _ and -), not {name}")
        if suffix in _OURS:
            raise ValueError(f"uses the key {name} for something else; choose another name")
        if name in prefixes:
            raise ValueError(f"names {name} twice")
        if prefix in prefixes.values():
            raise ValueError(f"gives {prefix} to two streams")
        _check_prefix(prefix)
        prefixes[name] = prefix
    told = {f"{events}{name.removeprefix(stream)}" for name in prefixes}
    if taken := sorted(told & {stream, events, *prefixes, *(f"{stream}:{each}" for each in _OURS)}):
        raise ValueError(
            f"would send messages to {taken[0]}, which is another key; choose another MEDIA_EVENTS"
        )
    return Domains(
        stream,
        events,
        [
            Domain(
                name, prefix, [one for one in prefixes.values() if one != prefix and one.startswith(prefix)]
            )
            for name, prefix in prefixes.items()
        ],
    )


def _check_prefix(prefix: str) -> None:
    try:
        source_key(f"{prefix}x")
    except KeyRefused as error:
        raise ValueError(f"needs prefixes such as uploads/shop/, not {prefix} ({error})") from error
    if not prefix.endswith("/") or prefix == "uploads/":
        raise ValueError(f"needs prefixes such as uploads/shop/, which end with /, not {prefix}")


def within(event: Event, domain: Domain) -> Event:
    """The event as that app may ask for it; whose its id is, the catalog decides. Raises: InvalidEvent."""
    from worker.events import InvalidEvent  # whoever only reads the settings parses no events

    if isinstance(event, UploadRequested):
        if not domain.holds(event.source):
            less = f", and not with {' or '.join(domain.others)}" if domain.others else ""
            raise InvalidEvent(
                "invalid_event", f"source: must begin with {domain.prefix}{less} on this stream"
            )
        if event.id != default_id(event.source) and event.id.version not in _RANDOM:
            # Others' ids can be computed from their sources, and an id belongs to whoever comes first.
            raise InvalidEvent(
                "invalid_event", "id: must be the source's own or a random UUID on this stream"
            )
    return replace(event, domain=domain)


def with_origin(stream: str | None, entry: str | None, reason: str) -> str:
    """The reason of a dead letter, with the app's stream and the entry there; `origin_of` reads it again."""
    return reason if stream is None else f"on {stream}, {entry}: {reason}"


def origin_of(reason: str) -> tuple[str | None, str]:
    """The app's stream that a dead letter came by, and the rest of its reason."""
    found = _ORIGIN.match(reason)
    return (found[1], reason[found.end() :]) if found else (None, reason)
